//! Sums of cotangents: like terms become one, and terms share their common factors where that takes fewer passes
//! over elements: the gradient of x·σ(x) is g·σ·(1 + x·(1 − σ)), not g·σ + g·x·σ·(1 − σ).

use super::algebra::{DEPTH, extent, find_product, is_op, mul, times};
use crate::{
    Op,
    program::{Extent, Id, Kind, Program},
};

/// Longer sums are added as they come: looking for shared factors takes the cube of their length.
const MOST_TERMS: usize = 64;

/// A product taken apart.
#[derive(Clone, Default)]
struct Term {
    /// Factors that cost a pass over the elements, sorted.
    large: Vec<Id>,
    /// The product of those that lack an axis.
    small: Option<Id>,
    negative: bool,
    /// The node it came from, unless changed since.
    node: Option<Id>,
}

/// The sum of the contributions to one adjoint.
pub(super) fn sum(p: &mut Program, contributions: &[Id]) -> Option<Id> {
    let all = contributions.iter().map(|&c| extent(p, c)).reduce(Extent::union)?;
    let distinct = distinct(p, contributions);
    let (mut nodes, mut terms) = (vec![], vec![]);
    for id in distinct {
        if extent(p, id) == all && p.node(id).dtype.is_float() {
            let mut term = Term::default();
            factorise(p, id, all, DEPTH, &mut term);
            term.large.sort();
            term.node = Some(id);
            terms.push(term);
        } else {
            nodes.push(id);
        }
    }
    if terms.len() <= MOST_TERMS {
        merge_like(p, &mut terms);
        while let Some((i, j)) = best_pair(&terms) {
            let second = terms.remove(j);
            terms[i] = share(p, &terms[i], &second);
        }
    }
    nodes.extend(terms.iter().map(|t| build(p, t)));
    // Small extents first, so that they meet before they are repeated over the rest.
    nodes.sort_by_key(|&t| extent(p, t).len(2, 2));
    nodes.into_iter().reduce(|a, b| p.op(Op::Add, &[a, b]))
}

/// Equal contributions as one: x·x contributes twice.
fn distinct(p: &mut Program, contributions: &[Id]) -> Vec<Id> {
    let mut counts: Vec<(Id, u32)> = Vec::new();
    for &c in contributions {
        match counts.iter_mut().find(|(d, _)| *d == c) {
            Some((_, n)) => *n += 1,
            None => counts.push((c, 1)),
        }
    }
    let scale = |(c, n): (Id, u32)| {
        if n == 1 {
            return c;
        }
        let n = p.constant(p.node(c).dtype, f64::from(n));
        let guarded = is_op(p, c, Op::Mulz);
        times(p, c, n, guarded)
    };
    counts.into_iter().map(scale).collect()
}

fn factorise(p: &mut Program, id: Id, all: Extent, depth: u32, term: &mut Term) {
    if extent(p, id) != all {
        let small = mul(p, term.small, Some(id));
        if small.is_some_and(|s| extent(p, s) == all) {
            term.large.push(id); // a column times a row
        } else {
            term.small = small;
        }
        return;
    }
    let node = p.node(id).clone();
    match node.kind {
        Kind::Op(Op::Neg) if depth > 0 => {
            term.negative = !term.negative;
            factorise(p, node.args[0], all, depth - 1, term);
        }
        Kind::Op(Op::Mul) if depth > 0 => node.args.iter().for_each(|&a| factorise(p, a, all, depth - 1, term)),
        _ => term.large.push(id),
    }
}

/// k·f + l·f = (k + l)·f
fn merge_like(p: &mut Program, terms: &mut Vec<Term>) {
    let mut i = 0;
    while i < terms.len() {
        let same = (i + 1..terms.len()).find(|&j| terms[j].large == terms[i].large);
        // as factors of nothing, both are small
        let Some(j) = same.filter(|_| !terms[i].large.is_empty()) else {
            i += 1;
            continue;
        };
        let other = terms.remove(j);
        let (a, b) = (coefficient(p, &terms[i]), coefficient(p, &other));
        let small = p.op(Op::Add, &[a, b]);
        terms[i] = Term { large: other.large, small: Some(small), negative: false, node: None };
    }
}

fn coefficient(p: &mut Program, t: &Term) -> Id {
    let dtype = p.node(t.large[0]).dtype;
    let k = t.small.unwrap_or_else(|| p.constant(dtype, 1.0));
    if t.negative { p.op(Op::Neg, &[k]) } else { k }
}

/// Passes over the elements that a product of `n` factors takes.
fn products(n: usize) -> usize {
    n.saturating_sub(1)
}

impl Term {
    fn count(&self) -> usize {
        self.large.len() + usize::from(self.small.is_some())
    }

    /// The factors in common with another, and the two without them.
    fn common(&self, other: &Term) -> (Vec<Id>, Term, Term) {
        let (mut a, mut b, mut common) = (self.clone(), other.clone(), vec![]);
        a.large.retain(|f| match b.large.iter().position(|o| o == f) {
            Some(at) => {
                common.push(b.large.remove(at));
                false
            }
            None => true,
        });
        if !common.is_empty() {
            (a.node, b.node) = (None, None);
        }
        (common, a, b)
    }
}

/// Passes for a + b: a multiply-add takes the sum into a product.
fn cost(a: usize, b: usize) -> usize {
    products(a) + products(b) + usize::from(a < 2 && b < 2)
}

/// The two terms that gain most from sharing factors, if any gain.
fn best_pair(terms: &[Term]) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize, usize)> = None;
    for (j, b) in terms.iter().enumerate() {
        for (i, a) in terms[..j].iter().enumerate() {
            let (common, ra, rb) = a.common(b);
            let before = cost(a.count(), b.count());
            let after = cost(ra.count(), rb.count()) + common.len();
            if !common.is_empty() && after < before && best.is_none_or(|(n, ..)| common.len() > n) {
                best = Some((common.len(), i, j));
            }
        }
    }
    best.map(|(_, i, j)| (i, j))
}

/// f·a + f·b = f·(a + b)
fn share(p: &mut Program, a: &Term, b: &Term) -> Term {
    let (mut large, ra, rb) = a.common(b);
    let dtype = p.node(large[0]).dtype;
    let [x, y] = [ra, rb].map(|t| match t.count() {
        0 => p.constant(dtype, if t.negative { -1.0 } else { 1.0 }),
        _ => build(p, &t),
    });
    let inner = p.op(Op::Add, &[x, y]);
    large.push(inner);
    large.sort();
    Term { large, ..Term::default() }
}

/// The product of a term's factors, by way of products that are there already; the small one last, where it can
/// meet the next small one or leave a sum.
fn build(p: &mut Program, term: &Term) -> Id {
    if let Some(node) = term.node {
        return node;
    }
    let mut list = term.large.clone();
    while let Some((i, j)) = pairs(list.len()).find(|&(i, j)| find_product(p, list[i], list[j])) {
        let b = list.remove(j);
        list[i] = p.op(Op::Mul, &[list[i], b]);
    }
    let product = list.into_iter().reduce(|a, b| p.op(Op::Mul, &[a, b]));
    let product = mul(p, product, term.small).expect("invariant: a term has a factor");
    if term.negative { p.op(Op::Neg, &[product]) } else { product }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(|j| (0..j).map(move |i| (i, j)))
}
