//! One link of two, where a value goes from the first to the second and nowhere else.

use super::{Arg, Chain, Code, Link, To};
use crate::backend::cpu::pair::Cheap;
use zmlx_ir::{Op, program::ReduceOp};

impl Chain {
    /// Makes one link of two where a value goes from the first to the second and nowhere else.
    pub(super) fn fuse(&mut self) {
        let mut at = 0;
        while at < self.links.len() {
            match self.fused(at) {
                Some((next, link)) => {
                    self.links[next] = link;
                    self.links.remove(at);
                    // a sum of products may be one of squares
                    at = 0;
                }
                None => at += 1,
            }
        }
    }

    /// Has bf16 memory read where it lies, by links that widen it as they go. `halves`: is this input of that type?
    pub(super) fn read_halves(&mut self, halves: impl Fn(u16) -> bool) {
        let mut at = 0;
        while at < self.links.len() {
            match self.readers(at, &halves) {
                Some((load, value, readers)) => {
                    for reader in readers {
                        for arg in self.links[reader].args.iter_mut().filter(|a| **a == Arg::Block(value)) {
                            *arg = Arg::Half(load);
                        }
                    }
                    self.links.remove(at);
                }
                None => at += 1,
            }
        }
    }

    /// The load that link `at` is, its block and who reads that, if all of these can read the memory.
    fn readers(&self, at: usize, halves: &impl Fn(u16) -> bool) -> Option<(u8, u8, Vec<usize>)> {
        let Link { code: Code::Load(load), to: To::Block(value), .. } = self.links[at] else { return None };
        if !halves(self.loads[load as usize]) {
            return None;
        }
        let mut readers = vec![];
        for (k, link) in self.links.iter().enumerate().skip(at + 1) {
            let reads = link.reads();
            if reads.contains(&Arg::Block(value)) {
                let elsewhere = reads[1..].contains(&Arg::Block(value));
                let can = match link.code {
                    Code::Reduce(_) | Code::SumOfProducts(_) => true,
                    Code::Pair(..) | Code::Blend(_) | Code::Norm(..) | Code::ExpSub | Code::SumOfSquares(_) => {
                        !elsewhere
                    }
                    _ => false,
                };
                if !can {
                    return None;
                }
                readers.push(k);
            }
            if link.to == To::Block(value) {
                break;
            }
        }
        Some((load, value, readers))
    }

    /// The reader of link `at`, and the link that does the work of both.
    fn fused(&self, at: usize) -> Option<(usize, Link)> {
        let first = &self.links[at];
        let To::Block(value) = first.to else { return None };
        let reads = |l: &Link, block: u8| l.reads().contains(&Arg::Block(block));
        let after = &self.links[at + 1..];
        let next = after.iter().position(|l| reads(l, value))?;
        // overwritten before it is read: it would be another value
        let overwritten = |links: &[Link], block: u8| links.iter().any(|l| l.to == To::Block(block));
        let moves = |arg: &Arg| !matches!(arg, Arg::Block(r) if overwritten(&after[..next], *r));
        let rest = &after[next + 1..];
        let until = rest.iter().position(|l| l.to == To::Block(value)).map_or(rest.len(), |k| k + 1);
        let read_again = after[next].to != To::Block(value) && rest[..until].iter().any(|l| reads(l, value));
        if overwritten(&after[..next], value) || read_again || !first.reads().iter().all(moves) {
            return None;
        }
        let (code, args) = self.both(first, &after[next], Arg::Block(value))?;
        Some((at + 1 + next, Link { code, args, ..after[next] }))
    }

    /// What does the work of two links, the second of which reads the `value` of the first.
    fn both(&self, first: &Link, second: &Link, value: Arg) -> Option<(Code, [Arg; 3])> {
        let ([a, b, c], args) = (first.args, second.args);
        let lanes = |arg: Arg| !matches!(arg, Arg::Splat(_));
        let sums = |k: u8| self.reduces[k as usize].1 == ReduceOp::Sum;
        Some(match (first.code, second.code) {
            (Code::Op(Op::Mul, 2), Code::Reduce(k)) if sums(k) && lanes(a) && lanes(b) => {
                (Code::SumOfProducts(k), [a, b, b])
            }
            // m - x has the square of x - m
            (Code::Op(Op::Sub, 2), Code::SumOfProducts(k)) if args[0] == args[1] && lanes(a) != lanes(b) => {
                let (x, m) = if lanes(a) { (a, b) } else { (b, a) };
                (Code::SumOfSquares(k), [x, m, m])
            }
            (Code::Op(Op::Sub, 2), Code::Op(Op::Exp, 1)) if lanes(a) => (Code::ExpSub, [a, b, b]),
            (Code::Op(op, 2), Code::Op(second, 2)) if (args[0] == value) != (args[1] == value) => {
                let (a, b, a_first) = if lanes(a) { (a, b, true) } else { (b, a, false) };
                let value_first = args[0] == value;
                let c = if value_first { args[1] } else { args[0] };
                let code = Code::Pair(Cheap::of(op, a_first)?, Cheap::of(second, value_first)?);
                lanes(a).then_some((code, [a, b, c]))?
            }
            (Code::Op(Op::Mul, 2), Code::Pair(Cheap::Mul, Cheap::Add)) if args[2] == value && args[0] != value => {
                match (a, b, args[1]) {
                    (x, Arg::Splat(by), Arg::Splat(_)) | (Arg::Splat(by), x, Arg::Splat(_)) if lanes(x) => {
                        (Code::Blend(by), [args[0], args[1], x])
                    }
                    _ => return None,
                }
            }
            (Code::Pair(Cheap::Sub, Cheap::Mul), Code::Pair(Cheap::Mul, Cheap::Add)) if !lanes(b) && !lanes(c) => {
                let scale = if args[0] == value { args[1] } else { args[0] };
                match (scale, args[2]) {
                    (Arg::Memory(scale), Arg::Memory(shift)) => (Code::Norm(scale, shift), [a, b, c]),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::FEW, *};
    use crate::backend::cpu::{bank::Place, step::Step};
    use zmlx_ir::DType;

    fn op(op: Op, dst: u16, args: [Place; 2]) -> Step {
        Step::Op { op, arity: 2, dtype: DType::F32, dst: Place::Tile(dst), args: [args[0], args[1], args[0]] }
    }

    fn codes(steps: &[Step]) -> Vec<Code> {
        let chain = Chain::of(steps, &[], 8, (&[], &[DType::F32])).expect("f32 steps make a chain");
        chain.links.iter().map(|l| l.code).collect()
    }

    fn store(reg: u16) -> Step {
        Step::Store { slot: 0, dtype: DType::F32, src: Place::Tile(reg) }
    }

    const X: Place = Place::Input(0);
    const W: Place = Place::Input(1);
    const T: fn(u16) -> Place = Place::Tile;

    #[test]
    fn a_value_that_is_read_once_goes_straight_into_its_reader() {
        let steps = [op(Op::Sub, 0, [Place::Row(0), X]), op(Op::Mul, 1, [T(0), W]), store(1)];
        assert_eq!(codes(&steps), [Code::Pair(Cheap::SubFrom, Cheap::Mul), Code::Copy]);
        let steps = [op(Op::Mul, 0, [X, W]), op(Op::Sub, 1, [W, T(0)]), store(1)];
        assert_eq!(codes(&steps), [Code::Pair(Cheap::Mul, Cheap::SubFrom), Code::Copy]);
        let quotient = |args| [op(Op::Mul, 0, [X, W]), op(Op::Div, 1, args), store(1)];
        assert_eq!(codes(&quotient([T(0), W])), [Code::Pair(Cheap::Mul, Cheap::Div), Code::Copy]);
        assert_eq!(codes(&quotient([W, T(0)])).len(), 3);
    }

    #[test]
    fn a_normalised_row_is_scaled_and_shifted_as_it_is_made() {
        let steps = |last: Op| {
            let normal = [op(Op::Sub, 0, [X, Place::Row(0)]), op(Op::Mul, 1, [T(0), Place::Row(1)])];
            let [d, e] = [Place::Col(0), Place::Col(1)];
            codes(&[normal[0].clone(), normal[1].clone(), op(Op::Mul, 2, [d, T(1)]), op(last, 3, [e, T(2)]), store(3)])
        };
        assert_eq!(steps(Op::Add), [Code::Norm(1, 2), Code::Copy]);
        assert_eq!(steps(Op::Sub)[0], Code::Pair(Cheap::Sub, Cheap::Mul));
    }

    #[test]
    fn a_moving_average_is_one_loop() {
        let average = |by: Place| {
            let products = [op(Op::Mul, 0, [X, Place::Row(0)]), op(Op::Mul, 1, [by, W])];
            codes(&[products[0].clone(), products[1].clone(), op(Op::Add, 2, [T(0), T(1)]), store(2)])
        };
        assert_eq!(average(Place::Row(1)), [Code::Blend(1), Code::Copy]);
        assert_eq!(average(X), [Code::Op(Op::Mul, 2), Code::Pair(Cheap::Mul, Cheap::Add), Code::Copy]);
    }

    #[test]
    fn a_square_is_summed_as_it_is_made() {
        let sum = Step::Reduce { op: ReduceOp::Sum, dtype: DType::F32, src: T(0), acc: 0, out: Place::Row(0) };
        assert_eq!(codes(&[op(Op::Mul, 0, [X, X]), sum.clone()]), [Code::SumOfProducts(0)]);
        // the square is stored, too
        assert_eq!(
            codes(&[op(Op::Mul, 0, [X, X]), sum, store(0)]),
            [Code::Op(Op::Mul, 2), Code::Reduce(0), Code::Copy]
        );
    }

    #[test]
    fn a_difference_goes_into_the_sum_of_its_squares() {
        let sum = Step::Reduce { op: ReduceOp::Sum, dtype: DType::F32, src: T(1), acc: 0, out: Place::Row(1) };
        for args in [[X, Place::Row(0)], [Place::Row(0), X]] {
            assert_eq!(
                codes(&[op(Op::Sub, 0, args), op(Op::Mul, 1, [T(0), T(0)]), sum.clone()]),
                [Code::SumOfSquares(0)]
            );
        }
        // of lanes and lanes, or a product of two
        let [x, w] = [op(Op::Sub, 0, [X, W]), op(Op::Sub, 0, [X, Place::Row(0)])];
        assert_eq!(codes(&[x, op(Op::Mul, 1, [T(0), T(0)]), sum.clone()])[1], Code::SumOfProducts(0));
        let product = [w, op(Op::Mul, 1, [T(0), X]), sum];
        assert_eq!(codes(&product), [Code::Pair(Cheap::Sub, Cheap::Mul), Code::Reduce(0)]);
    }

    #[test]
    fn exponentials_take_a_difference_with_them() {
        let exp = Step::Op { op: Op::Exp, arity: 1, dtype: DType::F32, dst: T(1), args: [T(0); 3] };
        assert_eq!(codes(&[op(Op::Sub, 0, [X, Place::Row(0)]), exp.clone(), store(1)]), [Code::ExpSub, Code::Copy]);
        let of_a_row = codes(&[op(Op::Sub, 0, [Place::Row(0), Place::Row(1)]), exp, store(1)]);
        assert_eq!(of_a_row, [Code::Op(Op::Sub, 2), Code::Op(Op::Exp, 1), Code::Copy]);
    }

    #[test]
    fn memory_of_halves_is_widened_by_who_can_do_that() {
        let links = |steps: &[Step], input: DType| -> Vec<(Code, Arg)> {
            let chain = Chain::of(steps, &[], 8, (&[input], &[DType::F32])).expect("f32 steps make a chain");
            chain.links.iter().map(|l| (l.code, l.args[0])).collect()
        };
        let load = Step::Load { slot: 0, dtype: DType::F32, dst: T(0) };
        let sum = Step::Reduce { op: ReduceOp::Sum, dtype: DType::F32, src: T(0), acc: 0, out: Place::Row(0) };
        let square = [
            op(Op::Mul, 1, [T(0); 2]),
            Step::Reduce { op: ReduceOp::Sum, dtype: DType::F32, src: T(1), acc: 1, out: Place::Row(1) },
        ];
        let moments = [load.clone(), sum.clone(), square[0].clone(), square[1].clone()];
        let half = Arg::Half(0);
        assert_eq!(links(&moments, DType::BF16), [(Code::Reduce(0), half), (Code::SumOfProducts(1), half)]);
        assert_eq!(links(&moments, DType::F16)[0].0, Code::Load(0));
        // the block holds another load when the second is summed
        let other = Step::Load { slot: 1, dtype: DType::F32, dst: T(0) };
        let max = Step::Reduce { op: ReduceOp::Max, dtype: DType::F32, src: T(0), acc: 1, out: Place::Row(1) };
        let two = Chain::of(&[load.clone(), max, other, sum.clone()], &[], 8, (&[DType::BF16; 2], &[]));
        let read: Vec<Arg> = two.expect("f32 steps make a chain").links.iter().map(|l| l.args[0]).collect();
        assert_eq!(read, [Arg::Half(0), Arg::Half(1)]);
        // a single op cannot, so that it is loaded, for the sum too
        let single = [load, sum, op(Op::Div, 1, [T(0), Place::Row(1)]), store(1)];
        assert_eq!(
            links(&single, DType::BF16)[..2],
            [(Code::Load(0), Arg::Block(0)), (Code::Reduce(0), Arg::Block(0))]
        );
    }

    #[test]
    fn masks_of_bytes_are_truth_values() {
        let mask = Step::Op { op: Op::Ne, arity: 0, dtype: DType::U8, dst: T(0), args: [X, Place::Scalar(0), X] };
        let any = Step::Reduce { op: ReduceOp::Any, dtype: DType::Bool, src: T(0), acc: 0, out: Place::Row(0) };
        let zero = |bits| [Step::Const { dtype: DType::U8, dst: Place::Scalar(0), bits }];
        let chain = |bits| Chain::of(&[mask.clone(), any.clone()], &zero(bits), 8, (&[DType::U8], &[]));
        let codes: Vec<Code> = chain(0).expect("truth values make a chain").links.iter().map(|l| l.code).collect();
        assert_eq!(codes, [Code::Truth(0), Code::Reduce(0)]);
        assert_eq!(chain(1), None);
    }

    #[test]
    fn what_is_read_twice_or_changes_in_between_stays_apart() {
        let twice = [op(Op::Add, 0, [X, W]), op(Op::Mul, 1, [T(0), T(0)]), store(1)];
        assert_eq!(codes(&twice)[..2], [Code::Op(Op::Add, 2), Code::Op(Op::Mul, 2)]);
        let again = [op(Op::Add, 0, [X, W]), op(Op::Mul, 1, [T(0), X]), op(Op::Min, 2, [T(1), T(0)]), store(2)];
        assert_eq!(codes(&again)[..2], [Code::Op(Op::Add, 2), Code::Op(Op::Mul, 2)]);
        // t0 is another value when the reader of t1 runs
        let changes = [
            op(Op::Min, 0, [X, W]),
            op(Op::Add, 1, [T(0), W]),
            op(Op::Min, 0, [W, X]),
            op(Op::Mul, 2, [T(1), T(0)]),
            store(2),
        ];
        assert_eq!(codes(&changes)[1], Code::Op(Op::Add, 2));
        // a block may be written again after its last reader
        let reused = [op(Op::Add, 0, [X, W]), op(Op::Mul, 0, [T(0), X]), op(Op::Min, 1, [T(0), X]), store(1)];
        assert_eq!(codes(&reused)[0], Code::Pair(Cheap::Add, Cheap::Mul));
    }

    #[test]
    fn other_types_and_too_many_of_anything_make_no_chain() {
        let double = Step::Op { op: Op::Add, arity: 2, dtype: DType::F64, dst: T(0), args: [X, W, X] };
        assert_eq!(Chain::of(&[double], &[], 1, (&[], &[DType::F32])), None);
        let many: Vec<Step> = (0..FEW as u16 + 1).map(|k| op(Op::Add, 0, [Place::Input(k), X])).collect();
        assert_eq!(Chain::of(&many, &[], 1, (&[], &[DType::F32])), None);
    }
}
