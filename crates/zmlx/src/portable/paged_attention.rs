//! Attention of one query a sequence over a cache of pages: y = softmax(scale·q·kᵀ)·v
//!
//! q is [b, h, d]; the caches [pages, size, kv, d], h a multiple of kv; the table [b, most] of u32 has the pages of each sequence in
//! order, and lengths `[b]` of u32 how many keys it has. A sequence without keys gives 0. Keys are cut into parts that blocks take,
//! and a second kernel joins these; any length, heads up to 256. `decode_attention` takes k and v [b, kv, n, d] as they are.
//! Cost: the keys and values in use, read once a head of q.
//! Source: arXiv:2309.06180; parts as in Flash-Decoding (Dao et al., 2023).

use super::{Case, Portable, numbers};
use crate::{Error, Grid, RawKernel, Result, entry::Gradient, host::in_parts};
use candle_core::{DType, Device, Shape, Tensor};
use std::sync::LazyLock;
use zmlx_runtime::list::List;

const NAME: &str = "paged_attention";
const WIDEST: usize = 256;
const WARPS: usize = 4;

/// A warp has a key at a time, its lanes the columns: two keys under way at once.
const BODY: &str = "
    constexpr i32 own = DIM / 32;
    shared_array(f32, accs, 4 * DIM);
    shared_array(f32, mosts, 4);
    shared_array(f32, sums, 4);
    const i64 d = args.q_dims[2], heads = args.q_dims[1], kv = args.keys_dims[2], size = args.keys_dims[1];
    const i64 b = block_index / heads, h = block_index - b * heads, pair = h / (heads / kv);
    const i64 parts = args.part_dims[2], room = args.table_dims[1] * size;
    i64 n = (i64)lengths[b];
    n = n < room ? n : room;
    const i64 step = (n + parts - 1) / parts, start = block_index_y * step;
    const i64 end = start + step < n ? start + step : n;
    f32 qs[own], acc[own], most = -INFINITY, sum = 0.0f;
    for (i32 o = 0; o < own; o++) {
        const i32 c = o * 32 + lane;
        qs[o] = c < d ? wide(q[(i64)block_index * d + c]) * args.scale : 0.0f;
        acc[o] = 0.0f;
    }
    for (i64 j = start + warp * 2; j < end; j += 2 * warps) {
        i64 at[2];
        f32 s[2];
        for (i32 t = 0; t < 2; t++) {
            const i64 key = j + t < end ? j + t : j;
            const i64 page = table[b * args.table_dims[1] + key / size];
            // a page that is not there: nothing is read outside, and the result is NaN
            const bool there = page < args.keys_dims[0];
            at[t] = (((there ? page : 0) * size + key % size) * kv + pair) * d;
            s[t] = there ? 0.0f : INFINITY - INFINITY;
            for (i32 o = 0; o < own; o++) {
                const i32 c = o * 32 + lane;
                s[t] = fmaf(qs[o], c < d ? wide(keys[at[t] + c]) : 0.0f, s[t]);
            }
        }
        s[0] = warp_sum(s[0]);
        s[1] = j + 1 < end ? warp_sum(s[1]) : -INFINITY;
        const f32 top = fmaxf(most, fmaxf(s[0], s[1])), shrink = expf(most - top);
        const f32 e0 = expf(s[0] - top), e1 = expf(s[1] - top);
        sum = fmaf(sum, shrink, e0 + e1);
        most = top;
        for (i32 o = 0; o < own; o++) {
            const i32 c = o * 32 + lane;
            const f32 v0 = c < d ? wide(values[at[0] + c]) : 0.0f, v1 = c < d ? wide(values[at[1] + c]) : 0.0f;
            acc[o] = fmaf(e1, v1, fmaf(e0, v0, acc[o] * shrink));
        }
    }
    if (lane == 0) {
        mosts[warp] = most;
        sums[warp] = sum;
    }
    barrier();
    f32 top = -INFINITY, total = 0.0f;
    for (i32 w = 0; w < warps; w++) {
        top = fmaxf(top, mosts[w]);
    }
    for (i32 w = 0; w < warps; w++) {
        total += sums[w] != 0.0f ? sums[w] * expf(mosts[w] - top) : 0.0f;
    }
    const f32 by = sum != 0.0f ? expf(most - top) / total : 0.0f;
    for (i32 o = 0; o < own; o++) {
        accs[warp * DIM + o * 32 + lane] = acc[o] * by;
    }
    barrier();
    for (i64 c = thread_index; c < d; c += block_threads) {
        f32 x = 0.0f;
        for (i32 w = 0; w < warps; w++) {
            x += accs[w * DIM + c];
        }
        part[((i64)block_index * parts + block_index_y) * d + c] = x;
    }
    if (thread_index == 0) {
        lse[(i64)block_index * parts + block_index_y] = total != 0.0f ? top + logf(total) : -INFINITY;
    }";

/// Parts of a head, weighted by their sums of exponentials.
const JOIN: &str = "
    const i64 d = args.part_dims[3], parts = args.part_dims[2], head = block_index;
    f32 top = -INFINITY, total = 0.0f;
    for (i64 p = 0; p < parts; p++) {
        top = fmaxf(top, lse[head * parts + p]);
    }
    for (i64 p = 0; p < parts; p++) {
        total += lse[head * parts + p] == -INFINITY ? 0.0f : expf(lse[head * parts + p] - top);
    }
    for (i64 c = thread_index; c < d; c += block_threads) {
        f32 x = 0.0f;
        for (i64 p = 0; p < parts; p++) {
            if (total != 0.0f) {
                x = fmaf(expf(lse[head * parts + p] - top) / total, part[(head * parts + p) * d + c], x);
            }
        }
        y[head * d + c] = narrow<y_t>(x);
    }";

/// The kernels of parts and of what joins them, for heads of this size, rounded up to 32.
fn kernels(d: usize) -> [&'static RawKernel; 2] {
    static PARTS: List<(usize, RawKernel)> = List::new();
    static JOINS: LazyLock<RawKernel> = LazyLock::new(|| {
        RawKernel::new("paged_attention_join").inputs(&["part", "lse", "like"]).outputs(&["y"]).portable(JOIN)
    });
    let dim = d.next_multiple_of(32);
    [&PARTS.get_or_add(|(k, _)| *k == dim, || (dim, of_parts(dim))).1, &JOINS]
}

fn of_parts(dim: usize) -> RawKernel {
    RawKernel::new(&format!("paged_attention_{dim}"))
        .inputs(&["q", "keys", "values", "table", "lengths"])
        .outputs(&["part", "lse"])
        .uniform("scale", 1.0)
        .portable(&BODY.replace("DIM", &dim.to_string()))
}

/// One query a sequence over pages of keys and values; `scale` is 1/√d unless given. Nothing is tracked.
///
/// A GPU does not look at the table and the lengths before it runs: there the results of a sequence with a page outside the cache
/// are NaN, and a length beyond the pages of its sequence counts as all keys of these.
///
/// # Errors
/// Shapes or dtypes that do not belong together; f64; heads of more than 256; on the CPU a page outside the cache, or a length beyond
/// the pages of its sequence.
pub fn paged_attention(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    table: &Tensor,
    lengths: &Tensor,
    scale: Option<f64>,
) -> Result<Tensor> {
    of_pages(NAME, [q, keys, values], table, lengths, scale)
}

/// The same, `name` being what was called.
fn of_pages(
    name: &'static str,
    [q, keys, values]: [&Tensor; 3],
    table: &Tensor,
    lengths: &Tensor,
    scale: Option<f64>,
) -> Result<Tensor> {
    let (&[b, h, d], &[pages, size, kv, _]) = (q.dims(), keys.dims()) else {
        let got = format!("{:?}, {:?}", q.dims(), keys.dims());
        return Err(Error::argument(name, "q, keys", "[b, h, d], [pages, size, kv, d]", got));
    };
    if keys.dims() != [pages, size, kv, d]
        || values.dims() != keys.dims()
        || (pages == 0 && b * h > 0)
        || kv == 0
        || h % kv != 0
        || d == 0
        || d > WIDEST
    {
        let expected = format!("[pages, size, a divisor of {h}, {d}], a page at least, rows of 1 to {WIDEST}");
        return Err(Error::argument(name, "keys, values", expected, format!("{:?}, {:?}", keys.dims(), values.dims())));
    }
    let (dtype, u32s) = (q.dtype(), table.dtype() == DType::U32 && lengths.dtype() == DType::U32);
    if !dtype.is_float() || dtype == DType::F64 || keys.dtype() != dtype || values.dtype() != dtype || !u32s {
        let got: Vec<&str> = [q, keys, values, table, lengths].map(|t| t.dtype().as_str()).to_vec();
        let expected = "f32, f16 or bf16 of q, keys and values, and u32 of table and lengths";
        return Err(Error::argument(name, "dtypes", expected, got.join(" ")));
    }
    if table.rank() != 2 || table.dims()[0] != b || lengths.dims() != [b] {
        return Err(Error::argument(
            NAME,
            "table, lengths",
            format!("[{b}, pages], [{b}]"),
            format!("{:?}, {:?}", table.dims(), lengths.dims()),
        ));
    }
    if b * h == 0 {
        return Ok(q.zeros_like()?);
    }
    let scale = scale.unwrap_or(1.0 / (d as f64).sqrt());
    // as many parts as fill a large chip, of 128 keys and more
    let room = table.dims()[1] * size;
    let parts = room.div_ceil(128).min(1024usize.div_ceil(b * h)).max(1);
    let [first, join] = kernels(d);
    let first = first
        .with("scale", scale)
        .results(move |_| vec![(Shape::from((b, h, parts, d)), DType::F32), (Shape::from((b, h, parts)), DType::F32)])
        .grid_of(move |_| Grid { blocks: [(b * h) as u32, parts as u32, 1], threads: 32 * WARPS as u32 })
        // all keys are one part; the others have none
        .cpu(move |t| {
            let (y, lse) = on_cpu(name, t, scale)?;
            let (y, lse) = (y.unsqueeze(2)?, lse.unsqueeze(2)?);
            let none = Tensor::full(f32::NEG_INFINITY, (b, h, parts - 1), y.device())?;
            Ok(vec![y.pad_with_zeros(2, 0, parts - 1)?, if parts > 1 { Tensor::cat(&[lse, none], 2)? } else { lse }])
        });
    let join = join
        .clone()
        .results(move |t| vec![(Shape::from((b, h, d)), t[2].dtype())])
        .grid_of(move |_| Grid::new(b * h, 128))
        .cpu(|t| Ok(vec![t[0].narrow(2, 0, 1)?.squeeze(2)?.contiguous()?.to_dtype(t[2].dtype())?]));
    let q = q.detach();
    let mut found = first.call(&[&q, &keys.detach(), &values.detach(), table, lengths])?;
    let lse = found.pop().ok_or_else(|| Error::internal("it has two results"))?;
    Ok(join.call(&[&found[0], &lse, &q])?.swap_remove(0))
}

/// One query a sequence, q [b, h, d], over k and v [b, kv, n, d]; `lengths` `[b]` of u32 where not all of them are in use.
///
/// # Errors
/// As `paged_attention`.
pub fn decode_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: Option<&Tensor>,
    scale: Option<f64>,
) -> Result<Tensor> {
    let (&[b, h, d], &[_, kv, n, _]) = (q.dims(), k.dims()) else {
        let got = format!("{:?}, {:?}", q.dims(), k.dims());
        return Err(Error::argument("decode_attention", "q, k", "[b, h, d], [b, kv, n, d]", got));
    };
    if k.dims() != [b, kv, n, d] || v.dims() != k.dims() || kv == 0 || h % kv != 0 {
        return Err(Error::argument(
            "decode_attention",
            "k, v",
            format!("[{b}, a divisor of {h}, n, {d}]"),
            format!("{:?}, {:?}", k.dims(), v.dims()),
        ));
    }
    if let Some(l) = lengths
        && (l.dims() != [b] || l.dtype() != DType::U32)
    {
        let got = format!("{:?} of {}", l.dims(), l.dtype().as_str());
        return Err(Error::argument("decode_attention", "lengths", format!("[{b}] of u32"), got));
    }
    // a head of keys is a sequence of one page
    let pages = |t: &Tensor| t.reshape((b * kv, n, 1, d));
    let table = Tensor::arange(0u32, (b * kv) as u32, q.device())?.reshape((b * kv, 1))?;
    let lengths = match lengths {
        Some(l) => l.unsqueeze(1)?.broadcast_as((b, kv))?.contiguous()?.flatten_all()?,
        None => Tensor::full(n as u32, b * kv, q.device())?,
    };
    let q = q.reshape((b * kv, h / kv, d))?;
    let y = of_pages("decode_attention", [&q, &pages(k)?, &pages(v)?], &table, &lengths, scale)?;
    Ok(y.reshape((b, h, d))?)
}

/// Results and sums of exponentials in f32.
fn on_cpu(name: &str, t: &[Tensor], scale: f64) -> candle_core::Result<(Tensor, Tensor)> {
    let (b, h, d) = t[0].dims3()?;
    let (pages, size, kv, _) = t[1].dims4()?;
    let floats = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (q, k, v) = (floats(&t[0])?, floats(&t[1])?, floats(&t[2])?);
    let (table, lengths) = (t[3].to_vec2::<u32>()?, t[4].to_vec1::<u32>()?);
    for (row, length) in table.iter().zip(&lengths) {
        if *length as usize > row.len() * size {
            let expected = format!("up to {} ({} pages of {size})", row.len() * size, row.len());
            return Err(Error::argument(name, "lengths", expected, length).into());
        }
        let used = (*length as usize).div_ceil(size.max(1));
        if row[..used].iter().any(|p| *p as usize >= pages) {
            let expected = format!("pages below {pages}");
            return Err(Error::argument(name, "table", expected, format!("{:?}", &row[..used])).into());
        }
    }
    let mut out = vec![0f32; b * h * (d + 1)];
    in_parts(&mut out, d + 1, |head, out| {
        let (seq, pair) = (head / h, head % h / (h / kv));
        let q = &q[head * d..][..d];
        let n = lengths[seq] as usize;
        let at = |j: usize| ((table[seq][j / size] as usize * size + j % size) * kv + pair) * d;
        let score = |j: usize| q.iter().zip(&k[at(j)..][..d]).map(|(a, b)| a * b).sum::<f32>() * scale as f32;
        let scores: Vec<f32> = (0..n).map(score).collect();
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0f32;
        for (j, s) in scores.iter().enumerate() {
            let e = (s - top).exp();
            sum += e;
            out.iter_mut().zip(&v[at(j)..][..d]).for_each(|(o, v)| *o += e * v);
        }
        out[..d].iter_mut().for_each(|o| *o = if sum != 0.0 { *o / sum } else { 0.0 });
        out[d] = if sum != 0.0 { top + sum.ln() } else { f32::NEG_INFINITY };
    });
    let all = Tensor::from_vec(out, (b, h, d + 1), t[0].device())?;
    Ok((all.narrow(2, 0, d)?.contiguous()?, all.narrow(2, d, 1)?.squeeze(2)?.contiguous()?))
}

/// Pages of `size` keys for sequences of these lengths, in an order that is none.
fn pages(
    lengths: &[u32],
    [h, kv, size, d]: [usize; 4],
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Vec<Tensor>> {
    let b = lengths.len();
    let most = lengths.iter().map(|l| (*l as usize).div_ceil(size)).max().unwrap_or(0).max(1);
    let table: Vec<u32> = (0..b * most).map(|i| ((b * most - 1 - i) * 7 % (b * most)) as u32).collect();
    Ok(vec![
        numbers(&[b, h, d], dtype, 1, device)?,
        numbers(&[b * most, size, kv, d], dtype, 2, device)?,
        numbers(&[b * most, size, kv, d], dtype, 3, device)?,
        Tensor::from_vec(table, (b, most), device)?,
        Tensor::new(lengths, device)?,
    ])
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // sums are in f32
    }
    for (what, lengths, sizes) in [
        ("one key", &[1u32][..], [1, 1, 1, 8]),
        ("shared keys, odd lengths", &[37, 5, 0][..], [4, 2, 8, 40]),
        ("several parts", &[301, 290][..], [2, 1, 16, 64]),
    ] {
        cases.push(Case::new(what, pages(lengths, sizes, dtype, &Device::Cpu)?, &[]));
    }
    Ok(cases)
}

/// Key by key.
fn reference(t: &[Tensor], _: &[f64]) -> candle_core::Result<Vec<Tensor>> {
    let (_, h, d) = t[0].dims3()?;
    let kv = t[1].dim(2)?;
    let size = t[1].dim(1)?;
    let mut rows = vec![];
    for (seq, n) in t[4].to_vec1::<u32>()?.into_iter().enumerate() {
        if n == 0 {
            rows.push(t[0].get(seq)?.zeros_like()?);
            continue;
        }
        let used: Vec<u32> = t[3].get(seq)?.to_vec1::<u32>()?.into_iter().take((n as usize).div_ceil(size)).collect();
        let used = Tensor::new(used, t[3].device())?;
        let of = |cache: &Tensor| -> candle_core::Result<Tensor> {
            let all = cache.index_select(&used, 0)?.flatten(0, 1)?.narrow(0, 0, n as usize)?.transpose(0, 1)?;
            all.unsqueeze(1)?.broadcast_as((kv, h / kv, n as usize, d))?.contiguous()?.reshape((h, n as usize, d))
        };
        let scores =
            (t[0].get(seq)?.unsqueeze(1)?.matmul(&of(&t[1])?.t()?.contiguous()?)? * (1.0 / (d as f64).sqrt()))?;
        let e = scores.broadcast_sub(&scores.max_keepdim(2)?)?.exp()?;
        let p = e.broadcast_div(&e.sum_keepdim(2)?)?;
        rows.push(p.matmul(&of(&t[2])?)?.squeeze(1)?);
    }
    Ok(vec![Tensor::stack(&rows, 0)?])
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "paged_attention",
    summary: "attention of one query a sequence over pages of keys and values",
    zmlx: &["attention.paged_attention"],
    args: &["q", "keys", "values", "table", "lengths"],
    settings: &[],
    gradient: Gradient::None("decoding is not trained"),
    wrt: &[],
    roundings: [0.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let (n, b) = if device.is_cpu() { (1024, 1) } else { (16_384, 4) };
        let inputs = pages(&vec![n as u32; b], [32, 8, 16, 128], dtype, device)?;
        let bytes = (2 * b * n * 8 * 128 * dtype.size_in_bytes()) as f64;
        Ok(vec![Case {
            bytes,
            ..Case::new(&format!("{b} sequences of {n}, 32 heads (8 of keys) of 128"), inputs, &[])
        }])
    },
    run: |t, _| Ok(vec![paged_attention(&t[0], &t[1], &t[2], &t[3], &t[4], None)?]),
    reference,
};
