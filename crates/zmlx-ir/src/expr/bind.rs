//! Binds a Formula to the dtypes and extents of a call: the walk from untyped terms to a typed Program.
//!
//! Literals have no type of their own. Among themselves they are folded in f64 (1/2 is 0.5). One that meets a
//! value takes its type: a whole literal stays an integer beside an integer (which widens to hold it), any other
//! makes it a float. One that meets nothing is a float, or an integer where every input is one.

use super::{Formula, FormulaError, Out, Scalar, Term};
use crate::{
    DType, Op,
    op::{Class, Value as OpValue},
    program::{Extent, Fold, Id, Input, Kind, Program, ReduceOp},
};

type Result<T> = std::result::Result<T, FormulaError>;

/// What a call gives a formula.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Signature {
    /// Type in memory and extent of each name that is not a uniform, in the order of `Formula::names`.
    pub inputs: Vec<(DType, Extent)>,
}

impl Signature {
    /// Every input alike.
    pub fn uniform(count: usize, dtype: DType, extent: Extent) -> Signature {
        Signature { inputs: vec![(dtype, extent); count] }
    }

    /// The type of the first input that depends on rows and columns, of those that `fit`; else of the first that fits.
    fn main(&self, fit: impl Fn(DType) -> bool) -> Option<DType> {
        let mut fitting = self.inputs.iter().filter(|(d, _)| fit(*d));
        let first = fitting.clone().next();
        fitting.find(|(_, e)| *e == Extent::ELEM).or(first).map(|(d, _)| *d)
    }
}

impl Formula {
    /// The Program of this formula for a call. Its inputs are the names that are not uniforms, all of them, in order.
    pub fn bind(&self, name: &str, sig: &Signature) -> Result<Program> {
        let mut program = Program::new(name);
        let mut tensors = sig.inputs.iter();
        let mut names = Vec::with_capacity(self.names.len());
        let float = if sig.inputs.iter().any(|i| i.0 == DType::F64) { DType::F64 } else { DType::F32 };
        let expected = self.names.iter().filter(|n| n.uniform.is_none()).count();
        if expected != sig.inputs.len() {
            return Err(FormulaError::new(format!("expected {expected} inputs, got {}", sig.inputs.len())));
        }
        for n in &self.names {
            names.push(match (n.uniform, tensors.as_slice().first()) {
                (Some(value), _) => {
                    let dtype = if matches!(value, Scalar::Int(_)) { DType::I64 } else { float };
                    Name { id: program.uniform(&n.name, dtype), slot: None }
                }
                (None, Some(&(dtype, extent))) => {
                    tensors.next();
                    let slot = program.inputs.len() as u32;
                    Name { id: program.input(&n.name, dtype, extent), slot: Some(slot) }
                }
                (None, None) => unreachable!("invariant: as many inputs as were counted"),
            });
        }
        for n in self.names.iter().filter(|n| n.by.is_some() && n.uniform.is_none()) {
            tables(&mut program, n)?;
        }
        let lone_int = !sig.inputs.is_empty() && sig.inputs.iter().all(|i| !i.0.is_float());
        let values = vec![None; self.terms.len()];
        let mut binder = Binder { formula: self, program, sig, names, float, lone_int, values };
        let live = self.live(0, &self.outs);
        let values = |t: &Term| !matches!(t.kind, Kind::Stack | Kind::Weave);
        for (i, term) in self.terms.iter().enumerate().filter(|(i, t)| live[*i] && values(t)) {
            let value = binder.term(term).map_err(|e| self.place(e, Id(i as u32)))?;
            binder.values[i] = Some(value);
        }
        if self.outs.is_empty() {
            return Err(FormulaError::new("the formula has no result"));
        }
        for out in &self.outs {
            binder.result(out).map_err(|e| self.place(e, out.term))?;
        }
        let program = binder.program;
        Ok(if program.live().iter().all(|l| *l) { program } else { program.compact() })
    }

    /// Does each result depend on its own element only, so that no row is needed?
    pub fn is_pointwise(&self) -> bool {
        self.expect_pointwise().is_ok()
    }

    /// The error of `elementwise` for a formula that needs rows.
    pub fn expect_pointwise(&self) -> Result<()> {
        let live = self.live(0, &self.outs);
        for (i, term) in self.terms.iter().enumerate().filter(|(i, _)| live[*i]) {
            let (verb, name) = match term.kind {
                Kind::Reduce(op, _) => ("reduces", op.name()),
                Kind::Fold(_) => ("reduces", "reduce"),
                Kind::Scan(_) => ("runs along", "scan"),
                Kind::Pick(_) => ("reads along", "index"),
                Kind::Stack => ("holds values of", "stack"),
                Kind::Weave => ("holds values of", "interleave"),
                _ => continue,
            };
            let span = self.spans.get(i).map(|s| s.start as usize..s.end as usize);
            let written = match span.map(|s| &self.source[s]) {
                Some(text) if !text.is_empty() && text.len() <= 40 => text.to_string(),
                _ => format!("{name}(…)"),
            };
            let or = match term.kind {
                Kind::Reduce(op @ (ReduceOp::Max | ReduceOp::Min), _) if written.starts_with(name) => {
                    format!(", or {}(a, b)", op.name())
                }
                _ => String::new(),
            };
            let e = FormulaError::new(format!("{written} {verb} a row: use rowwise{or}"));
            return Err(self.place(e, Id(i as u32)));
        }
        Ok(())
    }
}

/// A name of the formula in the Program.
struct Name {
    id: Id,
    /// Slot of a tensor input; None for a launch argument.
    slot: Option<u32>,
}

/// A bound term.
#[derive(Clone, Copy)]
struct Value {
    what: What,
    /// As the formula says it; simplification may have found that the node depends on less.
    extent: Extent,
    /// Was a row reduced or read on the way?
    reduced: bool,
}

#[derive(Clone, Copy)]
enum What {
    /// A number without a type. `whole`: fit to be an integer.
    Literal {
        value: f64,
        whole: bool,
    },
    Node(Id),
}

fn literal(value: f64, whole: bool) -> What {
    What::Literal { value, whole: whole && value.fract() == 0.0 && value.abs() < 9.3e18 }
}

struct Binder<'a> {
    formula: &'a Formula,
    program: Program,
    sig: &'a Signature,
    names: Vec<Name>,
    /// The type of float values that no input gives.
    float: DType,
    /// Whole literals that meet nothing are integers.
    lone_int: bool,
    values: Vec<Option<Value>>,
}

impl Binder<'_> {
    fn term(&mut self, term: &Term) -> Result<Value> {
        let args: Vec<Value> = term.args.iter().map(|a| self.value(*a)).collect::<Result<_>>()?;
        let mut extent = args.iter().fold(Extent::UNIFORM, |e, a| e.union(a.extent));
        let mut reduced = args.iter().any(|a| a.reduced);
        let what = match term.kind {
            Kind::Const(bits) => literal(f64::from_bits(bits), true),
            Kind::Op(op) => self.op(op, &args)?,
            kind => {
                let ids: Vec<Id> = match kind {
                    Kind::Rand | Kind::Pick(_) => vec![], // these look at the value themselves
                    _ => args.iter().map(|a| self.node(*a)).collect(),
                };
                What::Node(match kind {
                    Kind::Input(slot) => {
                        let name = self.names.get(slot as usize).ok_or_else(|| FormulaError::new("no such input"))?;
                        extent = self.program.node(name.id).extent;
                        name.id
                    }
                    Kind::Int(v) => self.program.int(DType::I64, v),
                    Kind::Index(index) => {
                        extent = index.extent();
                        self.program.index(index)
                    }
                    Kind::Reduce(op, over) => {
                        reduced = true;
                        extent = if extent.contains(over.axes()) { extent } else { Extent::ELEM }.without(over.axes());
                        self.program.reduce(op, over, ids[0])
                    }
                    Kind::Fold(slot) => {
                        reduced = true;
                        let id = self.fold(slot, &ids)?;
                        extent = self.program.node(id).extent;
                        id
                    }
                    Kind::Scan(scan) => {
                        extent = Extent::ELEM;
                        self.program.scan(scan, &ids)
                    }
                    Kind::Expand => {
                        extent = Extent::ELEM;
                        self.program.expand(ids[0])
                    }
                    Kind::Pick(slot) => {
                        reduced = true;
                        let id = self.pick(slot, args[0])?;
                        extent = self.program.node(id).extent;
                        id
                    }
                    Kind::Rand => {
                        if extent.has_cols() {
                            let e = FormulaError::new("rand takes one seed a row, not one an element");
                            return Err(e.suggest("seed it with a launch argument, or a value of the row"));
                        }
                        extent = Extent::ELEM;
                        let seed = match args[0].what {
                            What::Literal { value, .. } => self.program.int(DType::I64, value as i64),
                            What::Node(id) => id,
                        };
                        self.program.rand(seed)
                    }
                    Kind::Uniform(_) | Kind::Const(_) | Kind::Op(_) | Kind::Stack | Kind::Weave => {
                        return Err(FormulaError::new("a formula has no such term"));
                    }
                })
            }
        };
        Ok(Value { what, extent, reduced })
    }

    /// What a term was bound to. Arguments come before their users, so one without a value is no value.
    fn value(&self, term: Id) -> Result<Value> {
        self.values[term.index()].ok_or_else(|| {
            FormulaError::new("values side by side are a result, and no operand").suggest("use the values themselves")
        })
    }

    /// The value as a node; a literal that meets nothing.
    fn node(&mut self, value: Value) -> Id {
        match value.what {
            What::Node(id) => id,
            What::Literal { value, whole: true } if self.lone_int => self.program.int(DType::I64, value as i64),
            What::Literal { value, .. } => self.program.constant(self.float, value),
        }
    }

    fn dtype(&self, value: Value) -> Option<DType> {
        match value.what {
            What::Node(id) => Some(self.program.node(id).dtype),
            What::Literal { .. } => None,
        }
    }

    fn op(&mut self, op: Op, args: &[Value]) -> Result<What> {
        let class = op.row().class;
        if let Op::Cast(dtype) = op {
            let id = match args[0].what {
                What::Literal { value, .. } => self.program.constant(DType::F64, value),
                What::Node(id) => id,
            };
            return Ok(What::Node(self.program.cast(id, dtype)));
        }
        if class == Class::Bits {
            self.expect_bits(op, args)?;
        }
        if let Some(folded) = self.fold_literals(op, class, args) {
            return Ok(folded);
        }
        // The condition of a select has a type of its own.
        let (condition, operands) = args.split_at(usize::from(class == Class::Select));
        let dtype = match class {
            Class::Float | Class::Test => self.float_of(operands),
            _ => self.meet(operands),
        };
        let mut ids = Vec::with_capacity(args.len());
        for &c in condition {
            ids.push(self.node(c));
        }
        for a in operands {
            let id = match a.what {
                What::Literal { value, .. } if dtype.is_float() => self.program.constant(dtype, value),
                What::Literal { value, .. } => self.program.int(dtype, value as i64),
                What::Node(id) if matches!(class, Class::Float | Class::Test) => self.program.cast(id, dtype),
                What::Node(id) => id,
            };
            ids.push(id);
        }
        Ok(What::Node(self.program.op(op, &ids)))
    }

    /// The float type that the operands of a float function meet in.
    fn float_of(&self, operands: &[Value]) -> DType {
        let types = operands.iter().filter_map(|a| self.dtype(*a));
        types.filter(|d| d.is_float()).reduce(DType::promote).unwrap_or(self.float)
    }

    /// The type that operands meet in, literals among them.
    fn meet(&self, operands: &[Value]) -> DType {
        let typed = operands.iter().filter_map(|a| self.dtype(*a)).reduce(DType::promote);
        let all_whole = operands.iter().all(|a| matches!(a.what, What::Literal { whole: true, .. } | What::Node(_)));
        let alone = if self.lone_int && all_whole { DType::I64 } else { self.float };
        let mut dtype = typed.unwrap_or(alone);
        for a in operands {
            let What::Literal { value, whole } = a.what else { continue };
            let holds = |d: DType| {
                let (lo, hi) = d.int_range();
                (lo as f64..=hi as f64).contains(&value)
            };
            dtype = match whole {
                _ if dtype.is_float() => dtype,
                true if holds(dtype) => dtype,
                true => dtype.promote(if holds(DType::I32) { DType::I32 } else { DType::I64 }),
                false => self.float,
            };
        }
        dtype
    }

    fn fold_literals(&mut self, op: Op, class: Class, args: &[Value]) -> Option<What> {
        let (mut v, mut whole) = ([0.0; 3], class != Class::Float);
        for (slot, a) in v.iter_mut().zip(args) {
            let What::Literal { value, whole: w } = a.what else { return None };
            *slot = value;
            whole &= w;
        }
        let value = match op.row().value {
            OpValue::Unary(f) => f(v[0]),
            OpValue::Binary(f) => f(v[0], v[1]),
            OpValue::Ternary(f) => f(v[0], v[1], v[2]),
        };
        Some(match op.is_predicate() {
            true => What::Node(self.program.int(DType::Bool, i64::from(value != 0.0))),
            false => literal(value, whole),
        })
    }

    /// Operators on bits refuse floats: `^` there is nearly always meant as a power.
    fn expect_bits(&self, op: Op, args: &[Value]) -> Result<()> {
        let float = args.iter().find_map(|a| match a.what {
            What::Literal { value, whole: false } => Some(value.to_string()),
            What::Node(id) if self.program.node(id).dtype.is_float() => Some(self.program.node(id).dtype.to_string()),
            _ => None,
        });
        let Some(float) = float else { return Ok(()) };
        Err(match op {
            Op::Xor => FormulaError::new(format!("'^' is xor and takes integers, not {float}"))
                .suggest("for a power write 'pow(a, b)'"),
            Op::And => FormulaError::new(format!("'&' takes integers, not {float}")).suggest("did you mean '&&'?"),
            Op::Or => FormulaError::new(format!("'|' takes integers, not {float}")).suggest("did you mean '||'?"),
            Op::Shl => FormulaError::new(format!("'<<' takes integers, not {float}")),
            Op::Shr => FormulaError::new(format!("'>>' takes integers, not {float}")),
            _ => FormulaError::new(format!("'~' takes integers, not {float}")),
        })
    }

    fn pick(&mut self, slot: u32, t: Value) -> Result<Id> {
        let name = self.formula.names.get(slot as usize).map_or("", |n| n.name.as_str());
        let Some(slot) = self.names.get(slot as usize).and_then(|n| n.slot) else {
            return Err(FormulaError::new(format!("'{name}' is a launch argument and cannot be indexed")));
        };
        if !self.program.inputs[slot as usize].extent.has_cols() {
            return Err(FormulaError::new(format!("'{name}' has one value a row and cannot be indexed")));
        }
        let t = match t.what {
            What::Literal { value, whole: true } => self.program.int(DType::I64, value as i64),
            What::Node(id) if self.program.node(id).dtype.is_int() => id,
            _ => return Err(FormulaError::new("an index must be an integer").suggest("convert it with 'i64(…)'")),
        };
        if self.program.node(t).extent.has_cols() {
            return Err(FormulaError::new(format!("{name}[…] takes one index a row, and this one varies along it")));
        }
        Ok(self.program.pick(slot, t))
    }

    /// A custom monoid in the float type of the Program.
    fn fold(&mut self, slot: u32, args: &[Id]) -> Result<Id> {
        let fold = self.formula.folds.get(slot as usize).ok_or_else(|| FormulaError::new("no such reduction"))?;
        let fold = match self.float {
            DType::F64 => Fold { init: fold.init, update: widen(&fold.update)?, combine: widen(&fold.combine)? },
            _ => fold.clone(),
        };
        Ok(self.program.fold(fold, args))
    }

    /// An output for a result, or one for each of its columns.
    fn result(&mut self, out: &Out) -> Result<()> {
        let term = &self.formula.terms[out.term.index()];
        if !matches!(term.kind, Kind::Stack | Kind::Weave) {
            return self.output(&out.name, out.term, out.dtype);
        }
        let mut extent = Extent::ROW;
        let first = self.program.outputs.len();
        for (k, value) in term.args.iter().enumerate() {
            self.output(&format!("{}.{k}", out.name), *value, out.dtype)?;
            if self.value(*value)?.extent.has_cols() {
                extent = Extent::ELEM;
            }
        }
        let columns = &self.program.outputs[first..];
        let woven = term.kind == Kind::Weave && extent == Extent::ELEM;
        let dtype = columns.iter().map(|o| o.dtype).reduce(|a, b| if a == b { a } else { a.promote(b) });
        for (k, o) in self.program.outputs[first..].iter_mut().enumerate() {
            (o.dtype, o.extent, o.column, o.woven) = (dtype.unwrap_or(o.dtype), extent, Some(k as u32), woven);
        }
        Ok(())
    }

    fn output(&mut self, name: &str, term: Id, dtype: Option<DType>) -> Result<()> {
        let value = self.value(term)?;
        let node = self.node(value);
        let dtype = dtype.unwrap_or_else(|| self.result_type(term, node));
        self.program.output(name, node, dtype);
        // A result has the shape of the inputs, or that of their rows.
        let any = |e: Extent| self.sig.inputs.iter().any(|i| i.1.contains(e));
        let rows = any(Extent::ROW);
        let extent = match value.extent {
            Extent::COL => Extent::ELEM,
            Extent::UNIFORM if value.reduced && rows => Extent::ROW,
            Extent::UNIFORM if any(Extent::ELEM) => Extent::ELEM,
            Extent::UNIFORM if rows => Extent::ROW,
            extent => extent,
        };
        if let Some(output) = self.program.outputs.last_mut() {
            output.extent = extent;
        }
        Ok(())
    }

    /// Floats are stored like the first float input, integers like the first integer input, truth values as u8.
    fn result_type(&self, term: Id, node: Id) -> DType {
        let own = self.program.node(node).dtype;
        match own {
            DType::Bool => DType::U8,
            own if own.is_float() => self.sig.main(DType::is_float).unwrap_or(own),
            // A position may not fit the type of what it is a position in.
            own => match self.formula.terms[term.index()].kind {
                Kind::Reduce(op, _) if op.is_column() => own,
                Kind::Index(_) | Kind::Op(Op::Cast(_)) => own,
                _ => self.sig.main(|_| true).filter(|d| d.is_int()).unwrap_or(own),
            },
        }
    }
}

/// Says by which input the rows of a table are found.
fn tables(program: &mut Program, table: &super::Name) -> Result<()> {
    let (name, by) = (&table.name, table.by.as_deref().unwrap_or_default());
    let slot = |name: &str| program.inputs.iter().position(|i| i.name == name);
    let Some(at) = slot(by) else {
        return Err(FormulaError::new(format!("rows of '{name}', expected an input that finds them, got '{by}'")));
    };
    let Input { dtype, extent, .. } = program.inputs[at];
    if dtype.is_float() || extent != Extent::ROW {
        let got = format!("{dtype} {}", extent.name());
        let what = format!("{by} finds rows of '{name}', expected one integer a row, got {got}");
        return Err(FormulaError::new(what));
    }
    if let Some(k) = slot(name) {
        program.inputs[k].by = Some(at as u32);
    }
    Ok(())
}

/// The same pointwise Program with f64 for f32.
fn widen(p: &Program) -> Result<Program> {
    let wide = |d: DType| if d == DType::F32 { DType::F64 } else { d };
    let mut out = Program::new(p.name.clone());
    for i in &p.inputs {
        out.input(&i.name, wide(i.dtype), i.extent);
    }
    let mut map: Vec<Id> = Vec::with_capacity(p.nodes().len());
    for node in p.nodes() {
        let args: Vec<Id> = node.args.iter().map(|a| map[a.index()]).collect();
        map.push(match node.kind {
            Kind::Input(slot) => out.input_value(slot),
            Kind::Const(bits) => out.constant(wide(node.dtype), f64::from_bits(bits)),
            Kind::Int(v) => out.int(node.dtype, v),
            Kind::Index(index) => out.index(index),
            Kind::Op(Op::Cast(d)) => out.cast(args[0], wide(d)),
            Kind::Op(op) => out.op(op, &args),
            _ => return Err(FormulaError::new("the update and combine of a reduction must be pointwise")),
        });
    }
    for o in &p.outputs {
        out.output(&o.name, map[o.node.index()], wide(o.dtype));
    }
    Ok(out)
}
