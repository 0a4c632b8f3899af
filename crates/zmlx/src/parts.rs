//! One tensor given for several inputs of an operation, whose rows hold them side by side: its parts are views of it, and
//! their gradients are put together again, in the kernel that makes them where they can be.

use crate::{Error, Op, Result, call::Few, error::Mistake, op::Input};
use candle_core::{D, Tensor};
use zmlx_ir::{Extent, Program, program::Output};

/// What a call gives for one input, or for several that follow one another.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub name: String,
    /// The first input, and how many there are.
    pub slot: usize,
    pub count: usize,
    /// Their names when they were declared to be parts; none of an input that is given by itself.
    pub inputs: Vec<String>,
    /// Their first columns come first, then their second, and on.
    pub woven: bool,
}

/// What is given for these inputs, some of which are parts.
pub(crate) fn given(inputs: &[Input], parts: &[Parts]) -> Vec<Parts> {
    let mut given: Vec<Parts> = vec![];
    for (slot, input) in inputs.iter().enumerate() {
        match parts.iter().find(|p| (p.slot..p.slot + p.count).contains(&slot)) {
            Some(part) if part.slot == slot => given.push(part.clone()),
            Some(_) => {}
            None => given.push(Parts { name: input.name.clone(), slot, count: 1, inputs: vec![], woven: false }),
        }
    }
    given
}

/// What cannot be: parts of two tensors, or that later settings have parted or declared unlike each other.
pub(crate) fn misfit(inputs: &[Input], parts: &[Parts], given: &[Parts]) -> Option<Mistake> {
    let mistake =
        |p: &Parts, expected: String, got: String| Some(Mistake::Argument(format!("parts {}", p.name), expected, got));
    for (k, p) in parts.iter().enumerate() {
        let own = inputs.get(p.slot..p.slot + p.count).unwrap_or_default();
        if !own.iter().map(|i| &i.name).eq(&p.inputs) {
            let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
            return mistake(p, format!("neighbours among the inputs ({})", names.join(" ")), p.inputs.join(" "));
        }
        if let Some(name) = p.inputs.iter().find(|n| parts[..k].iter().any(|other| other.inputs.contains(n))) {
            return mistake(p, "inputs that are parts of nothing else".into(), name.clone());
        }
        if let Some(other) = own.iter().find(|i| i.declared != own[0].declared) {
            return mistake(p, format!("inputs declared like {}", own[0].name), other.name.clone());
        }
    }
    let twice = parts.iter().find(|p| given.iter().filter(|g| g.name == p.name).count() > 1);
    twice.and_then(|p| mistake(p, "a name of its own".into(), p.name.clone()))
}

impl Parts {
    /// Part `k` of a tensor: a view, but of a tensor that is not contiguous and whose parts take turns. `row`: without the
    /// axis that they lie along.
    fn part(&self, t: &Tensor, k: usize, row: bool) -> candle_core::Result<Tensor> {
        let last = t.rank() - 1;
        let cols = t.dims()[last] / self.count;
        match self.woven {
            _ if row => t.get_on_dim(last, k),
            false => t.narrow(D::Minus1, k * cols, cols),
            true => t.reshape([&t.dims()[..last], &[cols, self.count]].concat())?.get_on_dim(last + 1, k),
        }
    }

    /// Puts the gradients of all parts side by side, if the Program makes them and all have rows. `partial`: inputs
    /// whose gradients are summed afterwards.
    pub fn join(&self, program: &mut Program, slots: &[usize], partial: u64) {
        let Some(first) = slots.iter().position(|s| *s == self.slot).filter(|_| self.count > 1) else { return };
        let Some(outputs) = program.outputs.get_mut(first..first + self.count) else { return };
        let all = slots[first..].iter().zip(self.slot..self.slot + self.count).all(|(a, b)| *a == b);
        let summed = partial >> self.slot & 1 == 1;
        let alike = |o: &Output| o.extent == outputs[0].extent && o.dtype == outputs[0].dtype;
        let lies = matches!(outputs[0].extent, Extent::ELEM | Extent::ROW);
        if all && !summed && lies && outputs.iter().all(alike) {
            for (k, o) in outputs.iter_mut().enumerate() {
                (o.column, o.woven) = (Some(k as u32), self.woven && o.extent == Extent::ELEM);
            }
        }
    }
}

impl Op {
    /// Calls `f` with the inputs, parts in the place of what they are parts of.
    pub(crate) fn with_parts<T>(&self, given: &[&Tensor], f: impl FnOnce(&[&Tensor]) -> Result<T>) -> Result<T> {
        self.check(given)?;
        if !self.body.has_parts() {
            return f(given);
        }
        let mut inputs: Few<Tensor> = Few::new();
        for (t, parts) in given.iter().zip(&self.body.given) {
            if !self.body.parts.iter().any(|p| p.slot == parts.slot) {
                inputs.push((*t).clone());
                continue;
            }
            let last = t.dims().last().copied().unwrap_or(0);
            let row = self.body.inputs[parts.slot].declared == Some(Extent::ROW);
            if t.rank() == 0 || !last.is_multiple_of(parts.count) || (row && last != parts.count) {
                let multiple = if row { "" } else { "a multiple of " };
                let expected = format!("a last dimension of {multiple}{}, the parts side by side", parts.count);
                return Err(Error::shape(&self.body.name, &parts.name, expected, t.dims()));
            }
            let t = t.detach();
            for k in 0..parts.count {
                inputs.push(parts.part(&t, k, row)?);
            }
        }
        let inputs: Few<&Tensor> = inputs.iter().collect();
        f(&inputs)
    }

    /// The inputs that these tensors are given for.
    pub(crate) fn spread(&self, given: &[usize]) -> Few<usize> {
        given.iter().map(|k| &self.body.given[*k]).flat_map(|p| p.slot..p.slot + p.count).collect()
    }

    /// The gradient of what is given in place `k`, from those of the inputs.
    pub(crate) fn join<'t>(
        &self,
        k: usize,
        given: &Tensor,
        found: impl Fn(usize) -> Option<&'t Tensor>,
    ) -> Result<Tensor> {
        let missing = || Error::internal("a gradient was not computed");
        let Parts { slot, count, woven, .. } = self.body.given[k];
        let first = found(slot).ok_or_else(missing)?;
        if count == 1 || first.elem_count() == given.elem_count() {
            // which would copy a view
            return Ok(if first.shape() == given.shape() { first.clone() } else { first.reshape(given.shape())? });
        }
        let all: Vec<&Tensor> = (slot..slot + count).map(|k| found(k).ok_or_else(missing)).collect::<Result<_>>()?;
        let joined = if woven { Tensor::stack(&all, D::Minus1) } else { Tensor::cat(&all, D::Minus1) };
        Ok(joined?.reshape(given.shape())?)
    }
}
