//! Verification: what every Program must satisfy before it is scheduled or run. All faults are reported, each with the
//! node it is at. A fault is ours: no formula leads to one.

use super::*;
use crate::op::Class;

/// One thing that is wrong with a Program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The node, if it is one.
    pub node: Option<Id>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(id) => write!(f, "{id:?}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Program {
    /// All faults, or none.
    ///
    /// # Errors
    /// The faults.
    pub fn verify(&self) -> Result<(), Vec<Fault>> {
        let mut faults = vec![];
        for id in self.ids() {
            if let Err(message) = self.check_node(id) {
                faults.push(Fault { node: Some(id), message: format!("{message} in `{}`", self.line(id)) });
            }
        }
        if !faults.is_empty() {
            return Err(faults); // the rest takes sound nodes for granted
        }
        let late = self.check_late(&mut faults);
        let alike = |group: &[Output]| {
            let Output { dtype, extent, woven, .. } = group[0];
            let same = |o: &Output| o.extent == extent && o.dtype == dtype && o.woven == woven;
            matches!(extent, Extent::ROW | Extent::ELEM) && group.iter().all(same)
        };
        if self.tensors().any(|group| group[0].column.is_some() && !alike(group))
            || self.columns().iter().zip(&self.outputs).any(|(c, o)| o.column.is_some_and(|k| k as usize != c.column))
        {
            let message = "outputs side by side are of one type and extent, row or elem".into();
            faults.push(Fault { node: None, message });
        }
        for (i, by) in self.inputs.iter().filter_map(|i| i.by.map(|by| (i, by))) {
            let finds = |by: &Input| !by.dtype.is_float() && by.extent == Extent::ROW && by.by.is_none();
            if !i.extent.has_rows() || !self.inputs.get(by as usize).is_some_and(finds) {
                let message = format!("rows of {} are found by other than one integer a row", i.name);
                faults.push(Fault { node: None, message });
            }
        }
        for o in &self.outputs {
            let wrong = if o.node.index() >= self.nodes.len() {
                format!("output {} of a node that is not there", o.name)
            } else if !o.extent.contains(self.node(o.node).extent) {
                format!("output {} is {:?}, its value {:?}", o.name, o.extent, self.node(o.node).extent)
            } else if late[o.node.index()] && o.extent.has_rows() {
                format!("output {} has rows, its value is made of a sum over them", o.name)
            } else if o.dtype == DType::Bool && self.node(o.node).dtype != DType::Bool {
                format!("output {} is of truth values, its value is not", o.name)
            } else {
                continue;
            };
            faults.push(Fault { node: None, message: wrong });
        }
        for (k, fold) in self.folds.iter().enumerate() {
            for (part, sub, least) in [("update", &fold.update, 1), ("combine", &fold.combine, 2)] {
                let pointwise = sub.nodes.iter().all(|n| {
                    matches!(n.kind, Kind::Input(_) | Kind::Const(_) | Kind::Int(_) | Kind::Op(_) | Kind::Expand)
                });
                if !pointwise || sub.inputs.len() < least || sub.outputs.len() != 1 || sub.verify().is_err() {
                    faults.push(Fault { node: None, message: format!("{part} of fold {k} is not pointwise") });
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn check_node(&self, id: Id) -> Result<(), String> {
        let node = self.node(id);
        if let Some(a) = node.args.iter().find(|a| a.index() >= id.index()) {
            return Err(format!("argument {a:?} does not come before"));
        }
        if matches!(node.dtype, DType::F16 | DType::BF16) {
            return Err(format!("{} is a storage type", node.dtype));
        }
        let args: Vec<&Node> = node.args.iter().map(|a| self.node(*a)).collect();
        let expect = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_string()) };
        let count = |n: usize| expect(args.len() == n, &format!("expected {n} arguments, got {}", args.len()));
        let all = args.iter().fold(Extent::UNIFORM, |e, a| e.union(a.extent));
        let extent = |e: Extent| expect(node.extent == e, &format!("expected extent {e:?}, got {:?}", node.extent));
        match node.kind {
            Kind::Input(k) => {
                let input = self.inputs.get(k as usize).ok_or("no such input")?;
                expect(node.dtype == input.dtype.compute(), "dtype differs from its input's")?;
                extent(input.extent)
            }
            Kind::Uniform(k) => {
                let u = self.uniforms.get(k as usize).ok_or("no such uniform")?;
                expect(node.dtype == u.dtype.compute(), "dtype differs from its uniform's")?;
                extent(Extent::UNIFORM)
            }
            Kind::Const(_) => expect(node.dtype.is_float(), "a float constant of another type"),
            Kind::Int(v) => expect(!node.dtype.is_float() && node.dtype.wrap(v) == v, "constant out of range"),
            Kind::Index(i) => {
                expect(node.dtype == DType::I64, "positions are i64")?;
                extent(i.extent())
            }
            Kind::Op(op) => {
                count(op.arity())?;
                self.check_op(op, node, &args)?;
                extent(all)
            }
            Kind::Reduce(op, over) => {
                count(1)?;
                expect(args[0].extent.contains(over.axes()), "reduces axes that its argument lacks")?;
                if matches!(op, ReduceOp::Any | ReduceOp::All) {
                    expect(args[0].dtype == DType::Bool, "any and all reduce truth values")?;
                }
                expect(op.rank().is_none_or(|r| r < RANKS), "a rank that is too high")?;
                let row_sum = op == ReduceOp::Sum && node.dtype.is_float();
                expect(over == Over::Cols || row_sum, "only sums of floats go over rows")?;
                extent(all.without(over.axes()))
            }
            Kind::Fold(k) => {
                let fold = self.folds.get(k as usize).ok_or("no such fold")?;
                count(fold.update.inputs.len().saturating_sub(1))
            }
            Kind::Scan(scan) => {
                count(if scan.op == ScanOp::Affine { 2 } else { 1 })?;
                expect(
                    args.iter().all(|a| a.dtype == node.dtype && a.extent == Extent::ELEM),
                    "scans Elem of one type",
                )?;
                extent(Extent::ELEM)
            }
            Kind::Pick(k) => {
                count(1)?;
                let input = self.inputs.get(k as usize).ok_or("no such input")?;
                expect(node.dtype == input.dtype.compute(), "dtype differs from its input's")?;
                expect(args[0].dtype == DType::I64 && !args[0].extent.has_cols(), "one i64 index a row")
            }
            Kind::Rand => {
                count(1)?;
                expect(args[0].dtype == DType::I64 && !args[0].extent.has_cols(), "one i64 seed a row")?;
                extent(Extent::ELEM)
            }
            Kind::Expand => {
                count(1)?;
                expect(args[0].dtype == node.dtype, "an expansion changes no type")?;
                extent(Extent::ELEM)
            }
            Kind::Stack | Kind::Weave => Err("only a Formula has values side by side".into()),
        }
    }

    fn check_op(&self, op: Op, node: &Node, args: &[&Node]) -> Result<(), String> {
        let same = |args: &[&Node]| args.windows(2).all(|w| w[0].dtype == w[1].dtype);
        let d = args[0].dtype;
        let ok = match op.row().class {
            Class::Cast => matches!(op, Op::Cast(to) if to.compute() == node.dtype),
            Class::Float => same(args) && d.is_float() && node.dtype == d,
            Class::Number => same(args) && d != DType::Bool && node.dtype == d,
            Class::Bits => same(args) && !d.is_float() && node.dtype == d,
            Class::Logic => d == DType::Bool && node.dtype == DType::Bool,
            Class::Compare => same(args) && node.dtype == DType::Bool,
            Class::Test => d.is_float() && node.dtype == DType::Bool,
            Class::Select => d == DType::Bool && same(&args[1..]) && node.dtype == args[1].dtype,
        };
        if ok { Ok(()) } else { Err("operand types".into()) }
    }

    /// What is made of a sum over rows may only reach outputs, by pointwise arithmetic at its own extent.
    /// Gives which values are.
    fn check_late(&self, faults: &mut Vec<Fault>) -> Vec<bool> {
        let mut late = vec![false; self.nodes.len()];
        for id in self.ids() {
            let node = self.node(id);
            let from = node.args.iter().any(|a| late.get(a.index()).copied().unwrap_or(false));
            let pointwise = matches!(node.kind, Kind::Op(_)) && !node.extent.has_rows();
            if from && !pointwise {
                let message = format!("uses a sum over rows for a value of the rows: `{}`", self.line(id));
                faults.push(Fault { node: Some(id), message });
            }
            late[id.index()] = from || matches!(node.kind, Kind::Reduce(_, Over::Rows | Over::All));
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors_make_programs_that_verify() {
        let mut p = Program::new("softmax");
        let x = p.input("x", DType::BF16, Extent::ELEM);
        let m = p.reduce(ReduceOp::Max, Over::Cols, x);
        let d = p.op(Op::Sub, &[x, m]);
        let e = p.op(Op::Exp, &[d]);
        let s = p.reduce(ReduceOp::Sum, Over::Cols, e);
        let y = p.op(Op::Div, &[e, s]);
        p.output("out", y, DType::BF16);
        assert_eq!(p.verify(), Ok(()));
    }

    #[test]
    fn every_fault_is_reported_with_its_node() {
        let mut p = Program::new("wrong");
        let x = p.input("x", DType::F32, Extent::ELEM);
        let s = p.reduce(ReduceOp::Sum, Over::Rows, x);
        let y = p.op(Op::Add, &[x, s]);
        p.output("out", y, DType::F32);
        p.outputs[0].extent = Extent::ROW;
        let faults = p.verify().expect_err("two faults");
        assert_eq!(faults.len(), 2);
        assert!(faults[0].message.contains("sum over rows"), "{faults:?}");
        assert!(faults[1].message.contains("output out is row, its value elem"), "{faults:?}");
    }
}
