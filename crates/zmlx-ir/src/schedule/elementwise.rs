//! Strategy `Elementwise`: every chunk of every row to any thread, in the order of memory. A thread takes `chunks` chunks at
//! a time and reads all of them before it computes, so that several loads are under way. Rows that are shorter than a block
//! fill it all the same; finding the row of a chunk is a division, which costs less than the memory it waits for, and is
//! left out where all tensors are contiguous: then they are launched as one row.

use super::{
    Config, Step,
    chunk::{Chunk, Work, chunk_at, compute, input_arrays, load},
    emit::*,
    grid::Grid,
    lower::{Lower, Part},
    rows::Held,
};
use crate::{
    Extent,
    kernel::{Arith, Expr, Role},
    program::Kind,
};

/// The kernel of a Program whose outputs are all of elements.
pub(super) fn lower(part: &Part<'_>, cfg: &Config, name: &str) -> Step {
    let mut s = Lower::new(part, cfg, name);
    s.bind(&|_, _| true, &|_| true);
    s.choose_lead();
    s.launch_values();
    let Config { threads, vector, chunks, .. } = *cfg;
    let per_row = s.e.index_field("chunks", Role::Chunks(vector));
    let total = mul(s.rows(), per_row.clone());
    let total = s.e.named("total", total);
    let (block, grid, thread) = (s.e.widen(block()), s.e.widen(grid()), s.e.widen(thread()));
    let tile = s.e.at(threads * chunks);
    let (from, step) = (add(mul(block, tile.clone()), thread), mul(grid, tile));
    let outputs: Vec<_> = s.p.outputs.iter().enumerate().map(|(k, o)| (k, o.node)).collect();
    let work = Work { roots: outputs.iter().map(|o| o.1).collect(), outputs, ..Work::default() };
    let none = Held { cols: vec![], all: vec![], chunk: int(0), part: int(0) };
    s.counted("first", from, total.clone(), step, |s, first| {
        let arrays = input_arrays(s, &work, chunks);
        let place = |s: &mut Lower<'_>, c: Expr| {
            let mut at = add(first, s.e.widen(mul(c, int(i64::from(threads)))));
            if chunks > 1 {
                // past the end: the last chunk again, which is not stored
                s.row_lives = s.e.named("lives", lt(at.clone(), total.clone()));
                let last = sub(total, s.e.at(1));
                at = s.e.named("chunk", arith(Arith::Min, at, last));
            }
            let one = equal(s.rows(), s.e.at(1));
            let row = pick(one, s.e.at(0), arith(Arith::Div, at.clone(), per_row.clone()));
            let row = s.e.named("row", row);
            s.row = row.clone();
            s.find_row(&row);
            chunk_at(s, sub(at, mul(row, per_row)))
        };
        let lane = |c: Expr| mul(c, int(i64::from(vector)));
        if chunks > 1 {
            let place = place.clone();
            s.unrolled("c", chunks, |s, c| {
                let (col, full) = place(s, c.clone());
                load(s, &arrays, &lane(c), &col, &full);
            });
        }
        s.unrolled("c", chunks, |s, c| {
            let (col, full) = place(s, c.clone());
            s.row_values(0);
            if chunks == 1 {
                load(s, &arrays, &int(0), &col, &full);
            }
            compute(s, &work, &[], &none, Chunk { col, full, lane: lane(c.clone()), held: int(0) }, &arrays);
        });
    });
    let flat = is_flat(&s);
    Step { flat, ..s.finish(Grid::Chunks { block: threads * chunks, vector }) }
}

/// Does an element depend on its place in memory alone, and lies there in the results? Random numbers do.
fn is_flat(s: &Lower<'_>) -> bool {
    let flat = |kind: Kind| !matches!(kind, Kind::Index(_) | Kind::Pick(_));
    let of_elements = |e: Extent| e == Extent::ELEM || e == Extent::UNIFORM;
    let beside = s.p.tensors().any(|group| group.len() > 1);
    let tables = s.p.inputs.iter().any(|i| i.by.is_some());
    !beside
        && !tables
        && s.p.ids().filter(|i| s.live[i.index()]).all(|i| flat(s.p.node(i).kind) && of_elements(s.p.node(i).extent))
}
