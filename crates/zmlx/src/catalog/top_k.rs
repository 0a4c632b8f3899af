//! The k largest of a row, the largest first, and their columns
//!
//! | name    | shape   | dtype            | note                                            |
//! |---------|---------|------------------|-------------------------------------------------|
//! | x       | [.., C] | f16 bf16 f32 f64 | NaN is larger than all numbers                  |
//! | values  | [.., k] | of x             | k ≤ C, at most 64; the catalog's tests have k 8 |
//! | indices | [.., k] | u32              | of equals the first column comes first          |
//! Cost: N elements moved.
//! Source: the definition; the order of equals is that of a stable sort.

use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, Entry, Gradient},
    rowwise, stats,
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `top_k`.
pub static ENTRY: Entry = Entry {
    name: "top_k",
    summary: "the 8 largest of a row in order, and their columns",
    formula: "out values = top_k(x, 8); out indices = argtop_k(x, 8)",
    zmlx: &["reductions.topk_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| plain(&t[0], 8),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// In plain candle ops.
fn plain(x: &Tensor, k: usize) -> candle_core::Result<Vec<Tensor>> {
    let order = x.contiguous()?.arg_sort_last_dim(false)?;
    let first = order.narrow(D::Minus1, 0, k)?.contiguous()?;
    Ok(vec![x.contiguous()?.gather(&first, D::Minus1)?, first])
}

/// Most ranks of a row.
const MOST: usize = zmlx_ir::program::RANKS as usize;

/// An operation for each k, built at its first use.
static OPS: [OnceLock<Op>; MOST] = [const { OnceLock::new() }; MOST];

/// The `k` largest of each row, the largest first, and their columns.
pub fn top_k(x: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let cols = x.dims().last().copied().unwrap_or(0);
    let most = cols.min(MOST);
    if k == 0 || k > most {
        return Err(Error::argument(ENTRY.name, "k", format!("1 to {most}, for rows of {cols} columns"), k));
    }
    let mut results = if bridge::runs_on(x.device()) {
        let formula = || format!("out values = top_k(x, {k}); out indices = argtop_k(x, {k})");
        Op::once(&OPS[k - 1], || rowwise(formula())?.name(ENTRY.name).build())?.call_all(x)?
    } else {
        stats::count_fallback();
        plain(x, k)?
    };
    let columns = results.swap_remove(1);
    Ok((results.swap_remove(0), columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn any_k_gives_the_first_of_a_stable_sort_and_the_gradient_goes_there() -> Result<()> {
        let x = Var::new(&[[1f32, 5.0, -2.0, 5.0], [f32::NEG_INFINITY, 0.0, f32::NAN, f32::INFINITY]], &Device::Cpu)?;
        let (values, indices) = top_k(&x, 3)?;
        assert_eq!(indices.to_vec2::<u32>()?, [[1, 3, 0], [2, 3, 1]]);
        assert_eq!(values.get(0)?.to_vec1::<f32>()?, [5.0, 5.0, 1.0]);
        let weights = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
        let g = (values * weights)?.sum_all()?.backward()?;
        let g = g.get(&x).expect("a gradient").to_vec2::<f32>()?;
        assert_eq!(g, [[3.0, 1.0, 0.0, 2.0], [0.0, 6.0, 4.0, 5.0]]);
        for k in [0, 5, 65] {
            let error = top_k(&x, k).expect_err("no such k").to_string();
            assert_eq!(error, format!("top_k: k, expected 1 to 4, for rows of 4 columns, got {k}"));
        }
        Ok(())
    }
}
