//! The reverse walk: users before arguments, each node's adjoint being the sum of what its users contribute.

use super::{
    GradError, Rule, algebra, fold,
    invariant::is_invariant,
    rebuild::{decisive, describe, rebuild},
    reduce, scan, terms,
};
use crate::{
    Op,
    program::{Extent, Id, Index, Kind, Over, Program, ReduceOp},
};

/// When the sum over the rows is taken that a value without rows (a weight, or something made of one) needs.
#[derive(Clone, Copy, PartialEq)]
enum RowSums {
    /// At each such value: what follows runs once a column.
    Early,
    /// Only at the inputs: adjoints of such values are one a row until then. Works where a value made of a weight
    /// is itself reduced or scanned along the columns, which nothing can do after a sum over the rows.
    Late,
}

/// Why a walk stops.
pub(super) enum Stop {
    /// Early sums over the rows do not do.
    NeedsLateSums(String),
    /// There is no gradient.
    Error(GradError),
}

impl From<GradError> for Stop {
    fn from(e: GradError) -> Stop {
        Stop::Error(e)
    }
}

/// The gradient, with nodes that nothing needs.
pub(super) fn gradient(program: &Program, wrt: &[usize], cotangents: &[bool]) -> Result<Program, GradError> {
    let forward = import(&fold::normalise_folds(program));
    let run = |sums| Walk::new(forward.clone(), wrt, cotangents, sums).run(wrt, cotangents);
    match run(RowSums::Early) {
        Ok(p) => return Ok(p),
        Err(Stop::Error(e)) => return Err(e),
        Err(Stop::NeedsLateSums(_)) => {}
    }
    run(RowSums::Late).map_err(|stop| match stop {
        Stop::Error(e) => e,
        Stop::NeedsLateSums(node) => GradError { node, reason: UNSUPPORTED.into() },
    })
}

const UNSUPPORTED: &str =
    "it would use a sum over the rows once an element, which is not supported: give the input all axes";

/// The forward pass as the gradient computes it: a division by one value a row is a product with its reciprocal.
fn import(program: &Program) -> Program {
    let decisive = decisive(program);
    rebuild(program, |copy, id, args| {
        let node = program.node(id);
        let smaller = || copy.node(args[1]).extent != node.extent;
        let divides = node.kind == Kind::Op(Op::Div) && node.dtype.is_float() && !decisive[id.index()];
        (divides && smaller()).then(|| {
            let r = copy.op(Op::Recip, &[args[1]]);
            copy.op(Op::Mul, &[args[0], r])
        })
    })
}

/// The state of a walk over the nodes before `forward` of the Program under construction.
pub(super) struct Walk {
    pub(super) program: Program,
    forward: usize,
    row_sums: RowSums,
    /// Does a gradient pass through the node?
    active: Vec<bool>,
    contributions: Vec<Vec<Id>>,
    /// Did a contribution pass a select, so that it may be a zero that must stay one?
    guarded: Vec<bool>,
    /// Contributions to inputs by way of `x[t]`.
    picked: Vec<Vec<Id>>,
}

impl Walk {
    fn new(program: Program, wrt: &[usize], cotangents: &[bool], row_sums: RowSums) -> Walk {
        let n = program.nodes().len();
        let mut walk = Walk {
            forward: n,
            row_sums,
            active: vec![false; n],
            contributions: vec![vec![]; n],
            guarded: vec![false; n],
            picked: vec![vec![]; program.inputs.len()],
            program,
        };
        walk.mark_active(wrt, cotangents);
        walk
    }

    fn mark_active(&mut self, wrt: &[usize], cotangents: &[bool]) {
        let p = &self.program;
        let targets: Vec<Id> = p
            .outputs
            .iter()
            .zip(cotangents)
            .filter(|(o, present)| **present && o.dtype.is_float())
            .map(|(o, _)| o.node)
            .collect();
        for id in p.ids() {
            let node = p.node(id);
            let through = node.args.iter().any(|a| self.active[a.index()]);
            self.active[id.index()] = node.dtype.is_float()
                && match node.kind {
                    Kind::Input(slot) => wrt.contains(&(slot as usize)),
                    Kind::Pick(slot) => wrt.contains(&(slot as usize)),
                    Kind::Op(op) => through && op.row().vjp.is_some(),
                    Kind::Reduce(ReduceOp::Max | ReduceOp::Min, Over::Cols) => {
                        through && !is_invariant(p, id, &targets)
                    }
                    Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_) | Kind::Expand => through,
                    _ => false,
                };
        }
    }

    fn run(mut self, wrt: &[usize], cotangents: &[bool]) -> Result<Program, Stop> {
        let outputs = std::mem::take(&mut self.program.outputs);
        for (k, o) in outputs.iter().enumerate() {
            if !o.dtype.is_float() || !cotangents.get(k).is_some_and(|present| *present) {
                continue;
            }
            let mut g = self.program.input(format!("g_{}", o.name), o.dtype, o.extent);
            if !self.active[o.node.index()] {
                continue;
            }
            if self.row_sums == RowSums::Late && !o.extent.has_rows() {
                // Each row gets its share of a cotangent that is one for all rows.
                let rows = self.count(Index::Rows, g);
                let share = self.program.op(Op::Recip, &[rows]);
                g = self.program.op(Op::Mul, &[g, share]);
            }
            self.contribute(o.node, o.extent, g, false)?;
        }
        for index in (0..self.forward).rev() {
            self.visit(Id(index as u32))?;
        }
        self.program.name = format!("{}_vjp", self.program.name);
        for &slot in wrt {
            self.store(slot)?;
        }
        match self.late_violation() {
            Some(id) => Err(Stop::NeedsLateSums(describe(&self.program, id))),
            None => Ok(self.program),
        }
    }

    fn visit(&mut self, id: Id) -> Result<(), Stop> {
        let list = std::mem::take(&mut self.contributions[id.index()]);
        let Some(g) = terms::sum(&mut self.program, &list) else { return Ok(()) };
        let node = self.program.node(id).clone();
        let guarded = self.guarded[id.index()];
        match node.kind {
            Kind::Input(_) => self.contributions[id.index()].push(g),
            Kind::Op(op) => {
                let Some(rule) = op.row().vjp else { return Ok(()) };
                let rule_of = &mut Rule { program: &mut self.program, guarded };
                let parts = rule(rule_of, &node.args, id, g);
                let selects = matches!(op, Op::Select | Op::Min | Op::Max);
                for (&arg, part) in node.args.iter().zip(parts) {
                    if let Some(part) = part {
                        self.contribute(arg, node.extent, part, guarded || selects)?;
                    }
                }
            }
            Kind::Expand => self.contribute(node.args[0], node.extent, g, guarded)?,
            Kind::Reduce(_, over) => {
                let (part, selects) = reduce::reduction(self, id, over, g, guarded)?;
                self.contribute(node.args[0], node.extent, part, guarded || selects)?;
            }
            Kind::Scan(s) => {
                let (part, selects) = scan::scan(&mut self.program, id, s, g, guarded)?;
                self.contribute(node.args[0], node.extent, part, guarded || selects)?;
            }
            Kind::Pick(slot) => {
                let part = reduce::at_column(&mut self.program, node.args[0], g);
                let input = self.program.inputs[slot as usize].extent;
                let part = self.fit(part, node.extent.union(Extent::COL), input)?;
                self.picked[slot as usize].push(part);
            }
            Kind::Fold(_) => return Err(GradError::at(&self.program, id, fold::NO_GRADIENT).into()),
            Kind::Uniform(_)
            | Kind::Const(_)
            | Kind::Int(_)
            | Kind::Index(_)
            | Kind::Rand
            | Kind::Stack
            | Kind::Weave => {}
        }
        Ok(())
    }

    /// Adds `part` to the adjoint of `arg`, a value used at `extent` (to which `part` is repeated where it lacks axes).
    fn contribute(&mut self, arg: Id, extent: Extent, part: Id, guarded: bool) -> Result<(), Stop> {
        if !self.active[arg.index()] {
            return Ok(());
        }
        let node = self.program.node(arg);
        let (dtype, own) = (node.dtype, node.extent);
        let part = self.fit(part, extent, own)?;
        let part = self.program.cast(part, dtype);
        self.guarded[arg.index()] |= guarded;
        self.contributions[arg.index()].push(part);
        Ok(())
    }

    /// Sums what is used at extent `used` over the axes that `own` lacks.
    fn fit(&mut self, part: Id, used: Extent, own: Extent) -> Result<Id, Stop> {
        let used = used.union(own);
        let has = self.program.node(part).extent;
        if self.row_sums == RowSums::Late {
            // the rows are summed at the inputs
            return Ok(self.sum_axes(part, used.without(own).without(Extent::ROW), own));
        }
        if !used.contains(has) {
            return Err(Stop::NeedsLateSums(describe(&self.program, part)));
        }
        Ok(self.sum_axes(part, used.without(own), own))
    }

    /// The sum over these axes; along an axis that `part` lacks it is as many times `part`.
    fn sum_axes(&mut self, mut part: Id, axes: Extent, own: Extent) -> Id {
        let has = self.program.node(part).extent;
        let missing = axes.without(has);
        let present = axes.without(missing);
        let over = match (present.has_rows(), present.has_cols()) {
            (true, true) => Some(Over::All),
            (true, false) => Some(Over::Rows),
            (false, true) => Some(Over::Cols),
            (false, false) => None,
        };
        if over == Some(Over::Rows) && own.has_cols() && !has.has_cols() {
            // A sum over the rows that is stored to columns is made column by column.
            part = self.program.expand(part);
        }
        if let Some(over) = over {
            part = algebra::sum_over(&mut self.program, part, over);
        }
        for (index, counts) in [(Index::Cols, missing.has_cols()), (Index::Rows, missing.has_rows())] {
            if counts {
                let n = self.count(index, part);
                part = algebra::times(&mut self.program, part, n, false);
            }
        }
        part
    }

    /// A size, in the type of `like`.
    fn count(&mut self, index: Index, like: Id) -> Id {
        let n = self.program.index(index);
        let dtype = self.program.node(like).dtype;
        self.program.cast(n, dtype)
    }

    /// Declares `d_<input>`.
    fn store(&mut self, slot: usize) -> Result<(), Stop> {
        let input = self.program.inputs[slot].clone();
        let value = self.program.input_value(slot as u32);
        let mut list = std::mem::take(&mut self.picked[slot]);
        if let Some(rest) = self.contributions.get(value.index()) {
            list.extend(rest);
        }
        let node = match terms::sum(&mut self.program, &list) {
            Some(sum) if self.row_sums == RowSums::Late && !input.extent.has_rows() => {
                self.sum_axes(sum, Extent::ROW, input.extent)
            }
            Some(sum) => sum,
            None => self.program.constant(input.dtype, 0.0),
        };
        self.program.output(format!("d_{}", input.name), node, input.dtype);
        let output = self.program.outputs.last_mut().expect("invariant: an output was just declared");
        output.extent = input.extent;
        Ok(())
    }

    /// Are adjoints of values without rows kept one a row?
    pub(super) fn has_late_sums(&self) -> bool {
        self.row_sums == RowSums::Late
    }

    /// A node that uses a sum over the rows for more than pointwise arithmetic on columns (or scalars) to be stored.
    fn late_violation(&self) -> Option<Id> {
        let p = &self.program;
        let live = p.live();
        let mut late = vec![false; p.nodes().len()];
        for id in p.ids().filter(|id| live[id.index()]) {
            let node = p.node(id);
            let mut late_args = node.args.iter().filter(|a| late[a.index()]).peekable();
            let uses = late_args.peek().is_some();
            let narrow = late_args.any(|&a| node.extent.has_cols() && !p.node(a).extent.has_cols());
            if uses && (!matches!(node.kind, Kind::Op(_)) || node.extent.has_rows() || narrow) {
                return Some(id);
            }
            late[id.index()] = uses || matches!(node.kind, Kind::Reduce(_, Over::Rows | Over::All));
        }
        let stored = |o: &&crate::program::Output| late[o.node.index()] && p.node(o.node).extent != o.extent;
        p.outputs.iter().find(stored).map(|o| o.node)
    }
}
