//! Constructors: the only way a node enters a Program. They infer dtype and extent, insert the conversions that
//! the op table's dtype rules ask for, simplify, and share equal nodes.

use super::*;
use crate::op::Class;

impl Program {
    /// An empty Program.
    pub fn new(name: impl Into<String>) -> Program {
        Program { name: name.into(), ..Program::default() }
    }

    /// Adds a tensor input and gives its value.
    pub fn input(&mut self, name: impl Into<String>, dtype: DType, extent: Extent) -> Id {
        self.inputs.push(Input { name: name.into(), dtype, extent, by: None });
        let slot = self.inputs.len() as u32 - 1;
        self.push(Kind::Input(slot), vec![], dtype.compute(), extent)
    }

    /// Adds a launch argument and gives its value.
    pub fn uniform(&mut self, name: impl Into<String>, dtype: DType) -> Id {
        self.uniforms.push(Uniform { name: name.into(), dtype: dtype.compute() });
        let slot = self.uniforms.len() as u32 - 1;
        self.push(Kind::Uniform(slot), vec![], dtype.compute(), Extent::UNIFORM)
    }

    /// Declares an output: `node`, stored as `dtype` with its own extent. A number stored as a truth value is
    /// compared with 0 first.
    pub fn output(&mut self, name: impl Into<String>, node: Id, dtype: DType) {
        let node = if dtype == DType::Bool { self.cast(node, dtype) } else { node };
        let extent = self.node(node).extent;
        self.outputs.push(Output { name: name.into(), node, dtype, extent, column: None, woven: false });
    }

    /// Makes an output as small as its value, which its reader repeats. (Outputs side by side stay what they are.)
    pub fn shrink(&mut self, output: usize) {
        let Output { node, column, .. } = self.outputs[output];
        if column.is_none() {
            self.outputs[output].extent = self.node(node).extent;
        }
    }

    /// The value of an existing input.
    pub fn input_value(&mut self, slot: u32) -> Id {
        let (dtype, extent) = (self.inputs[slot as usize].dtype.compute(), self.inputs[slot as usize].extent);
        self.push(Kind::Input(slot), vec![], dtype, extent)
    }

    /// A constant of this type; a float literal given an integer type truncates and wraps.
    pub fn constant(&mut self, dtype: DType, value: f64) -> Id {
        let dtype = dtype.compute();
        match dtype {
            DType::F32 => self.push(Kind::Const((value as f32 as f64).to_bits()), vec![], dtype, Extent::UNIFORM),
            DType::F64 => self.push(Kind::Const(value.to_bits()), vec![], dtype, Extent::UNIFORM),
            DType::Bool => self.int(dtype, i64::from(value != 0.0)),
            _ => self.int(dtype, value as i64),
        }
    }

    /// An integer (or truth) constant, wrapped into its type.
    pub fn int(&mut self, dtype: DType, value: i64) -> Id {
        self.push(Kind::Int(dtype.wrap(value)), vec![], dtype, Extent::UNIFORM)
    }

    /// A constant's value, if the node is one.
    pub fn constant_value(&self, id: Id) -> Option<f64> {
        match self.node(id).kind {
            Kind::Const(bits) => Some(f64::from_bits(bits)),
            Kind::Int(v) => Some(v as f64),
            _ => None,
        }
    }

    /// A position or size, as i64.
    pub fn index(&mut self, index: Index) -> Id {
        self.push(Kind::Index(index), vec![], DType::I64, index.extent())
    }

    /// Converts to the compute form of `dtype`. A conversion to f16 or bf16 rounds and stays f32.
    pub fn cast(&mut self, id: Id, dtype: DType) -> Id {
        let from = self.node(id).dtype;
        if from == dtype {
            return id;
        }
        if let Some(v) = self.simplify_cast(id, dtype) {
            return v;
        }
        let extent = self.node(id).extent;
        self.push(Kind::Op(Op::Cast(dtype)), vec![id], dtype.compute(), extent)
    }

    /// A pointwise op, with the conversions that its dtype rule asks for.
    pub fn op(&mut self, op: Op, args: &[Id]) -> Id {
        debug_assert_eq!(op.arity(), args.len(), "{op:?}");
        let mut args = args.to_vec();
        let meet = |p: &Program, ids: &[Id]| ids.iter().map(|&a| p.node(a).dtype).reduce(DType::promote);
        let ty = meet(self, &args).expect("invariant: every op has an operand");
        let dtype = match op.row().class {
            Class::Cast => match op {
                Op::Cast(d) => return self.cast(args[0], d),
                _ => unreachable!("invariant: only Cast has class Cast"),
            },
            Class::Float | Class::Test => {
                if ty.is_float() {
                    ty
                } else {
                    DType::F32
                }
            }
            Class::Number => {
                if ty == DType::Bool {
                    DType::I32
                } else {
                    ty
                }
            }
            // ~ and shifts of a truth value leave the two truth values, as in C.
            Class::Bits if ty == DType::Bool && !matches!(op, Op::And | Op::Or | Op::Xor) => DType::I32,
            Class::Bits => {
                if ty.is_float() {
                    DType::I64
                } else {
                    ty
                }
            }
            Class::Logic => DType::Bool,
            Class::Compare => ty,
            Class::Select => {
                args[0] = self.cast(args[0], DType::Bool);
                meet(self, &args[1..]).expect("invariant: select has three operands")
            }
        };
        let first = usize::from(op == Op::Select);
        for a in &mut args[first..] {
            *a = self.cast(*a, dtype);
        }
        if op.is_commutative() && args[0] > args[1] {
            args.swap(0, 1);
        }
        if let Some(v) = self.simplify_op(op, dtype, &args) {
            return v;
        }
        let result = if op.is_predicate() { DType::Bool } else { dtype };
        let extent = args.iter().fold(Extent::UNIFORM, |e, &a| e.union(self.node(a).extent));
        self.push(Kind::Op(op), args, result, extent)
    }

    /// A reduction; its argument is first made to depend on the axes it removes.
    pub fn reduce(&mut self, op: ReduceOp, over: Over, arg: Id) -> Id {
        let mut arg = match op {
            ReduceOp::Any | ReduceOp::All => self.cast(arg, DType::Bool),
            ReduceOp::Sum | ReduceOp::Prod if self.node(arg).dtype == DType::Bool => self.cast(arg, DType::I64),
            op if op.rank().is_some() && self.node(arg).dtype == DType::Bool => self.cast(arg, DType::U8),
            _ => arg,
        };
        if !self.node(arg).extent.contains(over.axes()) {
            arg = self.expand(arg);
        }
        let dtype = if op.is_column() { DType::U32 } else { self.node(arg).dtype };
        let extent = self.node(arg).extent.without(over.axes());
        self.push(Kind::Reduce(op, over), vec![arg], dtype, extent)
    }

    /// The value, repeated so that it is Elem.
    pub fn expand(&mut self, arg: Id) -> Id {
        let node = self.node(arg);
        if node.extent == Extent::ELEM {
            return arg;
        }
        let dtype = node.dtype;
        self.push(Kind::Expand, vec![arg], dtype, Extent::ELEM)
    }

    /// A custom monoid over cols; `args` are the values that `fold.update` reads after `acc`.
    pub fn fold(&mut self, fold: Fold, args: &[Id]) -> Id {
        let dtype = fold.update.inputs[0].dtype.compute();
        let args: Vec<Id> = args.iter().map(|&a| self.cast(a, dtype)).collect();
        let has_rows = args.iter().any(|&a| self.node(a).extent.has_rows());
        let slot = match self.folds.iter().position(|f| *f == fold) {
            Some(slot) => slot,
            None => {
                self.folds.push(fold);
                self.folds.len() - 1
            }
        };
        let extent = if has_rows { Extent::ROW } else { Extent::UNIFORM };
        self.push(Kind::Fold(slot as u32), args, dtype, extent)
    }

    /// A scan along each row. `args` is one value, or (a, b) for `Affine`.
    pub fn scan(&mut self, scan: Scan, args: &[Id]) -> Id {
        let mut args: Vec<Id> = args.iter().map(|&a| self.expand(a)).collect();
        let mut dtype = args.iter().map(|&a| self.node(a).dtype).reduce(DType::promote).unwrap_or(DType::F32);
        if dtype == DType::Bool {
            dtype = DType::I64;
        }
        for a in &mut args {
            *a = self.cast(*a, dtype);
        }
        self.push(Kind::Scan(scan), args, dtype, Extent::ELEM)
    }

    /// `x[t]` of input `slot`.
    pub fn pick(&mut self, slot: u32, t: Id) -> Id {
        let t = self.cast(t, DType::I64);
        let dtype = self.inputs[slot as usize].dtype.compute();
        let rows = self.inputs[slot as usize].extent.has_rows() || self.node(t).extent.has_rows();
        let extent = if rows { Extent::ROW } else { Extent::UNIFORM };
        self.push(Kind::Pick(slot), vec![t], dtype, extent)
    }

    /// Uniform random numbers in [0, 1), one an element (f32).
    pub fn rand(&mut self, seed: Id) -> Id {
        let seed = self.cast(seed, DType::I64);
        self.push(Kind::Rand, vec![seed], DType::F32, Extent::ELEM)
    }

    pub(super) fn push(&mut self, kind: Kind, args: Vec<Id>, dtype: DType, extent: Extent) -> Id {
        let node = Node { kind, args, dtype, extent };
        if let Some(&id) = self.memo.get(&node) {
            return id;
        }
        let id = Id(self.nodes.len() as u32);
        self.memo.insert(node.clone(), id);
        self.nodes.push(node);
        id
    }

    /// The same Program with only the nodes that outputs need, in the same order.
    pub fn compact(&self) -> Program {
        let live = self.live();
        let mut map = vec![Id(0); self.nodes.len()];
        let mut p = Program { nodes: vec![], memo: HashMap::new(), ..self.clone() };
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            let args = node.args.iter().map(|a| map[a.index()]).collect();
            map[i] = p.push(node.kind, args, node.dtype, node.extent);
        }
        for o in &mut p.outputs {
            o.node = map[o.node.index()];
        }
        p
    }
}
