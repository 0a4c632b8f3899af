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
        self.parts(forward, geometry, &slots, cotangents)?;
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

    fn parts<'a>(&self, forward: &'a Forward, g: &Geometry, wrt: &[usize], cotangents: u64) -> Result<&'a [Part]> {
        let partial = bits(wrt.iter().copied().filter(|k| g.places[*k].partial));
        let wanted = Wanted { inputs: bits(wrt.iter().copied()), cotangents, partial };
        self.body.specials().backward(forward, wanted)
    }

    pub(crate) fn backward_programs(&self, inputs: &[&Tensor]) -> Result<Vec<Arc<Program>>> {
        let (moved, _) = self.move_inputs(inputs)?;
        let moved: Few<&Tensor> = moved.iter().collect();
        let (geometry, key) = self.layout(&moved, &[])?;
        let forward = self.body.specials().forward(&key)?;
        let floats: Few<usize> = (0..inputs.len()).filter(|k| inputs[*k].dtype().is_float()).collect();
        let parts = self.parts(forward, &geometry, &floats, float_results(&forward.program))?;
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
            None if axis.moves() => Ok(axis.back(g)?.reshape(inputs[*k].shape())?),
            _ => Ok(g.clone()),
        });
        back.collect()
    }

    /// Gradients of some inputs from the cotangents of results (None: zero), the axis being the last and not kept.
    fn gradients(&self, inputs: &[&Tensor], cotangents: &[Option<&Tensor>], wrt: &[usize]) -> Result<Vec<Tensor>> {
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
        let apart = of_results().filter(|(_, o)| o.stacked).filter_map(|(c, o)| Some((c.as_ref()?.detach(), o.width)));
        let apart = apart.flat_map(|(c, width)| (0..width).map(move |k| c.get_on_dim(c.rank() - 1, k)));
        let apart: Vec<Tensor> = apart.collect::<candle_core::Result<_>>()?;
        let mut columns = apart.iter();
        let mut given: Few<(&Tensor, bool)> = Few::new();
        for (c, o) in of_results() {
            match c {
                None => {}
                Some(c) if !o.stacked => given.push((c, o.extent == Extent::ROW)),
                Some(_) => given.extend(columns.by_ref().take(o.width).map(|c| (c, true))),
            }
        }
        if given.is_empty() || plain.shape.contains(&0) {
            return wrt.iter().map(|k| Ok(inputs[*k].zeros_like()?)).collect();
        }
        // cotangents may lie otherwise than the inputs, so that other axes merge
        let (geometry, key) = self.layout(inputs, &given)?;
        let forward = self.body.specials().forward(&key)?;
        let all: Few<&Tensor> = inputs.iter().copied().chain(given.iter().map(|(c, _)| *c)).collect();
        let mut found: Few<(usize, Tensor)> = Few::new();
        for part in self.parts(forward, &geometry, wrt, there)? {
            let raws = self.launch(&part.compiled, &geometry, &all)?;
            for ((storage, _), k) in raws.into_iter().zip(&part.slots) {
                found.push((*k, self.shape_gradient(storage, &geometry, *k, inputs[*k])?));
            }
        }
        let gradient = |k: &usize| found.iter().find(|(slot, _)| slot == k).map(|(_, t)| t.clone());
        let missing = || Error::internal("a gradient was not computed");
        wrt.iter().map(|k| gradient(k).ok_or_else(missing)).collect()
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

    /// A gradient buffer in the shape of its input: summed over axes that the input lacks and its extent has.
    fn shape_gradient(&self, storage: Storage, g: &Geometry, k: usize, input: &Tensor) -> Result<Tensor> {
        if !g.places[k].partial {
            return Ok(bridge::tensor(storage, input.shape()));
        }
        let row = self.body.inputs[k].declared == Some(Extent::ROW);
        let mut dims = g.gradient_dims(k);
        if row {
            dims.pop();
        }
        let first = dims.len() - input.rank();
        let mut t = bridge::tensor(storage, &dims[..]);
        for (a, d) in dims.iter().enumerate() {
            let own = if a < first { 1 } else { input.dims()[a - first] };
            if own != *d {
                t = t.sum_keepdim(a)?;
            }
        }
        Ok(t.reshape(input.shape())?.to_dtype(input.dtype())?)
    }
}
