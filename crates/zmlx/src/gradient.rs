//! How the gradient of an operation runs: the backward Programs of its specialisation, launched over the inputs and
//! the cotangents, and what comes out brought into the shapes of the inputs.

use crate::{
    Error, Op, Result,
    bridge::{self, Backward},
    call::Few,
    geometry::Geometry,
    specialise::{Forward, Part, Wanted},
};
use candle_core::{Storage, Tensor};
use std::sync::Arc;
use zmlx_ir::{Extent, Program, program::Stored};

fn bits(list: impl IntoIterator<Item = usize>) -> u64 {
    list.into_iter().fold(0, |bits, k| bits | 1 << k)
}

fn float_results(p: &Program) -> u64 {
    bits(p.stored().enumerate().filter(|(_, o)| o.dtype.is_float()).map(|(k, _)| k))
}

/// The value of this number of those side by side in a tensor; a view (of values in turn, if the tensor is contiguous).
fn beside(t: &Tensor, o: Stored, k: usize) -> candle_core::Result<Tensor> {
    let (last, all) = (t.rank() - 1, t.dims()[t.rank() - 1]);
    let cols = all / o.width;
    match (o.extent == Extent::ROW, o.woven) {
        (true, _) => t.get_on_dim(last, k),
        (false, false) => t.narrow(last, k * cols, cols),
        (false, true) => t.reshape([&t.dims()[..last], &[cols, o.width]].concat())?.get_on_dim(last + 1, k),
    }
}

impl Op {
    /// The tracked inputs and what candle's tape calls for them; None where no result is of floats. A gradient that
    /// does not exist is told here, not in `backward()`.
    pub(crate) fn backward_of(
        &self,
        inputs: &[&Tensor],
        forward: &Forward,
        geometry: &Geometry,
    ) -> Result<Option<(Few<usize>, Backward)>> {
        let cotangents = float_results(&forward.program);
        if cotangents == 0 {
            return Ok(None);
        }
        let tracked = |k: &usize| inputs[*k].track_op() && inputs[*k].dtype().is_float();
        let slots: Few<usize> = (0..inputs.len()).filter(tracked).collect();
        self.parts_of(forward, geometry, &self.spread(&slots), cotangents)?;
        let op = self.clone();
        let kept: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
        let wrt = slots.clone();
        let backward = move |cotangents: &[Option<Tensor>]| {
            let inputs: Few<&Tensor> = kept.iter().collect();
            let cotangents: Few<Option<&Tensor>> = cotangents.iter().map(Option::as_ref).collect();
            op.gradients(&inputs, &cotangents, &wrt)
        };
        Ok(Some((slots, Box::new(backward))))
    }

    fn parts_of<'a>(&self, forward: &'a Forward, g: &Geometry, wrt: &[usize], cotangents: u64) -> Result<&'a [Part]> {
        let summed = |k: &usize| g.places[*k].partial || g.places[*k].table.is_some();
        let partial = bits(wrt.iter().copied().filter(summed));
        let wanted = Wanted { inputs: bits(wrt.iter().copied()), cotangents, partial };
        self.body.specials().backward(forward, wanted, &self.body.given)
    }

    pub(crate) fn backward_programs(&self, inputs: &[&Tensor]) -> Result<Vec<Arc<Program>>> {
        let (moved, _) = self.move_inputs(inputs)?;
        let moved: Few<&Tensor> = moved.iter().collect();
        let (geometry, key) = self.with_parts(&moved, |all| self.layout(all, &[]))?;
        let forward = self.body.specials().forward(&key)?;
        let floats: Few<usize> = (0..inputs.len()).filter(|k| inputs[*k].dtype().is_float()).collect();
        let parts = self.parts_of(forward, &geometry, &self.spread(&floats), float_results(&forward.program))?;
        Ok(parts.iter().map(|p| p.compiled.program.clone()).collect())
    }

    /// Gradients of some inputs from the cotangents of all results, in the shapes that the user sees.
    pub(crate) fn vjp_slots(&self, inputs: &[&Tensor], cotangents: &[&Tensor], wrt: &[usize]) -> Result<Vec<Tensor>> {
        let b = &*self.body;
        if b.no_grad {
            return Err(Error::Gradient { op: b.name.clone(), why: "it was built with no_grad".into() });
        }
        let results = b.formula.outs.len();
        if cotangents.len() != results {
            let expected = format!("{results} (one for each of {})", self.outputs().join(" "));
            return Err(Error::argument(&b.name, "number of cotangents", expected, cotangents.len()));
        }
        if b.axis == -1 && !b.keepdim {
            let given: Few<Option<&Tensor>> = cotangents.iter().map(|c| Some(*c)).collect();
            return self.gradients(inputs, &given, wrt);
        }
        let (moved, axis) = self.move_inputs(inputs)?;
        let moved: Few<&Tensor> = moved.iter().collect();
        let (_, key) = self.layout(&moved, &[])?;
        let program = &self.body.specials().forward(&key)?.program;
        let given = cotangents.iter().zip(program.stored()).map(|(c, o)| match o.is_of_rows() {
            true if b.keepdim && axis.rank > 0 && c.rank() == axis.rank => Ok(c.squeeze(axis.at)?),
            false if axis.moves() && c.rank() == axis.rank => axis.to_last(c),
            _ => Ok((*c).clone()),
        });
        let given: Few<Tensor> = given.collect::<Result<_>>()?;
        let given: Few<Option<&Tensor>> = given.iter().map(Some).collect();
        let gradients = self.gradients(&moved, &given, wrt)?;
        let back = gradients.iter().zip(wrt).map(|(g, k)| match b.inputs[*k].declared {
            None if axis.moves() => {
                let back = axis.back(g)?;
                (inputs[*k].rank()..axis.rank).try_fold(back, |t, _| Ok(t.squeeze(0)?))
            }
            _ => Ok(g.clone()),
        });
        back.collect()
    }

    /// Gradients of some inputs from the cotangents of results (None: zero), the axis being the last and not kept.
    fn gradients(&self, inputs: &[&Tensor], cotangents: &[Option<&Tensor>], wrt: &[usize]) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        self.with_parts(inputs, |all| self.gradients_of(inputs, all, cotangents, wrt))
    }

    /// The same, `all` being the inputs with parts in the place of what they are parts of.
    fn gradients_of(
        &self,
        given: &[&Tensor],
        inputs: &[&Tensor],
        cotangents: &[Option<&Tensor>],
        wrt: &[usize],
    ) -> Result<Vec<Tensor>> {
        let whole = given;
        let (plain, key) = self.layout(inputs, &[])?;
        let program = &self.body.specials().forward(&key)?.program;
        let mut there = 0;
        for (k, (c, o)) in cotangents.iter().zip(program.stored()).enumerate() {
            let Some(c) = c.filter(|_| o.dtype.is_float()) else { continue };
            self.check_cotangent(c, k, o, &plain)?;
            there |= 1 << k;
        }
        let of_results = || cotangents.iter().zip(program.stored()).filter(|(_, o)| o.dtype.is_float());
        // one for each value of those side by side
        let apart = of_results().filter(|(_, o)| o.stacked).filter_map(|(c, o)| Some((c.as_ref()?.detach(), o)));
        let apart = apart.flat_map(|(c, o)| (0..o.width).map(move |k| beside(&c, o, k)));
        let apart: Vec<Tensor> = apart.collect::<candle_core::Result<_>>()?;
        let mut columns = apart.iter();
        let mut given: Few<(&Tensor, bool)> = Few::new();
        for (c, o) in of_results() {
            match c {
                None => {}
                Some(c) if !o.stacked => given.push((c, o.extent == Extent::ROW)),
                Some(_) => given.extend(columns.by_ref().take(o.width).map(|c| (c, o.extent == Extent::ROW))),
            }
        }
        if given.is_empty() || plain.shape.contains(&0) {
            return wrt.iter().map(|k| Ok(whole[*k].zeros_like()?)).collect();
        }
        // cotangents may lie otherwise than the inputs, so that other axes merge
        let (geometry, key) = self.layout(inputs, &given)?;
        let forward = self.body.specials().forward(&key)?;
        let all: Few<&Tensor> = inputs.iter().copied().chain(given.iter().map(|(c, _)| *c)).collect();
        let mut found: Few<(usize, Tensor)> = Few::new();
        for part in self.parts_of(forward, &geometry, &self.spread(wrt), there)? {
            let raws = self.launch(&part.compiled, &geometry, &all)?;
            let sizes = part.compiled.program.tensors().map(<[_]>::len);
            let firsts = sizes.scan(0, |at, n| Some(std::mem::replace(at, *at + n)));
            for (((storage, shape), o), first) in raws.into_iter().zip(part.compiled.program.stored()).zip(firsts) {
                let k = part.slots[first];
                let gradient = match o.stacked {
                    true => bridge::tensor(storage, shape),
                    false => self.shape_gradient(storage, o.extent, &geometry, k, inputs)?,
                };
                found.push((k, gradient));
            }
        }
        let found = |k: usize| found.iter().find(|(slot, _)| *slot == k).map(|(_, t)| t);
        wrt.iter().map(|k| self.join(*k, whole[*k], found)).collect()
    }

    fn check_cotangent(&self, c: &Tensor, k: usize, o: Stored, g: &Geometry) -> Result<()> {
        let name = || format!("cotangent of {}", self.body.formula.outs.get(k).map_or("", |out| &out.name));
        let expected = g.shape_of(o);
        if c.shape() != &expected {
            return Err(Error::shape(&self.body.name, name(), format!("{:?}", expected.dims()), c.dims()));
        }
        if c.dtype() != bridge::candle_dtype(o.dtype) {
            return Err(Error::argument(&self.body.name, name() + ": dtype", o.dtype, c.dtype().as_str()));
        }
        Ok(())
    }

    /// A gradient buffer in the shape of its input: repeated along axes that the gradient lacks, by a view; summed over those
    /// that the input lacks and its extent has.
    fn shape_gradient(
        &self,
        storage: Storage,
        extent: Extent,
        g: &Geometry,
        k: usize,
        inputs: &[&Tensor],
    ) -> Result<Tensor> {
        let (place, input) = (&g.places[k], inputs[k]);
        let read =
            if place.table.is_some() { self.rows_read(inputs)?.swap_remove(k).dims } else { input.dims().into() };
        let row = self.body.inputs[k].declared == Some(Extent::ROW);
        let mut dims = g.dims_of(extent);
        if row {
            dims.pop();
        }
        let first = dims.len() - read.len();
        if !place.partial {
            let t = bridge::tensor(storage, &dims[first..]);
            let t = if dims[first..] == read[..] { t } else { t.broadcast_as(&read[..])? };
            return self.add_to_table(k, input, inputs, &t);
        }
        let mut t = bridge::tensor(storage, &dims[..]);
        for (a, d) in dims.iter().enumerate() {
            let own = if a < first { 1 } else { read[a - first] };
            if own != *d {
                t = t.sum_keepdim(a)?;
            }
        }
        let t = self.add_to_table(k, input, inputs, &t.reshape(&read[..])?)?;
        Ok(t.to_dtype(input.dtype())?)
    }
}
