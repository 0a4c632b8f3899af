//! Inputs that are tables, whose rows an index finds: how they are read, and how the gradient of what was read becomes
//! that of the table.

use crate::{Error, Op, Result, call::Few, geometry::Read, order};
use candle_core::Tensor;
use zmlx_ir::{Extent, program::Table};

impl Op {
    /// How each input is read, if it is a table.
    pub(crate) fn rows_read(&self, inputs: &[&Tensor]) -> Result<Few<Read>> {
        let b = &*self.body;
        let read = |(k, input): (usize, &crate::op::Input)| -> Result<Read> {
            let Some(by) = input.by else { return Ok(Read::default()) };
            let (t, index) = (inputs[k], inputs[by]);
            let row = input.declared == Some(Extent::ROW);
            let rank = if row { 1 } else { 2 };
            if t.rank() != rank {
                let expected = format!("one of rank {rank}, a table whose rows {} finds", b.inputs[by].name);
                return Err(Error::shape(&b.name, &input.name, expected, t.dims()));
            }
            let rows = rows_of(self, by, index)?;
            if t.dims()[0] == 0 && index.elem_count() > 0 {
                return Err(Error::shape(&b.name, &input.name, "rows, as its index has elements", t.dims()));
            }
            let table = Some(Table { by, pitch: t.stride()[0], rows: t.dims()[0] });
            let dims = rows.iter().chain(&t.dims()[1..]).copied().collect();
            let strides = rows.iter().map(|_| 0).chain(t.stride()[1..].iter().copied()).collect();
            Ok(Read { dims, strides, table })
        };
        b.inputs.iter().enumerate().map(read).collect()
    }

    /// The gradient of the table in slot `k` from that of the rows that were read, added in the order of the rows.
    pub(crate) fn add_to_table(&self, k: usize, table: &Tensor, inputs: &[&Tensor], read: &Tensor) -> Result<Tensor> {
        let Some(by) = self.body.inputs[k].by else { return Ok(read.clone()) };
        let cols: usize = table.dims()[1..].iter().product();
        let rows = read.reshape((inputs[by].elem_count(), cols))?;
        let sums = order::add_rows(inputs[by], &rows, table.dims()[0])?;
        Ok(sums.reshape(table.dims())?.to_dtype(table.dtype())?)
    }
}

/// The shape of the rows that an index has a value for.
fn rows_of<'t>(op: &Op, by: usize, index: &'t Tensor) -> Result<&'t [usize]> {
    let input = &op.body.inputs[by];
    match (input.declared == Some(Extent::ROW), index.dims().split_last()) {
        (true, _) => Ok(index.dims()),
        (false, Some((1, rows))) => Ok(rows),
        _ => Err(Error::shape(&op.body.name, &input.name, "a last dimension of 1: one index a row", index.dims())),
    }
}
