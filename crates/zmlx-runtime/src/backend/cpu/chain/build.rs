//! From the steps of a pass to a chain, if every one of them has its place in one.

use super::{Arg, Chain, Code, FEW, Link, RARE, Splat, To};
use crate::backend::cpu::{
    bank::Place,
    step::{Step, step_reads},
};
use zmlx_ir::{DType, Op, program::ReduceOp};

/// Position of a value in a list, at its end if it is new; None if there are too many.
fn index<T: PartialEq>(list: &mut Vec<T>, value: T, most: usize) -> Option<u8> {
    let at = list.iter().position(|v| *v == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    });
    (at < most).then_some(at as u8)
}

/// A link that gives no lanes, of an operand that is lanes.
fn last(code: Code, x: Arg) -> Option<Link> {
    (!matches!(x, Arg::Splat(_))).then_some(Link { code, to: To::Nothing, args: [x; 3] })
}

struct Builder<'a> {
    chain: Chain,
    scalars: &'a [Step],
    /// f32 registers come first, then those of truth values.
    tiles: usize,
    outputs: &'a [DType],
    truth_blocks: Vec<(u16, u8)>,
    /// Outputs that later steps read, and the blocks that hold them: what was stored past the caches is far away.
    output_blocks: Vec<(u16, u8)>,
}

impl Chain {
    /// The chain of these steps, if every one of them has its place in one. `scalars`: the steps that make those;
    /// `tiles`: f32 tile registers of the plan; `inputs` and `outputs`: types in memory.
    pub fn of(steps: &[Step], scalars: &[Step], tiles: u16, (inputs, outputs): (&[DType], &[DType])) -> Option<Chain> {
        let mut b = Builder {
            chain: Chain::default(),
            scalars,
            tiles: tiles as usize,
            outputs,
            truth_blocks: vec![],
            output_blocks: vec![],
        };
        b.chain.blocks = b.tiles;
        for (_, place) in steps.iter().flat_map(step_reads) {
            if let Place::Output(slot) = place
                && !b.output_blocks.iter().any(|(s, _)| *s == slot)
            {
                let block = b.new_block()?;
                b.output_blocks.push((slot, block));
            }
        }
        for step in steps {
            b.link(step)?;
        }
        b.chain.fuse();
        b.chain.read_halves(|slot| inputs[slot as usize] == DType::BF16);
        b.chain.pointwise = b.chain.is_pointwise();
        b.chain.work.push(0);
        for link in &b.chain.links {
            let before = b.chain.work.last().copied().unwrap_or(0);
            b.chain.work.push(before + link.work());
        }
        // what is read from memory must not be what is being written
        let c = &b.chain;
        let written = |p: &Place| match *p {
            Place::Kept(r) => c.kept.contains(&r),
            _ => false,
        };
        (!c.memory.iter().any(written) && !c.links.is_empty()).then_some(b.chain)
    }
}

impl Builder<'_> {
    fn link(&mut self, step: &Step) -> Option<()> {
        let float = |d: DType| d.compute() == DType::F32;
        let link = match *step {
            Step::Op { op: Op::Select, dtype, dst, args, .. } if float(dtype) => {
                let c = self.truth(args[0])?;
                let [a, b] = [self.arg(args[1])?, self.arg(args[2])?];
                Link { code: Code::Select, to: self.to(dst)?, args: [c, a, b] }
            }
            // a mask of bytes
            Step::Op {
                op: Op::Ne,
                dtype: DType::U8,
                dst: Place::Tile(r),
                args: [mask @ Place::Input(_), zero, _],
                ..
            } if self.is_zero(zero) => {
                if let Arg::Block(block) = self.truth(mask)? {
                    self.truth_blocks.retain(|t| t.0 != r);
                    self.truth_blocks.push((r, block));
                }
                return Some(());
            }
            Step::Op { op, arity: 0, dtype, dst, args } if float(dtype) => {
                let [a, b] = [self.arg(args[0])?, self.arg(args[1])?];
                Link { code: Code::Predicate(op), to: self.truth_to(dst)?, args: [a, b, b] }
            }
            Step::Op { op, arity, dtype, dst, args } if float(dtype) => {
                let args = [self.arg(args[0])?, self.arg(args[1])?, self.arg(args[2])?];
                Link { code: Code::Op(op, arity), to: self.to(dst)?, args }
            }
            Step::Cast { from, to, dst, src } if float(from) && matches!(to, DType::F16 | DType::BF16) => {
                self.one(Code::Round(to), dst, src)?
            }
            Step::Cast { from, to: DType::F32, dst, src } if float(from) => self.one(Code::Copy, dst, src)?,
            Step::Cast { from: DType::Bool, to, dst, src } if float(to) => {
                let x = self.truth(src)?;
                Link { code: Code::Copy, to: self.to(dst)?, args: [x; 3] }
            }
            Step::Copy { dtype, dst, src } if float(dtype) => self.one(Code::Copy, dst, src)?,
            Step::Load { slot, dtype, dst } if float(dtype) => {
                let k = index(&mut self.chain.loads, slot, FEW)?;
                Link { code: Code::Load(k), to: self.to(dst)?, args: [Arg::Block(0); 3] }
            }
            Step::Rand { dst, seed } => {
                let k = index(&mut self.chain.seeds, seed, RARE)?;
                Link { code: Code::Rand(k), to: self.to(dst)?, args: [Arg::Block(0); 3] }
            }
            Step::OneHot { dtype, dst, t, t_dtype, a, b } if float(dtype) => {
                let k = index(&mut self.chain.hots, (t_dtype, t), RARE)?;
                let [a, b] = [self.arg(a)?, self.arg(b)?];
                Link { code: Code::OneHot(k), to: self.to(dst)?, args: [a, b, b] }
            }
            Step::Reduce { op: op @ (ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min), dtype, src, acc, .. }
                if float(dtype) =>
            {
                let k = index(&mut self.chain.reduces, (acc, op), FEW)?;
                last(Code::Reduce(k), self.arg(src)?)?
            }
            Step::Reduce { op: op @ (ReduceOp::Any | ReduceOp::All), src, acc, .. } => {
                let k = index(&mut self.chain.reduces, (acc, op), FEW)?;
                last(Code::Reduce(k), self.truth(src)?)?
            }
            Step::SumRows { dtype, src, acc } if float(dtype) => last(Code::SumRows(acc), self.arg(src)?)?,
            Step::SumAll { dtype, src, acc } if float(dtype) => last(Code::SumAll(acc), self.arg(src)?)?,
            Step::Store { slot, dtype, src } if float(dtype) && float(self.outputs[slot as usize]) => {
                match self.outputs[slot as usize] {
                    DType::F32 => self.one(Code::Copy, Place::Output(slot), src)?,
                    _ => {
                        let k = index(&mut self.chain.stores, slot, FEW)?;
                        last(Code::Store(k), self.arg(src)?)?
                    }
                }
            }
            _ => return None,
        };
        self.chain.links.push(link);
        if let Some((slot, block)) = self.output_blocks.iter().find(|(_, b)| link.to == To::Block(*b)) {
            let k = index(&mut self.chain.outputs, *slot, FEW)?;
            let x = Arg::Block(*block);
            self.chain.links.push(Link { code: Code::Copy, to: To::Output(k), args: [x; 3] });
        }
        Some(())
    }

    fn one(&mut self, code: Code, dst: Place, src: Place) -> Option<Link> {
        let x = self.arg(src)?;
        Some(Link { code, to: self.to(dst)?, args: [x; 3] })
    }

    fn arg(&mut self, place: Place) -> Option<Arg> {
        let c = &mut self.chain;
        Some(match place {
            Place::Tile(r) => Arg::Block(u8::try_from(r).ok()?),
            Place::Row(_) | Place::Scalar(_) => {
                let made = self.scalars.iter().find_map(|s| match *s {
                    Step::Const { dtype: DType::F32, dst, bits } if dst == place => {
                        Some(Splat::Const(f64::from_bits(bits) as f32))
                    }
                    Step::Uniform { slot, dtype: DType::F32, dst } if dst == place => Some(Splat::Uniform(slot)),
                    _ => None,
                });
                Arg::Splat(index(&mut c.splats, made.unwrap_or(Splat::Float(place)), FEW)?)
            }
            Place::Kept(r) if c.kept.contains(&r) => Arg::Kept(index(&mut c.kept, r, FEW)?),
            Place::Output(s) => Arg::Block(self.output_blocks.iter().find(|b| b.0 == s)?.1),
            Place::Input(_) | Place::Col(_) | Place::Kept(_) => Arg::Memory(index(&mut c.memory, place, FEW)?),
        })
    }

    fn to(&mut self, place: Place) -> Option<To> {
        Some(match place {
            Place::Tile(r) => To::Block(u8::try_from(r).ok()?),
            Place::Kept(r) => To::Kept(index(&mut self.chain.kept, r, FEW)?),
            Place::Output(s) => match self.output_blocks.iter().find(|b| b.0 == s) {
                Some((_, block)) => To::Block(*block),
                None => To::Output(index(&mut self.chain.outputs, s, FEW)?),
            },
            _ => return None,
        })
    }

    /// Is it a constant, 0?
    fn is_zero(&self, place: Place) -> bool {
        self.scalars.iter().any(|s| matches!(*s, Step::Const { dst, bits: 0, .. } if dst == place))
    }

    /// Truth values of a place.
    fn truth(&mut self, place: Place) -> Option<Arg> {
        match place {
            Place::Tile(r) => Some(Arg::Block(self.truth_blocks.iter().find(|t| t.0 == r)?.1)),
            Place::Row(_) | Place::Scalar(_) => {
                Some(Arg::Splat(index(&mut self.chain.splats, Splat::Truth(place), FEW)?))
            }
            Place::Input(slot) => {
                let k = index(&mut self.chain.truths, slot, RARE)?;
                let to = self.new_block()?;
                self.chain.links.push(Link { code: Code::Truth(k), to: To::Block(to), args: [Arg::Block(0); 3] });
                Some(Arg::Block(to))
            }
            _ => None,
        }
    }

    fn truth_to(&mut self, place: Place) -> Option<To> {
        let Place::Tile(r) = place else { return None };
        let block = match self.truth_blocks.iter().find(|t| t.0 == r) {
            Some((_, block)) => *block,
            None => {
                let block = self.new_block()?;
                self.truth_blocks.push((r, block));
                block
            }
        };
        Some(To::Block(block))
    }

    fn new_block(&mut self) -> Option<u8> {
        self.chain.blocks += 1;
        u8::try_from(self.chain.blocks - 1).ok()
    }
}
