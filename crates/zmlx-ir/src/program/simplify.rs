//! Local algebra, applied as nodes are made. Each rule is exact: it holds for every operand, bit for bit (NaN
//! payloads and the sign of a NaN aside), so that a formula computes what it says. Two idioms are the exception, where
//! the written form overflows or cancels and an op of the table is the same function without that: log(1 + exp(x)) is
//! softplus(x), and 1 / (1 + exp(−x)) is sigmoid(x).

use super::*;
use crate::op::Value;

impl Program {
    /// A simpler equal of a conversion.
    pub(super) fn simplify_cast(&mut self, id: Id, dtype: DType) -> Option<Id> {
        let node = self.node(id).clone();
        match node.kind {
            Kind::Const(bits) => {
                let v = f64::from_bits(bits);
                match dtype {
                    DType::F32 | DType::F64 => Some(self.constant(dtype, v)),
                    DType::F16 => Some(self.constant(DType::F32, half::f16::from_f64(v).to_f64())),
                    DType::BF16 => Some(self.constant(DType::F32, half::bf16::from_f64(v).to_f64())),
                    DType::Bool => Some(self.int(dtype, i64::from(v != 0.0))),
                    // float → int saturates, NaN → 0
                    _ => {
                        let (lo, hi) = dtype.int_range();
                        Some(self.int(dtype, (v as i64).clamp(lo, hi)))
                    }
                }
            }
            Kind::Int(v) if dtype.is_int() || dtype == DType::Bool => {
                Some(if dtype == DType::Bool { self.int(dtype, i64::from(v != 0)) } else { self.int(dtype, v) })
            }
            Kind::Int(v) if matches!(dtype, DType::F32 | DType::F64) => Some(self.constant(dtype, v as f64)),
            _ => None,
        }
    }

    /// A simpler equal of `op(args)`, its operands already of type `dtype`.
    pub(super) fn simplify_op(&mut self, op: Op, dtype: DType, args: &[Id]) -> Option<Id> {
        if let Some(folded) = self.fold_constants(op, dtype, args) {
            return Some(folded);
        }
        let is = |p: &Program, id: Id, v: f64| p.constant_value(id).is_some_and(|c| c.to_bits() == v.to_bits());
        let neg = |p: &Program, id: Id| match p.node(id).kind {
            Kind::Op(Op::Neg) => Some(p.node(id).args[0]),
            _ => None,
        };
        match (op, args) {
            (Op::Log, &[a]) => self.one_plus_exp(a).map(|x| self.op(Op::Softplus, &[x])),
            (Op::Recip, &[a]) => {
                let x = self.one_plus_exp(a)?;
                let minus = neg(self, x)?;
                Some(self.op(Op::Sigmoid, &[minus]))
            }
            (Op::Neg, &[a]) => neg(self, a), // −(−x) = x
            (Op::Add, &[a, b]) => {
                // x + (−0) = x; a + (−b) = a − b
                if is(self, a, -0.0) {
                    return Some(b);
                }
                if is(self, b, -0.0) {
                    return Some(a);
                }
                if let Some(n) = neg(self, b) {
                    return Some(self.op(Op::Sub, &[a, n]));
                }
                neg(self, a).map(|n| self.op(Op::Sub, &[b, n]))
            }
            (Op::Sub, &[a, b]) => {
                // x − 0 = x; a − (−b) = a + b
                if is(self, b, 0.0) {
                    return Some(a);
                }
                neg(self, b).map(|n| self.op(Op::Add, &[a, n]))
            }
            (Op::Mul, &[a, b]) => {
                // 1·x = x; −1·x = −x; (−a)·(−b) = a·b; a·(−b) = −(a·b)
                for (k, x) in [(a, b), (b, a)] {
                    if is(self, k, 1.0) {
                        return Some(x);
                    }
                    if is(self, k, -1.0) {
                        return Some(self.op(Op::Neg, &[x]));
                    }
                }
                let (x, flip) = match (neg(self, a), neg(self, b)) {
                    (Some(x), Some(y)) => ((x, y), false),
                    (Some(x), None) => ((x, b), true),
                    (None, Some(y)) => ((a, y), true),
                    (None, None) => return None,
                };
                let product = self.op(Op::Mul, &[x.0, x.1]);
                Some(if flip { self.op(Op::Neg, &[product]) } else { product })
            }
            (Op::Mulz, &[a, b]) if self.constant_value(b).is_some_and(f64::is_finite) && dtype.is_float() => {
                // a finite factor cannot make 0·x anything but ±0
                Some(self.op(Op::Mul, &[a, b]))
            }
            (Op::Mulz, &[a, b]) if self.constant_value(a).is_some() => {
                // 0 wins; any other factor makes a plain product
                Some(if self.constant_value(a) == Some(0.0) { a } else { self.op(Op::Mul, &[a, b]) })
            }
            (Op::Div, &[a, b]) => {
                if is(self, b, 1.0) {
                    return Some(a);
                }
                if !dtype.is_float() {
                    return None;
                }
                // a / (1 + exp(−x)) = a · sigmoid(x)
                if let Some(x) = self.one_plus_exp(b).and_then(|x| neg(self, x)) {
                    let s = self.op(Op::Sigmoid, &[x]);
                    return Some(self.op(Op::Mul, &[a, s]));
                }
                // x / 2ᵏ = x · 2⁻ᵏ; 1 / x = recip(x)
                if let Some(c) = self.constant_value(b)
                    && c.is_normal()
                    && c.to_bits() & ((1 << 52) - 1) == 0
                    && (-100.0..100.0).contains(&c.abs().log2())
                {
                    let r = self.constant(dtype, 1.0 / c);
                    return Some(self.op(Op::Mul, &[a, r]));
                }
                is(self, a, 1.0).then(|| self.op(Op::Recip, &[b]))
            }
            (Op::Pow, &[a, b]) => match self.constant_value(b) {
                Some(2.0) => Some(self.op(Op::Mul, &[a, a])),
                Some(1.0) => Some(a),
                Some(-1.0) => Some(self.op(Op::Recip, &[a])),
                _ => None,
            },
            (Op::Select, &[c, a, b]) => {
                if a == b {
                    return Some(a);
                }
                match self.node(c).kind {
                    Kind::Int(v) => Some(if v != 0 { a } else { b }),
                    Kind::Op(Op::Not) => {
                        let inner = self.node(c).args[0];
                        Some(self.op(Op::Select, &[inner, b, a]))
                    }
                    _ => None,
                }
            }
            (Op::Not, &[a]) => match self.node(a).kind {
                Kind::Op(Op::Not) => Some(self.node(a).args[0]),
                _ => None,
            },
            _ => None,
        }
    }

    /// The x of 1 + exp(x).
    fn one_plus_exp(&self, id: Id) -> Option<Id> {
        let node = self.node(id);
        let (Kind::Op(Op::Add), [a, b]) = (node.kind, &node.args[..]) else { return None };
        let (one, e) = if self.constant_value(*a) == Some(1.0) { (*a, *b) } else { (*b, *a) };
        let exp = self.node(e);
        (self.constant_value(one) == Some(1.0) && exp.kind == Kind::Op(Op::Exp)).then(|| exp.args[0])
    }

    fn fold_constants(&mut self, op: Op, dtype: DType, args: &[Id]) -> Option<Id> {
        let result = if op.is_predicate() { DType::Bool } else { dtype };
        if dtype.is_float() && op != Op::Select {
            let mut v = [0.0; 3];
            for (slot, &a) in v.iter_mut().zip(args) {
                *slot = self.constant_value(a)?;
            }
            let y = match op.row().value {
                Value::Unary(f) => f(v[0]),
                Value::Binary(f) => f(v[0], v[1]),
                Value::Ternary(f) => f(v[0], v[1], v[2]),
            };
            return Some(self.constant(result, y));
        }
        let mut v = Vec::with_capacity(3);
        for &a in args {
            match self.node(a).kind {
                Kind::Int(k) => v.push(k),
                _ => return None,
            }
        }
        let y = op.int_value(dtype, &v)?;
        Some(self.int(result, y))
    }
}
