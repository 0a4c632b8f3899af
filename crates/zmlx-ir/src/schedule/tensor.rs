//! Where the rows of a tensor lie, and chunks of it in and out of registers.

use super::{Source, emit::*, hold::packed, lower::Lower};
use crate::{
    DType, Extent, Op,
    kernel::{Arith, Expr, Place, Role, Stmt, VECTOR_BYTES, VarId},
    program::Column,
};

/// An input or output of the Program being lowered.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub name: String,
    pub source: Source,
    pub buffer: u32,
    pub dtype: DType,
    pub extent: Extent,
    /// Of an output beside others.
    side: Option<Column>,
    /// Of a table: the tensor that finds its rows, and whether it found one for the row being worked on.
    pub by: Option<usize>,
    found: Option<Expr>,
    /// First element of the row being worked on.
    row: Option<Expr>,
    /// Do the chunks of that row lie on boundaries, with contiguous columns?
    vectors: Option<Expr>,
    /// Are both known for the whole launch?
    fixed: bool,
}

impl Tensor {
    pub fn new(name: &str, source: Source, buffer: u32, dtype: DType, extent: Extent) -> Tensor {
        let (side, by, found) = (None, None, None);
        let (row, vectors, fixed) = (None, None, false);
        Tensor { name: name.into(), source, buffer, dtype, extent, side, by, found, row, vectors, fixed }
    }

    /// A table, if it is one.
    pub fn found_by(self, by: Option<u32>) -> Tensor {
        let by = by.filter(|_| self.buffer != u32::MAX).map(|by| by as usize);
        Tensor { by, ..self }
    }

    /// An output that lies so beside others.
    pub fn beside(self, side: Column) -> Tensor {
        let others = side.width > 1 && self.extent.has_cols();
        Tensor { side: others.then_some(side), ..self }
    }

    /// Is it an output whose elements do not follow one another?
    pub fn is_woven(&self) -> bool {
        self.side.is_some_and(|side| side.woven)
    }

    /// The type of an array that holds so many elements of it at a time: 16-bit floats are packed.
    pub fn held(&self, vector: u32) -> DType {
        packed(self.dtype, vector)
    }

    /// Elements that move at once.
    fn lanes(&self, vector: u32) -> u32 {
        vector.min(VECTOR_BYTES / self.dtype.size_bytes() as u32)
    }
}

impl Lower<'_> {
    fn slot(&self, t: usize) -> Option<u32> {
        match self.tensors[t].source {
            Source::Input(slot) => Some(slot),
            _ => None,
        }
    }

    fn col_stride(&mut self, t: usize) -> Expr {
        let name = format!("{}_col", self.tensors[t].name);
        match self.slot(t) {
            Some(slot) => self.e.index_field(&name, Role::ColStride(slot)),
            None => self.e.at(self.tensors[t].side.filter(|s| s.woven).map_or(1, |s| s.width as u32)),
        }
    }

    fn shift(&mut self, t: usize) -> Expr {
        let name = format!("{}_shift", self.tensors[t].name);
        match self.slot(t) {
            Some(slot) => self.e.index_field(&name, Role::Shift(slot)),
            None => self.e.at(0),
        }
    }

    /// Finds where `row` starts in every tensor, and whether its chunks are aligned.
    pub fn find_row(&mut self, row: &Expr) {
        let dims = self.decompose(row);
        for t in 0..self.tensors.len() {
            let Tensor { extent, ref name, fixed, by, .. } = self.tensors[t];
            if fixed || by.is_some() {
                continue;
            }
            let name = format!("{name}_row");
            let offset = match self.slot(t) {
                _ if !extent.has_rows() => self.e.at(0),
                Some(slot) => {
                    let mut sum = self.e.at(0);
                    for (d, i) in dims.iter().enumerate() {
                        let stride = self.e.index_field(&format!("{name}_stride_{d}"), Role::RowStride(slot, d as u8));
                        sum = add(sum, mul(i.clone(), stride));
                    }
                    sum
                }
                None if extent.has_cols() => {
                    let cols = self.cols();
                    match self.tensors[t].side {
                        None => mul(row.clone(), cols),
                        Some(Column { column, width, woven, .. }) => {
                            let pitch = mul(cols.clone(), self.e.at(width as u32));
                            let first = self.e.at(column as u32);
                            add(mul(row.clone(), pitch), if woven { first } else { mul(cols, first) })
                        }
                    }
                }
                None => row.clone(),
            };
            self.tensors[t].row = Some(self.e.named(&name, offset));
        }
        for t in 0..self.tensors.len() {
            self.find_row_of_table(t);
        }
        self.find_shift();
    }

    /// Looks the row of a table up. One that is not there is reported, and read as NaN (of integers 0).
    fn find_row_of_table(&mut self, t: usize) {
        let (Some(by), Some(slot)) = (self.tensors[t].by, self.slot(t)) else { return };
        let name = self.tensors[t].name.clone();
        let index = self.load_one(by, int(0));
        let index = if self.e.kernel.dtype(&index) == DType::I64 { index } else { op(Op::Cast(DType::I64), [index]) };
        let index = self.e.named(&format!("{name}_index"), index);
        let rows = self.e.index_field(&format!("{name}_rows"), Role::TableRows(slot));
        let rows = self.e.as_value(rows);
        let zero = Expr::Int(DType::I64, 0);
        let found = and(arith(Arith::Le, zero.clone(), index.clone()), lt(index.clone(), rows));
        let found = self.e.named(&format!("{name}_found"), found);
        self.report_unless(found.clone());
        let pitch = self.e.index_field(&format!("{name}_pitch"), Role::TablePitch(slot));
        let at = self.e.narrow(pick(found.clone(), index, zero));
        self.tensors[t].row = Some(self.e.named(&format!("{name}_row"), mul(at, pitch)));
        self.tensors[t].found = Some(found);
    }

    /// A value of the row being worked on, if the tensor has that row.
    fn if_found(&self, t: usize, value: Expr) -> Expr {
        let dtype = self.tensors[t].dtype.compute();
        match self.tensors[t].found.clone() {
            None => value,
            Some(found) => pick(found, value, constant(dtype, if dtype.is_float() { f64::NAN } else { 0.0 })),
        }
    }

    /// Finds the tensors of columns, which every row reads alike: rows start on chunks.
    pub fn find_columns(&mut self) {
        for t in (0..self.tensors.len()).filter(|t| self.tensors[*t].extent == Extent::COL).collect::<Vec<_>>() {
            self.tensors[t].row = Some(self.e.at(0));
            self.find_vectors(t);
            self.tensors[t].fixed = true;
        }
    }

    /// The row's index along each dimension, outermost first.
    fn decompose(&mut self, row: &Expr) -> Vec<Expr> {
        let reads = self.tensors.iter().any(|t| t.extent.has_rows() && matches!(t.source, Source::Input(_)));
        let dims = self.cfg.dims as usize;
        if dims == 1 || !reads {
            return vec![row.clone()];
        }
        let mut index = vec![];
        let mut rest = row.clone();
        for d in (1..dims).rev() {
            let size = self.e.index_field(&format!("dim_{d}"), Role::RowDim(d as u8));
            let i = arith(Arith::Rem, rest.clone(), size.clone());
            index.push(self.e.named(&format!("index_{d}"), i));
            rest = arith(Arith::Div, rest, size);
            rest = self.e.named("rest", rest);
        }
        index.push(rest);
        index.reverse();
        index
    }

    fn find_shift(&mut self) {
        let vector = self.cfg.vector;
        let mask = self.e.at(vector - 1);
        self.row_shift = match self.lead {
            Some(t) if vector > 1 => {
                let start = add(self.tensors[t].row.clone().unwrap_or(self.e.at(0)), self.shift(t));
                let shift = arith(Arith::BitAnd, start, mask);
                self.e.named("shift", shift)
            }
            _ => self.e.at(0),
        };
        for t in (0..self.tensors.len()).filter(|t| !self.tensors[*t].fixed).collect::<Vec<_>>() {
            self.find_vectors(t);
        }
    }

    fn find_vectors(&mut self, t: usize) {
        let tensor = &self.tensors[t];
        let lanes = tensor.lanes(self.cfg.vector);
        if !tensor.extent.has_cols() || lanes == 1 || tensor.is_woven() {
            self.tensors[t].vectors = None;
            return;
        }
        let mut fits = truth(true);
        if self.lead != Some(t) {
            let row = tensor.row.clone().unwrap_or(self.e.at(0));
            let start = sub(add(row, self.shift(t)), self.row_shift.clone());
            let off = arith(Arith::BitAnd, start, self.e.at(lanes - 1));
            if off.as_int() != Some(0) {
                fits = equal(off, self.e.at(0));
            }
        }
        if self.slot(t).is_some() {
            let stride = self.col_stride(t);
            fits = and(fits, equal(stride, self.e.at(1)));
        }
        if let Some(found) = self.tensors[t].found.clone() {
            fits = and(found, fits);
        }
        let name = format!("{}_vectors", self.tensors[t].name);
        self.tensors[t].vectors = Some(self.e.named(&name, fits));
    }

    /// Place of an element of the row being worked on.
    pub fn element(&mut self, t: usize, col: Expr) -> Expr {
        let row = self.tensors[t].row.clone().unwrap_or(self.e.at(0));
        if !self.tensors[t].extent.has_cols() {
            return row;
        }
        let stride = self.col_stride(t);
        add(row, mul(col, stride))
    }

    /// Does this column exist?
    pub fn inside(&mut self, col: Expr) -> Expr {
        let cols = self.cols();
        let below = lt(col.clone(), cols);
        if self.row_shift.as_int() == Some(0) {
            return below;
        }
        and(arith(Arith::Le, self.e.at(0), col), below)
    }

    /// Do all columns of the chunk exist that starts at `col`?
    pub fn full(&mut self, col: &Expr) -> Expr {
        let cols = self.cols();
        let below = arith(Arith::Le, add(col.clone(), self.e.at(self.cfg.vector)), cols);
        if self.row_shift.as_int() == Some(0) {
            return below;
        }
        and(arith(Arith::Le, self.e.at(0), col.clone()), below)
    }

    /// Reads the chunk at `col` into elements `first ..` of an array. Elements of columns that do not exist are 0.
    pub fn load_chunk(&mut self, t: usize, var: VarId, first: Expr, col: &Expr, full: &Expr) {
        let Tensor { dtype, buffer, .. } = self.tensors[t];
        let fast = self.vectors(t, col, full, |part, lanes, at| {
            let first = add(first.clone(), int(i64::from(part)));
            Stmt::LoadVector { var, first, lanes, buffer, at }
        });
        self.e.open();
        self.unrolled("i", self.cfg.vector, |s, v| {
            let at = add(col.clone(), s.e.widen(v.clone()));
            let inside = s.inside(at.clone());
            let element = s.element(t, at);
            let value = s.if_found(t, Expr::Load(buffer, Box::new(element)));
            let value = pick(inside, value, constant(dtype.compute(), 0.0));
            s.e.push(Stmt::Set(Place::Lane(var, add(first, v)), value));
        });
        let slow = self.e.close();
        self.either(fast, slow);
    }

    /// Writes the chunk at `col` from an array of `vector` elements.
    pub fn store_chunk(&mut self, t: usize, var: VarId, col: &Expr, full: &Expr) {
        let buffer = self.tensors[t].buffer;
        let fast = self.vectors(t, col, full, |part, lanes, at| Stmt::StoreVector {
            var,
            first: int(i64::from(part)),
            lanes,
            buffer,
            at,
        });
        self.e.open();
        self.unrolled("i", self.cfg.vector, |s, v| {
            let at = add(col.clone(), s.e.widen(v.clone()));
            let inside = s.inside(at.clone());
            let element = s.element(t, at);
            s.e.push(Stmt::If(inside, vec![Stmt::Store(buffer, element, Expr::Lane(var, Box::new(v)))], vec![]));
        });
        let slow = self.e.close();
        self.either(fast, slow);
    }

    /// Do all columns of all chunks of this thread exist that hold a row, and move all these tensors vectors there? None if
    /// one of them never does.
    pub fn whole(&mut self, tensors: &[usize], lane: &Expr) -> Option<Expr> {
        let aligned: Option<Vec<Expr>> = tensors.iter().map(|t| self.tensors[*t].vectors.clone()).collect();
        let (holders, vector) = (self.cfg.holders(), self.cfg.vector);
        let from = sub(mul(lane.clone(), self.e.at(vector)), self.row_shift.clone());
        let end = add(from.clone(), self.e.at(((self.cfg.chunks - 1) * holders + 1) * vector));
        let cols = self.cols();
        let mut whole = arith(Arith::Le, end, cols);
        if self.row_shift.as_int() != Some(0) {
            whole = and(arith(Arith::Le, self.e.at(0), from), whole);
        }
        Some(aligned?.into_iter().fold(whole, and))
    }

    /// Reads the chunk at `col`, all of which exists, by vectors.
    pub fn load_vectors(&mut self, t: usize, var: VarId, first: &Expr, col: &Expr) {
        let Tensor { buffer, .. } = self.tensors[t];
        let all = self.vectors(t, col, &truth(true), |part, lanes, at| Stmt::LoadVector {
            var,
            first: add(first.clone(), int(i64::from(part))),
            lanes,
            buffer,
            at,
        });
        all.into_iter().flat_map(|v| v.1).for_each(|s| self.e.push(s));
    }

    /// The vectors that a chunk is moved by, and when it can be.
    fn vectors(
        &mut self,
        t: usize,
        col: &Expr,
        full: &Expr,
        f: impl Fn(u32, u32, Expr) -> Stmt,
    ) -> Option<(Expr, Vec<Stmt>)> {
        let aligned = self.tensors[t].vectors.clone()?;
        let lanes = self.tensors[t].lanes(self.cfg.vector);
        let row = self.tensors[t].row.clone().unwrap_or(self.e.at(0));
        let start = add(row, col.clone());
        let part = |k: u32| f(k * lanes, lanes, add(start.clone(), self.e.at(k * lanes)));
        Some((and(full.clone(), aligned), (0..self.cfg.vector / lanes).map(part).collect()))
    }

    fn either(&mut self, fast: Option<(Expr, Vec<Stmt>)>, slow: Vec<Stmt>) {
        match fast {
            Some((condition, fast)) => self.e.push(Stmt::If(condition, fast, slow)),
            None => slow.into_iter().for_each(|s| self.e.push(s)),
        }
    }

    /// One element: of a row, of a column, or the only one.
    pub fn load_one(&mut self, t: usize, col: Expr) -> Expr {
        let at = self.element(t, col);
        self.if_found(t, Expr::Load(self.tensors[t].buffer, Box::new(at)))
    }
}
