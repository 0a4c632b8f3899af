//! Matrices of experts, in codes, times the tokens that chose them. For few tokens an expert's rows are read anew by each of them; if
//! there are many an expert, some of its rows at a time are made floats and multiplied with all of its tokens.

use super::{
    in_parts,
    products::{Matrix, Spread, times, turned},
};

/// Tokens an expert from which on floats are made. 12 dot products with a row cost as much as its floats and their products.
const MANY: usize = 12;

/// Each expert that is chosen, with the places in `experts` where it is, if there are many of each.
fn by_expert(experts: &[u32]) -> Option<Vec<(usize, Vec<usize>)>> {
    let count = experts.iter().max().map_or(0, |e| *e as usize + 1);
    let mut slots = vec![vec![]; count];
    experts.iter().enumerate().for_each(|(slot, e)| slots[*e as usize].push(slot));
    let chosen: Vec<_> = slots.into_iter().enumerate().filter(|(_, slots)| !slots.is_empty()).collect();
    (experts.len() >= MANY * chosen.len() && !chosen.is_empty()).then_some(chosen)
}

/// Rows of x one behind the other, in this order.
fn in_order(x: &[f32], cols: usize, order: impl Iterator<Item = usize>) -> Vec<f32> {
    order.flat_map(|row| &x[row * cols..][..cols]).copied().collect()
}

fn swiglu(gate: f32, up: f32) -> f32 {
    gate / (1.0 + (-gate).exp()) * up
}

/// silu(gate·x) · (up·x) of the experts of each token, whose matrices have n rows each: a row of the result an expert.
pub fn gate_up_swiglu(x: &[f32], gate: &Matrix<'_>, up: &Matrix<'_>, experts: &[u32], n: usize) -> Vec<f32> {
    let p = gate.p;
    let many = experts.len() / (x.len() / p.cols).max(1);
    let mut h = vec![0f32; experts.len() * n];
    if let Some(chosen) = by_expert(experts) {
        let order: Vec<usize> = chosen.iter().flat_map(|(_, slots)| slots).copied().collect();
        let x = in_order(x, p.cols, order.iter().map(|slot| slot / many));
        let (slots, rows) = (order.len(), gate.tile());
        // rows of the matrices first, so that each task has a part of its own
        in_parts(&mut h, rows * slots, |part, h| {
            let count = h.len() / slots;
            let (mut floats, mut of_up) = (vec![0f32; count * p.cols], vec![0f32; h.len()]);
            let mut at = 0;
            for (expert, own) in &chosen {
                let x = &x[at * p.cols..][..own.len() * p.cols];
                for (w, out) in [(gate, &mut *h), (up, &mut of_up[..])] {
                    w.floats(expert * n + part * rows, &mut floats);
                    times(&floats, x, p.cols, (&mut out[at..], slots));
                }
                at += own.len();
            }
            h.iter_mut().zip(of_up).for_each(|(h, up)| *h = swiglu(*h, up));
        });
        let sorted = turned(&h, n, slots);
        for (from, slot) in sorted.chunks(n.max(1)).zip(order) {
            h[slot * n..][..n].copy_from_slice(from);
        }
        return h;
    }
    let spreads: Vec<_> = x.chunks(p.cols).map(|x| Spread::of(x, p)).collect();
    let task = gate.task();
    in_parts(&mut h, task, |part, h| {
        let mut room = gate.room();
        for (i, h) in h.iter_mut().enumerate() {
            let at = part * task + i;
            let (slot, row) = (at / n, at % n);
            let (x, row) = (&spreads[slot / many], experts[slot] as usize * n + row);
            let [a, b] = [gate, up].map(|w| w.dot(row, &mut room, [x])[0]);
            *h = swiglu(a, b);
        }
    });
    h
}

/// Σ weight · (down·h) over the experts of each token; the result is tokens × n.
pub fn down_combine(
    h: &[f32],
    down: &Matrix<'_>,
    experts: &[u32],
    weights: &[f32],
    [tokens, n]: [usize; 2],
) -> Vec<f32> {
    let p = down.p;
    let many = experts.len() / tokens.max(1);
    let mut y = vec![0f32; tokens * n];
    if let Some(chosen) = by_expert(experts) {
        let rows = down.tile();
        in_parts(&mut y, rows * tokens, |part, y| {
            let count = y.len() / tokens;
            let mut floats = vec![0f32; count * p.cols];
            for (expert, slots) in &chosen {
                down.floats(expert * n + part * rows, &mut floats);
                let mut products = vec![0f32; count * slots.len()];
                let h = in_order(h, p.cols, slots.iter().copied());
                times(&floats, &h, p.cols, (&mut products, slots.len()));
                for (y, products) in y.chunks_mut(tokens).zip(products.chunks(slots.len())) {
                    for (slot, product) in slots.iter().zip(products) {
                        y[slot / many] += weights[*slot] * product;
                    }
                }
            }
        });
        return turned(&y, n, tokens);
    }
    let spreads: Vec<_> = h.chunks(p.cols).map(|h| Spread::of(h, p)).collect();
    let task = down.task().div_ceil(many.max(1));
    in_parts(&mut y, task, |part, y| {
        let mut room = down.room();
        for (i, y) in y.iter_mut().enumerate() {
            let at = part * task + i;
            let (token, row) = (at / n, at % n);
            for slot in token * many..(token + 1) * many {
                let row = experts[slot] as usize * n + row;
                *y += weights[slot] * down.dot(row, &mut room, [&spreads[slot]])[0];
            }
        }
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::affine::Packing;
    use zmlx_runtime::Slice;

    #[test]
    fn many_tokens_of_an_expert_are_as_each_alone() {
        // two tiles of rows
        let (n, cols, tokens, k) = (70, 4096, 40, 2);
        let p = Packing { rows: 3 * n, cols, group: 64, bits: 4 };
        let words: Vec<u32> = (0..p.rows * p.words()).map(|i| (i as u32).wrapping_mul(0x9e37_79b9)).collect();
        let scales: Vec<f32> = (0..p.rows * p.groups()).map(|i| 0.01 + (i % 7) as f32 * 0.001).collect();
        let biases: Vec<f32> = scales.iter().map(|s| -7.0 * s).collect();
        let w = Matrix { words: &words, scales: Slice::F32(&scales), biases: Slice::F32(&biases), p };
        let x: Vec<f32> = (0..tokens * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.001).collect();
        let experts: Vec<u32> = (0..tokens * k).map(|i| if i % 5 == 0 { 0 } else { 2 }).collect();
        let weights: Vec<f32> = (0..tokens * k).map(|i| (i % 3) as f32 * 0.25).collect();
        assert!(by_expert(&experts).is_some() && by_expert(&experts[..k]).is_none());
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
        let all = gate_up_swiglu(&x, &w, &w, &experts, n);
        let one = |t: usize| {
            let (x, e) = (&x[t * cols..][..cols], &experts[t * k..][..k]);
            gate_up_swiglu(x, &w, &w, e, n)
        };
        assert!(near(&all, &(0..tokens).flat_map(one).collect::<Vec<f32>>()));
        let h: Vec<f32> = x.iter().chain(&x).copied().collect();
        let all = down_combine(&h, &w, &experts, &weights, [tokens, n]);
        let one = |t: usize| {
            let of = |v: usize| v * t..v * (t + 1);
            down_combine(&h[of(k * cols)], &w, &experts[of(k)], &weights[of(k)], [1, n])
        };
        assert!(near(&all, &(0..tokens).flat_map(one).collect::<Vec<f32>>()));
    }
}
