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

use super::{
    bank::{Counts, Place},
    chain::Chain,
    step::{FoldStep, Pass, ScanStep, Step, lane_key, step_reads},
};
use zmlx_ir::{
    DType, Op, Program,
    program::{Extent, Fold, Id, Index, Kind, Over, Scan},
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
    /// The chain that is all there is to run: it stands alone, and nothing comes before or after it.
    pub fn direct(&self) -> Option<&Chain> {
        match &self.passes[..] {
            [Pass { rows, chain: Some(chain), .. }]
                if rows.is_empty() && self.end_cols.is_empty() && self.end_scalars.is_empty() && chain.alone =>
            {
                Some(chain)
            }
            _ => None,
        }
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
    let memory: Vec<DType> = p.outputs.iter().map(|o| o.dtype).collect();
    for pass in s.plan.passes.iter_mut().filter(|p| p.folds.is_empty()) {
        pass.chain = Chain::of(&pass.tiles, &s.plan.scalars, s.plan.tile.of(DType::F32), &memory);
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
                for a in &node.args {
                    self.keep[a.index()] = true;
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
                if self.stage[a.index()] < runs_in {
                    self.keep_dear(a);
                }
            }
        }
    }

    /// Marks `id`, or the dear parts of what it is made of.
    fn keep_dear(&mut self, id: Id) {
        let node = self.p.node(id);
        if node.extent != Extent::ELEM || self.keep[id.index()] || matches!(node.kind, Kind::Input(_)) {
            return;
        }
        if self.again_cost(id) > RECOMPUTE_COST {
            self.keep[id.index()] = true;
        }
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
        for (slot, o) in p.outputs.iter().enumerate() {
            if self.is_row_value(o.node) && self.stage[o.node.index()] == stage && o.extent == Extent::ROW
                || (o.extent == Extent::ROW && stage == 0 && self.is_prologue(o.node))
            {
                let src = self.lasting_place(o.node);
                pass.rows.push(Step::Store { slot: slot as u16, dtype: p.node(o.node).dtype, src });
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
        for (slot, o) in p.outputs.iter().enumerate() {
            let store = |src| Step::Store { slot: slot as u16, dtype: p.node(o.node).dtype, src };
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
            Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_) => {
                unreachable!("invariant: reductions are not pointwise steps")
            }
        }
    }
}

/// Emits the tile steps of one pass and assigns tile registers.
struct Tiles<'a, 'p> {
    s: &'a mut Planner<'p>,
    stage: u32,
    pass: &'a mut Pass,
    needed: Vec<bool>,
    uses: Vec<u32>,
    here: Vec<Option<Place>>,
    free: Vec<(DType, u16)>,
}

impl<'a, 'p> Tiles<'a, 'p> {
    fn new(s: &'a mut Planner<'p>, stage: u32, pass: &'a mut Pass, needed: Vec<bool>) -> Self {
        let n = needed.len();
        let mut uses = vec![0; n];
        for id in s.p.ids().filter(|i| needed[i.index()]) {
            for a in s.operands(id) {
                uses[a.index()] += 1;
            }
        }
        Tiles { s, stage, pass, needed, uses, here: vec![None; n], free: vec![] }
    }

    fn run(mut self) {
        let p = self.s.p;
        let at = |s: &Planner, id: Id| p.node(id).args.iter().map(|a| s.stage[a.index()]).max().unwrap_or(0);
        // What is read when: count the reads of reductions and stores too, so that no register is freed early.
        let stage = self.stage;
        let feeds: Vec<Id> = p
            .ids()
            .filter(|&i| {
                self.s.live[i.index()]
                    && matches!(p.node(i).kind, Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_))
                    && at(self.s, i) == stage
                    && !self.s.sums_late(i)
                    && !self.s.sums_row_values(i)
            })
            .collect();
        for id in &feeds {
            for a in &p.node(*id).args {
                self.uses[a.index()] += 1;
            }
        }
        for o in &p.outputs {
            if o.extent == Extent::ELEM && self.s.stage[o.node.index()] == stage {
                self.uses[o.node.index()] += 1;
            }
        }
        for id in p.ids() {
            if self.needed[id.index()] {
                self.compute(id);
                self.store(id);
                self.reduce_into(id, &feeds);
            } else if self.s.lasting[id.index()].is_some() && self.s.stage[id.index()] <= stage {
                // rows, columns, scalars and kept values may be stored or reduced without being computed here
                if self.s.stage[id.index()] == stage {
                    self.store(id);
                }
                self.reduce_into(id, &feeds);
            }
        }
        // Folds and scans read finished registers.
        for &id in &feeds {
            match p.node(id).kind {
                Kind::Fold(k) => self.fold(id, &p.folds[k as usize]),
                Kind::Scan(scan) => self.scan(id, scan),
                _ => {}
            }
        }
        let steps = self.pass.tiles.iter().chain(self.pass.folds.iter().flat_map(|f| &f.update));
        for (dtype, place) in steps.flat_map(step_reads) {
            let (list, reg) = match place {
                Place::Row(r) => (&mut self.pass.row_reads, r),
                Place::Col(r) => (&mut self.pass.col_reads, r),
                Place::Input(r) => (&mut self.pass.input_reads, r),
                _ => continue,
            };
            if !list.contains(&(dtype, reg)) {
                list.push((dtype, reg));
            }
        }
    }

    fn place(&self, id: Id) -> Place {
        self.here[id.index()].unwrap_or_else(|| self.s.lasting_place(id))
    }

    fn compute(&mut self, id: Id) {
        let p = self.s.p;
        let node = p.node(id);
        // An input in its compute type is read where it lies.
        if let Kind::Input(slot) = node.kind
            && p.inputs[slot as usize].dtype == node.dtype
        {
            let place = Place::Input(slot as u16);
            self.here[id.index()] = Some(place);
            if self.s.keep[id.index()] {
                let dst = self.kept(id);
                self.pass.tiles.push(Step::Copy { dtype: node.dtype, dst, src: place });
            }
            return;
        }
        let dst = self.destination(id);
        let step = self.one_hot(id, dst).unwrap_or_else(|| {
            let this = &*self;
            this.s.step(id, dst, &|_, a| this.place(a))
        });
        self.pass.tiles.push(step);
        for a in self.s.operands(id) {
            self.release(a);
        }
        self.here[id.index()] = Some(dst);
    }

    /// `col == t ? a : b`, of which all but one lane are b.
    fn one_hot(&self, id: Id, dst: Place) -> Option<Step> {
        let [t, a, b] = self.s.one_hot(id)?;
        let p = self.s.p;
        let (dtype, t_dtype) = (p.node(id).dtype, p.node(t).dtype);
        Some(Step::OneHot { dtype, dst, t: self.place(t), t_dtype, a: self.place(a), b: self.place(b) })
    }

    /// A kept register, an output of the same type, or a tile register.
    fn destination(&mut self, id: Id) -> Place {
        let p = self.s.p;
        let node = p.node(id);
        if self.s.keep[id.index()] && self.s.stage[id.index()] == self.stage {
            return self.kept(id);
        }
        let computed = !matches!(node.kind, Kind::Input(_));
        if computed && self.s.stage[id.index()] == self.stage {
            let slot = p.outputs.iter().position(|o| {
                o.node == id && o.extent == Extent::ELEM && o.dtype == node.dtype && node.extent == Extent::ELEM
            });
            if let Some(slot) = slot {
                // the store is one use; more are reads of what lies in memory
                if self.uses[id.index()] > 1 {
                    self.s.plan.read_back |= 1 << slot.min(63);
                }
                return Place::Output(slot as u16);
            }
        }
        Place::Tile(self.tile_reg(node.dtype))
    }

    fn tile_reg(&mut self, dtype: DType) -> u16 {
        let key = lane_key(dtype);
        match self.free.iter().rposition(|(d, _)| *d == key) {
            Some(i) => self.free.swap_remove(i).1,
            None => self.s.plan.tile.add(dtype),
        }
    }

    fn kept(&mut self, id: Id) -> Place {
        let reg = Place::Kept(self.s.plan.kept.add(self.s.p.node(id).dtype));
        self.s.lasting[id.index()] = Some(reg);
        reg
    }

    fn release(&mut self, id: Id) {
        let uses = &mut self.uses[id.index()];
        *uses = uses.saturating_sub(1);
        if *uses == 0
            && let Some(Place::Tile(reg)) = self.here[id.index()]
        {
            self.free.push((lane_key(self.s.p.node(id).dtype), reg));
        }
    }

    fn store(&mut self, id: Id) {
        let p = self.s.p;
        for (slot, o) in p.outputs.iter().enumerate() {
            if o.node == id
                && o.extent == Extent::ELEM
                && self.s.stage[id.index()] == self.stage
                && !self.s.late[id.index()]
            {
                let src = self.place(id);
                if src != Place::Output(slot as u16) {
                    self.pass.tiles.push(Step::Store { slot: slot as u16, dtype: p.node(id).dtype, src });
                }
                self.release(id);
            }
        }
    }

    fn reduce_into(&mut self, id: Id, feeds: &[Id]) {
        let p = self.s.p;
        for &r in feeds.iter().filter(|r| p.node(**r).args[0] == id) {
            let Kind::Reduce(op, over) = p.node(r).kind else { continue };
            let (src, dtype) = (self.place(id), p.node(id).dtype);
            let step = match over {
                Over::Cols => {
                    let out = Place::Row(self.s.plan.row.add(p.node(r).dtype));
                    self.s.lasting[r.index()] = Some(out);
                    self.s.plan.accs += 1;
                    Step::Reduce { op, dtype, src, acc: self.s.plan.accs - 1, out }
                }
                Over::Rows => {
                    let out = Place::Col(self.s.plan.col.add(p.node(r).dtype));
                    self.s.lasting[r.index()] = Some(out);
                    self.s.plan.row_sums.push((p.node(r).dtype, out));
                    Step::SumRows { dtype, src, acc: self.s.plan.row_sums.len() as u16 - 1 }
                }
                Over::All => {
                    let out = Place::Scalar(self.s.plan.scalar.add(p.node(r).dtype));
                    self.s.lasting[r.index()] = Some(out);
                    self.s.plan.all_sums.push((p.node(r).dtype, out));
                    Step::SumAll { dtype, src, acc: self.s.plan.all_sums.len() as u16 - 1 }
                }
            };
            self.pass.tiles.push(step);
            self.release(id);
        }
    }

    fn fold(&mut self, id: Id, fold: &Fold) {
        let p = self.s.p;
        let dtype = p.node(id).dtype;
        let acc = self.fresh(dtype);
        let mut values = vec![Place::Tile(acc)];
        values.extend(p.node(id).args.iter().map(|&a| self.place(a)));
        let (update, result) = self.inline(&fold.update, &values);
        let operands = [Place::Tile(self.fresh(dtype)), Place::Tile(self.fresh(dtype))];
        let (combine, combined) = self.inline(&fold.combine, &operands);
        let out = Place::Row(self.s.plan.row.add(dtype));
        self.s.lasting[id.index()] = Some(out);
        self.pass.folds.push(FoldStep {
            dtype,
            init: fold.init,
            acc,
            update,
            result,
            combine,
            operands,
            combined,
            out,
        });
    }

    fn fresh(&mut self, dtype: DType) -> u16 {
        self.s.plan.tile.add(dtype)
    }

    /// The steps of a pointwise Program whose inputs are at `places`.
    fn inline(&mut self, sub: &Program, places: &[Place]) -> (Vec<Step>, Place) {
        let mut at: Vec<Place> = vec![];
        let mut steps = vec![];
        for id in sub.ids() {
            let node = sub.node(id);
            let place = match node.kind {
                Kind::Input(slot) => places[slot as usize],
                _ => {
                    let dst = Place::Tile(self.fresh(node.dtype));
                    let inner = Planner {
                        p: sub,
                        plan: Plan::default(),
                        live: vec![],
                        stage: vec![],
                        late: vec![],
                        lasting: vec![],
                        keep: vec![],
                    };
                    steps.push(inner.step(id, dst, &|_, a| at[a.index()]));
                    dst
                }
            };
            at.push(place);
        }
        (steps, at[sub.outputs[0].node.index()])
    }

    fn scan(&mut self, id: Id, scan: Scan) {
        let p = self.s.p;
        // where whole rows are kept, not where this tile's lanes are
        let args = p.node(id).args.iter().map(|&a| self.s.lasting_place(a)).collect();
        let dst = self.kept(id);
        self.pass.scans.push(ScanStep { scan, dtype: p.node(id).dtype, args, dst });
    }
}
