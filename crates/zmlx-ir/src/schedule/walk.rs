//! Rows that are walked along with scans: tile by tile in the order of the scans, all threads of the row at once.

use super::{
    chunk::{Chunk, Work, chunk_at, compute, input_arrays, load, random},
    emit::*,
    lane::Site,
    lower::Lower,
    reduce::Acc,
    rows::Held,
    scan::{self, Running},
};
use crate::{
    kernel::{Arith, Expr},
    program::Id,
};

/// Tiles of the row in the order of its scans, all threads at once. Gives the barriers of a turn.
pub(super) fn walk(
    s: &mut Lower<'_>,
    work: &Work,
    accs: &[Acc],
    sums: &Held,
    scans: &[Id],
    count: Expr,
    lane: &Expr,
) -> u32 {
    let (vector, row_threads) = (s.cfg.vector, s.e.at(s.cfg.row_threads));
    let scans: Vec<Running> = scans.iter().filter_map(|id| s.running(*id, vector)).collect();
    let reverse = scans.iter().any(|r| scan::of(s.p.node(r.id).kind).is_some_and(|scan| scan.reverse));
    let at_lane = s.e.widen(lane.clone());
    let mut last = s.e.at(0);
    if reverse {
        // the tile that holds the last chunk
        let before = sub(count.clone(), s.e.at(1));
        let tiles = arith(Arith::Div, before, row_threads.clone());
        last = s.e.named("last_tile", mul(tiles, row_threads.clone()));
    }
    let from = s.e.at(0);
    s.counted("tile", from, count, row_threads, |s, tile| {
        let tile = if reverse { sub(last, tile) } else { tile };
        let (col, full) = chunk_at(s, add(tile, at_lane));
        let mut arrays = input_arrays(s, work, 1);
        load(s, &arrays, &int(0), &col, &full);
        random(s, work, &col, &mut arrays);
        for r in &scans {
            s.unrolled("i", vector, |s, i| {
                let site = Site { col: add(col.clone(), s.e.widen(i.clone())), held: i.clone() };
                let given = arrays.iter().map(|(_, id, var)| (*id, Expr::Lane(*var, Box::new(i.clone())))).collect();
                let args = s.p.node(r.id).args.clone();
                let values = s.lane_values(&args, &site, &given);
                let inside = s.inside(site.col.clone());
                let inside = s.e.named("inside", inside);
                let values: Vec<Expr> = args.iter().map(|a| values[a].clone()).collect();
                s.set_terms(r, &i, &values, &inside);
            });
            s.scan(r, 1, lane);
            arrays.push((usize::MAX, r.id, r.made));
        }
        compute(s, work, accs, sums, Chunk { col, full, lane: int(0), held: int(0) }, &arrays);
    });
    2 * scans.len() as u32
}
