//! One chunk of a row: read, computed element by element into whatever takes the values, and written.

use super::{
    Strategy,
    emit::*,
    lane::{Site, select},
    lower::Lower,
    reduce::Acc,
    rows::Held,
    scan::Running,
    terms::Terms,
};
use crate::{
    DType, Op,
    kernel::{Expr, Place, Stmt, VarId},
    program::{Id, Kind},
};
use std::collections::HashMap;

/// What a stage does to elements.
#[derive(Default)]
pub(super) struct Work {
    /// Values wanted of every element.
    pub roots: Vec<Id>,
    /// Reductions along the row that they feed.
    pub reductions: Vec<Id>,
    /// Scans of the row that is held: not yet begun.
    pub held_scans: Vec<Id>,
    /// Scans of the row that is held: what takes their arguments.
    pub scans: Vec<Running>,
    /// Values to hold for later stages: without a place yet.
    pub to_keep: Vec<Id>,
    /// Values to hold for later stages, and where.
    pub kept: Vec<(Id, VarId)>,
    /// Outputs.
    pub outputs: Vec<(usize, Id)>,
    /// Sums over the rows, with their argument.
    pub sums: Vec<(Id, Id)>,
}

/// First column of a chunk, and whether all of it exists.
pub(super) fn chunk_at(s: &mut Lower<'_>, at: Expr) -> (Expr, Expr) {
    let col = sub(mul(at, s.e.at(s.cfg.vector)), s.row_shift.clone());
    let col = s.e.named("col", col);
    let full = s.full(&col);
    (col, s.e.named("full", full))
}

/// Where a chunk is.
pub(super) struct Chunk {
    /// Its first column.
    pub col: Expr,
    /// Do all of its columns exist?
    pub full: Expr,
    /// Its place in the arrays that it was loaded into.
    pub lane: Expr,
    /// Its place in arrays that hold a row.
    pub held: Expr,
}

/// Arrays for so many chunks of each input that is read, by slot.
pub(super) fn input_arrays(s: &mut Lower<'_>, work: &Work, chunks: u32) -> Vec<(usize, Id, VarId)> {
    let needed = s.needed(&work.roots);
    let p = s.p;
    let read = p.ids().filter(|i| needed[i.index()]).filter_map(|id| match p.node(id).kind {
        Kind::Input(slot) if p.node(id).extent.has_cols() && s.held[id.index()].is_none() => Some((id, slot as usize)),
        _ => None,
    });
    let read: Vec<(Id, usize)> = read.collect();
    // a load that widens is waited for before the next one: 8 inputs of bf16 took 340 us where their bytes take 210 (H100)
    let packed = chunks > 1 || (s.cfg.strategy == Strategy::Elementwise && read.len() > 1);
    let array = |(id, slot): (Id, usize)| {
        let name = format!("{}_chunk", p.inputs[slot].name);
        let dtype = if packed { s.tensors[slot].held(s.cfg.vector) } else { p.node(id).dtype };
        (slot, id, s.e.array(&name, dtype, s.cfg.vector * chunks))
    };
    read.into_iter().map(array).collect()
}

/// Reads a chunk of each of these inputs into elements `first ..` of its array.
pub(super) fn load(s: &mut Lower<'_>, arrays: &[(usize, Id, VarId)], first: &Expr, col: &Expr, full: &Expr) {
    for (slot, _, var) in arrays {
        s.load_chunk(*slot, *var, first.clone(), col, full);
    }
}

/// One chunk: inputs, lanes, outputs. `held` is its place in arrays that hold a row.
pub(super) fn chunk(s: &mut Lower<'_>, work: &Work, accs: &[Acc], sums: &Held, at: Expr, held: Expr) {
    let (col, full) = chunk_at(s, at);
    let arrays = input_arrays(s, work, 1);
    load(s, &arrays, &int(0), &col, &full);
    compute(s, work, accs, sums, Chunk { col, full, lane: int(0), held }, &arrays);
}

/// Random numbers of a chunk, four at a time, unless they are there.
pub(super) fn random(s: &mut Lower<'_>, work: &Work, col: &Expr, arrays: &mut Vec<(usize, Id, VarId)>) {
    let needed = s.needed(&work.roots);
    if !s.cfg.vector.is_multiple_of(4) {
        return;
    }
    let p = s.p;
    for id in p.ids().filter(|i| needed[i.index()] && p.node(*i).kind == Kind::Rand) {
        if s.held[id.index()].is_some() || arrays.iter().any(|a| a.1 == id) {
            continue;
        }
        let Some(seed) = s.known[s.p.node(id).args[0].index()].clone() else { continue };
        let var = s.e.array(&format!("rand_{}", id.0), DType::F32, s.cfg.vector);
        for first in (0..s.cfg.vector).step_by(4) {
            let index = s.rand_index(add(col.clone(), s.e.at(first)));
            s.e.push(Stmt::Rand4 { var, first: int(i64::from(first)), seed: seed.clone(), index });
        }
        arrays.push((usize::MAX, id, var));
    }
}

/// What becomes of a chunk that was loaded.
pub(super) fn compute(
    s: &mut Lower<'_>,
    work: &Work,
    accs: &[Acc],
    sums: &Held,
    chunk: Chunk,
    arrays: &[(usize, Id, VarId)],
) {
    let vector = s.cfg.vector;
    let Chunk { col, full, lane, held } = chunk;
    let zero = int(0);
    let mut arrays = arrays.to_vec();
    random(s, work, &col, &mut arrays);
    let outputs: Vec<(usize, Id, VarId)> = work
        .outputs
        .iter()
        .map(|(slot, id)| {
            let name = format!("{}_chunk", s.p.outputs[*slot].name);
            (*slot, *id, s.e.array(&name, s.p.outputs[*slot].dtype.compute(), vector))
        })
        .collect();
    let site_at = |s: &Lower<'_>, i: &Expr| Site {
        col: add(col.clone(), s.e.widen(i.clone())),
        held: add(held.clone(), i.clone()),
    };
    let given_at = |s: &Lower<'_>, i: &Expr| -> HashMap<Id, Expr> {
        let element = |var: VarId, first: &Expr| Expr::Lane(var, Box::new(add(first.clone(), i.clone())));
        let given = arrays.iter().map(|(_, id, var)| {
            // what is made of a chunk lies in an array of its own
            let first = if matches!(s.p.node(*id).kind, Kind::Input(_)) { &lane } else { &zero };
            (*id, element(*var, first))
        });
        given.collect()
    };
    let terms = Terms::new(s, accs, work, sums);
    if terms.are_made_twice() {
        return terms.accumulate(s, &col, &full, &held, &mut |s, i| {
            let (site, given) = (site_at(s, i), given_at(s, i));
            s.lane_values(&work.roots, &site, &given)
        });
    }
    s.unrolled("i", vector, |s, i| {
        let (site, given) = (site_at(s, &i), given_at(s, &i));
        let values = s.lane_values(&work.roots, &site, &given);
        for (id, var) in &work.kept {
            s.e.push(Stmt::Set(Place::Lane(*var, site.held.clone()), values[id].clone()));
        }
        for (slot, id, var) in &outputs {
            let value = s.stored(*slot, values[id].clone());
            s.e.push(Stmt::Set(Place::Lane(*var, i.clone()), value));
        }
        terms.set(s, &i, &values);
        if !work.scans.is_empty() {
            let inside = s.inside(site.col.clone());
            let inside = s.e.named("inside", inside);
            for r in &work.scans {
                let args: Vec<Expr> = s.p.node(r.id).args.iter().map(|a| values[a].clone()).collect();
                s.set_terms(r, &site.held, &args, &inside);
            }
        }
        for (id, arg) in &work.sums {
            // what columns that do not exist add up to is read by nobody
            if let Some((_, var)) = sums.cols.iter().find(|c| c.0 == *id) {
                let own = Expr::Lane(*var, Box::new(site.held.clone()));
                let zero = constant(s.p.node(*id).dtype, 0.0);
                let value = select(s.row_lives.clone(), values[arg].clone(), zero);
                s.e.push(Stmt::Set(Place::Lane(*var, site.held.clone()), op(Op::Add, [own, value])));
            }
        }
    });
    terms.accumulate(s, &col, &full, &held, &mut |_, i| terms.values(i));
    if outputs.is_empty() {
        return;
    }
    let lives = s.row_lives.clone();
    s.when(lives, |s| {
        for (slot, _, var) in outputs {
            s.store_chunk(s.p.inputs.len() + slot, var, &col, &full);
        }
    });
}
