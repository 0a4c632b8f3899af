//! Rows of a table in another order: y = x[from], and the order in which experts take tokens
//!
//! | name | shape   | dtype            | note                              |
//! |------|---------|------------------|-----------------------------------|
//! | x    | [V, C]  | f16 bf16 f32 f64 | tokens                            |
//! | from | [..]    | any integer      | 0 ≤ from < V                      |
//! | y    | [.., C] | as x             |                                   |
//! Cost: 2·N elements and an index a row moved.
//! Source: the definition. ZMLX's kernel of this name copies tokens and does not look at the experts.
//!
//! [`moe_dispatch`] sorts the T·K choices of T tokens by expert, of equals the first first: the rows of each expert lie side
//! by side, `offsets` says where, and `positions` where each choice went, for [`super::moe_combine::moe_combine_rows`].
//! The sort is some kernels of integers (`order.rs`); nothing waits for the host. x gets a gradient through `rows`.

use crate::{
    Error, Result,
    entry::{Arg, Entry, Gradient},
    order,
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `moe_dispatch`.
pub static ENTRY: Entry = Entry {
    name: "moe_dispatch",
    summary: "x[from]",
    formula: "x",
    zmlx: &["moe.moe_dispatch"],
    args: &[Arg::table("x", "from"), Arg::place("from")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![order::rows_found(&t[0], &t[1])?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Tokens in the order of their experts.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The rows of all experts, one expert after the other: `[T·K, C]`.
    pub rows: Tensor,
    /// The token of each row: u32, `[T·K]`.
    pub tokens: Tensor,
    /// The first row of each expert, and the number of rows: u32, `[experts + 1]`.
    pub offsets: Tensor,
    /// The row of each choice: u32, `[T, K]`.
    pub positions: Tensor,
}

/// Gives each of the experts that a token of `x`, `[T, C]`, chose, in `experts`, `[T, K]`, the token's row. `count` is the
/// number of experts; choices of others come last and belong to none.
pub fn moe_dispatch(x: &Tensor, experts: &Tensor, count: usize) -> Result<Dispatch> {
    let (tokens, k) = match (x.dims(), experts.dims()) {
        ([n, _], [m, k]) if n == m && *k > 0 => (*n, *k),
        _ => {
            let expected = format!("[{}, K], K of the tokens of x {:?}", x.dims().first().unwrap_or(&0), x.dims());
            return Err(Error::shape(ENTRY.name, "experts", expected, experts.dims()));
        }
    };
    order::integers(ENTRY.name, "experts", experts)?;
    let order::Order { order, offsets } = order::sort(experts, count)?;
    let positions = order::places(&order)?.reshape((tokens, k))?;
    // a row of each choice, in order; the quotient is exact, as it is in f64
    let tokens = match k {
        1 => order,
        _ => (order.to_dtype(DType::F64)? / k as f64)?.floor()?.to_dtype(DType::U32)?,
    };
    Ok(Dispatch { rows: ENTRY.run1(&[x, &tokens], &[])?, tokens, offsets, positions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::moe_combine::moe_combine_rows;
    use candle_core::{Device, Var};

    #[test]
    fn rows_lie_by_expert_in_the_order_of_tokens_and_come_back() -> Result<()> {
        let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (4, 3), &Device::Cpu)?)?;
        let experts = Tensor::new(&[[2u32, 0], [2, 1], [0, 4], [2, 0]], &Device::Cpu)?;
        let d = moe_dispatch(&x, &experts, 5)?;
        assert_eq!(d.tokens.to_vec1::<u32>()?, [0, 2, 3, 1, 0, 1, 3, 2]);
        assert_eq!(d.offsets.to_vec1::<u32>()?, [0, 3, 4, 7, 7, 8]);
        assert_eq!(d.positions.to_vec2::<u32>()?, [[4, 0], [5, 3], [1, 7], [6, 2]]);
        let half = (Tensor::ones((4, 2), candle_core::DType::F32, &Device::Cpu)? * 0.5)?;
        let back = moe_combine_rows(&d.rows, &d.positions, &half)?;
        assert!((&back - x.as_tensor())?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
        let g = back.sqr()?.sum_all()?.backward()?;
        let off = (g.get(&x).expect("a gradient") - (x.as_tensor() * 2.0)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 1e-5, "off by {off}");
        // choices of no expert come last
        let d = moe_dispatch(&x, &experts, 2)?;
        assert_eq!(d.offsets.to_vec1::<u32>()?, [0, 3, 4]);
        let error = moe_dispatch(&x, &experts.to_dtype(DType::F32)?, 5).expect_err("no integers").to_string();
        assert_eq!(error, "moe_dispatch: experts: dtype, expected an integer, got f32");
        Ok(())
    }
}
