//! Planning: a Program becomes passes over its rows.
//!
//! A reduction or scan along a row is a barrier: what feeds it belongs to one pass over the row, what reads it to a
//! later one. So every node has a *stage*, the number of barriers before it, and a launch runs
//!
//! ```text
//! prologue    scalars, then columns (weights, converted once)
//! for each group of rows, for each stage
//!     rows    pointwise values of the stage that have one lane a row
//!     tiles   pointwise values of elements, tile by tile; reductions accumulate; results are stored
//! epilogue    sums over the rows: columns, then scalars
//! ```
//!
//! An element value of an earlier stage is computed again where that is cheap, and kept for the group where not.

mod tiles;

use super::{
    bank::{Counts, Place},
    chain::Chain,
    step::{Pass, Step},
};
use tiles::Tiles;
use zmlx_ir::{
    DType, Op, Program,
    program::{Extent, Id, Index, Kind, Over},
};

/// A value computed again costs less than one kept if its ops sum to no more than this (units of `Row::cost`).
const RECOMPUTE_COST: u32 = 6;

/// A planned Program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Scalars made once a launch.
    pub scalars: Vec<Step>,
    /// Columns made once a launch.
    pub cols: Vec<Step>,
    /// The passes.
    pub passes: Vec<Pass>,
    /// Columns made of sums over the rows, and their stores.
    pub end_cols: Vec<Step>,
    /// Scalars made of sums over the rows, and their stores.
    pub end_scalars: Vec<Step>,
    /// Registers wanted.
    pub tile: Counts,
    pub row: Counts,
    pub col: Counts,
    pub scalar: Counts,
    pub kept: Counts,
    /// Accumulators: along rows; over rows into columns (and where they go), over everything (and where they go).
    pub accs: u16,
    pub row_sums: Vec<(DType, Place)>,
    pub all_sums: Vec<(DType, Place)>,
    /// Outputs that steps read after they wrote them, one bit a slot; the last bit stands for all from there on.
    pub read_back: u64,
    /// Lanes of a tile.
    pub lanes: usize,
    /// Sum of op costs an element: what decides whether threads are worth waking.
    pub cost: u32,
}

impl Plan {
    /// The chain that is all there is to run: it is pointwise, and nothing comes before or after it.
    pub fn pointwise(&self) -> Option<&Chain> {
        match &self.passes[..] {
            [Pass { rows, chain: Some(chain), .. }]
                if rows.is_empty() && self.end_cols.is_empty() && self.end_scalars.is_empty() && chain.pointwise =>
            {
                Some(chain)
            }
            _ => None,
        }
    }

    /// Has it nothing to do an element?
    pub fn is_of_rows(&self) -> bool {
        self.passes.iter().all(|p| p.tiles.is_empty() && p.folds.is_empty() && p.scans.is_empty())
    }
}

/// Lanes of a tile: a few f32 registers of this size fit in L1. (Of 512, 1024, 2048 and 8192, on a Zen 4 of two cores at
/// 4096×4096: norms are fastest at 1024 and 2048, gelu and swiglu at 1024.)
const TILE: usize = 1024;
/// The same where everything is read and written where it lies: fewer steps (exp: 3.0 ms, and 5.0 with twice as many).
const WIDE: usize = 2048;

struct Planner<'a> {
    p: &'a Program,
    plan: Plan,
    live: Vec<bool>,
    stage: Vec<u32>,
    /// Depends on a sum over the rows.
    late: Vec<bool>,
    /// Place of values that outlive a pass: rows, columns, scalars, kept elements.
    lasting: Vec<Option<Place>>,
    keep: Vec<bool>,
}

/// Plans a verified Program. With `keep`, dear values stay from pass to pass (rows run one group at a time); without,
/// they are computed again (passes run one after the other over all rows).
pub fn plan(p: &Program, keep: bool) -> Result<Plan, String> {
    let n = p.nodes().len();
    let mut s = Planner {
        p,
        plan: Plan::default(),
        live: p.live(),
        stage: vec![0; n],
        late: vec![false; n],
        lasting: vec![None; n],
        keep: vec![false; n],
    };
    s.stages();
    if keep {
        s.find_kept();
    }
    s.prologue();
    let passes = s.stage.iter().zip(&s.live).filter(|(_, l)| **l).map(|(s, _)| *s).max().unwrap_or(0) + 1;
    for stage in 0..passes {
        s.pass(stage);
    }
    s.epilogue()?;
    let inputs: Vec<DType> = p.inputs.iter().map(|i| i.dtype).collect();
    let outputs: Vec<DType> = p.stored().map(|o| o.dtype).collect();
    for pass in s.plan.passes.iter_mut().filter(|p| p.folds.is_empty()) {
        pass.chain = Chain::of(&pass.tiles, &s.plan.scalars, s.plan.tile.of(DType::F32), (&inputs, &outputs));
    }
    s.plan.lanes = if s.plan.tile.is_empty() { WIDE } else { TILE };
    s.plan.cost = p.ids().filter(|i| s.live[i.index()]).map(|i| s.cost(i)).sum();
    Ok(s.plan)
}

impl Planner<'_> {
    /// The t, a and b of `col == t ? a : b` with one t a row.
    fn one_hot(&self, id: Id) -> Option<[Id; 3]> {
        let node = self.p.node(id);
        let Kind::Op(Op::Select) = node.kind else { return None };
        let c = self.p.node(node.args[0]);
        let Kind::Op(Op::Eq) = c.kind else { return None };
        // the column is i64; a narrower t is converted before it is compared
        let is_col = |i: Id| matches!(self.p.node(i).kind, Kind::Index(Index::Col));
        let t = match (is_col(c.args[0]), is_col(c.args[1])) {
            (true, false) => c.args[1],
            (false, true) => c.args[0],
            _ => return None,
        };
        (!self.p.node(t).extent.has_cols() && node.extent.has_cols()).then(|| [t, node.args[1], node.args[2]])
    }

    /// What a tile step reads of a node's arguments.
    fn operands(&self, id: Id) -> Vec<Id> {
        match self.one_hot(id) {
            Some(parts) => parts.to_vec(),
            None => self.p.node(id).args.clone(),
        }
    }

    fn cost(&self, id: Id) -> u32 {
        match self.p.node(id).kind {
            Kind::Op(op) => op.row().cost,
            Kind::Rand => 20,
            Kind::Scan(_) | Kind::Fold(_) => 8,
            Kind::Reduce(..) | Kind::Input(_) => 1,
            _ => 0,
        }
    }

    fn stages(&mut self) {
        for id in self.p.ids() {
            let node = self.p.node(id);
            let before = node.args.iter().map(|a| self.stage[a.index()]).max().unwrap_or(0);
            let late = node.args.iter().any(|a| self.late[a.index()]);
            self.stage[id.index()] = match node.kind {
                Kind::Reduce(_, Over::Cols) | Kind::Fold(_) | Kind::Scan(_) if node.extent.has_rows() => before + 1,
                Kind::Reduce(_, Over::Cols) | Kind::Fold(_) => before + 1,
                _ => before,
            };
            self.late[id.index()] = late || matches!(node.kind, Kind::Reduce(_, Over::Rows | Over::All));
        }
    }

    /// Elem values that a later stage reads and that are dear to compute again.
    fn find_kept(&mut self) {
        let p = self.p;
        for id in p.ids() {
            if !self.live[id.index()] {
                continue;
            }
            let node = p.node(id);
            if let Kind::Scan(_) = node.kind {
                for &a in &node.args {
                    self.keep[a.index()] |= self.in_memory(a).is_none();
                }
                self.keep[id.index()] = true;
            }
            // A node runs in the pass of its stage; reductions run in the pass of their argument.
            let runs_in = match node.kind {
                Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_) => continue,
                _ => self.stage[id.index()],
            };
            if node.extent != Extent::ELEM {
                continue;
            }
            for &a in &node.args {
                if self.stage[a.index()] < runs_in && !self.keep[a.index()] {
                    self.keep[a.index()] = self.again_cost(a) > RECOMPUTE_COST || self.is_converted(a);
                }
            }
        }
    }

    /// The input that it is, if memory holds it in the type that it is computed in.
    fn in_memory(&self, id: Id) -> Option<u16> {
        let node = self.p.node(id);
        match node.kind {
            Kind::Input(slot) if self.p.inputs[slot as usize].dtype == node.dtype && node.extent == Extent::ELEM => {
                Some(slot as u16)
            }
            _ => None,
        }
    }

    /// Is it memory of another type that the first pass converts? It takes as long to do that again as to read it. (bf16 is
    /// widened by whoever reads it, in no time.)
    fn is_converted(&self, id: Id) -> bool {
        let node = self.p.node(id);
        let read_first = |&user: &Id| {
            let args = &self.p.node(user).args;
            self.live[user.index()] && args.contains(&id) && args.iter().all(|a| self.stage[a.index()] == 0)
        };
        matches!(node.kind, Kind::Input(slot) if ![node.dtype, DType::BF16].contains(&self.p.inputs[slot as usize].dtype))
            && node.extent == Extent::ELEM
            && self.p.ids().any(|user| read_first(&user))
    }

    fn again_cost(&self, id: Id) -> u32 {
        let node = self.p.node(id);
        if node.extent != Extent::ELEM || self.keep[id.index()] {
            return 0;
        }
        node.args.iter().map(|&a| self.again_cost(a)).fold(self.cost(id), u32::saturating_add)
    }

    fn prologue(&mut self) {
        let p = self.p;
        for id in p.ids() {
            if !self.live[id.index()] || self.late[id.index()] {
                continue;
            }
            let node = p.node(id);
            match node.extent {
                Extent::UNIFORM if self.stage[id.index()] == 0 => {
                    let reg = Place::Scalar(self.plan.scalar.add(node.dtype));
                    self.lasting[id.index()] = Some(reg);
                    let step = self.step(id, reg, &|s, a| s.lasting_place(a));
                    self.plan.scalars.push(step);
                }
                Extent::COL if self.stage[id.index()] == 0 => {
                    let reg = Place::Col(self.plan.col.add(node.dtype));
                    self.lasting[id.index()] = Some(reg);
                    let step = self.step(id, reg, &|s, a| s.lasting_place(a));
                    self.plan.cols.push(step);
                }
                _ => {}
            }
        }
    }

    fn lasting_place(&self, id: Id) -> Place {
        self.lasting[id.index()].expect("invariant: arguments are placed before their users")
    }

    /// Values with one lane a row or a group: also uniform and column values that a reduction feeds.
    fn is_row_value(&self, id: Id) -> bool {
        let e = self.p.node(id).extent;
        !self.late[id.index()] && (e == Extent::ROW || (e == Extent::UNIFORM && self.stage[id.index()] > 0))
    }

    fn pass(&mut self, stage: u32) {
        let p = self.p;
        let mut pass = Pass::default();
        // Rows: in node order. Results of reductions are filled by the pass before.
        for id in p.ids() {
            if !self.live[id.index()] || self.stage[id.index()] != stage || !self.is_row_value(id) {
                continue;
            }
            let node = p.node(id);
            if self.lasting[id.index()].is_none() {
                let reg = Place::Row(self.plan.row.add(node.dtype));
                self.lasting[id.index()] = Some(reg);
            }
            if matches!(node.kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_)) {
                continue;
            }
            let step = self.step(id, self.lasting_place(id), &|s, a| s.lasting_place(a));
            pass.rows.push(step);
        }
        for id in p.ids() {
            if !self.live[id.index()] || self.stage[id.index()] != stage || !self.sums_row_values(id) {
                continue;
            }
            let (arg, dtype) = (p.node(id).args[0], p.node(id).dtype);
            let out = Place::Scalar(self.plan.scalar.add(dtype));
            self.lasting[id.index()] = Some(out);
            self.plan.all_sums.push((dtype, out));
            let acc = self.plan.all_sums.len() as u16 - 1;
            pass.rows.push(Step::SumAll { dtype: p.node(arg).dtype, src: self.lasting_place(arg), acc });
        }
        let columns = p.columns();
        for (slot, o) in p.outputs.iter().enumerate() {
            if self.is_row_value(o.node) && self.stage[o.node.index()] == stage && o.extent == Extent::ROW
                || (o.extent == Extent::ROW && stage == 0 && self.is_prologue(o.node))
            {
                let (src, dtype) = (self.lasting_place(o.node), p.node(o.node).dtype);
                pass.rows.push(Step::store(columns[slot], dtype, src));
            }
        }
        self.tiles(stage, &mut pass);
        self.plan.passes.push(pass);
    }

    fn is_prologue(&self, id: Id) -> bool {
        matches!(self.lasting[id.index()], Some(Place::Scalar(_) | Place::Col(_)))
    }

    /// The tile steps of a stage: what its reductions, scans, kept values and outputs need.
    fn tiles(&mut self, stage: u32, pass: &mut Pass) {
        let p = self.p;
        let mut needed = vec![false; p.nodes().len()];
        let mut roots: Vec<Id> = vec![];
        let feeds = |s: &Self, id: Id| p.node(id).args.iter().map(|a| s.stage[a.index()]).max().unwrap_or(0) == stage;
        for id in p.ids().filter(|i| self.live[i.index()]) {
            match p.node(id).kind {
                Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_)
                    if feeds(self, id) && !self.sums_late(id) && !self.sums_row_values(id) =>
                {
                    roots.extend(&p.node(id).args)
                }
                _ if self.keep[id.index()]
                    && self.stage[id.index()] == stage
                    && !matches!(p.node(id).kind, Kind::Scan(_)) =>
                {
                    roots.push(id)
                }
                _ => {}
            }
        }
        for o in &p.outputs {
            if o.extent == Extent::ELEM && self.stage[o.node.index()] == stage {
                roots.push(o.node);
            }
        }
        while let Some(id) = roots.pop() {
            if needed[id.index()] || self.lasting[id.index()].is_some() {
                continue;
            }
            needed[id.index()] = true;
            roots.extend(self.operands(id));
        }
        Tiles::new(self, stage, pass, needed).run();
    }

    /// A sum over the rows of a value with one lane a row: no tile is needed.
    fn sums_row_values(&self, id: Id) -> bool {
        let node = self.p.node(id);
        matches!(node.kind, Kind::Reduce(_, Over::Rows))
            && self.p.node(node.args[0]).extent == Extent::ROW
            && !self.sums_late(id)
    }

    /// A sum over the rows of something that is itself made of such sums: it belongs to the epilogue.
    fn sums_late(&self, id: Id) -> bool {
        self.p.node(id).args.iter().any(|a| self.late[a.index()])
    }

    fn epilogue(&mut self) -> Result<(), String> {
        let p = self.p;
        for id in p.ids() {
            if !self.live[id.index()] || !self.late[id.index()] || self.lasting[id.index()].is_some() {
                continue;
            }
            let node = p.node(id);
            let cols = node.extent.has_cols();
            let reg = if cols {
                Place::Col(self.plan.col.add(node.dtype))
            } else {
                Place::Scalar(self.plan.scalar.add(node.dtype))
            };
            self.lasting[id.index()] = Some(reg);
            for &a in &node.args {
                if !matches!(self.lasting[a.index()], Some(Place::Col(_) | Place::Scalar(_))) {
                    return Err("a sum over rows combined with a value of the rows".into());
                }
            }
            if matches!(node.kind, Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_) | Kind::Expand) {
                return Err("a reduction of a sum over rows".into());
            }
            let step = self.step(id, reg, &|s, a| s.lasting_place(a));
            if cols { &mut self.plan.end_cols } else { &mut self.plan.end_scalars }.push(step);
        }
        let columns = p.columns();
        for (slot, o) in p.outputs.iter().enumerate() {
            let store = |src| Step::Store { slot: columns[slot].tensor as u16, dtype: p.node(o.node).dtype, src };
            let list = match o.extent {
                Extent::COL => &mut self.plan.end_cols,
                Extent::UNIFORM => &mut self.plan.end_scalars,
                _ => continue,
            };
            match self.lasting[o.node.index()] {
                Some(src @ (Place::Col(_) | Place::Scalar(_))) => list.push(store(src)),
                _ => return Err(format!("output {} without rows made of a value of the rows", o.name)),
            }
        }
        Ok(())
    }

    /// The step that computes a node into `dst`, its arguments being where `place` says.
    fn step(&self, id: Id, dst: Place, place: &dyn Fn(&Self, Id) -> Place) -> Step {
        let node = self.p.node(id);
        let arg = |k: usize| place(self, node.args[k]);
        match node.kind {
            Kind::Input(slot) => Step::Load { slot: slot as u16, dtype: node.dtype, dst },
            Kind::Uniform(slot) => Step::Uniform { slot: slot as u16, dtype: node.dtype, dst },
            Kind::Const(bits) => Step::Const { dtype: node.dtype, dst, bits },
            Kind::Int(v) => Step::Const { dtype: node.dtype, dst, bits: v as u64 },
            Kind::Index(index) => Step::Index { index, dst },
            Kind::Pick(slot) => Step::Pick { slot: slot as u16, dtype: node.dtype, dst, t: arg(0) },
            Kind::Rand => Step::Rand { dst, seed: arg(0) },
            Kind::Expand => Step::Copy { dtype: node.dtype, dst, src: arg(0) },
            Kind::Op(Op::Cast(to)) => Step::Cast { from: self.p.node(node.args[0]).dtype, to, dst, src: arg(0) },
            Kind::Op(op) => {
                // The operand type: that of the last argument (a select's first is its condition).
                let dtype = self.p.node(*node.args.last().expect("invariant: ops have operands")).dtype;
                let args = [0, 1, 2].map(|k| arg(if k < node.args.len() { k } else { 0 }));
                let arity = if op.is_predicate() { 0 } else { node.args.len() as u8 };
                Step::Op { op, arity, dtype, dst, args }
            }
            Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_) | Kind::Stack | Kind::Weave => {
                unreachable!("invariant: reductions are not pointwise steps")
            }
        }
    }
}
