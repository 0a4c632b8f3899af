//! The tile steps of one pass, and the registers they work on.

use super::Planner;
use crate::backend::cpu::{
    bank::Place,
    plan::Plan,
    step::{FoldStep, Pass, ScanStep, Step, lane_key, step_reads},
};
use zmlx_ir::{
    DType, Extent, Program,
    program::{Fold, Id, Kind, Over, ReduceOp, Scan},
};

/// Emits the tile steps of one pass and assigns tile registers.
pub(super) struct Tiles<'a, 'p> {
    s: &'a mut Planner<'p>,
    stage: u32,
    pass: &'a mut Pass,
    needed: Vec<bool>,
    uses: Vec<u32>,
    here: Vec<Option<Place>>,
    free: Vec<(DType, u16)>,
}

impl<'a, 'p> Tiles<'a, 'p> {
    pub(super) fn new(s: &'a mut Planner<'p>, stage: u32, pass: &'a mut Pass, needed: Vec<bool>) -> Self {
        let n = needed.len();
        let mut uses = vec![0; n];
        for id in s.p.ids().filter(|i| needed[i.index()]) {
            for a in s.operands(id) {
                uses[a.index()] += 1;
            }
        }
        Tiles { s, stage, pass, needed, uses, here: vec![None; n], free: vec![] }
    }

    pub(super) fn run(mut self) {
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
            // what others lie beside is not in one piece
            if let Some(side) = slot.map(|slot| p.columns()[slot]).filter(|side| side.width == 1) {
                let slot = side.tensor;
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
                let side = p.columns()[slot];
                if src != Place::Output(side.tensor as u16) {
                    self.pass.tiles.push(Step::store(side, p.node(id).dtype, src));
                }
                self.release(id);
            }
        }
    }

    fn reduce_into(&mut self, id: Id, feeds: &[Id]) {
        let p = self.s.p;
        for &r in feeds.iter().filter(|r| p.node(**r).args[0] == id) {
            let Kind::Reduce(op, over) = p.node(r).kind else { continue };
            if op.rank().is_some() {
                self.rank_into(id, r, op);
                continue;
            }
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

    /// All ranks of a value are one step.
    fn rank_into(&mut self, id: Id, r: Id, op: ReduceOp) {
        let p = self.s.p;
        let reg = self.s.plan.row.add(p.node(r).dtype);
        self.s.lasting[r.index()] = Some(Place::Row(reg));
        let needed = usize::from(op.rank().unwrap_or(0)) + 1;
        let place = self.place(id);
        let same = self.pass.tiles.last_mut().and_then(|step| match step {
            Step::Top { src, ranks, outs, .. } if *src == place => Some((ranks, outs)),
            _ => None,
        });
        if let Some((ranks, outs)) = same {
            *ranks = needed.max(*ranks);
            outs.push((op, reg));
        } else {
            self.s.plan.accs += 1;
            let (dtype, acc) = (p.node(id).dtype, self.s.plan.accs - 1);
            self.pass.tiles.push(Step::Top { dtype, src: place, acc, ranks: needed, outs: vec![(op, reg)] });
        }
        self.release(id);
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
        let dtype = p.node(id).dtype;
        let mut inputs = vec![];
        // where whole rows are, not where this tile's lanes are
        let args = p.node(id).args.iter().map(|&a| match self.s.in_memory(a) {
            Some(slot) if !self.s.keep[a.index()] => {
                inputs.push((dtype, slot));
                Place::Input(slot)
            }
            _ => self.s.lasting_place(a),
        });
        let args = args.collect();
        let dst = self.kept(id);
        self.pass.scans.push(ScanStep { scan, dtype, args, inputs, dst });
    }
}
