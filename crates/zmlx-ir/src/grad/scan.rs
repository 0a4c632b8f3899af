//! Gradients of scans: each is a scan the other way.

use super::{GradError, algebra, walk::Stop};
use crate::{
    Op,
    program::{Id, Program, Scan, ScanOp},
};

/// The contribution of scan `id` with cotangent `g` to its argument, and whether it picked elements.
///
/// With H the adjoint of the running value (for a forward scan; a reverse one is its mirror image):
/// - sum:  dxᵢ = gᵢ + gᵢ₊₁ + …
/// - prod: Hᵢ = gᵢ + xᵢ₊₁·Hᵢ₊₁ and dxᵢ = Hᵢ · product of those before i: right where some are zero
/// - max:  Hᵢ = gᵢ + (position i+1 keeps the maximum ? Hᵢ₊₁ : 0) and dxᵢ = position i sets the maximum ? Hᵢ : 0
pub(super) fn scan(p: &mut Program, id: Id, scan: Scan, g: Id, guarded: bool) -> Result<(Id, bool), Stop> {
    let x = p.node(id).args[0];
    let dtype = p.node(id).dtype;
    let back = Scan { reverse: !scan.reverse, ..scan };
    let recurrence = Scan { op: ScanOp::Affine, ..back };
    let before = Scan { exclusive: true, ..scan };
    match scan.op {
        ScanOp::Sum => Ok((p.scan(back, &[g]), false)),
        ScanOp::Prod if !scan.exclusive => {
            let h = p.scan(recurrence, &[x, g]);
            let before = p.scan(before, &[x]);
            Ok((algebra::times(p, h, before, guarded), false))
        }
        ScanOp::Max if !scan.exclusive => {
            let before = p.scan(before, &[x]);
            let at_least = p.op(Op::Ge, &[before, x]);
            let nan = p.op(Op::IsNan, &[before]);
            let keeps = p.op(Op::Or, &[at_least, nan]);
            let (zero, one) = (p.constant(dtype, 0.0), p.constant(dtype, 1.0));
            let factor = p.op(Op::Select, &[keeps, one, zero]);
            let h = p.scan(recurrence, &[factor, g]);
            Ok((p.op(Op::Select, &[keeps, zero, h]), true))
        }
        _ => Err(GradError::at(p, id, "this scan, itself part of a gradient, has no derived gradient").into()),
    }
}
