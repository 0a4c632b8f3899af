//! Rows by group times the matrix of their group: some rows of a matrix at a time are made floats, and multiplied with all rows of x
//! that are of its group.

use super::{
    in_parts,
    products::{times, turned},
};

/// y = x·w_eᵀ for the rows of x from offsets[e] up to offsets[e + 1]; x has `rows` rows of `cols` columns, each matrix n rows, which
/// `floats(row, out)` makes from this row of all on. Other rows are 0.
pub fn matmul(
    x: &[f32],
    [rows, cols]: [usize; 2],
    offsets: &[u32],
    n: usize,
    floats: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut y = vec![0f32; n * rows];
    if cols == 0 {
        return y;
    }
    let tile = ((1usize << 18) / cols).clamp(8, 128);
    // rows of the matrices first, so that each task has a part of its own
    in_parts(&mut y, tile * rows, |part, y| {
        let mut w = vec![0f32; y.len() / rows * cols];
        for (e, ends) in offsets.windows(2).enumerate() {
            let (from, to) = (ends[0] as usize, ends[1] as usize);
            if from < to {
                floats(e * n + part * tile, &mut w);
                times(&w, &x[from * cols..to * cols], cols, (&mut y[from..], rows));
            }
        }
    });
    turned(&y, n, rows)
}
