//! Rows found by an index, and something added: y = src[idx] + other
//!
//! | name  | shape   | dtype            | note                                                      |
//! |-------|---------|------------------|-----------------------------------------------------------|
//! | src   | [V, C]  | f16 bf16 f32 f64 | a table                                                   |
//! | idx   | [..]    | any integer      | 0 ≤ idx < V; others are an error (a GPU: NaN, and a flag) |
//! | other | [.., C] | as src           |                                                           |
//! | y     | [.., C] | as src           |                                                           |
//! Cost: 3·N elements and an index a row moved.
//! Source: the definition.
//!
//! The gradient of src is the sum over the rows that read it, added in their order: [`scatter_add`], a stable sort of the
//! indices and a sum of each row's (`order.rs`); on the CPU candle's loop.

use super::moe_dispatch;
use crate::{
    Error, Result, bridge,
    entry::{Arg, Entry, Gradient},
    order::{add_rows, integers, rows_found},
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `gather_add`.
pub static ENTRY: Entry = Entry {
    name: "gather_add",
    summary: "src[idx] + other",
    formula: "src + other",
    zmlx: &["indexing.fused_gather_add", "indexing.fused_scatter_add"],
    args: &[Arg::table("src", "idx"), Arg::place("idx"), Arg::full("other")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(rows_found(&t[0], &t[1])? + &t[2])?]),
    gradient: Gradient::Derived,
    moves: 3.0,
    cell: OnceLock::new(),
};

/// The rows of the table `src` that `idx` finds, plus `other`.
pub fn gather_add(src: &Tensor, idx: &Tensor, other: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[src, idx, other], &[])
}

/// The transpose, a sum of updates, `[M, C]`, into `rows` rows: row r is the sum of those whose `idx`, `[M]`, is r, added in
/// their order (in f32, f64 in f64), so equal inputs give equal bits. Updates of other rows are an error (on a GPU: left out).
/// Tracked by `updates`.
///
/// # Errors
/// Shapes that do not belong together; indices that are no integers, updates that are no floats.
pub fn scatter_add(idx: &Tensor, updates: &Tensor, rows: usize) -> Result<Tensor> {
    const NAME: &str = "scatter_add";
    match (idx.dims(), updates.dims()) {
        ([n], [m, _]) if n == m => {}
        _ => {
            return Err(Error::shape(NAME, "idx", format!("[M] of updates {:?}", updates.dims()), idx.dims()));
        }
    }
    integers(NAME, "idx", idx)?;
    if !updates.dtype().is_float() {
        return Err(Error::argument(NAME, "updates: dtype", "a float", updates.dtype().as_str()));
    }
    if idx.device().is_cpu() {
        let all = idx.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        if let Some(wrong) = all.into_iter().find(|i| usize::try_from(*i).map_or(true, |i| i >= rows)) {
            return Err(Error::argument(NAME, "idx", format!("0 ≤ index < {rows}"), wrong));
        }
    }
    let sum = add_rows(idx, updates, rows)?;
    if !updates.track_op() {
        return Ok(sum);
    }
    let (idx, like) = (idx.detach(), updates.detach());
    let backward = move |cotangents: &[Option<Tensor>]| {
        // each update is in one row, whose cotangent it has
        Ok(vec![match &cotangents[0] {
            Some(g) => moe_dispatch::ENTRY.run1(&[&g.detach(), &idx], &[])?,
            None => like.zeros_like()?,
        }])
    };
    let raws = vec![bridge::copied(&sum)?];
    Ok(bridge::record(NAME.into(), raws, &[updates], Box::new(backward))?.swap_remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn rows_are_found_and_their_gradients_added() -> Result<()> {
        let src = Var::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?;
        let other = Tensor::new(&[[[10f32, 20.0], [30.0, 40.0]], [[50.0, 60.0], [70.0, 80.0]]], &Device::Cpu)?;
        for dtype in [candle_core::DType::I32, candle_core::DType::U32, candle_core::DType::I64] {
            let idx = Tensor::new(&[[2i64, 0], [2, 2]], &Device::Cpu)?.to_dtype(dtype)?;
            let y = gather_add(&src, &idx, &other)?;
            assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [15.0, 26.0, 31.0, 42.0, 55.0, 66.0, 75.0, 86.0]);
            let g = (y * &other)?.sum_all()?.backward()?;
            let g = g.get(&src).expect("a gradient").to_vec2::<f32>()?;
            assert_eq!(g, [[30.0, 40.0], [0.0, 0.0], [130.0, 160.0]]);
        }
        let sums = scatter_add(&Tensor::new(&[2u32, 0, 2], &Device::Cpu)?, &src, 4)?.to_vec2::<f32>()?;
        assert_eq!(sums, [[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [0.0, 0.0]]);
        let updates = Var::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?;
        let to = Tensor::new(&[2u32, 0, 2], &Device::Cpu)?;
        let g = scatter_add(&to, &updates, 4)?.sqr()?.sum_all()?.backward()?;
        let g = g.get(&updates).expect("a gradient").to_vec2::<f32>()?;
        assert_eq!(g, [[12.0, 16.0], [6.0, 8.0], [12.0, 16.0]]);
        let says = |idx: &Tensor, updates: &Tensor| scatter_add(idx, updates, 2).expect_err("a mistake").to_string();
        assert_eq!(says(&to, &updates), "scatter_add: idx, expected 0 ≤ index < 2, got 2");
        assert_eq!(says(&to.to_dtype(DType::F32)?, &updates), "scatter_add: idx: dtype, expected an integer, got f32");
        let bytes = updates.to_dtype(DType::U8)?;
        assert_eq!(says(&to, &bytes), "scatter_add: updates: dtype, expected a float, got u8");
        let wrong = Tensor::new(&[[0i64, 3], [0, 0]], &Device::Cpu)?;
        let error = gather_add(&src, &wrong, &other).expect_err("a row that is not there").to_string();
        assert!(error.contains("expected 0 ≤ index < 3") && error.contains('3'), "{error}");
        Ok(())
    }
}
