//! An operation: a formula with its settings, callable on tensors, differentiable, compiled at its first call.
//! How it runs is in `call.rs`, how its gradient does in `gradient.rs`.

use crate::{
    Error, Result,
    error::Mistake,
    inputs::Inputs,
    parts::{self, Parts},
    registry,
    specialise::{Override, Specials, check_override},
    tune::Tuning,
};
use candle_core::Tensor;
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};
use zmlx_ir::{DType, Extent, Formula, Program, Scalar, Signature, expr::Name, grad, program::Kind};

/// Inputs are counted by bits, and cotangents come on top.
const MAX_INPUTS: usize = 32;

/// A tensor input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub name: String,
    /// Declared to be Row or Col.
    pub declared: Option<Extent>,
    /// Declared to be a table, whose rows this input finds.
    pub by: Option<usize>,
}

/// Everything about an operation but the values of its launch arguments.
#[derive(Clone)]
pub(crate) struct Body {
    pub name: String,
    pub formula: Formula,
    /// Has it functions of a row (in its formula, or in one of a gradient)?
    pub rows: bool,
    pub axis: isize,
    pub keepdim: bool,
    pub no_grad: bool,
    overrides: Vec<Override>,
    /// A mistake in a setting, kept for the first use.
    mistake: Option<Mistake>,
    pub usage: Arc<registry::Usage>,
    pub parts: Vec<Parts>,
    // what follows is made of the above
    pub inputs: Vec<Input>,
    /// What a call gives: the inputs, or one tensor for several.
    pub given: Vec<Parts>,
    /// Settings that do not go together.
    misfit: Option<Mistake>,
    uniforms: Vec<String>,
    specials: OnceLock<Arc<Specials>>,
}

impl Body {
    pub fn has_mistake(&self) -> bool {
        self.mistake.is_some()
    }

    pub fn specials(&self) -> &Specials {
        self.specials.get_or_init(|| Specials::of(&self.name, &self.formula, self.rows, &self.overrides, &self.parts))
    }

    /// Is an input a table?
    pub fn has_tables(&self) -> bool {
        self.inputs.iter().any(|i| i.by.is_some())
    }

    /// Is a tensor given for several inputs?
    pub fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }
}

/// A built operation. Cloning is cheap and shares what is compiled.
#[derive(Clone)]
pub struct Op {
    pub(crate) body: Arc<Body>,
    pub(crate) uniforms: SmallVec<[Scalar; 4]>,
    pub(crate) tuning: Tuning,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Op({}: {})", self.body.name, self.body.formula)
    }
}

impl Op {
    /// The operation in a cell, built at its first use.
    pub(crate) fn once(cell: &OnceLock<Op>, build: impl FnOnce() -> Result<Op>) -> Result<&Op> {
        match cell.get() {
            Some(op) => Ok(op),
            None => {
                let op = build()?;
                Ok(cell.get_or_init(|| op))
            }
        }
    }

    pub(crate) fn from_formula(formula: Formula) -> Op {
        Op::assemble(Body {
            name: "formula".into(),
            rows: formula.uses_rows(),
            formula,
            axis: -1,
            keepdim: false,
            no_grad: false,
            overrides: vec![],
            mistake: None,
            usage: Arc::default(),
            parts: vec![],
            inputs: vec![],
            given: vec![],
            misfit: None,
            uniforms: vec![],
            specials: OnceLock::new(),
        })
    }

    fn assemble(mut body: Body) -> Op {
        let names = &body.formula.names;
        let tensors: Vec<&Name> = names.iter().filter(|n| n.uniform.is_none()).collect();
        let slot = |by: &String| tensors.iter().position(|n| n.name == *by);
        let input = |n: &&Name| Input { name: n.name.clone(), declared: n.extent, by: n.by.as_ref().and_then(slot) };
        body.inputs = tensors.iter().map(input).collect();
        body.given = parts::given(&body.inputs, &body.parts);
        body.misfit = parts::misfit(&body.inputs, &body.parts, &body.given);
        body.uniforms = names.iter().filter(|n| n.uniform.is_some()).map(|n| n.name.clone()).collect();
        let uniforms = names.iter().filter_map(|n| n.uniform).collect();
        body.specials = OnceLock::new();
        Op { body: Arc::new(body), uniforms, tuning: Tuning::default() }
    }

    /// The same operation with another setting.
    fn change(self, set: impl FnOnce(&mut Body) -> std::result::Result<(), Mistake>) -> Op {
        let mut body = (*self.body).clone();
        if let Err(mistake) = set(&mut body) {
            body.mistake.get_or_insert(mistake);
        }
        Op { tuning: self.tuning, ..Op::assemble(body) }
    }

    fn change_name(self, setting: &str, name: &str, set: impl FnOnce(&mut Name)) -> Op {
        self.change(|b| match b.formula.names.iter_mut().find(|n| n.name == name) {
            Some(n) => {
                set(n);
                Ok(())
            }
            None => {
                let names: Vec<&str> = b.formula.names.iter().map(|n| n.name.as_str()).collect();
                let expected = format!("one of the formula's names ({})", names.join(" "));
                Err(Mistake::Argument(format!("{setting} {name}"), expected, "another name".into()))
            }
        })
    }

    /// Names it: for errors, statistics and the registry.
    #[must_use]
    pub fn name(self, name: &str) -> Op {
        self.change(|b| {
            b.name = name.into();
            b.usage = registry::register(name, &b.formula.to_string());
            Ok(())
        })
    }

    /// Declares a launch argument with its default value. A new value never recompiles.
    #[must_use]
    pub fn uniform(self, name: &str, value: impl Into<Scalar>) -> Op {
        let value = value.into();
        self.change_name("uniform", name, |n| n.uniform = Some(value))
    }

    /// The same operation, sharing what is compiled, with another value of a launch argument.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Scalar>) -> Op {
        self.with_all([(name, value.into())])
    }

    /// The same operation with other values of several launch arguments.
    #[must_use]
    pub fn with_all<'n>(&self, values: impl IntoIterator<Item = (&'n str, Scalar)>) -> Op {
        let mut op = self.clone();
        for (name, value) in values {
            let mistake = match self.body.uniforms.iter().position(|n| n == name) {
                Some(k) => match (self.uniforms[k], value) {
                    (Scalar::Float(_), Scalar::Int(v)) => {
                        op.uniforms[k] = Scalar::Float(v as f64);
                        continue;
                    }
                    // its kernel takes an integer
                    (Scalar::Int(_), Scalar::Float(v)) => {
                        Mistake::Argument(format!("with {name}"), "an integer, as declared".into(), v.to_string())
                    }
                    (_, value) => {
                        op.uniforms[k] = value;
                        continue;
                    }
                },
                None => {
                    let expected = format!("one of the declared uniforms ({})", self.body.uniforms.join(" "));
                    Mistake::Argument(format!("with {name}"), expected, "another name".into())
                }
            };
            op = op.change(|_| Err(mistake));
        }
        op
    }

    /// Declares an input shaped like the others without the axis: one value a row.
    #[must_use]
    pub fn row(self, name: &str) -> Op {
        self.change_name("row", name, |n| n.extent = Some(Extent::ROW))
    }

    /// Declares an input of one value for each place along the axis, of rank 1. Where the axis is the last it is one
    /// by its shape anyway.
    #[must_use]
    pub fn col(self, name: &str) -> Op {
        self.change_name("col", name, |n| n.extent = Some(Extent::COL))
    }

    /// Declares an input that is a table: each row reads the row of it that `index` has for it, an integer of one value a
    /// row (the last input, if the formula does not name it). A table has rank 2, the rows and the axis (rank 1 if it is declared [`Op::row`] too). Rows that it has not are
    /// an error; on a GPU they are NaN (of integers 0), and [`crate::check`] tells. The gradient of a table is the sum, for
    /// each of its rows, over the rows that read it, added in their order.
    #[must_use]
    pub fn rows_by(self, table: &str, index: &str) -> Op {
        let by = index.to_string();
        let named = self.change(|b| {
            b.formula.name(&by);
            Ok(())
        });
        named
            .change_name("rows_by", index, |n| n.extent = n.extent.or(Some(Extent::ROW)))
            .change_name("rows_by", table, |n| n.by = Some(by))
            .change(|b| {
                b.rows = true;
                Ok(())
            })
    }

    /// Declares that these inputs, neighbours in the order of [`Op::inputs`], are given as one tensor `name`, whose rows hold
    /// them side by side: the columns of each in its turn (`in_turn`: their first columns, then their second, and on). So
    /// the halves or pairs of a row are read where they lie, and the gradient of `name` is made in one piece.
    #[must_use]
    pub fn parts(self, name: &str, inputs: &[&str], in_turn: bool) -> Op {
        let own: Vec<String> = self.body.inputs.iter().map(|i| i.name.clone()).collect();
        self.change(|b| {
            let slot = own.windows(inputs.len().max(1)).position(|w| w == inputs).ok_or_else(|| {
                let expected = format!("neighbours among the inputs ({})", own.join(" "));
                Mistake::Argument(format!("parts {name}"), expected, inputs.join(" "))
            })?;
            let names = inputs.iter().map(|n| n.to_string()).collect();
            b.parts.push(Parts { name: name.into(), slot, count: inputs.len(), inputs: names, woven: in_turn });
            b.rows = true;
            Ok(())
        })
    }

    /// The axis that row functions run along (default: the last; negative counts from the end).
    #[must_use]
    pub fn axis(self, axis: isize) -> Op {
        self.change(|b| {
            b.axis = axis;
            Ok(())
        })
    }

    /// Results that have one value a row keep the axis, with size 1.
    #[must_use]
    pub fn keepdim(self) -> Op {
        self.change(|b| {
            b.keepdim = true;
            Ok(())
        })
    }

    /// Gives the gradient of one input by a formula: `g` is the cotangent of the first float result, `g_h` that of
    /// result `h`; inputs and results are in scope (the only result is also `y`, unless an input is). Where the formula
    /// varies along axes that the input lacks, it is summed over them.
    #[must_use]
    pub fn grad_of(self, input: &str, formula: &str) -> Op {
        let o = Override { input: input.into(), formula: formula.into() };
        self.change_name("grad_of", input, |_| {}).change(|b| {
            b.rows |= check_override(&b.formula, &o)?;
            b.overrides.push(o);
            Ok(())
        })
    }

    /// As far as gradients go, results do not depend on the inputs.
    #[must_use]
    pub fn no_grad(self) -> Op {
        self.change(|b| {
            b.no_grad = true;
            Ok(())
        })
    }

    /// Reports mistakes in the settings, and whether a gradient can be derived.
    ///
    /// # Errors
    /// The first mistake; the value that cannot be differentiated, and why (say `no_grad` if it need not be).
    pub fn build(self) -> Result<Op> {
        self.ready()?;
        if !self.body.no_grad {
            self.try_gradient()?;
        }
        Ok(self)
    }

    pub(crate) fn ready(&self) -> Result<()> {
        let b = &*self.body;
        match b.mistake.as_ref().or(b.misfit.as_ref()) {
            Some(mistake) => Err(mistake.error(&b.name)),
            None if b.has_tables() && (b.axis != -1 || b.keepdim) => {
                Err(Error::argument(&b.name, "axis", "the last one, as that of a table is", b.axis))
            }
            None if b.has_parts() && (b.axis != -1 || b.keepdim) => {
                Err(Error::argument(&b.name, "axis", "the last one, along which parts lie", b.axis))
            }
            None if (1..=MAX_INPUTS).contains(&b.inputs.len()) => Ok(()),
            None => {
                let expected = format!("between 1 and {MAX_INPUTS} tensor inputs");
                Err(Error::argument(&b.name, "formula", expected, b.inputs.len()))
            }
        }
    }

    /// Derives the gradient for f32 inputs (one that can only be an integer is left out).
    fn try_gradient(&self) -> Result<()> {
        let b = &*self.body;
        let indices = indices(&b.formula);
        let inputs = b.inputs.iter().map(|i| match indices.contains(&i.name.as_str()) {
            true => (DType::I64, i.declared.unwrap_or(Extent::ROW)),
            false => (DType::F32, i.declared.unwrap_or(Extent::ELEM)),
        });
        let signature = Signature { inputs: inputs.collect() };
        // a formula of integers does not bind to floats: there is nothing to differentiate yet
        let Ok(forward) = b.formula.bind(&b.name, &signature) else { return Ok(()) };
        let derived = |k: &usize| {
            let input = &forward.inputs[*k];
            input.dtype.is_float() && !b.overrides.iter().any(|o| o.input == input.name)
        };
        let wrt: Vec<usize> = (0..forward.inputs.len()).filter(derived).collect();
        if wrt.is_empty() || !forward.outputs.iter().any(|o| o.dtype.is_float()) {
            return Ok(());
        }
        match grad::vjp(&forward, &wrt) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::Gradient { op: b.name.clone(), why: e.to_string() }),
        }
    }

    /// Names of the tensor inputs, in the order of `call`.
    pub fn inputs(&self) -> Vec<&str> {
        self.body.given.iter().map(|g| g.name.as_str()).collect()
    }

    /// Names of the results, in the order of `call_all`.
    pub fn outputs(&self) -> Vec<&str> {
        self.body.formula.outs.iter().map(|o| o.name.as_str()).collect()
    }

    /// Number of combinations of dtypes and extents it was compiled for.
    pub fn specialisations(&self) -> usize {
        self.body.specials().len()
    }

    /// Its formula.
    pub fn formula(&self) -> &Formula {
        &self.body.formula
    }

    /// Runs it; the first result.
    ///
    /// # Errors
    /// Arguments that do not fit: their number, dtypes, devices, shapes; a tracked input without a gradient.
    pub fn call(&self, inputs: impl Inputs) -> Result<Tensor> {
        inputs.with(|inputs| {
            let mut all = self.run(inputs)?;
            Ok(all.swap_remove(0))
        })
    }

    /// Runs it; all results.
    ///
    /// # Errors
    /// As [`Op::call`].
    pub fn call_all(&self, inputs: impl Inputs) -> Result<Vec<Tensor>> {
        inputs.with(|inputs| Ok(self.run(inputs)?.into_vec()))
    }

    /// Gradients of all inputs from the cotangents of all results, without a tape: one an input, of its shape and dtype, None
    /// for those of integers. Cotangents have the shapes and dtypes of the results; those of integer results are not looked at.
    ///
    /// A gradient that is the same along an axis, as that of a sum, is stored once: it is a view with stride 0 there, as of
    /// `broadcast_as`. One along another axis than the last is a view with that axis in its place. `contiguous()` makes a copy
    /// of either. (candle's `backward()` adds gradients up, so in its `GradStore` they are contiguous.)
    ///
    /// # Errors
    /// As [`Op::call`].
    pub fn vjp(&self, inputs: impl Inputs, cotangents: impl Inputs) -> Result<Vec<Option<Tensor>>> {
        inputs.with(|inputs| {
            let floats: Vec<usize> = (0..inputs.len()).filter(|k| inputs[*k].dtype().is_float()).collect();
            let given = cotangents.with(|c| self.vjp_slots(inputs, c, &floats))?;
            let mut all = vec![None; inputs.len()];
            for (k, g) in floats.into_iter().zip(given) {
                all[k] = Some(g);
            }
            Ok(all)
        })
    }

    /// Gradients of the named inputs, as [`Op::vjp`].
    ///
    /// # Errors
    /// As [`Op::call`]; a name that is no input, or one of integers.
    pub fn vjp_of(&self, inputs: impl Inputs, cotangents: impl Inputs, wrt: &[&str]) -> Result<Vec<Tensor>> {
        let op = &self.body.name;
        inputs.with(|inputs| {
            let mut slots = vec![];
            for name in wrt {
                let slot = self.body.given.iter().position(|g| g.name == *name);
                let unknown = || Error::argument(op, "wrt", format!("one of {}", self.inputs().join(" ")), name);
                let slot = slot.ok_or_else(unknown)?;
                if let Some(t) = inputs.get(slot)
                    && !t.dtype().is_float()
                {
                    return Err(Error::argument(op, format!("wrt {name}: dtype"), "a float", t.dtype().as_str()));
                }
                slots.push(slot);
            }
            cotangents.with(|c| self.vjp_slots(inputs, c, &slots))
        })
    }

    /// The Program that these inputs are computed with.
    ///
    /// # Errors
    /// As [`Op::call`].
    pub fn program(&self, inputs: impl Inputs) -> Result<Arc<Program>> {
        inputs.with(|inputs| self.forward_program(inputs))
    }

    /// The Programs that compute the gradients of all float inputs: the derived one, then one for each `grad_of`.
    ///
    /// # Errors
    /// As [`Op::call`].
    pub fn vjp_program(&self, inputs: impl Inputs) -> Result<Vec<Arc<Program>>> {
        inputs.with(|inputs| self.backward_programs(inputs))
    }
}

/// Names that index another one: integers.
fn indices(formula: &Formula) -> Vec<&str> {
    let kind = |id: zmlx_ir::program::Id| formula.terms()[id.index()].kind;
    let tables = formula.names.iter().filter_map(|n| n.by.as_deref());
    let picks = formula.terms().iter().filter(|t| matches!(t.kind, Kind::Pick(_)));
    let names = picks.filter_map(|t| match kind(*t.args.first()?) {
        Kind::Input(slot) => formula.names.get(slot as usize).map(|n| n.name.as_str()),
        _ => None,
    });
    names.chain(tables).collect()
}
