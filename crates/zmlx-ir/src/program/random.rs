//! Random Programs for tests: everything that the constructors of `build.rs` can make, from a seed. What a seed gives
//! never depends on the machine.

use super::*;

/// A small generator of choices (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Near seeds give unrelated choices.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 … n − 1; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// True `a` times in `b`.
    pub fn chance(&mut self, a: usize, b: usize) -> bool {
        self.below(b) < a
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What may be drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only what has a derived gradient that differences can check: floats of one type (f64 or f32), and integers
    /// to choose by.
    pub differentiable: Option<DType>,
    /// Wild arguments too: those outside the domain of a function, NaN and infinite constants.
    pub wild: bool,
}

const STORED: [DType; 10] = [
    DType::Bool,
    DType::U8,
    DType::I16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::F32,
];
const EXTENTS: [Extent; 6] = [Extent::ELEM, Extent::ELEM, Extent::ELEM, Extent::ROW, Extent::COL, Extent::UNIFORM];
const SMOOTH: [Op; 19] = [
    Op::Neg,
    Op::Tanh,
    Op::Sigmoid,
    Op::Softplus,
    Op::Erf,
    Op::Sin,
    Op::Cos,
    Op::Abs,
    Op::Exp,
    Op::Exp2,
    Op::Expm1,
    Op::Log,
    Op::Log2,
    Op::Log1p,
    Op::Sqrt,
    Op::Rsqrt,
    Op::Recip,
    Op::Tan,
    Op::Sign,
];
const COARSE: [Op; 6] = [Op::Floor, Op::Ceil, Op::Round, Op::IsNan, Op::Not, Op::BitNot];
const ARITHMETIC: [Op; 12] =
    [Op::Add, Op::Add, Op::Sub, Op::Sub, Op::Mul, Op::Mul, Op::Mulz, Op::Div, Op::Rem, Op::Pow, Op::Min, Op::Max];
const BITS: [Op; 5] = [Op::And, Op::Or, Op::Xor, Op::Shl, Op::Shr];
const COMPARE: [Op; 6] = [Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::Eq, Op::Ne];

/// The Program of this seed; it verifies.
pub fn program(seed: u64, options: &Options) -> Program {
    let p = Program::new(format!("random_{seed}"));
    let mut maker = Maker { p, r: Random::new(seed), options: *options, values: vec![], late: vec![], exact: vec![] };
    maker.sources();
    let steps = maker.r.pick(&[1, 2, 3, 5, 8, 12, 18]);
    for _ in 0..steps {
        if let Some(id) = maker.step() {
            maker.values.push(id);
        }
    }
    if options.differentiable.is_none() && maker.r.chance(1, 3) {
        maker.end();
    }
    maker.outputs();
    maker.p.compact()
}

struct Maker {
    p: Program,
    r: Random,
    options: Options,
    /// What may be an argument of anything.
    values: Vec<Id>,
    /// Sums over the rows and what is made of them: arguments of pointwise ops without rows only.
    late: Vec<Id>,
    /// Is each node the same on every target, so that it may be an index without a guard?
    exact: Vec<bool>,
}

impl Maker {
    fn float_type(&mut self) -> DType {
        match self.options.differentiable {
            Some(dtype) => dtype,
            None => self.r.pick(&[DType::F32, DType::F32, DType::F64]),
        }
    }

    fn sources(&mut self) {
        let inputs = 1 + self.r.below(4);
        for k in 0..inputs {
            let dtype = if self.options.differentiable.is_some() {
                if k > 0 && self.r.chance(1, 6) { DType::I64 } else { self.float_type() }
            } else if self.r.chance(1, 2) {
                DType::F32
            } else {
                self.r.pick(&STORED)
            };
            let extent = self.r.pick(&EXTENTS);
            let id = self.p.input(format!("x{k}"), dtype, extent);
            self.values.push(id);
        }
        if self.r.chance(1, 5) {
            self.tables();
        }
        for k in 0..self.r.pick(&[0, 0, 0, 1, 2]) {
            let dtype = if self.r.chance(1, 4) { DType::I64 } else { self.float_type() };
            let id = self.p.uniform(format!("u{k}"), dtype);
            self.values.push(id);
        }
    }

    /// An integer a row, by which rows of some inputs are found.
    fn tables(&mut self) {
        let dtype = self.r.pick(&[DType::U8, DType::I16, DType::I32, DType::U32, DType::I64]);
        let id = self.p.input("at", dtype, Extent::ROW);
        self.values.push(id);
        let by = self.p.inputs.len() - 1;
        for k in 0..by {
            if self.p.inputs[k].extent.has_rows() && self.r.chance(1, 2) {
                self.p.inputs[k].by = Some(by as u32);
            }
        }
    }

    /// A value, more often a new one.
    fn any(&mut self) -> Id {
        let n = self.values.len();
        let from = if self.r.chance(2, 3) { n.saturating_sub(4) } else { 0 };
        self.values[from + self.r.below(n - from)]
    }

    fn float(&mut self) -> Id {
        for _ in 0..4 {
            let id = self.any();
            if self.p.node(id).dtype.is_float() {
                return id;
            }
        }
        let (id, dtype) = (self.any(), self.float_type());
        if self.p.node(id).dtype.is_float() { id } else { self.p.cast(id, dtype) }
    }

    /// A value or, at times, a constant.
    fn operand(&mut self) -> Id {
        if self.r.chance(1, 5) { self.constant() } else { self.any() }
    }

    fn constant(&mut self) -> Id {
        const ORDINARY: [f64; 12] = [0.0, 0.5, 1.0, 2.0, -1.0, 0.1, 3.0, -0.0, 1e-3, 10.0, -2.5, 1.0 / 3.0];
        const WILD: [f64; 6] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, 1e-40, -1e-300];
        let wild = self.options.wild && self.r.chance(1, 8);
        let value = if wild { self.r.pick(&WILD) } else { self.r.pick(&ORDINARY) };
        let dtype = self.float_type();
        if self.options.differentiable.is_none() && self.r.chance(1, 6) {
            let dtype = self.r.pick(&[DType::I32, DType::I64, DType::U8, DType::U32, DType::I16]);
            return self.p.int(dtype, value as i64);
        }
        self.p.constant(dtype, value)
    }

    /// |x| + c, so that a function of positive numbers has a value and a slope.
    fn positive(&mut self, x: Id) -> Id {
        if self.options.wild && self.r.chance(1, 3) {
            return x;
        }
        let dtype = self.p.node(x).dtype;
        if !dtype.is_float() {
            let one = self.p.int(dtype, 1);
            let x = self.p.op(Op::Abs, &[x]);
            return self.p.op(Op::Add, &[x, one]);
        }
        let c = self.p.constant(dtype, 0.5);
        // x² + c has no kink
        let size = if self.r.chance(1, 2) { self.p.op(Op::Abs, &[x]) } else { self.p.op(Op::Mul, &[x, x]) };
        self.p.op(Op::Add, &[size, c])
    }

    /// Of moderate size, so that what grows fast stays finite.
    fn tame(&mut self, x: Id) -> Id {
        if self.options.wild && self.r.chance(1, 3) {
            return x;
        }
        match self.r.below(4) {
            0 => self.p.op(Op::Tanh, &[x]),
            1 => self.p.op(Op::Sin, &[x]),
            2 => self.p.op(Op::Sigmoid, &[x]),
            _ => {
                let size = self.p.op(Op::Abs, &[x]);
                self.p.op(Op::Neg, &[size])
            }
        }
    }

    fn step(&mut self) -> Option<Id> {
        let pointwise_only = self.options.differentiable.is_some();
        Some(match self.r.below(24) {
            0..6 => self.unary(),
            6..12 => self.binary(),
            12 => {
                let (a, b, c) = (self.operand(), self.any(), self.operand());
                let (a, b) = (self.tame(a), self.tame(b));
                self.p.op(Op::Fma, &[a, b, c])
            }
            13 | 14 => {
                let (c, a, b) = (self.condition(), self.operand(), self.any());
                self.p.op(Op::Select, &[c, a, b])
            }
            15..18 => self.reduction(),
            18 | 19 => self.scan(),
            20 => {
                let index = self.r.pick(&[Index::Row, Index::Col, Index::Rows, Index::Cols]);
                self.p.index(index)
            }
            21 => self.pick()?,
            22 if pointwise_only || self.r.chance(1, 2) => self.fold(),
            22 => {
                let seed = self.r.bits() as i64;
                let constant = self.p.int(DType::I64, seed);
                let value = self.without_cols();
                let seed = value.filter(|v| self.r.chance(1, 2) && self.is_exact(*v)).unwrap_or(constant);
                self.p.rand(seed)
            }
            _ if pointwise_only => self.binary(),
            _ => match self.r.below(4) {
                0 => {
                    let x = self.any();
                    self.p.expand(x)
                }
                1 => self.condition(),
                2 => {
                    let (op, a, b) = (self.r.pick(&BITS), self.any(), self.any());
                    self.p.op(op, &[a, b])
                }
                _ => {
                    let (x, dtype) = (self.any(), self.r.pick(&STORED));
                    self.p.cast(x, dtype)
                }
            },
        })
    }

    fn unary(&mut self) -> Id {
        if self.options.differentiable.is_none() && self.r.chance(1, 5) {
            let (op, x) = (self.r.pick(&COARSE), self.any());
            return self.p.op(op, &[x]);
        }
        let op = self.r.pick(&SMOOTH);
        let x = if self.options.differentiable.is_some() { self.float() } else { self.any() };
        let x = match op {
            Op::Log | Op::Log2 | Op::Log1p | Op::Sqrt | Op::Rsqrt | Op::Recip => self.positive(x),
            Op::Exp | Op::Exp2 | Op::Expm1 | Op::Tan => self.tame(x),
            _ => x,
        };
        self.p.op(op, &[x])
    }

    fn binary(&mut self) -> Id {
        let op = self.r.pick(&ARITHMETIC);
        let (a, b) = if self.r.chance(1, 2) { (self.any(), self.operand()) } else { (self.operand(), self.any()) };
        self.apply(op, a, b)
    }

    fn apply(&mut self, op: Op, a: Id, b: Id) -> Id {
        let (a, b) = match op {
            Op::Div | Op::Rem => (a, self.positive(b)),
            Op::Pow => (self.positive(a), self.tame(b)),
            // products of products grow fast
            Op::Mul | Op::Mulz if self.p.node(b).dtype.is_float() && self.r.chance(1, 2) => (a, self.tame(b)),
            _ => (a, b),
        };
        self.p.op(op, &[a, b])
    }

    fn condition(&mut self) -> Id {
        let (op, a, mut b) = (self.r.pick(&COMPARE), self.any(), self.operand());
        // near floats cannot be told apart, those of few values least
        if !self.options.wild && self.p.node(b).dtype.is_float() && (a == b || !self.p.node(a).extent.has_cols()) {
            let dtype = self.float_type();
            b = self.p.constant(dtype, 0.375);
        }
        let both = self.p.node(a).dtype.is_float() || self.p.node(b).dtype.is_float();
        let op = if both && !self.options.wild && matches!(op, Op::Eq | Op::Ne) { Op::Le } else { op };
        let c = self.p.op(op, &[a, b]);
        if self.r.chance(1, 4) {
            let (x, y) = (self.any(), self.constant());
            let d = self.p.op(Op::Lt, &[x, y]);
            let op = self.r.pick(&[Op::And, Op::Or, Op::Xor]);
            return self.p.op(op, &[c, d]);
        }
        c
    }

    fn reduction(&mut self) -> Id {
        let op = self.r.pick(&[
            ReduceOp::Sum,
            ReduceOp::Sum,
            ReduceOp::Sum,
            ReduceOp::Max,
            ReduceOp::Min,
            ReduceOp::Prod,
            ReduceOp::ArgMax,
            ReduceOp::ArgMin,
            ReduceOp::Any,
            ReduceOp::All,
            ReduceOp::Top(0),
            ReduceOp::ArgTop(0),
        ]);
        let rank = self.r.pick(&[0, 1, 1, 2, 4, 9]);
        let x = if self.options.differentiable.is_some() { self.float() } else { self.any() };
        let x = match op {
            ReduceOp::Prod => self.tame(x),
            ReduceOp::Any | ReduceOp::All => self.condition(),
            _ => x,
        };
        let exact = self.is_exact(x);
        let node = self.p.node(x);
        let op = match op {
            // all equal but for their errors
            op if op.is_column() && node.dtype.is_float() && !node.extent.has_cols() => ReduceOp::Sum,
            ReduceOp::Top(_) => ReduceOp::Top(rank),
            // near values change places
            ReduceOp::ArgTop(_) if !exact => ReduceOp::Top(rank),
            ReduceOp::ArgTop(_) => {
                // several ranks of a value are found together
                if self.r.chance(1, 2) {
                    let first = self.p.reduce(ReduceOp::Top(rank / 2), Over::Cols, x);
                    self.values.push(first);
                }
                ReduceOp::ArgTop(rank)
            }
            op => op,
        };
        let sum = self.p.reduce(op, Over::Cols, x);
        if op != ReduceOp::Sum || self.r.chance(1, 2) {
            return sum;
        }
        let n = self.p.index(Index::Cols);
        self.p.op(Op::Div, &[sum, n])
    }

    fn scan(&mut self) -> Id {
        let (reverse, exclusive) = (self.r.chance(1, 3), self.r.chance(1, 4));
        if self.options.differentiable.is_none() && self.r.chance(1, 4) {
            let (a, b) = (self.float(), self.float());
            let a = self.p.op(Op::Sin, &[a]);
            return self.p.scan(Scan { op: ScanOp::Affine, reverse, exclusive }, &[a, b]);
        }
        let op = self.r.pick(&[ScanOp::Sum, ScanOp::Sum, ScanOp::Max, ScanOp::Prod]);
        let x = if self.options.differentiable.is_some() { self.float() } else { self.any() };
        let x = if op == ScanOp::Prod { self.tame(x) } else { x };
        // the gradients of the other exclusive scans are not derived
        let exclusive = exclusive && (op == ScanOp::Sum || self.options.differentiable.is_none());
        self.p.scan(Scan { op, reverse, exclusive }, &[x])
    }

    /// A value that is one a row or one a launch, if there is one.
    fn without_cols(&mut self) -> Option<Id> {
        let all: Vec<Id> = self.values.iter().copied().filter(|v| !self.p.node(*v).extent.has_cols()).collect();
        if all.is_empty() { None } else { Some(self.r.pick(&all)) }
    }

    fn is_exact(&mut self, id: Id) -> bool {
        for k in self.exact.len()..=id.index() {
            let node = &self.p.nodes()[k];
            let source = matches!(node.kind, Kind::Input(_) | Kind::Uniform(_) | Kind::Const(_) | Kind::Int(_));
            let args = node.args.iter().all(|a| self.exact[a.index()]);
            self.exact.push(source || (args && !node.dtype.is_float()));
        }
        self.exact[id.index()]
    }

    fn pick(&mut self) -> Option<Id> {
        let mut t = self.without_cols()?;
        if self.p.node(t).dtype.is_float() && !self.is_exact(t) {
            t = self.p.index(Index::Row);
        }
        let slot = self.r.below(self.p.inputs.len()) as u32;
        let raw = self.options.wild && self.r.chance(1, 16) && self.is_exact(t);
        let t = self.p.cast(t, DType::I64);
        if raw {
            return Some(self.p.pick(slot, t));
        }
        let n = self.p.index(Index::Cols);
        let t = self.p.op(Op::Rem, &[t, n]);
        let t = self.p.op(Op::Abs, &[t]);
        Some(self.p.pick(slot, t))
    }

    /// A monoid of numbers of one sign: then any order of combining has about the same rounding.
    fn fold(&mut self) -> Id {
        let x = self.float();
        let dtype = self.p.node(x).dtype;
        let kind = self.r.below(3);
        let combine = if kind == 1 { Op::Max } else { Op::Add };
        let part = |names: [&str; 2], square: bool| {
            let mut p = Program::new("part");
            let a = p.input(names[0], dtype, Extent::ELEM);
            let b = p.input(names[1], dtype, Extent::ELEM);
            let b = match (square, kind) {
                (false, _) => b,
                (true, 0) => p.op(Op::Mul, &[b, b]),
                (true, _) => p.op(Op::Abs, &[b]),
            };
            let y = p.op(combine, &[a, b]);
            p.output("out", y, dtype);
            p
        };
        let fold = Fold { init: 0.0, update: part(["acc", "x"], true), combine: part(["a", "b"], false) };
        self.p.fold(fold, &[x])
    }

    /// Sums over the rows, and arithmetic on them.
    fn end(&mut self) {
        for _ in 0..1 + self.r.below(2) {
            let (x, over) = (self.float(), self.r.pick(&[Over::Rows, Over::All]));
            let sum = self.p.reduce(ReduceOp::Sum, over, x);
            self.late.push(sum);
        }
        let early: Vec<Id> = self.values.iter().copied().filter(|v| !self.p.node(*v).extent.has_rows()).collect();
        for _ in 0..self.r.below(5) {
            let a = self.r.pick(&self.late);
            let b = match self.r.below(3) {
                0 if !early.is_empty() => self.r.pick(&early),
                1 => self.constant(),
                _ => self.r.pick(&self.late),
            };
            let (op, one) = (self.r.pick(&ARITHMETIC), self.r.pick(&SMOOTH[..7]));
            let made = match self.r.below(3) {
                0 => self.p.op(one, &[a]),
                1 => self.apply(op, b, a),
                _ => self.apply(op, a, b),
            };
            self.late.push(made);
        }
    }

    /// Values of a row, or of elements, side by side.
    fn stack(&mut self) {
        let extent = self.r.pick(&[Extent::ROW, Extent::ELEM]);
        let woven = extent == Extent::ELEM && self.r.chance(1, 2);
        let all: Vec<Id> = self.values.iter().copied().filter(|v| extent.contains(self.p.node(*v).extent)).collect();
        if all.is_empty() {
            return;
        }
        let first = self.p.outputs.len();
        for k in 0..1 + self.r.below(4) {
            let node = self.r.pick(&all);
            let dtype = match self.options.differentiable {
                Some(dtype) => dtype,
                None => self.p.outputs.get(first).map_or(self.p.node(node).dtype, |o| o.dtype),
            };
            self.p.output(format!("s.{k}"), node, dtype);
            if let Some(o) = self.p.outputs.last_mut() {
                (o.extent, o.column, o.woven) = (extent, Some(k as u32), woven);
            }
        }
    }

    fn outputs(&mut self) {
        if self.r.chance(1, 6) {
            self.stack();
        }
        let count = self.r.pick(&[1, 1, 1, 2, 3]);
        for k in 0..count {
            let late = !self.late.is_empty() && (k == 0 || self.r.chance(1, 2));
            let node = match late {
                true => self.late[self.late.len() - 1 - self.r.below(2.min(self.late.len()))],
                false if k == 0 => *self.values.last().unwrap_or(&Id(0)),
                false => self.any(),
            };
            let node = match self.options.differentiable {
                Some(dtype) if k == 0 => self.p.cast(node, dtype),
                _ => node,
            };
            let from = self.p.node(node).dtype;
            let dtype =
                if self.options.differentiable.is_some() || self.r.chance(2, 3) { from } else { self.r.pick(&STORED) };
            self.p.output(format!("y{k}"), node, dtype);
            if !late && self.r.chance(1, 8) {
                let wider = self.r.pick(&EXTENTS);
                if let Some(o) = self.p.outputs.last_mut() {
                    o.extent = o.extent.union(wider);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Options; 3] = [
        Options { differentiable: None, wild: false },
        Options { differentiable: None, wild: true },
        Options { differentiable: Some(DType::F64), wild: false },
    ];

    #[test]
    fn every_random_program_verifies_and_reads_back_from_its_text() {
        for options in KINDS {
            for seed in 0..4000 {
                let p = program(seed, &options);
                assert_eq!(p.verify(), Ok(()), "{p}");
                let text = p.to_string();
                assert_eq!(Program::from_text(&text).as_ref(), Ok(&p), "{text}");
            }
        }
    }

    #[test]
    fn every_kind_of_node_and_every_op_is_drawn() {
        let mut ops = std::collections::BTreeSet::new();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..4000 {
            let p = program(seed, &KINDS[1]);
            for node in p.nodes() {
                match node.kind {
                    Kind::Op(op) => ops.insert(op.name()),
                    kind => kinds.insert(format!("{kind:?}").split('(').next().unwrap_or("").to_string()),
                };
            }
        }
        let missing: Vec<&str> = Op::ALL.iter().map(|o| o.name()).filter(|n| !ops.contains(n)).collect();
        assert_eq!((missing, kinds.len()), (vec![], 11), "{kinds:?}");
    }
}
