//! How an operation runs: inputs laid out over rows × cols, the specialisation for them found, the kernel launched, its
//! buffers made tensors, and those put on candle's tape where an input is tracked.
//!
//! An axis that is not the last is moved there by views of the inputs, and back by views of the results: candle's tape
//! sees those itself, so that nothing else here knows of it.

use crate::{
    Error, Op, Result,
    bridge::{self, Call, Raw},
    geometry::{Geometry, Shaped, lay_out},
    op::Input,
    specialise::{Bound, Compiled, Forward, Key},
    stats,
};
use candle_core::{Shape, Storage, Tensor};
use smallvec::SmallVec;
use std::sync::Arc;
use zmlx_ir::{Extent, Program, program::Stored};

/// Few of something: a call allocates nothing for it.
pub(crate) type Few<T> = SmallVec<[T; 4]>;

impl Op {
    /// Runs it; puts the results on candle's tape if an input is tracked.
    pub(crate) fn run(&self, inputs: &[&Tensor]) -> Result<Few<Tensor>> {
        let mut tensors = Few::new();
        if self.run_alike(inputs, |storage, shape| tensors.push(bridge::tensor(storage, shape)))? {
            return Ok(tensors);
        }
        if self.body.axis == -1 && !self.body.keepdim {
            return self.run_last(inputs).map(|(tensors, _)| tensors);
        }
        let (moved, axis) = self.move_inputs(inputs)?;
        let moved: Few<&Tensor> = moved.iter().collect();
        let (tensors, forward) = self.run_last(&moved)?;
        let back = tensors.iter().zip(forward.program.stored());
        back.map(|(t, o)| self.move_result(t, o, axis)).collect()
    }

    /// Runs it on tensors that candle does not track, along the last axis: the memory of its results.
    pub(crate) fn run_untracked(&self, inputs: &[&Tensor]) -> Result<Few<Raw>> {
        let mut raws = Few::new();
        if !self.run_alike(inputs, |storage, shape| raws.push((storage, shape.clone())))? {
            raws = self.with_parts(inputs, |all| {
                let (geometry, key) = self.layout(all, &[])?;
                self.launch(self.body.specials().forward(&key)?.compiled()?, &geometry, all)
            })?;
            self.body.usage.count();
        }
        Ok(raws)
    }

    /// The common call at little cost: a pointwise formula that was compiled before, on contiguous tensors of one shape
    /// that candle does not track. False where anything is otherwise.
    fn run_alike(&self, inputs: &[&Tensor], mut take: impl FnMut(Storage, &Shape)) -> Result<bool> {
        let b = &*self.body;
        let Some(first) = inputs.first() else { return Ok(false) };
        if b.rows || b.axis != -1 || b.keepdim || b.has_mistake() || inputs.len() != b.inputs.len() {
            return Ok(false);
        }
        let alike = |(t, i): (&&Tensor, &Input)| {
            let tracked = !b.no_grad && t.track_op() && t.dtype().is_float();
            !tracked && i.declared.is_none() && t.is_contiguous() && t.dims() == first.dims()
        };
        if !inputs.iter().zip(&b.inputs).all(alike) {
            return Ok(false);
        }
        let Some(compiled) = b.specials().compiled_alike(inputs.iter().map(|t| t.dtype())) else { return Ok(false) };
        let count = first.elem_count();
        let (op, program, uniforms) = (&b.name[..], &*compiled.program, &self.uniforms[..]);
        let tuning = &self.tuning;
        let call = Call { op, program, row_dims: &[], cols: count, places: &[], uniforms, tuning };
        let results = compiled.kernels.run_flat(&call, inputs)?;
        stats::count_launch(count * compiled.element_bytes);
        b.usage.count();
        for storage in results {
            take(storage, first.shape());
        }
        Ok(true)
    }

    /// As `run`, the axis being the last and not kept.
    fn run_last(&self, inputs: &[&Tensor]) -> Result<(Few<Tensor>, &Forward)> {
        let tracked = !self.body.no_grad && inputs.iter().any(|t| t.track_op() && t.dtype().is_float());
        let (forward, raws, backward) = self.with_parts(inputs, |all| {
            let (geometry, key) = self.layout(all, &[])?;
            let forward = self.body.specials().forward(&key)?;
            let backward = if tracked { self.backward_of(inputs, forward, &geometry)? } else { None };
            Ok((forward, self.launch(forward.compiled()?, &geometry, all)?, backward))
        })?;
        self.body.usage.count();
        let tensors = match backward {
            None => raws.into_iter().map(|(storage, shape)| bridge::tensor(storage, shape)).collect(),
            Some((slots, backward)) => {
                let tracked: Few<&Tensor> = slots.iter().map(|k| inputs[*k]).collect();
                bridge::record(self.body.name.as_str().into(), raws.into_vec(), &tracked, backward)?.into()
            }
        };
        Ok((tensors, forward))
    }

    pub(crate) fn forward_program(&self, inputs: &[&Tensor]) -> Result<Arc<Program>> {
        let (moved, _) = self.move_inputs(inputs)?;
        let moved: Few<&Tensor> = moved.iter().collect();
        let (_, key) = self.with_parts(&moved, |all| self.layout(all, &[]))?;
        Ok(self.body.specials().forward(&key)?.program.clone())
    }

    /// Lays the inputs, and cotangents of results (Row or not) if there are any, over rows × cols.
    pub(crate) fn layout(&self, inputs: &[&Tensor], cotangents: &[(&Tensor, bool)]) -> Result<(Geometry, Key)> {
        let b = &*self.body;
        self.check_ranks(inputs)?;
        let read = if b.has_tables() { self.rows_read(inputs)? } else { Few::new() };
        let given = inputs.iter().zip(&b.inputs).map(|(t, i)| (*t, i.declared == Some(Extent::ROW)));
        let given = given.chain(cotangents.iter().copied());
        let shaped = given.enumerate().map(|(k, (t, row))| Shaped::of(t.layout(), row).of_rows(read.get(k)));
        let all: Few<Shaped<'_>> = shaped.collect();
        let mut geometry = lay_out(&all, b.rows).map_err(|misfit| {
            let name = |k: usize| b.inputs.get(k).map_or("a cotangent", |i| &i.name);
            let with = format!("one that broadcasts with {} {:?}", name(misfit.with), all[misfit.with].dims);
            let expected = misfit.expected.map_or(with.clone(), |e| format!("{e:?} or {with}"));
            Error::shape(&b.name, name(misfit.input), expected, all[misfit.input].dims)
        })?;
        for (k, table) in read.iter().enumerate().filter_map(|(k, read)| Some((k, read.table?))) {
            // an index that is one for all rows finds the rows of each all the same
            geometry.places[table.by].run_with_rows();
            geometry.places[k].run_with_rows();
            geometry.places[k].table = Some(table);
        }
        let mut key = Key::new();
        for ((t, place), i) in inputs.iter().zip(&geometry.places).zip(&b.inputs) {
            let dtype = bridge::dtype_of(&b.name, &i.name, t.dtype())?;
            key.push(Bound { dtype, extent: place.extent, named: place.named });
        }
        Ok((geometry, key))
    }

    /// Number of the tensors given.
    pub(crate) fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let b = &*self.body;
        self.ready()?;
        if inputs.len() != b.given.len() {
            let expected = format!("{} ({})", b.given.len(), self.inputs().join(" "));
            return Err(Error::argument(&b.name, "number of inputs", expected, inputs.len()));
        }
        Ok(())
    }

    /// Rank of the inputs.
    fn check_ranks(&self, inputs: &[&Tensor]) -> Result<()> {
        let b = &*self.body;
        let wrong = inputs.iter().zip(&b.inputs).find(|(t, i)| i.declared == Some(Extent::COL) && t.rank() > 1);
        match wrong {
            Some((t, i)) => Err(Error::shape(&b.name, &i.name, "one of rank 1 (it is declared col)", t.dims())),
            None => Ok(()),
        }
    }

    /// Runs a compiled Program on tensors laid out by `g`.
    pub(crate) fn launch(&self, compiled: &Compiled, g: &Geometry, tensors: &[&Tensor]) -> Result<Few<Raw>> {
        let program = &*compiled.program;
        let (op, row_dims, cols, uniforms) = (&self.body.name[..], &g.row_dims[..], g.cols, &self.uniforms[..]);
        if compiled.least_cols > cols {
            return Err(Error::argument(op, "columns", format!("at least {}, its ranks", compiled.least_cols), cols));
        }
        let call = Call { op, program, row_dims, cols, places: &g.places, uniforms, tuning: &self.tuning };
        let results = compiled.kernels.run(&call, tensors)?;
        let rows = g.rows();
        let read = g.places.iter().zip(&program.inputs).map(|(p, i)| p.extent.len(rows, cols) * i.dtype.size_bytes());
        let mut bytes: usize = read.sum();
        let mut raws = Few::new();
        for (storage, o) in results.into_iter().zip(program.stored()) {
            bytes += o.len(rows, cols) * o.dtype.size_bytes();
            raws.push((storage, g.shape_of(o)));
        }
        stats::count_launch(bytes);
        Ok(raws)
    }

    /// The inputs with the axis moved to the end, where it was, and the rank with it; views.
    pub(crate) fn move_inputs(&self, inputs: &[&Tensor]) -> Result<(Few<Tensor>, Moved)> {
        let b = &*self.body;
        self.check(inputs)?;
        if !b.has_parts() {
            self.check_ranks(inputs)?;
        }
        let row = |k: usize| b.inputs[k].declared == Some(Extent::ROW);
        let rank = inputs.iter().enumerate().map(|(k, t)| t.rank() + usize::from(row(k))).max().unwrap_or(0);
        let at = if b.axis < 0 { b.axis + rank as isize } else { b.axis };
        let at = match usize::try_from(at) {
            Ok(at) if at < rank => at,
            _ if rank == 0 && matches!(b.axis, 0 | -1) => 0,
            _ => {
                let expected = format!("-{rank} ≤ axis < {rank} (the rank of the inputs)");
                return Err(Error::argument(&b.name, "axis", expected, b.axis));
            }
        };
        let axis = Moved { at, rank };
        let moved = inputs.iter().enumerate().map(|(k, t)| match b.inputs[k].declared {
            None if axis.moves() => axis.to_last(t),
            _ => Ok((*t).clone()),
        });
        Ok((moved.collect::<Result<_>>()?, axis))
    }

    /// A result with the axis back in its place; values side by side lie along it.
    fn move_result(&self, t: &Tensor, o: Stored, axis: Moved) -> Result<Tensor> {
        match o.is_of_rows() {
            true if self.body.keepdim && axis.rank > 0 => Ok(t.unsqueeze(axis.at)?),
            false if axis.moves() => axis.back(t),
            _ => Ok(t.clone()),
        }
    }
}

/// An axis that is run along as the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub at: usize,
    pub rank: usize,
}

impl Moved {
    /// Is it not the last one anyway?
    pub fn moves(self) -> bool {
        self.at + 1 < self.rank
    }

    /// The tensor with all axes, this one last; a view.
    pub fn to_last(self, t: &Tensor) -> Result<Tensor> {
        let mut t = t.clone();
        while t.rank() < self.rank {
            t = t.unsqueeze(0)?;
        }
        let mut order: Vec<usize> = (0..self.rank).filter(|a| *a != self.at).collect();
        order.push(self.at);
        Ok(t.permute(order)?)
    }

    /// The tensor with the last axis back in its place; a view.
    pub fn back(self, t: &Tensor) -> Result<Tensor> {
        let mut order: Vec<usize> = (0..self.rank - 1).collect();
        order.insert(self.at, self.rank - 1);
        Ok(t.permute(order)?)
    }
}
