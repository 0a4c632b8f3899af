//! Rotary position embedding of halves by position ids: the row of the tables that each row's position finds
//!
//! | name | shape   | dtype            | note                                                                |
//! |------|---------|------------------|---------------------------------------------------------------------|
//! | a    | [.., C] | f16 bf16 f32 f64 | the first half of a row of x                                        |
//! | b    | [.., C] | as a             | its second half                                                     |
//! | cos  | [P, C]  | any float        | a table of positions: [`crate::rotary::Rotary::tables`]             |
//! | sin  | as cos  | as cos           |                                                                     |
//! | at   | [..]    | any integer      | 0 ≤ at < P; read on the device: a new value compiles and copies nothing |
//! | y    | [.., 2·C] | as a           | u and v side by side                                                |
//! Cost: x read and y written, and a position a row.
//! Source: arXiv:2104.09864, as `rope`.
//!
//! [`rope_and_cache_update`] and [`paged_rope_and_cache_update`] turn q and k of one new token a sequence and put k and v
//! into their caches, where they lie: nothing else of the caches is touched, as ZMLX's kernels of these names promise.

use super::rope::{half, rotated};
use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, Entry, Gradient},
    order::{integers, rows_found},
    rowwise, stats,
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `rope_positions`.
pub static ENTRY: Entry = Entry {
    name: "rope_positions",
    summary: "rope with rows of cos and sin found by positions",
    formula: "stack(a * cos - b * sin, a * sin + b * cos)",
    zmlx: &["rope.rope_and_cache_update", "rope.paged_rope_and_cache_update"],
    args: &[Arg::full("a"), Arg::full("b"), Arg::table("cos", "at"), Arg::table("sin", "at"), Arg::place("at")],
    uniforms: &[],
    fallback: |t, _| plain(&t[0], &t[1], &t[2], &t[3], &t[4]).map(|y| vec![y]),
    gradient: Gradient::Derived,
    moves: 6.0,
    cell: OnceLock::new(),
};

fn plain(a: &Tensor, b: &Tensor, cos: &Tensor, sin: &Tensor, at: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::cat(&rotated(a, b, &rows_found(cos, at)?, &rows_found(sin, at)?)?, D::Minus1)
}

static OP: OnceLock<Op> = OnceLock::new();

fn op() -> Result<&'static Op> {
    Op::once(&OP, || {
        let op = rowwise(ENTRY.parsed()?)?.name(ENTRY.name).rows_by("cos", "at").rows_by("sin", "at");
        op.parts("x", &["a", "b"], false).build()
    })
}

/// Rotates each row of `x` by row `at` of the tables, `[P, D / 2]`; `at` broadcasts with `[.., S]` (`x` of `[.., S, D]`).
pub fn rope_positions(x: &Tensor, cos: &Tensor, sin: &Tensor, at: &Tensor) -> Result<Tensor> {
    let cols = half(ENTRY.name, x, cos, sin)?;
    if 2 * cols != x.dim(D::Minus1)? {
        return Err(Error::shape(ENTRY.name, "cos", format!("{} columns", x.dim(D::Minus1)? / 2), cos.dims()));
    }
    if bridge::runs_on(x.device()) {
        return op()?.call(&[x, cos, sin, at]);
    }
    stats::count_fallback();
    let (a, b) = (x.narrow(D::Minus1, 0, cols)?, x.narrow(D::Minus1, cols, cols)?);
    Ok(plain(&a, &b, cos, sin, at)?)
}

/// One token for each of B sequences: the result is q turned; k turned and v come to position `offset` of the caches.
/// `q` is `[B, H, D]`, `k` and `v` `[B, KV, D]`, the caches `[B, positions, KV, D]`, contiguous, `offset` `[B]` of integers.
///
/// # Errors
/// Shapes or dtypes that do not belong together; an offset outside the caches or the tables (on a GPU nothing is written then).
pub fn rope_and_cache_update(
    qkv: [&Tensor; 3],
    tables: [&Tensor; 2],
    caches: [&Tensor; 2],
    offset: &Tensor,
) -> Result<Tensor> {
    const NAME: &str = "rope_and_cache_update";
    let batch = qkv[1].dims().first().copied().unwrap_or(0);
    if caches[0].dims().first() != Some(&batch) {
        let expected = format!("[{batch}, positions, KV, D]");
        return Err(Error::shape(NAME, "k_cache", expected, caches[0].dims()));
    }
    // a page a sequence
    let pages = Tensor::arange(0u32, batch as u32, offset.device())?.unsqueeze(1)?;
    update(NAME, qkv, tables, caches, &pages, offset)
}

/// The same with caches in pages, `[pages, page size, KV, D]`: position p of a sequence is in page `pages[b, p / size]`;
/// `pages` is `[B, most]` of integers.
///
/// # Errors
/// As `rope_and_cache_update`, and a page that the caches have not (on a GPU nothing is written then).
pub fn paged_rope_and_cache_update(
    qkv: [&Tensor; 3],
    tables: [&Tensor; 2],
    caches: [&Tensor; 2],
    pages: &Tensor,
    offset: &Tensor,
) -> Result<Tensor> {
    update("paged_rope_and_cache_update", qkv, tables, caches, pages, offset)
}

fn update(
    op: &str,
    [q, k, v]: [&Tensor; 3],
    [cos, sin]: [&Tensor; 2],
    caches: [&Tensor; 2],
    pages: &Tensor,
    offset: &Tensor,
) -> Result<Tensor> {
    let (&[batch, heads, cols], &[many, size, _, _]) = (k.dims(), caches[0].dims()) else {
        let got = format!("{:?}, {:?}", k.dims(), caches[0].dims());
        return Err(Error::argument(op, "k, k_cache", "[B, KV, D], a cache of four dimensions", got));
    };
    let fits = |name: &str, t: &Tensor, dims: &[usize]| match t.dims() == dims {
        true => Ok(()),
        false => Err(Error::shape(op, name, format!("{dims:?}"), t.dims())),
    };
    fits("v", v, k.dims())?;
    fits("q", q, &[batch, q.dims().get(1).copied().unwrap_or(0), cols])?;
    fits("offset", offset, &[batch])?;
    fits("pages", pages, &[batch, pages.dims().get(1).copied().unwrap_or(0)])?;
    for (name, cache) in [("k_cache", caches[0]), ("v_cache", caches[1])] {
        fits(name, cache, &[many, size, heads, cols])?;
        if !cache.dtype().is_float() {
            return Err(Error::argument(op, format!("{name}: dtype"), "a float", cache.dtype().as_str()));
        }
        if !cache.is_contiguous() {
            return Err(Error::argument(op, name, "a contiguous tensor", "one that is not"));
        }
    }
    integers(op, "offset", offset)?;
    integers(op, "pages", pages)?;
    if offset.device().is_cpu() {
        look_up(op, [many, size], pages, offset)?;
    }
    let at = offset.unsqueeze(1)?;
    let (q, k) = (rope_positions(q, cos, sin, &at)?, rope_positions(k, cos, sin, &at)?);
    let slot = slots(many, size)?.call(&[pages, offset])?;
    for (new, cache) in [(&k, caches[0]), (v, caches[1])] {
        let new = new.contiguous()?.reshape((batch, heads * cols))?.to_dtype(cache.dtype())?;
        let at = slot.unsqueeze(1)?.broadcast_as((batch, heads * cols))?.contiguous()?;
        cache.reshape((many * size, heads * cols))?.scatter_set(&at, &new, 0)?;
    }
    Ok(q)
}

/// Are all places there? Before anything is written; on the CPU.
fn look_up(op: &str, [many, size]: [usize; 2], pages: &Tensor, offset: &Tensor) -> Result<()> {
    let (pages, room) = (pages.to_dtype(DType::I64)?.to_vec2::<i64>()?, size * pages.dims()[1]);
    for (own, at) in pages.iter().zip(offset.to_dtype(DType::I64)?.to_vec1::<i64>()?) {
        let Some(place) = usize::try_from(at).ok().filter(|at| *at < room) else {
            return Err(Error::argument(op, "offset", format!("0 ≤ offset < {room}"), at));
        };
        let page = own[place / size];
        if usize::try_from(page).map_or(true, |p| p >= many) {
            return Err(Error::argument(op, "pages", format!("0 ≤ page < {many}"), page));
        }
    }
    Ok(())
}

/// The rows of caches of `many` pages of `size` positions that positions `at` are in; the largest u32, which candle's scatter
/// leaves out, for one that is in none.
fn slots(many: usize, size: usize) -> Result<Op> {
    static OP: OnceLock<Op> = OnceLock::new();
    let op = Op::once(&OP, || {
        let text = "let page = i64(pages[at / size]); \
                        let there = at >= 0 && at / size < cols && page >= 0 && page < many; \
                        out slot: u32 = there ? page * size + at % size : 4294967295";
        let built = rowwise(text)?.name("page_slots").uniform("size", 1i64).uniform("many", 1i64).row("at");
        built.no_grad().build()
    })?;
    Ok(op.with("size", size as i64).with("many", many as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::rope::rope, rotary::Rotary};
    use candle_core::{Device, Var};

    fn off(a: &Tensor, b: &Tensor) -> Result<f32> {
        Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
    }

    #[test]
    fn positions_find_rows_and_gradients_go_back_to_them() -> Result<()> {
        let (cos, sin) = Rotary::new(8, 100.0).tables(0, 6, DType::F32, &Device::Cpu)?;
        let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (2, 3, 4, 8), &Device::Cpu)?)?;
        let at = Tensor::new(&[5u32, 0, 5, 2], &Device::Cpu)?;
        let [c, s] = [&cos, &sin].map(|t| t.index_select(&at, 0));
        let (plain, y) = (rope(&x, &c?, &s?)?, rope_positions(&x, &cos, &sin, &at)?);
        assert!(off(&y, &plain)? < 1e-6);
        let cosines = Var::from_tensor(&cos)?;
        let g = rope_positions(&x, &cosines, &sin, &at)?.sqr()?.sum_all()?.backward()?;
        let found = cosines.index_select(&at, 0)?;
        let [a, b] = [0, 4].map(|k| x.narrow(3, k, 4));
        let want = Tensor::cat(&rotated(&a?, &b?, &found, &sin.index_select(&at, 0)?)?, 3)?.sqr()?.sum_all()?;
        let want = want.backward()?;
        for v in [&x, &cosines] {
            assert!(off(g.get(v).expect("a gradient"), want.get(v).expect("a gradient"))? < 1e-4);
        }
        // one position for all, as when one sequence is decoded
        for shape in [&[2usize, 3, 1, 8][..], &[1, 3, 1, 8], &[1, 1, 1, 8], &[8]] {
            let x = Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?;
            let (c, s) = (cos.get(5)?, sin.get(5)?);
            let ids = Tensor::new(&[5u32], &Device::Cpu)?;
            let ids = if shape.len() == 1 { ids.squeeze(0)? } else { ids };
            let cosines = Var::from_tensor(&cos)?;
            let y = rope_positions(&x, &cosines, &sin, &ids)?;
            assert!(off(&y, &rope(&x, &c, &s)?)? < 1e-6, "{shape:?}");
            let g = y.sum_all()?.backward()?.get(&cosines).expect("a gradient").sum(1)?.to_vec1::<f32>()?;
            let want = x.sum_all()?.to_scalar::<f32>()?;
            assert!((g[5] - want).abs() < 1e-4 && g[..5] == [0.0; 5], "{shape:?}: {g:?}, {want}");
        }
        Ok(())
    }

    #[test]
    fn one_row_of_each_cache_is_written_and_no_other() -> Result<()> {
        let device = &Device::Cpu;
        let (cos, sin) = Rotary::new(4, 100.0).tables(0, 8, DType::F32, device)?;
        let [q, k, v] = [3, 2, 2].map(|heads| Tensor::randn(0f32, 1f32, (2, heads, 4), device));
        let (q, k, v) = (q?, k?, v?);
        let offset = Tensor::new(&[1i64, 6], device)?;
        let k_cache = Tensor::randn(0f32, 1f32, (2, 8, 2, 4), device)?;
        let v_cache = Tensor::randn(0f32, 1f32, (2, 8, 2, 4), device)?;
        let before = v_cache.copy()?;
        let turned = rope_and_cache_update([&q, &k, &v], [&cos, &sin], [&k_cache, &v_cache], &offset)?;
        assert!(off(&turned, &rope_positions(&q, &cos, &sin, &offset.unsqueeze(1)?)?)? == 0.0);
        let expected = rope_positions(&k, &cos, &sin, &offset.unsqueeze(1)?)?;
        for (b, p) in [(0, 1), (1, 6)] {
            assert!(off(&k_cache.get(b)?.get(p)?, &expected.get(b)?)? == 0.0);
            assert!(off(&v_cache.get(b)?.get(p)?, &v.get(b)?)? == 0.0);
        }
        let changed = v_cache.ne(&before)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
        assert_eq!(changed, 16.0);
        // pages of two positions
        let pages = Tensor::new(&[[3u32, 0, 0, 0], [0, 0, 0, 1]], device)?;
        let [kp, vp] = [0, 1].map(|_| Tensor::zeros((4, 2, 2, 4), DType::F32, device));
        let (kp, vp) = (kp?, vp?);
        paged_rope_and_cache_update([&q, &k, &v], [&cos, &sin], [&kp, &vp], &pages, &offset)?;
        for (b, page, p) in [(0, 3, 1), (1, 1, 0)] {
            assert!(off(&kp.get(page)?.get(p)?, &expected.get(b)?)? == 0.0);
            assert!(off(&vp.get(page)?.get(p)?, &v.get(b)?)? == 0.0);
        }
        // what is not there is told, and nothing is written
        let (before, caches) = (k_cache.copy()?, [&k_cache, &v_cache]);
        let told = |r: Result<Tensor>| r.expect_err("a mistake").to_string();
        let beyond = Tensor::new(&[1i64, 8], device)?;
        let error = told(rope_and_cache_update([&q, &k, &v], [&cos, &sin], caches, &beyond));
        assert_eq!(error, "rope_and_cache_update: offset, expected 0 ≤ offset < 8, got 8");
        let none = Tensor::new(&[[3u32, 0, 0, 0], [0, 0, 0, 4]], device)?;
        let error = told(paged_rope_and_cache_update([&q, &k, &v], [&cos, &sin], [&kp, &vp], &none, &offset));
        assert_eq!(error, "paged_rope_and_cache_update: pages, expected 0 ≤ page < 4, got 4");
        let error = told(rope_and_cache_update([&q, &k, &v], [&cos, &sin], [&k_cache, &kp], &offset));
        assert_eq!(error, "rope_and_cache_update: v_cache has shape [4, 2, 2, 4], expected [2, 8, 2, 4]");
        assert_eq!(off(&k_cache, &before)?, 0.0);
        let one = |t: &Tensor| t.narrow(0, 0, 1);
        let error = told(rope_and_cache_update([&one(&q)?, &k, &v], [&cos, &sin], [&k_cache, &v_cache], &offset));
        assert_eq!(error, "rope_and_cache_update: q has shape [1, 3, 4], expected [2, 3, 4]");
        let whole = k_cache.to_dtype(DType::I64)?;
        let error = told(rope_and_cache_update([&q, &k, &v], [&cos, &sin], [&whole, &v_cache], &offset));
        assert_eq!(error, "rope_and_cache_update: k_cache: dtype, expected a float, got i64");
        // a sequence alone
        let (kc, vc) = (one(&k_cache)?.contiguous()?, one(&v_cache)?.contiguous()?);
        let alone = rope_and_cache_update([&one(&q)?, &one(&k)?, &one(&v)?], [&cos, &sin], [&kc, &vc], &one(&offset)?)?;
        assert!(off(&alone, &one(&turned)?)? == 0.0);
        // as a GPU finds places: the largest u32 is none
        let found = slots(4, 2)?.call(&[&pages, &offset])?.to_vec1::<u32>()?;
        assert_eq!(found, [7, 2]);
        let found = slots(4, 2)?.call(&[&(none.to_dtype(DType::I64)? - 9.0)?, &offset])?.to_vec1::<u32>()?;
        assert_eq!(found, [u32::MAX; 2]);
        Ok(())
    }
}
