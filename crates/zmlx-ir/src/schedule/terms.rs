//! What the elements of a chunk give to reductions: all of them where the chunk is full, which is nearly everywhere; else
//! those whose column exists. So no element of a full chunk is asked where it is.

use super::{chunk::Work, emit::*, lower::Lower, reduce::Acc, rows::Held};
use crate::{
    kernel::{Expr, Place, Stmt, VarId},
    program::{Id, Kind},
};
use std::collections::HashMap;

/// Ops up to this cost are done twice in a text, for chunks that are full and others, rather than have their values wait
/// while that is asked.
const CHEAP: u32 = 2;

/// The terms of a chunk.
pub(super) struct Terms {
    /// What takes the elements of a row.
    rows: Vec<Acc>,
    /// Sums of everything, where rows may be repetitions.
    all: Vec<Acc>,
    /// What they take, with the arrays that hold it; None: it is made where it is taken.
    arrays: Option<Vec<(Id, VarId)>>,
}

impl Terms {
    /// For these reductions along the row, and for the stage's sums of everything.
    pub fn new(s: &mut Lower<'_>, accs: &[Acc], work: &Work, sums: &Held) -> Terms {
        let all: Vec<Acc> = sums.all.iter().filter(|a| work.sums.iter().any(|w| w.0 == a.id)).cloned().collect();
        let columns = work.sums.len() > all.len();
        let others = columns || !(work.outputs.is_empty() && work.kept.is_empty() && work.scans.is_empty());
        let needed = s.needed(&work.roots);
        let cheap = |id: Id| match s.p.node(id).kind {
            Kind::Op(o) => o.row().cost <= CHEAP,
            kind => kind != Kind::Rand,
        };
        let cheap = !others && s.p.ids().filter(|id| needed[id.index()]).all(cheap);
        let mut terms = Terms { rows: accs.to_vec(), all, arrays: None };
        if !cheap {
            let mut arrays: Vec<(Id, VarId)> = vec![];
            let taken: Vec<&[Id]> = terms.rows.iter().chain(&terms.all).map(|a| s.terms(a.id)).collect();
            for id in taken.into_iter().flatten() {
                if !arrays.iter().any(|a| a.0 == *id) {
                    arrays.push((*id, s.e.array(&format!("term_{}", id.0), s.p.node(*id).dtype, s.cfg.vector)));
                }
            }
            terms.arrays = Some(arrays);
        }
        terms
    }

    /// Are they the chunk's only values, and so cheap that they are made where they are taken?
    pub fn are_made_twice(&self) -> bool {
        self.arrays.is_none()
    }

    /// Writes element `i`.
    pub fn set(&self, s: &mut Lower<'_>, i: &Expr, values: &HashMap<Id, Expr>) {
        for (id, var) in self.arrays.iter().flatten() {
            s.e.push(Stmt::Set(Place::Lane(*var, i.clone()), values[id].clone()));
        }
    }

    /// Reads element `i`.
    pub fn values(&self, i: &Expr) -> HashMap<Id, Expr> {
        let arrays = self.arrays.iter().flatten();
        arrays.map(|(id, var)| (*id, Expr::Lane(*var, Box::new(i.clone())))).collect()
    }

    /// Takes the chunk in that starts at `col`; `held` is its place among those of the thread, of a row that is held.
    pub fn accumulate<'p>(
        &self,
        s: &mut Lower<'p>,
        col: &Expr,
        full: &Expr,
        held: &Expr,
        values: &mut dyn FnMut(&mut Lower<'p>, &Expr) -> HashMap<Id, Expr>,
    ) {
        if self.rows.is_empty() && self.all.is_empty() {
            return;
        }
        let lives = if self.all.is_empty() { truth(true) } else { s.row_lives.clone() };
        let mut sides = [false, true].map(|asks| {
            s.e.open();
            let online: Vec<&Acc> = self.rows.iter().filter(|a| a.carries().is_some()).collect();
            let before: Vec<Vec<Expr>> = online.iter().map(|a| s.begin(a)).collect();
            if !online.is_empty() {
                s.unrolled("i", s.cfg.vector, |s, i| {
                    let values = values(s, &i);
                    let inside = if asks { s.inside(add(col.clone(), s.e.widen(i))) } else { truth(true) };
                    online.iter().for_each(|a| s.look(a, &values[&s.terms(a.id)[0]], &inside));
                });
                online.iter().zip(&before).for_each(|(a, before)| s.rebase(a, before));
            }
            s.unrolled("i", s.cfg.vector, |s, i| {
                let values = values(s, &i);
                let place = s.resident().then(|| add(held.clone(), i.clone()));
                self.take(s, &add(col.clone(), s.e.widen(i.clone())), place.as_ref(), &values, asks);
            });
            online.iter().zip(&before).for_each(|(a, before)| s.end(a, before));
            s.e.close()
        });
        s.e.push(Stmt::If(and(full.clone(), lives), std::mem::take(&mut sides[0]), std::mem::take(&mut sides[1])));
    }

    /// Takes an element in; `asks` whether its column exists.
    fn take(&self, s: &mut Lower<'_>, col: &Expr, place: Option<&Expr>, values: &HashMap<Id, Expr>, asks: bool) {
        let (mut inside, mut counts) = (truth(true), truth(true));
        if asks {
            inside = s.inside(col.clone());
            inside = s.e.named("inside", inside);
            counts = and(inside.clone(), s.row_lives.clone());
        }
        for (accs, inside) in [(&self.rows, inside), (&self.all, counts)] {
            for acc in accs {
                let args: Vec<Expr> = s.terms(acc.id).iter().map(|a| values[a].clone()).collect();
                s.accumulate(acc, &args, &inside, col, place);
            }
        }
    }
}
