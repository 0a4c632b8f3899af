//! What the elements of a chunk give to reductions: all of them where the chunk is full, which is nearly everywhere; else
//! those whose column exists. So no element of a full chunk is asked where it is.

use super::{chunk::Work, emit::*, lower::Lower, reduce::Acc, rows::Held};
use crate::{
    kernel::{Expr, Place, Stmt, VarId},
    program::Id,
};
use std::collections::HashMap;

/// The terms of a chunk.
pub(super) struct Terms {
    /// An accumulator, and its arguments with the arrays that hold their elements.
    rows: Vec<(Acc, Vec<(Id, VarId)>)>,
    /// The same for sums of everything, where rows may be repetitions.
    all: Vec<(Acc, Vec<(Id, VarId)>)>,
}

impl Terms {
    /// Declares the arrays for these reductions along the row, and for the stage's sums of everything.
    pub fn new(s: &mut Lower<'_>, accs: &[Acc], work: &Work, sums: &Held) -> Terms {
        let mut arrays: HashMap<Id, VarId> = HashMap::new();
        let vector = s.cfg.vector;
        let mut declare = |s: &mut Lower<'_>, id: Id| {
            let dtype = s.p.node(id).dtype.compute();
            let array = *arrays.entry(id).or_insert_with(|| s.e.array(&format!("term_{}", id.0), dtype, vector));
            (id, array)
        };
        let mut of = |s: &mut Lower<'_>, acc: &Acc| {
            let p = s.p;
            (acc.clone(), p.node(acc.id).args.iter().map(|a| declare(s, *a)).collect())
        };
        let rows = accs.iter().map(|a| of(s, a)).collect();
        let all = sums.all.iter().filter(|a| work.sums.iter().any(|w| w.0 == a.id));
        let all = all.map(|a| of(s, a)).collect();
        Terms { rows, all }
    }

    /// Writes element `i`.
    pub fn set(&self, s: &mut Lower<'_>, i: &Expr, values: &HashMap<Id, Expr>) {
        let mut set: Vec<VarId> = vec![];
        for (id, var) in self.rows.iter().chain(&self.all).flat_map(|t| &t.1) {
            if !set.contains(var) {
                set.push(*var);
                s.e.push(Stmt::Set(Place::Lane(*var, i.clone()), values[id].clone()));
            }
        }
    }

    /// Takes the chunk in that starts at `col`.
    pub fn accumulate(&self, s: &mut Lower<'_>, col: &Expr, full: &Expr) {
        if self.rows.is_empty() && self.all.is_empty() {
            return;
        }
        let lives = if self.all.is_empty() { truth(true) } else { s.row_lives.clone() };
        s.e.open();
        self.take(s, col, false);
        let fast = s.e.close();
        s.e.open();
        self.take(s, col, true);
        let slow = s.e.close();
        s.e.push(Stmt::If(and(full.clone(), lives), fast, slow));
    }

    fn take(&self, s: &mut Lower<'_>, col: &Expr, asks: bool) {
        s.unrolled("i", s.cfg.vector, |s, i| {
            let at = add(col.clone(), s.e.widen(i.clone()));
            let (mut inside, mut counts) = (truth(true), truth(true));
            if asks {
                inside = s.inside(at.clone());
                inside = s.e.named("inside", inside);
                counts = and(inside.clone(), s.row_lives.clone());
            }
            for (of, inside) in [(&self.rows, inside), (&self.all, counts)] {
                for (acc, terms) in of {
                    let values: Vec<Expr> = terms.iter().map(|t| Expr::Lane(t.1, Box::new(i.clone()))).collect();
                    s.accumulate(acc, &values, &inside, &at);
                }
            }
        });
    }
}
