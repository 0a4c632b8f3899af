//! What all strategies share: the Program's values, when each is known, and where it is kept.
//!
//! A reduction along a row is a barrier. So every value has a *stage*, the number of barriers before it, and a row is
//! worked on stage by stage: values that have one element a row first, then chunk by chunk those of elements, which feed
//! the reductions of the stage and the outputs. An element value of an earlier stage is computed again where that is
//! cheap, and kept in registers where it is not, or takes fewer than its inputs (and where the row is held in registers at
//! all).

use super::{
    Config, Source, Step, Strategy, Unsupported,
    emit::*,
    grid::Grid,
    hold::stands,
    online::{Online, online},
    tensor::Tensor,
};
use crate::{
    DType, Extent, Program,
    kernel::{Expr, Role, Stmt, VarId},
    program::{Id, Index, Kind, Over},
};

/// A value computed again costs less than one kept if its ops sum to no more than this (units of `Row::cost`).
const RECOMPUTE_COST: u32 = 6;

/// A Program and where its tensors are.
pub(super) struct Part<'p> {
    pub program: &'p Program,
    pub inputs: Vec<Source>,
    pub outputs: Vec<Source>,
    /// This uniform is the number of rows of the launch.
    pub rows_uniform: Option<u32>,
    /// Runs on one row.
    pub one_row: bool,
    /// May ops take their second spelling?
    pub half: bool,
}

/// A Program on its way to a Kernel.
pub(super) struct Lower<'p> {
    pub part: &'p Part<'p>,
    pub p: &'p Program,
    pub cfg: Config,
    pub e: Emit,
    /// Inputs, then outputs.
    pub tensors: Vec<Tensor>,
    /// The tensor on whose boundaries chunks lie.
    pub lead: Option<usize>,
    pub live: Vec<bool>,
    pub stage: Vec<u32>,
    /// Made of sums over the rows.
    pub late: Vec<bool>,
    /// Values that are known: of the launch and of the row being worked on.
    pub known: Vec<Option<Expr>>,
    /// Arrays that hold a thread's elements of a row.
    pub held: Vec<Option<VarId>>,
    /// Element values worth holding.
    pub keep: Vec<bool>,
    /// Row being worked on.
    pub row: Expr,
    /// Is it there, or a repetition of the last one for threads without a row?
    pub row_lives: Expr,
    /// First column of a row's first chunk, negated.
    pub row_shift: Expr,
    /// The buffer that indices out of range are reported by, if the kernel has any.
    pub flag: Option<u32>,
    bindings: Vec<Source>,
}

impl<'p> Lower<'p> {
    pub fn new(part: &'p Part<'p>, cfg: &Config, name: &str) -> Lower<'p> {
        let p = part.program;
        let n = p.nodes().len();
        let mut e = Emit::new(name, cfg.threads, cfg.wide);
        e.kernel.half = part.half;
        let mut s = Lower {
            part,
            p,
            cfg: *cfg,
            e,
            tensors: vec![],
            lead: None,
            live: p.live(),
            stage: vec![0; n],
            late: vec![false; n],
            known: vec![None; n],
            held: vec![None; n],
            keep: vec![false; n],
            row: int(0),
            row_lives: truth(true),
            row_shift: int(0),
            flag: None,
            bindings: vec![],
        };
        s.stages();
        s
    }

    /// Makes all inputs that are read, and the outputs for which `writes` holds, buffers of the kernel.
    pub fn bind(&mut self, reads: &dyn Fn(&Self, Id) -> bool, writes: &dyn Fn(usize) -> bool) {
        let p = self.p;
        let reads = |s: &Self, slot: usize| {
            p.ids().any(|id| {
                let (Kind::Input(k) | Kind::Pick(k)) = p.node(id).kind else { return false };
                k as usize == slot && s.live[id.index()] && reads(s, id)
            })
        };
        for (slot, i) in p.inputs.iter().enumerate() {
            let mut tables = p.inputs.iter().enumerate().filter(|(_, table)| table.by == Some(slot as u32));
            let reads = reads(self, slot) || tables.any(|(table, _)| reads(self, table));
            let source = self.part.inputs[slot];
            let buffer = if reads { self.buffer(&i.name, source, i.dtype, false) } else { u32::MAX };
            self.tensors.push(Tensor::new(&i.name, source, buffer, i.dtype, i.extent).found_by(i.by));
        }
        let columns = p.columns();
        for (slot, o) in p.outputs.iter().enumerate() {
            let source = self.part.outputs[slot];
            let buffer = match self.tensors.last() {
                Some(before) if o.column.is_some_and(|k| k > 0) => before.buffer,
                _ if writes(slot) => {
                    // of outputs side by side without the number of the column
                    let name = o.name.split('.').next().unwrap_or_default();
                    self.buffer(name, source, o.dtype, true)
                }
                _ => u32::MAX,
            };
            self.tensors.push(Tensor::new(&o.name, source, buffer, o.dtype, o.extent).beside(columns[slot]));
        }
        // what is not read or written takes no part; its name stays
        for t in self.tensors.iter_mut().filter(|t| t.buffer == u32::MAX) {
            t.extent = Extent::UNIFORM;
        }
    }

    /// Chunks lie on the boundaries of the first output of elements, else of the widest input.
    pub fn choose_lead(&mut self) {
        let inputs = self.p.inputs.len();
        let elems = |t: &usize| self.tensors[*t].extent == Extent::ELEM;
        let output = (inputs..self.tensors.len()).find(|t| elems(t) && !self.tensors[*t].is_woven());
        let width = |t: &usize| (self.tensors[*t].dtype.size_bytes(), usize::MAX - t);
        let in_order = |t: &usize| self.tensors[*t].by.is_none();
        self.lead = output.or((0..inputs).filter(elems).filter(in_order).max_by_key(width));
    }

    /// A buffer of the kernel that is this memory.
    pub fn buffer(&mut self, name: &str, source: Source, dtype: DType, write: bool) -> u32 {
        self.bindings.push(source);
        self.e.buffer(name, dtype, write)
    }

    pub fn finish(self, grid: Grid) -> Step {
        let lead = self.lead.map(|t| self.tensors[t].source);
        Step { kernel: self.e.finish(), buffers: self.bindings, grid, one_row: self.part.one_row, flat: false, lead }
    }

    pub fn unsupported<T>(&self, what: &str, id: Id) -> Result<T, Unsupported> {
        Err(Unsupported { what: what.into(), dtype: self.p.node(id).dtype })
    }

    /// The number of columns.
    pub fn cols(&mut self) -> Expr {
        self.e.index_field("cols", Role::Cols)
    }

    /// The number of rows.
    pub fn rows(&mut self) -> Expr {
        self.e.index_field("rows", Role::Rows)
    }

    /// An unrolled loop over 0..n; of one turn, the turn alone.
    pub fn unrolled(&mut self, name: &str, n: u32, f: impl FnOnce(&mut Self, Expr)) {
        if n == 1 {
            return f(self, int(0));
        }
        let var = self.e.var(name, DType::I32, 0);
        self.e.open();
        f(self, Expr::Var(var));
        let body = self.e.close();
        self.e.push(Stmt::For { var, from: int(0), to: int(i64::from(n)), step: int(1), unroll: true, body });
    }

    /// A loop of indices from `from` to before `to`.
    pub fn counted(&mut self, name: &str, from: Expr, to: Expr, step: Expr, f: impl FnOnce(&mut Self, Expr)) {
        let var = self.e.var(name, self.e.index(), 0);
        self.e.open();
        f(self, Expr::Var(var));
        let body = self.e.close();
        self.e.push(Stmt::For { var, from, to, step, unroll: false, body });
    }

    pub fn when(&mut self, condition: Expr, f: impl FnOnce(&mut Self)) {
        if is_true(&condition) {
            return f(self);
        }
        self.e.open();
        f(self);
        let body = self.e.close();
        self.e.push(Stmt::If(condition, body, vec![]));
    }

    fn stages(&mut self) {
        for id in self.p.ids() {
            let node = self.p.node(id);
            let before = self.args_stage(id);
            // walking along a row, a scan is made as its elements come
            let waits = is_along(node.kind) && (self.resident() || !matches!(node.kind, Kind::Scan(_)));
            self.stage[id.index()] = before + u32::from(waits);
            self.late[id.index()] = node.args.iter().any(|a| self.late[a.index()]) || is_down(node.kind);
        }
    }

    /// Is a row held in registers?
    pub fn resident(&self) -> bool {
        self.cfg.strategy == Strategy::Resident
    }

    /// The stage in which a node's arguments are known.
    pub fn args_stage(&self, id: Id) -> u32 {
        self.terms(id).iter().map(|a| self.stage[a.index()]).max().unwrap_or(0)
    }

    /// What a reduction takes of an element; of any other node its arguments.
    pub fn terms(&self, id: Id) -> &'p [Id] {
        self.online(id).map_or(&self.p.node(id).args, |o| &self.p.node(o.beside).args)
    }

    /// A sum that a walk along the row finds beside another reduction.
    pub fn online(&self, id: Id) -> Option<Online> {
        if self.cfg.strategy == Strategy::Looped { online(self.p, id) } else { None }
    }

    /// Live and not made of sums over the rows.
    pub fn early(&self, id: Id) -> bool {
        self.live[id.index()] && !self.late[id.index()]
    }

    /// One value a row: also a uniform one that a reduction feeds.
    pub fn is_row_value(&self, id: Id) -> bool {
        let e = self.p.node(id).extent;
        self.early(id) && (e == Extent::ROW || (e == Extent::UNIFORM && self.stage[id.index()] > 0))
    }

    /// Sums over the rows, of early values.
    pub fn sums(&self) -> Vec<Id> {
        let is = |id: &Id| {
            let node = self.p.node(*id);
            self.live[id.index()] && is_down(node.kind) && !self.late[node.args[0].index()]
        };
        self.p.ids().filter(is).collect()
    }

    /// Finds the element values of earlier stages that are dear to compute again, or smaller than what they are made of.
    pub fn find_kept(&mut self) {
        let p = self.p;
        for stand in stands(p, self.cfg.vector) {
            self.keep[stand.value.index()] = self.early(stand.value);
        }
        for id in p.ids() {
            let node = p.node(id);
            if !self.early(id) && !is_down(node.kind) {
                continue;
            }
            let runs_in = self.args_stage(id);
            for &a in &node.args {
                let kept = self.stage[a.index()] < runs_in && self.again_cost(a) > RECOMPUTE_COST;
                self.keep[a.index()] |= kept && self.early(a);
            }
        }
    }

    fn again_cost(&self, id: Id) -> u32 {
        let node = self.p.node(id);
        if !node.extent.has_cols() || self.keep[id.index()] {
            return 0;
        }
        let own = match node.kind {
            Kind::Op(op) => op.row().cost,
            Kind::Rand => 20,
            _ => 0,
        };
        node.args.iter().map(|&a| self.again_cost(a)).fold(own, u32::saturating_add)
    }

    /// Values that are the same for the whole launch.
    pub fn launch_values(&mut self) {
        for id in self.p.ids() {
            let node = self.p.node(id);
            if self.early(id) && node.extent == Extent::UNIFORM && self.stage[id.index()] == 0 {
                let value = self.scalar_value(id);
                self.known[id.index()] = Some(self.name(id, value));
            }
        }
    }

    /// Values of the row that a stage knows, without the reductions themselves.
    pub fn row_values(&mut self, stage: u32) {
        for id in self.p.ids() {
            let fresh = self.stage[id.index()] == stage && self.known[id.index()].is_none();
            if fresh && self.is_row_value(id) {
                let value = self.scalar_value(id);
                self.known[id.index()] = Some(self.name(id, value));
            }
        }
    }

    /// Gives a node's value a name in the text.
    pub fn name(&mut self, id: Id, value: Expr) -> Expr {
        let node = self.p.node(id);
        let name = match node.kind {
            Kind::Input(k) => self.p.inputs[k as usize].name.clone(),
            Kind::Uniform(k) => self.p.uniforms[k as usize].name.clone(),
            Kind::Pick(k) => format!("{}_at", self.p.inputs[k as usize].name),
            Kind::Op(op) => format!("{}_{}", op.name(), id.0),
            Kind::Index(i) => i.name().into(),
            Kind::Reduce(op, _) => format!("{}_{}", op.name(), id.0),
            _ => format!("v_{}", id.0),
        };
        self.e.named(&name, value)
    }

    fn scalar_value(&mut self, id: Id) -> Expr {
        let args: Vec<Expr> = self.p.node(id).args.iter().map(|a| self.known_value(*a)).collect();
        self.value(id, args, None)
    }

    pub fn known_value(&self, id: Id) -> Expr {
        self.known[id.index()].clone().unwrap_or(constant(self.p.node(id).dtype, 0.0))
    }

    /// A value as the output in `slot` takes it: its compute type; the store rounds.
    pub fn stored(&self, slot: usize, value: Expr) -> Expr {
        let to = self.p.outputs[slot].dtype.compute();
        if self.e.kernel.dtype(&value) == to { value } else { op(crate::Op::Cast(to), [value]) }
    }

    /// The field of a uniform, as a value of its type.
    pub fn uniform(&mut self, slot: u32) -> Expr {
        let u = &self.p.uniforms[slot as usize];
        let field = match u.dtype {
            DType::F32 | DType::F64 | DType::I32 => u.dtype,
            _ => DType::I64,
        };
        let role = if self.part.rows_uniform == Some(slot) { Role::LaunchRows } else { Role::Uniform(slot) };
        let value = self.e.field(&u.name, field, role);
        if field == u.dtype { value } else { op(crate::Op::Cast(u.dtype), [value]) }
    }

    /// A position or size, as i64.
    pub fn position(&mut self, index: Index, col: Option<Expr>) -> Expr {
        let at = match index {
            Index::Row => self.row.clone(),
            Index::Col => col.unwrap_or(self.e.at(0)),
            Index::Rows => self.rows(),
            Index::Cols => self.cols(),
        };
        self.e.as_value(at)
    }
}

/// Is it a barrier along the row?
pub(super) fn is_along(kind: Kind) -> bool {
    matches!(kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_) | Kind::Scan(_))
}

/// Is it a sum over rows?
pub(super) fn is_down(kind: Kind) -> bool {
    matches!(kind, Kind::Reduce(_, Over::Rows | Over::All))
}
