//! Strategy `Elementwise`: every chunk of every row to any thread, in the order of memory. Rows that are shorter than a
//! block fill it all the same; finding the row of a chunk is a division, which costs less than the memory it waits for.

use super::{
    Config, Step,
    emit::*,
    grid::Grid,
    lower::{Lower, Part},
    rows::{Held, Work, chunk},
};
use crate::kernel::{Arith, Role};

/// The kernel of a Program whose outputs are all of elements.
pub(super) fn lower(part: &Part<'_>, cfg: &Config, name: &str) -> Step {
    let mut s = Lower::new(part, cfg, name);
    s.bind(&|_, _| true, &|_| true);
    s.choose_lead();
    s.launch_values();
    let Config { threads, vector, .. } = *cfg;
    let per_row = s.e.index_field("chunks", Role::Chunks(vector));
    let total = mul(s.rows(), per_row.clone());
    let total = s.e.named("total", total);
    let (block, grid, thread) = (s.e.widen(block()), s.e.widen(grid()), s.e.widen(thread()));
    let from = add(mul(block, s.e.at(threads)), thread);
    let step = mul(grid, s.e.at(threads));
    let outputs: Vec<_> = s.p.outputs.iter().enumerate().map(|(k, o)| (k, o.node)).collect();
    let work = Work { roots: outputs.iter().map(|o| o.1).collect(), outputs, ..Work::default() };
    let none = Held { cols: vec![], all: vec![], chunk: int(0), part: int(0) };
    s.counted("chunk", from, total, step, |s, at| {
        s.row = s.e.named("row", arith(Arith::Div, at.clone(), per_row.clone()));
        let row = s.row.clone();
        s.find_row(&row);
        s.row_values(0);
        chunk(s, &work, &[], &none, arith(Arith::Rem, at, per_row), int(0));
    });
    s.finish(Grid::Chunks { block: threads, vector })
}
