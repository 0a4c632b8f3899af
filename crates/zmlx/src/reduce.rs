//! `reduce` and `map_reduce`: reductions given by a start value, an update and a combination.
//!
//! An update `acc ⊕ f(v)` with the combination `a ⊕ b`, ⊕ among + × max min, is a plain reduction, and differentiates.
//! Any other combination is a custom monoid: it runs, in an order that depends on the row's length alone, and must be
//! associative and commutative; its gradient is refused unless given by `grad_of`.

use crate::{Error, Inputs, Op, Result};
use candle_core::Tensor;
use zmlx_ir::{
    DType, Extent, Formula, Program, Signature,
    program::{
        Fold, Id, Kind, Over, ReduceOp,
        oracle::{Data, Precision, evaluate},
    },
};

/// A reduction of rows: `reduce().init("0").update("acc + v").call(&x)`.
pub fn reduce() -> Reduce {
    Reduce::default()
}

/// Reductions of rows, each of which may read the ones before, and a result an element:
/// `map_reduce().pass("-INFINITY", "max(acc1, x)", "max(a, b)").pass(…).write("exp(x - s1) / s2")`.
pub fn map_reduce() -> MapReduce {
    MapReduce::default()
}

/// See [`reduce`].
#[derive(Clone, Debug, Default)]
pub struct Reduce {
    init: Option<String>,
    update: Option<String>,
    combine: Option<String>,
    finalize: Option<String>,
    axis: Option<isize>,
    keepdim: bool,
    name: Option<String>,
}

impl Reduce {
    /// The start value, an identity of the combination.
    pub fn init(mut self, value: &str) -> Reduce {
        self.init = Some(value.into());
        self
    }
    /// The accumulator after one more element: a formula of `acc` and `v`.
    pub fn update(mut self, formula: &str) -> Reduce {
        self.update = Some(formula.into());
        self
    }
    /// Two accumulators become one: a formula of `a` and `b`. Not needed where the update is `acc ⊕ f(v)`.
    pub fn combine(mut self, formula: &str) -> Reduce {
        self.combine = Some(formula.into());
        self
    }
    /// The result: a formula of `acc` (default: `acc`).
    pub fn finalize(mut self, formula: &str) -> Reduce {
        self.finalize = Some(formula.into());
        self
    }
    /// The axis that is reduced (default: the last).
    pub fn axis(mut self, axis: isize) -> Reduce {
        self.axis = Some(axis);
        self
    }
    /// The axis stays, with size 1.
    pub fn keepdim(mut self) -> Reduce {
        self.keepdim = true;
        self
    }
    /// Names the operation.
    pub fn name(mut self, name: &str) -> Reduce {
        self.name = Some(name.into());
        self
    }

    /// The operation, of the input `v`.
    ///
    /// # Errors
    /// Formulas that are wrong; a start value that is no identity; an update that needs a combination.
    pub fn build(&self) -> Result<Op> {
        let name = self.name.as_deref().unwrap_or("reduce");
        let missing = |what: &str| Error::argument(name, what, format!(".{what}(…)"), "none");
        let init = self.init.as_deref().ok_or_else(|| missing("init"))?;
        let update = self.update.as_deref().ok_or_else(|| missing("update"))?;
        let mut f = Formula::default();
        let v = f.name("v");
        let pass =
            Pass { op: name, init, update, combine: self.combine.as_deref(), acc: &["acc"], values: &[("v", v)] };
        let acc = pass.reduce(&mut f)?;
        f.outs = f.parse_closed(self.finalize.as_deref().unwrap_or("acc"), &[("acc", acc)])?;
        let mut op = Op::from_formula(f).name(name);
        if let Some(axis) = self.axis {
            op = op.axis(axis);
        }
        if self.keepdim {
            op = op.keepdim();
        }
        Ok(op)
    }

    /// Builds it and runs it.
    ///
    /// # Errors
    /// As [`Reduce::build`] and [`Op::call`].
    pub fn call(&self, x: impl Inputs) -> Result<Tensor> {
        self.build()?.call(x)
    }
}

/// See [`map_reduce`].
#[derive(Clone, Debug, Default)]
pub struct MapReduce {
    passes: Vec<[String; 3]>,
    write: Option<String>,
    name: Option<String>,
}

impl MapReduce {
    /// One more reduction. Pass k updates `acck` with `x` and the results `s1 …` of the passes before; `combine` is a
    /// formula of `a` and `b`.
    pub fn pass(mut self, init: &str, update: &str, combine: &str) -> MapReduce {
        self.passes.push([init.into(), update.into(), combine.into()]);
        self
    }
    /// The result of each element: a formula of `x` and `s1 …`.
    pub fn write(mut self, formula: &str) -> MapReduce {
        self.write = Some(formula.into());
        self
    }
    /// Names the operation.
    pub fn name(mut self, name: &str) -> MapReduce {
        self.name = Some(name.into());
        self
    }

    /// The operation, of the input `x` (and whatever else the last formula names).
    ///
    /// # Errors
    /// As [`Reduce::build`].
    pub fn build(&self) -> Result<Op> {
        let name = self.name.as_deref().unwrap_or("map_reduce");
        let write = self.write.as_deref().ok_or_else(|| Error::argument(name, "write", ".write(…)", "none"))?;
        let mut f = Formula::default();
        let mut values = vec![("x".to_string(), f.name("x"))];
        for (k, [init, update, combine]) in self.passes.iter().enumerate() {
            let acc = format!("acc{}", k + 1);
            let known: Vec<(&str, Id)> = values.iter().map(|(n, id)| (n.as_str(), *id)).collect();
            let pass = Pass { op: name, init, update, combine: Some(combine), acc: &[&acc, "acc"], values: &known };
            let s = pass.reduce(&mut f)?;
            values.push((format!("s{}", k + 1), s));
        }
        let known: Vec<(&str, Id)> = values.iter().map(|(n, id)| (n.as_str(), *id)).collect();
        f.outs = f.parse_into(write, &known)?;
        Ok(Op::from_formula(f).name(name))
    }

    /// Builds it and runs it.
    ///
    /// # Errors
    /// As [`MapReduce::build`] and [`Op::call`].
    pub fn call(&self, x: impl Inputs) -> Result<Tensor> {
        self.build()?.call(x)
    }
}

/// One reduction as the user gives it.
struct Pass<'a> {
    op: &'a str,
    init: &'a str,
    update: &'a str,
    combine: Option<&'a str>,
    /// Names of the accumulator.
    acc: &'a [&'a str],
    /// What the update reads besides.
    values: &'a [(&'a str, Id)],
}

impl Pass<'_> {
    /// Adds the reduction to `f`; gives its value.
    fn reduce(&self, f: &mut Formula) -> Result<Id> {
        let init = self.constant()?;
        let (op, value) = match (self.plain(f)?, self.combined()?) {
            (Some((op, value)), Some(by)) if op == by => (op, value),
            (Some((op, value)), None) if self.combine.is_none() => (op, value),
            (_, None) if self.combine.is_none() => {
                let what = format!("update `{}`", self.update);
                let expected = "acc ⊕ f(v) with ⊕ among + * max min, or a .combine(…) formula of a and b";
                return Err(Error::argument(self.op, what, expected, "neither"));
            }
            _ => return self.custom(f, init),
        };
        let identity = op.identity(DType::F64);
        if init != identity {
            let what = format!("init of {}", op.name());
            return Err(Error::argument(self.op, what, format!("its identity {identity}"), init));
        }
        Ok(f.push(Kind::Reduce(op, Over::Cols), vec![value]))
    }

    fn constant(&self) -> Result<f64> {
        let f = Formula::parse(self.init)?;
        let not = || Error::argument(self.op, "init", "a constant", format!("`{}`", self.init));
        if !f.names.is_empty() {
            return Err(not());
        }
        let p = f.bind(self.op, &Signature { inputs: vec![] })?;
        p.constant_value(p.outputs[0].node).ok_or_else(not)
    }

    /// ⊕ and f(v) of an update acc ⊕ f(v); acc − f(v) is acc + (−f(v)).
    fn plain(&self, f: &mut Formula) -> Result<Option<(ReduceOp, Id)>> {
        let mut trial = f.clone();
        let acc = trial.name("acc·");
        let bound: Vec<(&str, Id)> = self.acc.iter().map(|a| (*a, acc)).chain(self.values.iter().copied()).collect();
        let outs = trial.parse_closed(self.update, &bound)?;
        let top = trial.terms()[outs[0].term.index()].clone();
        let Kind::Op(op) = top.kind else { return Ok(None) };
        let (value, op, negate) = match (op, &top.args[..]) {
            (zmlx_ir::Op::Sub, [a, b]) if *a == acc => (*b, ReduceOp::Sum, true),
            (op, [a, b]) if *a == acc || *b == acc => {
                let plain = match op {
                    zmlx_ir::Op::Add => ReduceOp::Sum,
                    zmlx_ir::Op::Mul => ReduceOp::Prod,
                    zmlx_ir::Op::Max => ReduceOp::Max,
                    zmlx_ir::Op::Min => ReduceOp::Min,
                    _ => return Ok(None),
                };
                (if *a == acc { *b } else { *a }, plain, false)
            }
            _ => return Ok(None),
        };
        if depends(&trial, value, acc) {
            return Ok(None);
        }
        // the same terms again, in a formula that has no accumulator
        let value = copy(&trial, value, f);
        Ok(Some((op, if negate { f.push(Kind::Op(zmlx_ir::Op::Neg), vec![value]) } else { value })))
    }

    /// ⊕ of a combination a ⊕ b.
    fn combined(&self) -> Result<Option<ReduceOp>> {
        let Some(text) = self.combine else { return Ok(None) };
        let mut f = Formula::default();
        let (a, b) = (f.name("a"), f.name("b"));
        let outs = f.parse_closed(text, &[("a", a), ("b", b)])?;
        let top = &f.terms()[outs[0].term.index()];
        if !(top.args[..] == [a, b] || top.args[..] == [b, a]) {
            return Ok(None);
        }
        Ok(match top.kind {
            Kind::Op(zmlx_ir::Op::Add) => Some(ReduceOp::Sum),
            Kind::Op(zmlx_ir::Op::Mul) => Some(ReduceOp::Prod),
            Kind::Op(zmlx_ir::Op::Max) => Some(ReduceOp::Max),
            Kind::Op(zmlx_ir::Op::Min) => Some(ReduceOp::Min),
            _ => None,
        })
    }

    fn custom(&self, f: &mut Formula, init: f64) -> Result<Id> {
        let combine = self.combine.unwrap_or_default();
        let program = |names: Vec<&str>, same: &[&str], text: &str| -> Result<Program> {
            let mut g = Formula::default();
            let ids: Vec<(&str, Id)> = names.iter().map(|n| (*n, g.name(n))).collect();
            let first = ids[0].1;
            let bound: Vec<(&str, Id)> = same.iter().map(|n| (*n, first)).chain(ids.iter().copied()).collect();
            g.outs = g.parse_closed(text, &bound)?;
            let inputs = vec![(DType::F32, Extent::ELEM); names.len()];
            Ok(g.bind(self.op, &Signature { inputs })?.compact())
        };
        let names = [self.acc[0]].into_iter().chain(self.values.iter().map(|v| v.0)).collect();
        let update = program(names, self.acc, self.update)?;
        let combine = program(vec!["a", "b"], &[], combine)?;
        let fold = Fold { init, update, combine };
        check_identity(self.op, &fold)?;
        f.folds.push(fold);
        let slot = f.folds.len() as u32 - 1;
        Ok(f.push(Kind::Fold(slot), self.values.iter().map(|v| v.1).collect()))
    }
}

fn depends(f: &Formula, id: Id, on: Id) -> bool {
    let mut seen = vec![false; f.terms().len()];
    let mut todo = vec![id];
    while let Some(id) = todo.pop() {
        if id == on {
            return true;
        }
        if !std::mem::replace(&mut seen[id.index()], true) {
            todo.extend(&f.terms()[id.index()].args);
        }
    }
    false
}

/// Copies a value from one formula into another that has the same names before.
fn copy(from: &Formula, id: Id, to: &mut Formula) -> Id {
    let mut map: Vec<Option<Id>> = vec![None; from.terms().len()];
    // arguments come before users
    for k in 0..=id.index() {
        if depends_upward(from, id, Id(k as u32)) {
            let t = &from.terms()[k];
            let args = t.args.iter().filter_map(|a| map[a.index()]).collect();
            map[k] = Some(to.push(t.kind, args));
        }
    }
    map[id.index()].unwrap_or(id)
}

fn depends_upward(f: &Formula, top: Id, on: Id) -> bool {
    depends(f, top, on)
}

/// combine(init, v) = v = combine(v, init), on sample values.
fn check_identity(op: &str, fold: &Fold) -> Result<()> {
    let samples = vec![-3.5, -1.0, 0.0, 0.25, 1.0, 2.0, 7.0];
    let init = Data::exact(vec![fold.init; samples.len()]);
    let v = Data::exact(samples.clone());
    for inputs in [[init.clone(), v.clone()], [v, init]] {
        let out = evaluate(&fold.combine, 1, samples.len(), &inputs, &[], Precision::Exact)
            .map_err(|e| Error::internal(&e.to_string()))?;
        if let Some(Data::Float { value, .. }) = out.first()
            && let Some((got, v)) = value.iter().zip(&samples).find(|(g, v)| (*g - *v).abs() > 1e-9)
        {
            let expected = format!("an identity of combine: combine({}, {v}) = {v}", fold.init);
            return Err(Error::argument(op, "init", expected, got));
        }
    }
    Ok(())
}
