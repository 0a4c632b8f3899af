//! What the experts of a token gave, each times its weight: y = Σ weight_k · x_k
//!
//! | name    | shape      | dtype            | note                                         |
//! |---------|------------|------------------|----------------------------------------------|
//! | x       | [.., K, C] | f16 bf16 f32 f64 | K ≤ 16; the catalog's tests have K = 4       |
//! | weights | [.., K]    | any float        |                                              |
//! | y       | [.., C]    | as x             | summed in f32 (f64: in f64), rounded once    |
//! Cost: (K + 1)·N elements and the weights moved.
//! Source: the definition. The gradients of x and weights are made in one launch.
//!
//! [`moe_combine_shared`] adds what an expert of all tokens gave. [`moe_combine_rows`] takes the experts' results as they lie after [`super::moe_dispatch`], sorted by expert, and the
//! position of each there.

use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, Entry, Gradient, with_names},
    order::{integers, rows_found},
    rowwise, stats,
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `moe_combine`.
pub static ENTRY: Entry = Entry {
    name: "moe_combine",
    summary: "w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3",
    formula: "w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3",
    zmlx: &["moe.moe_combine"],
    args: &[
        Arg::full("x0"),
        Arg::full("x1"),
        Arg::full("x2"),
        Arg::full("x3"),
        Arg::row("w0"),
        Arg::row("w1"),
        Arg::row("w2"),
        Arg::row("w3"),
    ],
    uniforms: &[],
    fallback: |t, _| {
        let terms: Vec<Tensor> =
            (0..4).map(|k| t[k].broadcast_mul(&t[4 + k].unsqueeze(D::Minus1)?)).collect::<candle_core::Result<_>>()?;
        Ok(vec![Tensor::stack(&terms, 0)?.sum(0)?])
    },
    gradient: Gradient::Derived,
    moves: 5.0,
    cell: OnceLock::new(),
};

/// Experts of a token, at most; with rows found by an index.
const MOST: usize = 16;
const MOST_ROWS: usize = 10;

/// Where the experts of a token lie, and what is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Side by side.
    Token,
    /// The same, beside an expert that all tokens share.
    Shared,
    /// Each in a row that an index finds.
    Rows,
}

/// The operation for `k` experts a token, built at its first use.
fn op(k: usize, of: Of) -> Result<&'static Op> {
    static OPS: [[OnceLock<Op>; MOST + 1]; 3] = [const { [const { OnceLock::new() }; MOST + 1] }; 3];
    Op::once(&OPS[of as usize][k], || built(k, of))
}

fn built(k: usize, of: Of) -> Result<Op> {
    let rows = of == Of::Rows;
    let [x, w, p] = ["x", "w", "p"].map(|name| (0..k).map(|j| format!("{name}{j}")).collect::<Vec<String>>());
    let [x, w, p] = [&x, &w, &p].map(|names| names.iter().map(String::as_str).collect::<Vec<&str>>());
    let mut text: Vec<String> = w.iter().zip(&x).map(|(w, x)| format!("{w} * {x}")).collect();
    let names = x.iter().chain(&w).chain(if rows { &p[..] } else { &[] }).copied();
    let names = names.chain((of == Of::Shared).then_some("shared"));
    if of == Of::Shared {
        text.push("shared".into());
    }
    let mut op = rowwise(with_names(names, &text.join(" + "))?)?.name(ENTRY.name);
    for w in &w {
        op = op.row(w);
    }
    op = op.parts("weights", &w, false);
    op = match rows {
        false => op.parts("x", &x, false),
        true => {
            let by = |op: Op, (x, p): (&&str, &&str)| op.rows_by(x, p);
            x.iter().zip(&p).fold(op, by).parts("positions", &p, false)
        }
    };
    op.build()
}

/// Experts of a token: the last dimension of `t`.
fn experts(what: &str, t: &Tensor, most: usize) -> Result<usize> {
    match t.dims().last() {
        Some(k) if (1..=most).contains(k) => Ok(*k),
        _ => Err(Error::shape(ENTRY.name, what, format!("a last dimension of 1 to {most} experts"), t.dims())),
    }
}

/// The sum over the last dimension but one of `x`, the experts of a token, of each times its weight.
pub fn moe_combine(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    combined(x, weights, None)
}

/// The same, and `shared` added: what an expert of all tokens gave, `[.., C]`.
pub fn moe_combine_shared(x: &Tensor, weights: &Tensor, shared: &Tensor) -> Result<Tensor> {
    combined(x, weights, Some(shared))
}

fn combined(x: &Tensor, weights: &Tensor, shared: Option<&Tensor>) -> Result<Tensor> {
    let k = experts("weights", weights, MOST)?;
    let dims = x.dims();
    if dims.len() < 2 || dims[..dims.len() - 1] != *weights.dims() {
        let expected = format!("{:?} and one dimension more, as weights", weights.dims());
        return Err(Error::shape(ENTRY.name, "x", expected, dims));
    }
    let (tokens, cols) = (&dims[..dims.len() - 2], dims[dims.len() - 1]);
    let result = [tokens, &[cols]].concat();
    if let Some(shared) = shared.filter(|t| t.dims() != result) {
        return Err(Error::shape(ENTRY.name, "shared", format!("{result:?}"), shared.dims()));
    }
    if bridge::runs_on(x.device()) {
        // the experts of a token side by side
        let x = x.reshape([tokens, &[k * cols]].concat())?;
        return match shared {
            Some(shared) => op(k, Of::Shared)?.call(&[&x, weights, shared]),
            None => op(k, Of::Token)?.call(&[&x, weights]),
        };
    }
    stats::count_fallback();
    let y = x.broadcast_mul(&weights.unsqueeze(D::Minus1)?)?.sum(dims.len() - 2)?;
    Ok(match shared {
        Some(shared) => (y + shared)?,
        None => y,
    })
}

/// The same of experts whose results are rows of `x`, `[V, C]`, found by `positions`, `[.., K]` as `weights` (K ≤ 10).
pub fn moe_combine_rows(x: &Tensor, positions: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let k = experts("weights", weights, MOST_ROWS)?;
    if positions.dims() != weights.dims() {
        let expected = format!("{:?}, as weights", weights.dims());
        return Err(Error::shape(ENTRY.name, "positions", expected, positions.dims()));
    }
    integers(ENTRY.name, "positions", positions)?;
    if x.rank() != 2 {
        return Err(Error::shape(ENTRY.name, "x", "[V, C], whose rows positions find", x.dims()));
    }
    if bridge::runs_on(x.device()) {
        let mut inputs = vec![x; k];
        inputs.extend([weights, positions]);
        return op(k, Of::Rows)?.call(&inputs);
    }
    stats::count_fallback();
    Ok(rows_found(x, positions)?.broadcast_mul(&weights.unsqueeze(D::Minus1)?)?.sum(positions.rank() - 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn off(a: &Tensor, b: &Tensor) -> Result<f32> {
        Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
    }

    #[test]
    fn experts_are_weighed_and_so_are_their_gradients() -> Result<()> {
        for k in [1, 2, 8] {
            let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (2, 3, k, 5), &Device::Cpu)?)?;
            let w = Var::from_tensor(&Tensor::randn(0f32, 1f32, (2, 3, k), &Device::Cpu)?)?;
            let plain = x.broadcast_mul(&w.unsqueeze(D::Minus1)?)?.sum(2)?;
            let y = moe_combine(&x, &w)?;
            assert!(off(&y, &plain)? < 1e-5, "k {k}");
            let (g, want) = (y.sqr()?.sum_all()?.backward()?, plain.sqr()?.sum_all()?.backward()?);
            for v in [&x, &w] {
                assert!(off(g.get(v).expect("a gradient"), want.get(v).expect("a gradient"))? < 1e-4, "k {k}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_shared_expert_is_added_in_the_same_launch() -> Result<()> {
        let [x, shared] = [&[2, 3, 4, 5][..], &[2, 3, 5]].map(|s| Tensor::randn(0f32, 1f32, s, &Device::Cpu));
        let (x, shared) = (Var::from_tensor(&x?)?, Var::from_tensor(&shared?)?);
        let w = Tensor::randn(0f32, 1f32, (2, 3, 4), &Device::Cpu)?;
        let plain = (x.broadcast_mul(&w.unsqueeze(D::Minus1)?)?.sum(2)? + shared.as_tensor())?;
        let y = moe_combine_shared(&x, &w, &shared)?;
        assert!(off(&y, &plain)? < 1e-5);
        let (g, want) = (y.sqr()?.sum_all()?.backward()?, plain.sqr()?.sum_all()?.backward()?);
        for v in [&x, &shared] {
            assert!(off(g.get(v).expect("a gradient"), want.get(v).expect("a gradient"))? < 1e-4);
        }
        let error = moe_combine_shared(&x, &w, &w).expect_err("a mistake").to_string();
        assert_eq!(error, "moe_combine: shared has shape [2, 3, 4], expected [2, 3, 5]");
        Ok(())
    }

    #[test]
    fn rows_are_found_and_their_gradients_go_back() -> Result<()> {
        let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (7, 4), &Device::Cpu)?)?;
        let w = Var::from_tensor(&Tensor::randn(0f32, 1f32, (3, 2), &Device::Cpu)?)?;
        let positions = Tensor::new(&[[6u32, 0], [1, 1], [0, 5]], &Device::Cpu)?;
        let rows = x.index_select(&positions.flatten_all()?, 0)?.reshape((3, 2, 4))?;
        let plain = rows.broadcast_mul(&w.unsqueeze(D::Minus1)?)?.sum(1)?;
        let y = moe_combine_rows(&x, &positions, &w)?;
        assert!(off(&y, &plain)? < 1e-5);
        let (g, want) = (y.sqr()?.sum_all()?.backward()?, plain.sqr()?.sum_all()?.backward()?);
        for v in [&x, &w] {
            assert!(off(g.get(v).expect("a gradient"), want.get(v).expect("a gradient"))? < 1e-4);
        }
        let told = |x: &Tensor, at: &Tensor| moe_combine_rows(x, at, &w).expect_err("a mistake").to_string();
        assert_eq!(
            told(&x.unsqueeze(0)?, &positions),
            "moe_combine: x has shape [1, 7, 4], expected [V, C], whose rows positions find"
        );
        let floats = positions.to_dtype(candle_core::DType::F32)?;
        assert_eq!(told(&x, &floats), "moe_combine: positions: dtype, expected an integer, got f32");
        Ok(())
    }
}
