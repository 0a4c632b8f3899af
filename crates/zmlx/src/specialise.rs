//! A formula specialised to the dtypes and extents of a call, and compiled: once for each combination, then found by
//! a small key. New shapes, strides and values of launch arguments never come here.

use crate::{
    Error, Result,
    bridge::{self, Kernels},
    error::Mistake,
    parts::Parts,
    stats,
};
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
};
use zmlx_ir::{
    DType, Extent, Formula, Program, Signature, grad,
    program::{Id, Kind, Over, ReduceOp},
};
use zmlx_runtime::list::List;

/// How an input is bound: its dtype, its extent over the merged axes, and that where nothing is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    pub dtype: DType,
    pub extent: Extent,
    pub named: Extent,
}

/// How all inputs are bound: three bytes each.
pub type Key = SmallVec<[Bound; 8]>;

/// A Program and what it was compiled to.
pub struct Compiled {
    pub program: Arc<Program>,
    pub kernels: Kernels,
    /// Of one element of each input and output.
    pub element_bytes: usize,
    /// Columns that a row has at least: as many as it has ranks, where these lie side by side.
    pub least_cols: usize,
}

impl Compiled {
    /// Verifies it; each device compiles it at the first launch there.
    fn new(program: Arc<Program>) -> Result<Compiled> {
        if let Err(faults) = program.verify() {
            let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(Error::Internal(format!("{}: {}", program.name, text.join("; "))));
        }
        let inputs = program.inputs.iter().map(|i| i.dtype);
        let dtypes = inputs.chain(program.outputs.iter().map(|o| o.dtype));
        let element_bytes = dtypes.map(DType::size_bytes).sum();
        let least_cols = if program.stored().any(|o| o.stacked) { program.ranks() } else { 0 };
        Ok(Compiled { program, kernels: Kernels::default(), element_bytes, least_cols })
    }
}

/// What is wanted of a backward pass. Bit k stands for input k or result k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Inputs to differentiate by.
    pub inputs: u64,
    /// Results that have a cotangent (values side by side are one result).
    pub cotangents: u64,
    /// Inputs whose gradient is summed once more afterwards, and so is not rounded to 16 bits before.
    pub partial: u64,
}

/// One Program of a backward pass.
pub struct Part {
    pub compiled: Compiled,
    /// The input that each of its outputs is the gradient of.
    pub slots: Vec<usize>,
}

/// A gradient that a formula gives.
#[derive(Clone, Debug)]
pub struct Override {
    pub input: String,
    pub formula: String,
}

/// The forward Program of one key, and what was derived from it.
pub struct Forward {
    key: Key,
    pub program: Arc<Program>,
    compiled: OnceLock<Compiled>,
    backward: List<(Wanted, Vec<Part>)>,
}

/// All specialisations of a formula with its settings.
pub struct Specials {
    name: String,
    formula: Formula,
    /// Has it functions of a row, so that results may have one value a row?
    rows: bool,
    overrides: Vec<Override>,
    list: List<Forward>,
}

/// Specialisations by everything they depend on: the same formula built again finds what was compiled.
static SHARED: LazyLock<Mutex<HashMap<String, Arc<Specials>>>> = LazyLock::new(Mutex::default);
/// More of them than this are let go of, all at once: a program that makes formulas without end stays bounded.
const SHARED_LIMIT: usize = 1024;

impl Specials {
    /// Those of this formula and these settings.
    pub fn of(name: &str, formula: &Formula, rows: bool, overrides: &[Override], parts: &[Parts]) -> Arc<Specials> {
        let identity = format!("{}|{parts:?}", identity(name, formula, rows, overrides));
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = shared.get(&identity) {
            return found.clone();
        }
        if shared.len() >= SHARED_LIMIT {
            shared.clear();
        }
        let specials = Arc::new(Specials {
            name: name.into(),
            formula: formula.clone(),
            rows,
            overrides: overrides.to_vec(),
            list: List::default(),
        });
        shared.insert(identity, specials.clone());
        specials
    }

    /// The one for inputs bound so.
    pub fn forward(&self, key: &Key) -> Result<&Forward> {
        if let Some(found) = self.list.iter().find(|f| f.key == *key) {
            stats::count_hit();
            return Ok(found);
        }
        let program = Arc::new(self.bind(key)?);
        let new = Forward { key: key.clone(), program, compiled: OnceLock::new(), backward: List::default() };
        Ok(self.list.find_or_add(new, |f| f.key == *key))
    }

    /// What was compiled for elements of these types, if it was.
    pub fn compiled_alike(&self, dtypes: impl Iterator<Item = candle_core::DType> + Clone) -> Option<&Compiled> {
        let bound = |b: &Bound, dtype: candle_core::DType| {
            b.extent == Extent::ELEM && b.named == Extent::ELEM && bridge::candle_dtype(b.dtype) == dtype
        };
        let found = self.list.iter().find(|f| f.key.iter().zip(dtypes.clone()).all(|(b, d)| bound(b, d)))?;
        let compiled = found.compiled.get()?;
        stats::count_hit();
        Some(compiled)
    }

    /// Number of them.
    pub fn len(&self) -> usize {
        self.list.iter().count()
    }

    fn bind(&self, key: &Key) -> Result<Program> {
        self.bound(key).map_err(|e| match e {
            // what does not fit is a tensor of this call, so the formula alone would not say it
            Error::Formula(mut e) => {
                let given = self.formula.names.iter().filter(|n| n.uniform.is_none()).zip(key);
                let given: Vec<String> = given.map(|(n, b)| format!("{} {}", n.name, b.dtype)).collect();
                e.message = format!("{}({}): {}", self.name, given.join(", "), e.message);
                Error::Formula(e)
            }
            other => other,
        })
    }

    fn bound(&self, key: &Key) -> Result<Program> {
        let signature =
            |extent: fn(&Bound) -> Extent| Signature { inputs: key.iter().map(|b| (b.dtype, extent(b))).collect() };
        let merged = signature(|b| b.extent);
        let mut program = if key.iter().all(|b| b.extent == b.named) {
            self.formula.bind(&self.name, &merged)?
        } else {
            // merging axes must not change the dtypes of results
            let typed = self.formula.bind(&self.name, &signature(|b| b.named))?;
            let mut formula = self.formula.clone();
            for (out, o) in formula.outs.iter_mut().zip(typed.stored()) {
                out.dtype = Some(o.dtype);
            }
            formula.bind(&self.name, &merged)?
        };
        if !self.rows {
            program.outputs.iter_mut().for_each(|o| o.extent = Extent::ELEM);
        }
        Ok(if program.folds.is_empty() { program } else { grad::normalise_folds(&program) })
    }

    /// The Programs of a backward pass: the derived one, then one for each overridden input. Each reads the forward
    /// inputs and then the cotangents that are there.
    pub fn backward<'a>(&self, forward: &'a Forward, wanted: Wanted, given: &[Parts]) -> Result<&'a [Part]> {
        if let Some((_, found)) = forward.backward.iter().find(|(w, _)| *w == wanted) {
            stats::count_hit();
            return Ok(found);
        }
        let inputs = &forward.program.inputs;
        let overridden = |k: usize| self.overrides.iter().rev().find(|o| o.input == inputs[k].name);
        let slots = (0..inputs.len()).filter(|k| wanted.inputs >> k & 1 == 1);
        let (by_formula, derived): (Vec<usize>, Vec<usize>) = slots.partition(|k| overridden(*k).is_some());
        let mut programs = vec![];
        if !derived.is_empty() {
            let columns = forward.program.columns();
            let cotangents: Vec<bool> = columns.iter().map(|c| wanted.cotangents >> c.tensor & 1 == 1).collect();
            let program = grad::vjp_with(&forward.program, &derived, &cotangents)
                .map_err(|e| Error::Gradient { op: self.name.clone(), why: e.to_string() })?;
            programs.push((program, derived));
        }
        for k in by_formula {
            let text = overridden(k).map_or("", |o| &o.formula);
            programs.push((self.overriding(&forward.program, k, text, wanted)?, vec![k]));
        }
        let mut parts = vec![];
        for (mut program, slots) in programs {
            for (out, k) in program.outputs.iter_mut().zip(&slots) {
                if wanted.partial >> k & 1 == 1 && out.dtype.size_bytes() == 2 {
                    out.dtype = DType::F32;
                }
            }
            given.iter().for_each(|g| g.join(&mut program, &slots, wanted.partial));
            // a gradient that is the same along an axis is stored once, but for one that is summed afterwards
            let whole = |k: &usize| wanted.partial >> k & 1 == 0;
            slots.iter().enumerate().filter(|(_, k)| whole(k)).for_each(|(at, _)| program.shrink(at));
            parts.push(Part { compiled: Compiled::new(Arc::new(program))?, slots });
        }
        let (_, parts) = forward.backward.find_or_add((wanted, parts), |(w, _)| *w == wanted);
        Ok(parts)
    }

    /// The gradient of input `k` as a formula gives it, summed over the axes that the input lacks.
    fn overriding(&self, forward: &Program, k: usize, text: &str, wanted: Wanted) -> Result<Program> {
        let mut formula = self.formula.clone();
        let mut inputs: Vec<(DType, Extent)> = forward.inputs.iter().map(|i| (i.dtype, i.extent)).collect();
        let mut cotangents = vec![];
        for (j, group) in forward.tensors().enumerate() {
            let there = wanted.cotangents >> j & 1 == 1;
            cotangents.push(match group[0].dtype.is_float() {
                false => None,
                true if !there => Some(formula.literal(0.0)),
                true => {
                    inputs.extend(group.iter().map(|o| (o.dtype, o.extent)));
                    let names = (0..group.len()).map(|k| formula.name(&format!("cotangent {j}.{k}")));
                    let names: Vec<Id> = names.collect();
                    Some(if let [only] = names[..] { only } else { formula.push(Kind::Stack, names) })
                }
            });
        }
        formula.outs = parse_override(&mut formula, text, &cotangents)?;
        let input = &forward.inputs[k];
        formula.outs[0].dtype = Some(input.dtype);
        let mut program = formula.bind(&self.name, &Signature { inputs })?;
        let node = program.outputs[0].node;
        let extra = program.node(node).extent.without(input.extent);
        let node = match (extra.has_rows(), extra.has_cols()) {
            (true, true) => program.reduce(ReduceOp::Sum, Over::All, node),
            (true, false) => program.reduce(ReduceOp::Sum, Over::Rows, node),
            (false, true) => program.reduce(ReduceOp::Sum, Over::Cols, node),
            (false, false) => node,
        };
        program.outputs[0].node = node;
        program.outputs[0].extent = input.extent;
        Ok(program.compact())
    }
}

impl Forward {
    /// The forward kernel.
    pub fn compiled(&self) -> Result<&Compiled> {
        match self.compiled.get() {
            Some(compiled) => Ok(compiled),
            None => {
                let compiled = Compiled::new(self.program.clone())?;
                Ok(self.compiled.get_or_init(|| compiled))
            }
        }
    }
}

/// What the names of a gradient formula stand for: `g` and `g_h` are cotangents; then the results by name, the only one
/// as `y` too; names of inputs come before those of results.
fn parse_override(formula: &mut Formula, text: &str, g: &[Option<Id>]) -> Result<Vec<zmlx_ir::expr::Out>> {
    let mut bound: Vec<(String, Id)> = vec![];
    bound.extend(g.iter().flatten().next().map(|id| ("g".into(), *id)));
    bound.extend(formula.outs.iter().zip(g).filter_map(|(o, g)| g.map(|id| (format!("g_{}", o.name), id))));
    let mut result = |name: &str, id: Id| {
        if !formula.names.iter().any(|n| n.name == name) && !bound.iter().any(|b| b.0 == name) {
            bound.push((name.into(), id));
        }
    };
    formula.outs.iter().for_each(|o| result(&o.name, o.term));
    if let [only] = &formula.outs[..] {
        result("y", only.term);
    }
    let bound: Vec<(&str, Id)> = bound.iter().map(|(n, id)| (n.as_str(), *id)).collect();
    Ok(formula.parse_closed(text, &bound)?)
}

/// Checks a gradient formula where it is given. Gives whether it has functions of a row.
pub fn check_override(formula: &Formula, o: &Override) -> std::result::Result<bool, Mistake> {
    let mut trial = formula.clone();
    let cotangents: Vec<Option<Id>> =
        (0..formula.outs.len()).map(|k| Some(trial.name(&format!("cotangent {k}")))).collect();
    match parse_override(&mut trial, &o.formula, &cotangents) {
        Ok(outs)
            if outs.len() == 1 && !matches!(trial.terms()[outs[0].term.index()].kind, Kind::Stack | Kind::Weave) =>
        {
            Ok(trial.uses_rows())
        }
        Ok(outs) if outs.len() == 1 => Err(Mistake::Argument(
            format!("grad_of {}: formula", o.input),
            "one value".into(),
            "values side by side".into(),
        )),
        Ok(outs) => Err(Mistake::Argument(
            format!("grad_of {}: formula", o.input),
            "one result".into(),
            format!("{} results", outs.len()),
        )),
        Err(Error::Formula(e)) => Err(Mistake::Formula(e)),
        Err(e) => Err(Mistake::Argument(format!("grad_of {}", o.input), "a formula".into(), e.to_string())),
    }
}

fn identity(name: &str, formula: &Formula, rows: bool, overrides: &[Override]) -> String {
    let kind = |s: zmlx_ir::Scalar| matches!(s, zmlx_ir::Scalar::Int(_));
    let names: Vec<_> = formula.names.iter().map(|n| (&n.name, n.uniform.map(kind), &n.by)).collect();
    let folds: Vec<String> =
        formula.folds.iter().map(|f| format!("{:?} {} {}", f.init.to_bits(), f.update, f.combine)).collect();
    format!("{name}|{rows}|{names:?}|{:?}|{:?}|{folds:?}|{overrides:?}", formula.terms(), formula.outs)
}
