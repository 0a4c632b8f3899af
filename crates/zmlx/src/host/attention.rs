//! Attention on the CPU: tiles of scores as matrix products, an online softmax between them, a task for each head.

use super::in_parts;
use crate::bridge::matmul;
use std::borrow::Cow;
use zmlx_runtime::backend::cpu::{
    math,
    simd::{Fma, Loop, dispatch},
};

/// Queries and keys of a tile.
const QUERIES: usize = 64;
const KEYS: usize = 256;

/// The floats that are computed in.
pub trait Real:
    Copy
    + Send
    + Sync
    + 'static
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::AddAssign
    + std::ops::MulAssign
{
    const ZERO: Self;
    const ONE: Self;
    const LEAST: Self;
    fn of(v: f64) -> Self;
    fn exp<F: Fma>(self) -> Self;
    fn ln(self) -> Self;
}

macro_rules! real {
    ($t:ident) => {
        impl Real for $t {
            const ZERO: $t = 0.0;
            const ONE: $t = 1.0;
            const LEAST: $t = $t::NEG_INFINITY;
            #[inline(always)]
            fn of(v: f64) -> $t {
                v as $t
            }
            #[inline(always)]
            fn exp<F: Fma>(self) -> $t {
                math::$t::exp::<F>(self)
            }
            fn ln(self) -> $t {
                $t::ln(self)
            }
        }
    };
}
real!(f32);
real!(f64);

/// Sizes of a call: q is [b, h, q, d], k and v are [b, kv, n, d].
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub b: usize,
    pub h: usize,
    pub kv: usize,
    pub q: usize,
    pub n: usize,
    pub d: usize,
    /// A query sees keys up to its own place, counted from the ends.
    pub causal: bool,
    /// The most keys that a query sees, back from its own place; 0: all.
    pub window: usize,
    pub scale: f64,
    /// Sizes of the mask, each 1 or that of b, h, q, n.
    pub mask: Option<[usize; 4]>,
}

impl Shape {
    /// Keys that query `i` sees.
    pub fn seen(&self, i: usize) -> std::ops::Range<usize> {
        // one past its own place
        let end = (i + self.n + 1).saturating_sub(self.q);
        let last = if self.causal { end.min(self.n) } else { self.n };
        let first = if self.window > 0 { end.saturating_sub(self.window) } else { 0 };
        first.min(last)..last
    }
}

struct Exp<'a, T>(&'a mut [T], T);

impl<T: Real> Loop for Exp<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<F: Fma>(self) -> T {
        let mut sum = T::ZERO;
        for v in self.0.iter_mut() {
            *v = (*v - self.1).exp::<F>();
        }
        for v in self.0.iter() {
            sum += *v;
        }
        sum
    }
}

/// The scores of a tile of queries and keys of one head, −∞ where a query does not see a key.
fn scores<T: Real>(
    s: &Shape,
    [b, h]: [usize; 2],
    q: (&[T], usize),
    k: (&[T], usize),
    mask: Option<&[T]>,
    out: &mut [T],
) {
    let d = s.d;
    let (rows, keys) = (q.0.len() / d, k.0.len() / d);
    let out = &mut out[..rows * keys];
    matmul([rows, keys, d], (out, [keys, 1]), (q.0, [d, 1]), (k.0, [1, d]), None, [T::ZERO, T::of(s.scale)]);
    for (i, row) in out.chunks_mut(keys).enumerate() {
        let i = q.1 + i;
        if let (Some(mask), Some(dims)) = (mask, s.mask) {
            let place = in_mask(dims, [b, h, i]);
            row.iter_mut().enumerate().for_each(|(j, v)| *v += mask[place(k.1 + j)]);
        }
        let seen = s.seen(i);
        let (first, last) = (seen.start.saturating_sub(k.1).min(keys), seen.end.saturating_sub(k.1).min(keys));
        row[..first].fill(T::LEAST);
        row[last.max(first)..].fill(T::LEAST);
    }
}

/// Where a mask of these sizes has the keys of a query.
fn in_mask(dims: [usize; 4], [b, h, i]: [usize; 3]) -> impl Fn(usize) -> usize {
    let at = move |x: usize, k: usize| if dims[k] == 1 { 0 } else { x };
    let base = ((at(b, 0) * dims[1] + at(h, 1)) * dims[2] + at(i, 2)) * dims[3];
    move |j| base + at(j, 3)
}

/// Tiles of keys that one of these queries sees.
fn tiles(s: &Shape, first: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let (start, end) = (s.seen(first).start, s.seen(first + rows - 1).end);
    let n = s.n;
    (start / KEYS..end.div_ceil(KEYS)).map(move |t| (t * KEYS, ((t + 1) * KEYS).min(n)))
}

/// Results [b, h, q, d] and the logarithms of the sums of exponentials [b, h, q], one behind the other for each tile of
/// queries: see [`split`].
pub fn forward<T: Real>(s: &Shape, q: &[T], k: &[T], v: &[T], mask: Option<&[T]>) -> (Vec<T>, Vec<T>) {
    let (d, tiles_of_head) = (s.d, s.q.div_ceil(QUERIES));
    // each task writes a tile of results, with the sums in a column behind
    let mut all = vec![T::ZERO; s.b * s.h * tiles_of_head * QUERIES * (d + 1)];
    in_parts(&mut all, QUERIES * (d + 1), |task, out| {
        let (head, first) = (task / tiles_of_head, task % tiles_of_head * QUERIES);
        let (b, h) = (head / s.h, head % s.h);
        let rows = QUERIES.min(s.q - first);
        let queries = &q[(head * s.q + first) * d..][..rows * d];
        let kv = (b * s.kv + h / (s.h / s.kv)) * s.n * d;
        let mut p = vec![T::ZERO; rows * KEYS];
        let (mut most, mut sum) = (vec![T::LEAST; rows], vec![T::ZERO; rows]);
        let (out, sums) = out.split_at_mut(QUERIES * d);
        for (from, to) in tiles(s, first, rows) {
            let keys = to - from;
            scores(s, [b, h], (queries, first), (&k[kv + from * d..kv + to * d], from), mask, &mut p);
            for (r, row) in p[..rows * keys].chunks_mut(keys).enumerate() {
                let top = row.iter().fold(most[r], |m, v| if *v > m { *v } else { m });
                // not so where there are NaN: what is computed below carries them on
                if top == T::LEAST && row.iter().all(|v| *v == T::LEAST) {
                    row.fill(T::ZERO);
                    continue;
                }
                let mut old = [most[r]];
                dispatch(Exp(&mut old, top));
                let shrink = if most[r] == T::LEAST { T::ZERO } else { old[0] };
                sum[r] = sum[r] * shrink + dispatch(Exp(row, top));
                most[r] = top;
                out[r * d..(r + 1) * d].iter_mut().for_each(|o| *o *= shrink);
            }
            let v = &v[kv + from * d..kv + to * d];
            matmul([rows, d, keys], (out, [d, 1]), (&p, [keys, 1]), (v, [d, 1]), Some(T::ONE), [T::ZERO, T::ONE]);
        }
        for r in 0..rows {
            // a sum that is NaN stays so
            let seen = sum[r] != T::ZERO;
            let by = if seen { T::ONE / sum[r] } else { T::ZERO };
            out[r * d..(r + 1) * d].iter_mut().for_each(|o| *o *= by);
            sums[r] = if seen { most[r] + sum[r].ln() } else { T::LEAST };
        }
    });
    let (mut y, mut lse) = (Vec::with_capacity(q.len()), Vec::with_capacity(s.b * s.h * s.q));
    for (task, tile) in all.chunks(QUERIES * (d + 1)).enumerate() {
        let rows = QUERIES.min(s.q - task % tiles_of_head * QUERIES);
        y.extend_from_slice(&tile[..rows * d]);
        lse.extend_from_slice(&tile[QUERIES * d..][..rows]);
    }
    (y, lse)
}

/// Inputs of a backward pass; `delta` is the sum of results times cotangents of a row, less the cotangent of its `lse`.
pub struct Back<'a, T> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub mask: Option<&'a [T]>,
    pub lse: &'a [T],
    pub delta: &'a [T],
    pub cotangent: &'a [T],
}

/// These rows of `d` columns, some of them zero.
fn without<'a, T: Real>(all: &'a [T], rows: &[usize], d: usize) -> Cow<'a, [T]> {
    let mut all = Cow::Borrowed(all);
    rows.iter().for_each(|r| all.to_mut()[r * d..][..d].fill(T::ZERO));
    all
}

/// Gradients by q, k and v; scores are made again. A task a head of k and v, so sums have one order. A row whose `lse` is NaN gives
/// NaN to its query and to the keys that it sees, and takes no part in the products: there its NaN would meet the zeros of others.
pub fn backward<T: Real>(s: &Shape, t: &Back<'_, T>) -> [Vec<T>; 3] {
    let (d, group) = (s.d, s.h / s.kv);
    let (of_q, of_k) = (group * s.q * d, s.n * d);
    let mut all = vec![T::ZERO; s.b * s.kv * (of_q + 2 * of_k)];
    in_parts(&mut all, of_q + 2 * of_k, |task, out| {
        let (dq, rest) = out.split_at_mut(of_q);
        let (dk, dv) = rest.split_at_mut(of_k);
        let (b, kv) = (task / s.kv, task * of_k);
        let (mut p, mut dp) = (vec![T::ZERO; QUERIES * KEYS], vec![T::ZERO; QUERIES * KEYS]);
        for g in 0..group {
            let h = task % s.kv * group + g;
            for first in (0..s.q).step_by(QUERIES) {
                let rows = QUERIES.min(s.q - first);
                let row = (b * s.h + h) * s.q + first;
                let (q, cotangent) = (&t.q[row * d..][..rows * d], &t.cotangent[row * d..][..rows * d]);
                let is_nan = |r: &usize| t.lse[row + r].partial_cmp(&T::ZERO).is_none();
                let lost: Vec<usize> = (0..rows).filter(is_nan).collect();
                let (q, cotangent) = (without(q, &lost, d), without(cotangent, &lost, d));
                let (q, cotangent) = (&q[..], &cotangent[..]);
                let dq = &mut dq[(g * s.q + first) * d..][..rows * d];
                for (from, to) in tiles(s, first, rows) {
                    let keys = to - from;
                    let (k, v) = (&t.k[kv + from * d..kv + to * d], &t.v[kv + from * d..kv + to * d]);
                    scores(s, [b, h], (q, first), (k, from), t.mask, &mut p);
                    for (r, p) in p[..rows * keys].chunks_mut(keys).enumerate() {
                        match t.lse[row + r] {
                            lse if lse == T::LEAST || lost.contains(&r) => p.fill(T::ZERO),
                            lse => drop(dispatch(Exp(p, lse))),
                        }
                    }
                    let one = [T::ZERO, T::ONE];
                    let (p, dp) = (&mut p[..rows * keys], &mut dp[..rows * keys]);
                    matmul(
                        [keys, d, rows],
                        (&mut dv[from * d..to * d], [d, 1]),
                        (p, [1, keys]),
                        (cotangent, [d, 1]),
                        Some(T::ONE),
                        one,
                    );
                    matmul([rows, keys, d], (dp, [keys, 1]), (cotangent, [d, 1]), (v, [1, d]), None, one);
                    for (r, (p, dp)) in p.chunks_mut(keys).zip(dp.chunks(keys)).enumerate() {
                        let delta = if lost.contains(&r) { T::ZERO } else { t.delta[row + r] };
                        p.iter_mut().zip(dp).for_each(|(p, dp)| *p *= *dp - delta);
                    }
                    let by = [T::ZERO, T::of(s.scale)];
                    matmul([rows, d, keys], (dq, [d, 1]), (p, [keys, 1]), (k, [d, 1]), Some(T::ONE), by);
                    matmul(
                        [keys, d, rows],
                        (&mut dk[from * d..to * d], [d, 1]),
                        (p, [1, keys]),
                        (q, [d, 1]),
                        Some(T::ONE),
                        by,
                    );
                    for r in &lost {
                        let (i, nan) = (first + r, t.lse[row + r]);
                        let seen = s.seen(i);
                        let place = s.mask.zip(t.mask).map(|(dims, mask)| (in_mask(dims, [b, h, i]), mask));
                        let shown = |j: &usize| place.as_ref().is_none_or(|(at, mask)| mask[at(*j)] != T::LEAST);
                        for j in (seen.start.max(from)..seen.end.min(to)).filter(shown) {
                            dk[j * d..][..d].fill(nan);
                            dv[j * d..][..d].fill(nan);
                        }
                        dq[r * d..][..d].fill(nan);
                    }
                }
            }
        }
    });
    let mut split = [vec![], vec![], vec![]];
    for part in all.chunks((of_q + 2 * of_k).max(1)) {
        split[0].extend_from_slice(&part[..of_q]);
        split[1].extend_from_slice(&part[of_q..of_q + of_k]);
        split[2].extend_from_slice(&part[of_q + of_k..]);
    }
    split
}
