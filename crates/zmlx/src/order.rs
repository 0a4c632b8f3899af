//! Rows in the order of an index: a stable sort of integers below a bound, and sums of the rows of each integer. On a GPU
//! nothing waits for the host, nothing is atomic, and equal inputs give equal bits.
//!
//! The sort goes by digits of 8 bits, the lowest first: a block counts the digits of its tile of keys, the counts are added
//! up (digit by digit, in a digit block by block), and a block places its keys from there on. In a block a thread stands for
//! a digit and walks along the tile, so keys of a digit keep their order. Bounds up to 256, as for experts, take one round.

use crate::{Error, Grid, Op, RawKernel, Result, elementwise, rowwise};
use candle_core::{DType, Shape, Tensor};
use std::sync::{LazyLock, OnceLock};

/// Keys of a block.
const TILE: usize = 1024;
/// Values of a digit, and threads of a block.
const DIGITS: usize = 256;
/// Columns of a block that sums rows.
const COLUMNS: usize = 256;

/// The tile of keys of a block, in shared memory; no digit where there is no key.
pub const LOAD: &str = "
    shared_array(u32, tile, 1024);
    const i64 first = (i64)block_index * 1024;
    for (i32 i = thread_index; i < 1024; i += block_threads) {
        tile[i] = first + i < args.keys_len ? (keys[first + i] >> (u32)args.shift) & 255u : 256u;
    }
    barrier();
";
/// Counts of digits: of each digit, of each block.
pub const COUNT: &str = "
    u32 n = 0;
    for (i32 i = 0; i < 1024; i++) {
        n += tile[i] == (u32)thread_index ? 1u : 0u;
    }
    counts[(i64)thread_index * grid_blocks + block_index] = n;
";
/// Keys, and what they came from, to their places.
pub const PLACE: &str = "
    u32 at = starts[(i64)thread_index * grid_blocks + block_index];
    for (i32 i = 0; i < 1024; i++) {
        if (tile[i] == (u32)thread_index) {
            sorted[at] = keys[first + i];
            order[at] = from[first + i];
            at += 1;
        }
    }
";
/// The first place of a key that is not below n.
pub const OFFSETS: &str = "
    const i64 n = (i64)block_index * block_threads + thread_index;
    if (n < args.offsets_len) {
        i64 low = 0, high = args.keys_len;
        while (low < high) {
            const i64 middle = (low + high) / 2;
            if ((i64)keys[middle] < n) { low = middle + 1; } else { high = middle; }
        }
        offsets[n] = (u32)low;
    }
";
/// Sums of the rows of each integer.
pub const SUM: &str = "
    const i64 cols = args.y_dims[1], tiles = (cols + 255) / 256;
    const i64 n = block_index / tiles, col = block_index % tiles * 256 + thread_index;
    if (col < cols) {
        f32 sum = 0.0f;
        for (u32 j = offsets[n]; j < offsets[n + 1]; j++) {
            sum += wide(rows[(i64)order[j] * cols + col]);
        }
        y[n * cols + col] = narrow<y_t>(sum);
    }
";
/// The place of each.
pub const INVERSE: &str = "
    const i64 j = (i64)block_index * block_threads + thread_index;
    if (j < args.order_len) {
        positions[order[j]] = (u32)j;
    }
";

/// Integers in order.
pub(crate) struct Order {
    /// Which of them comes at each place: u32.
    pub order: Tensor,
    /// The first place of each integer below the bound, and of the bound: u32.
    pub offsets: Tensor,
}

/// A result of so many u32.
fn words(n: usize) -> (Shape, DType) {
    (Shape::from(n), DType::U32)
}

fn blocks(t: &Tensor, own: usize) -> usize {
    t.elem_count().div_ceil(own).max(1)
}

/// A kernel of blocks of digits.
fn of_digits(name: &str, inputs: &[&str], outputs: &[&str], body: &str) -> RawKernel {
    let kernel = RawKernel::new(name).inputs(inputs).outputs(outputs).uniform("shift", 0i64);
    kernel.portable(&format!("{LOAD}{body}")).grid_of(|t| Grid::new(blocks(&t[0], TILE), DIGITS as u32))
}

/// An index of integers, by its name in an operation.
pub(crate) fn integers(op: &str, name: &str, index: &Tensor) -> Result<()> {
    match index.dtype().is_int() {
        true => Ok(()),
        false => Err(Error::argument(op, format!("{name}: dtype"), "an integer", index.dtype().as_str())),
    }
}

/// The rows of a table, `[V, C]`, that an index finds, in plain ops.
pub(crate) fn rows_found(table: &Tensor, index: &Tensor) -> candle_core::Result<Tensor> {
    let rows = table.index_select(&index.flatten_all()?, 0)?;
    rows.reshape([index.dims(), &[table.dim(1)?]].concat())
}

/// Puts integers below `bound` into order, of equals the first first; others come last. All dimensions are one.
pub(crate) fn sort(index: &Tensor, bound: usize) -> Result<Order> {
    let index = index.flatten_all()?.detach();
    if index.device().is_cpu() {
        return sort_on_cpu(&index, bound);
    }
    let mut keys = within(&index, bound)?;
    let mut order = Tensor::arange(0u32, index.elem_count() as u32, index.device())?;
    static COUNTS: LazyLock<RawKernel> = LazyLock::new(|| {
        let kernel = of_digits("count_digits", &["keys"], &["counts"], COUNT);
        kernel.results(|t| vec![words(DIGITS * blocks(&t[0], TILE))])
    });
    static PLACES: LazyLock<RawKernel> = LazyLock::new(|| {
        let kernel = of_digits("place_digits", &["keys", "from", "starts"], &["sorted", "order"], PLACE);
        kernel.results(|t| vec![words(t[0].elem_count()); 2])
    });
    for shift in (0..i64::from(u64::BITS - (bound as u64).leading_zeros()).max(1)).step_by(8) {
        let counts = COUNTS.with("shift", shift).call(&keys)?.remove(0);
        let starts = starts()?.call(&counts)?;
        let mut placed = PLACES.with("shift", shift).call(&[&keys, &order, &starts])?;
        (order, keys) = (placed.remove(1), placed.remove(0));
    }
    static FIRSTS: LazyLock<RawKernel> = LazyLock::new(|| {
        let kernel = RawKernel::new("offsets_of_keys").inputs(&["keys", "none"]).outputs(&["offsets"]);
        let kernel = kernel.portable(OFFSETS).results(|t| vec![words(t[1].elem_count())]);
        kernel.grid_of(|t| Grid::new(blocks(&t[1], DIGITS), DIGITS as u32))
    });
    let none = Tensor::zeros(bound + 1, DType::U8, index.device())?;
    Ok(Order { order, offsets: FIRSTS.call(&[&keys, &none])?.remove(0) })
}

/// The integers as u32, and the bound in place of those that are not below it.
fn within(index: &Tensor, bound: usize) -> Result<Tensor> {
    static OP: OnceLock<Op> = OnceLock::new();
    let op = Op::once(&OP, || {
        let op = elementwise("out k: u32 = x < 0 || x >= n ? n : i64(x)")?.name("keys_within").uniform("n", 0i64);
        op.no_grad().build()
    })?;
    op.with("n", bound as i64).call(&index.contiguous()?)
}

/// What comes before each count.
fn starts() -> Result<&'static Op> {
    static OP: OnceLock<Op> = OnceLock::new();
    Op::once(&OP, || rowwise("cumsum(x) - x")?.name("starts_of_digits").no_grad().build())
}

fn sort_on_cpu(index: &Tensor, bound: usize) -> Result<Order> {
    let keys = index.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let key = |k: &i64| usize::try_from(*k).map_or(bound, |k| k.min(bound));
    let mut offsets = vec![0u32; bound + 2];
    for k in &keys {
        offsets[key(k) + 1] += 1;
    }
    for k in 1..offsets.len() {
        offsets[k] += offsets[k - 1];
    }
    let mut next = offsets.clone();
    let mut order = vec![0u32; keys.len()];
    for (i, k) in keys.iter().enumerate() {
        let at = &mut next[key(k)];
        order[*at as usize] = i as u32;
        *at += 1;
    }
    offsets.truncate(bound + 1);
    let device = index.device();
    Ok(Order { order: Tensor::new(order, device)?, offsets: Tensor::new(offsets, device)? })
}

/// The place of each in an order.
pub(crate) fn places(order: &Tensor) -> Result<Tensor> {
    static INVERTED: LazyLock<RawKernel> = LazyLock::new(|| {
        let kernel = RawKernel::new("places_in_order").inputs(&["order"]).outputs(&["positions"]);
        let kernel = kernel.portable(INVERSE).results(|t| vec![words(t[0].elem_count())]);
        let kernel = kernel.grid_of(|t| Grid::new(blocks(&t[0], DIGITS), DIGITS as u32));
        kernel.cpu(|t| {
            let order = t[0].to_vec1::<u32>()?;
            let mut positions = vec![0u32; order.len()];
            order.iter().enumerate().for_each(|(j, i)| positions[*i as usize] = j as u32);
            Ok(vec![Tensor::new(positions, t[0].device())?])
        })
    });
    Ok(INVERTED.call(order)?.remove(0))
}

/// The sum of the rows of `rows`, `[M, C]`, for each integer below `bound` that `index`, `[M]`, has for them, added in their
/// order and in f32 (f64: in f64); of `rows`' type. Integers that are not below it are left out.
pub(crate) fn add_rows(index: &Tensor, rows: &Tensor, bound: usize) -> Result<Tensor> {
    let rows = rows.detach();
    if rows.device().is_cpu() || rows.dtype() == DType::F64 {
        // in order there, too: candle's loop over the rows is not shared out
        let kept = if rows.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let spare = usize::from(!rows.device().is_cpu());
        let none = Tensor::zeros((bound + spare, rows.dim(1)?), kept, rows.device())?;
        let index = match rows.device().is_cpu() {
            true => index.flatten_all()?.to_dtype(DType::I64)?,
            // candle's kernel stops the device at a row that is not there: such go to one that is left out
            false => within(&index.flatten_all()?, bound)?,
        };
        let sums = none.index_add(&index.contiguous()?, &rows.to_dtype(kept)?.contiguous()?, 0)?;
        let sums = sums.narrow(0, 0, bound)?.contiguous()?;
        return Ok(sums.to_dtype(rows.dtype())?);
    }
    let Order { order, offsets } = sort(index, bound)?;
    static SUMS: LazyLock<RawKernel> = LazyLock::new(|| {
        let kernel = RawKernel::new("sums_of_rows").inputs(&["rows", "order", "offsets"]).outputs(&["y"]).portable(SUM);
        let size = |t: &[Tensor]| (t[2].elem_count() - 1, t[0].elem_count() / t[1].elem_count().max(1));
        let kernel = kernel.results(move |t| vec![(Shape::from(size(t)), t[0].dtype())]);
        kernel.grid_of(move |t| {
            let (n, cols) = size(t);
            Grid::new((n * cols.div_ceil(COLUMNS)).max(1), COLUMNS as u32)
        })
    });
    if rows.elem_count() == 0 || bound == 0 {
        return Ok(Tensor::zeros((bound, rows.dim(1)?), rows.dtype(), rows.device())?);
    }
    Ok(SUMS.call(&[&rows, &order, &offsets])?.remove(0))
}
