//! Gradients of products by group, which are products of the kind: by the rows of x each row of g times the matrix of its group, by a
//! matrix gᵀ times the rows of x of its group.

use super::{Call, known, plain};
use crate::{
    RawKernel, Result, order,
    portable::quantized_matvec::aligned,
    tiles::{GROUPED, OF_ROWS, Operand, Product, SAME, STORE, Tile, fits, kernel},
};
use candle_core::{Shape, Tensor};
use std::sync::LazyLock;
use zmlx_runtime::list::List;

/// The gradient by rows of x: g·w_e.
pub(super) fn by_rows(call: &Call, g: &Tensor, w: &Tensor, offsets: &Tensor) -> Result<Tensor> {
    let turned = |w: &Tensor| w.transpose(1, 2);
    let Some(memory) = fits(g.device(), g.dtype(), &[call.n, call.k]) else {
        return Ok(plain(g, None, &turned(w)?, &known(call.op, offsets, call.rows)?)?);
    };
    let tile = Tile::of(memory, call.rows, call.e);
    let product = Product {
        place: GROUPED,
        a: OF_ROWS,
        b: Operand {
            turned: true,
            once: "const i64 of_b = (i64)group * depth * $ACROSS + (left + b_col < $ACROSS ? left + b_col : 0);",
            copy: "const i32 row = from + b_row + t * B_STEP;
                copy_async(to, w + of_b + row * $ACROSS, row < depth);",
        },
        codes: ["", ""],
        store: STORE,
    };
    let words = [("$ACROSS", "args.y_dims[1]"), ("$FULL", "args.g_dims[1]"), ("$ROW_OF", SAME), ("$X", "g")];
    static KERNELS: LazyLock<List<(Tile, RawKernel)>> = LazyLock::new(List::default);
    let make = || {
        let kernel = kernel("grouped_matmul_by_rows", &product, &tile, false, &words);
        (tile, kernel.inputs(&["g", "w", "offsets"]).outputs(&["y"]))
    };
    let (shape, dtype) = (Shape::from((call.rows, call.k)), g.dtype());
    let kernel = KERNELS.get_or_add(|(t, _)| *t == tile, make).1.clone();
    let kernel = kernel.results(move |_| vec![(shape.clone(), dtype)]).grid(tile.grid(call.rows, call.e, call.k, 1));
    Ok(kernel.call(&[&aligned(g)?, &aligned(w)?, offsets])?.swap_remove(0))
}

/// The gradient by the matrices: gᵀ·x of the rows of each.
pub(super) fn by_matrices(
    call: &Call,
    g: &Tensor,
    x: &Tensor,
    index: Option<&Tensor>,
    offsets: &Tensor,
) -> Result<Tensor> {
    let Some(memory) = fits(g.device(), g.dtype(), &[call.n, call.k]) else {
        let x = match index {
            Some(index) => x.index_select(index, 0)?,
            None => x.clone(),
        };
        let of = |ends: &[u32]| {
            let (from, len) = (ends[0] as usize, (ends[1] - ends[0]) as usize);
            match len {
                0 => Tensor::zeros((call.n, call.k), x.dtype(), x.device()),
                _ => g.narrow(0, from, len)?.t()?.contiguous()?.matmul(&x.narrow(0, from, len)?.contiguous()?),
            }
        };
        let all: Vec<Tensor> =
            known(call.op, offsets, call.rows)?.windows(2).map(of).collect::<candle_core::Result<Vec<Tensor>>>()?;
        return Ok(match all.is_empty() {
            true => Tensor::zeros((0, call.n, call.k), x.dtype(), x.device())?,
            false => Tensor::stack(&all, 0)?,
        });
    };
    let tile = Tile::of(memory, call.n, 1);
    let row = if index.is_some() { "index[first + step_of]" } else { "first + step_of" };
    let product = Product {
        place: OF_GROUP,
        a: Operand {
            turned: true,
            once: "const i64 of_a = first * n + (top + a_col < n ? top + a_col : 0);",
            copy: "const i32 row = from + a_row + t * A_STEP;
                copy_async(to, g + of_a + row * n, row < depth);",
        },
        b: Operand {
            turned: true,
            once: "const i64 of_b = left + b_col < k ? left + b_col : 0;",
            copy: "const i32 step_of = from + b_row + t * B_STEP;
                const i64 row = step_of < depth ? (i64)$ROW : 0;
                copy_async(to, x + of_b + row * k, step_of < depth && row < args.x_dims[0]);",
        },
        codes: ["", ""],
        store: "if (top + r < n && left + c < k) {
                    *(device u32*)(y + (group * n + top + r) * k + left + c) = pair_of<y_t>(low, high);
                }",
    };
    type Key = (bool, Tile);
    static KERNELS: LazyLock<List<(Key, RawKernel)>> = LazyLock::new(List::default);
    let key = (index.is_some(), tile);
    let mut inputs = vec!["g", "x", "index", "offsets"];
    let by = if index.is_some() { "_by_index" } else { "" };
    inputs.retain(|name| *name != "index" || index.is_some());
    let make = || {
        let name = format!("grouped_matmul_by_matrices{by}");
        (key, kernel(&name, &product, &tile, false, &[("$ROW", row)]).inputs(&inputs).outputs(&["y"]))
    };
    let (shape, dtype) = (Shape::from((call.e, call.n, call.k)), g.dtype());
    let kernel = KERNELS.get_or_add(|(k, _)| *k == key, make).1.clone();
    let kernel = kernel.results(move |_| vec![(shape.clone(), dtype)]).grid(tile.grid_each(call.e, call.n, call.k));
    let (g, x) = (aligned(g)?, aligned(x)?);
    let all: Vec<&Tensor> = [&g, &x].into_iter().chain(index).chain([offsets]).collect();
    Ok(kernel.call(&all[..])?.swap_remove(0))
}

/// A tile of the gradient of a matrix.
const OF_GROUP: &str = "const i64 n = args.y_dims[1], k = args.y_dims[2], all = args.g_dims[0];
    const i32 down = (i32)((n + ROWS - 1) / ROWS), across = (i32)((k + COLS - 1) / COLS);
    const i64 group = block_index / (down * across);
    const i64 top = (i64)(block_index / across % down) * ROWS, left = (i64)(block_index % across) * COLS;
    const i64 first = group == 0 ? 0 : (i64)offsets[group], after = (i64)offsets[group + 1];
    const i64 end = after < all ? after : all;
    const i32 depth = end > first ? (i32)(end - first) : 0;";

/// Rows of x, each one's row of the result added up where they were found by an index.
pub(super) fn gathered(rows: Tensor, index: Option<&Tensor>, x: &Tensor) -> Result<Tensor> {
    match index {
        Some(index) => order::add_rows(index, &rows, x.dim(0)?),
        None => Ok(rows),
    }
}
