//! Loads from strided views and stores to windows, with the conversions between memory and compute types.

use super::{
    exec::{Domain, OutLane, Window},
    lanes::{self, Arith, Convert, Src, Wide},
    simd::{Fma, Loop, dispatch},
    stream,
};
use crate::{Launch, Slice};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use std::ops::Range;
use zmlx_ir::DType;

/// First element of a row of a view.
#[inline]
pub fn row_start(launch: &Launch<'_>, slot: usize, mut row: usize) -> usize {
    let view = &launch.inputs[slot];
    if let Some(table) = view.table {
        return view.offset + found(launch, table.by, row) as usize * table.pitch;
    }
    if let [stride] = view.row_strides {
        return view.offset + row * stride;
    }
    let mut at = view.offset;
    // the first row of none is that of an input without rows, too
    for (dim, stride) in launch.row_dims.iter().zip(view.row_strides).rev() {
        if row == 0 {
            break;
        }
        at += (row % dim) * stride;
        row /= dim;
    }
    at
}

/// The row of a table that input `by` finds for a row.
pub fn found(launch: &Launch<'_>, by: usize, row: usize) -> i64 {
    i64::read(launch.inputs[by].data, row_start(launch, by, row))
}

/// Where the lanes of a domain lie side by side, if they do.
pub fn flat_range(launch: &Launch<'_>, slot: usize, first_row: usize, d: Domain) -> Option<Range<usize>> {
    let view = &launch.inputs[slot];
    let Domain::Tile { row, rows, col, width } = d else { return None };
    if !view.lies_flat(width) {
        return None;
    }
    if rows > 1 {
        if view.table.is_some() {
            return None;
        }
        // whole rows that follow each other: the innermost row stride is the width and the outer ones continue it
        let mut expected = width;
        for (dim, stride) in launch.row_dims.iter().zip(view.row_strides).rev() {
            if *dim > 1 && *stride != expected {
                return None;
            }
            expected *= dim;
        }
    }
    let start = row_start(launch, slot, first_row + row) + col * view.col_stride;
    Some(start..start + rows * width)
}

/// A type that memory of any dtype converts to.
pub trait FromMemory: OutLane + Arith {
    fn read(data: Slice<'_>, i: usize) -> Self;
    fn read_run(data: Slice<'_>, range: Range<usize>, out: &mut [Self]);
}

macro_rules! from_memory {
    ($($t:ident),*) => {$(
        impl FromMemory for $t {
            #[inline]
            fn read(data: Slice<'_>, i: usize) -> $t {
                match data {
                    Slice::U8(v) => v[i] as $t,
                    Slice::I16(v) => v[i] as $t,
                    Slice::I32(v) => v[i] as $t,
                    Slice::U32(v) => v[i] as $t,
                    Slice::I64(v) => v[i] as $t,
                    Slice::F16(v) => v[i].to_f32() as $t,
                    Slice::BF16(v) => v[i].to_f32() as $t,
                    Slice::F32(v) => v[i] as $t,
                    Slice::F64(v) => v[i] as $t,
                }
            }
            fn read_run(data: Slice<'_>, range: Range<usize>, out: &mut [$t]) {
                if let Some(v) = <$t as OutLane>::slice(data) {
                    return out.copy_from_slice(&v[range]);
                }
                if <$t>::read_half(data, range.clone(), out) {
                    return;
                }
                for (out, i) in out.iter_mut().zip(range) {
                    *out = <$t>::read(data, i);
                }
            }
        }
    )*};
}
from_memory!(f32, f64, i64, i32, i16, u32, u8);

/// The fast paths for 16-bit floats, which are read as f32 only.
trait ReadHalf: Sized {
    fn read_half(_: Slice<'_>, _: Range<usize>, _: &mut [Self]) -> bool {
        false
    }
}
impl ReadHalf for f64 {}
impl ReadHalf for i64 {}
impl ReadHalf for i32 {}
impl ReadHalf for i16 {}
impl ReadHalf for u32 {}
impl ReadHalf for u8 {}
impl ReadHalf for f32 {
    fn read_half(data: Slice<'_>, range: Range<usize>, out: &mut [f32]) -> bool {
        struct Widen<'a>(&'a mut [f32], &'a [bf16]);
        impl Loop for Widen<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                for (y, x) in self.0.iter_mut().zip(self.1) {
                    *y = x.wide();
                }
            }
        }
        match data {
            Slice::BF16(v) => dispatch(Widen(out, &v[range])),
            Slice::F16(v) => v[range].convert_to_f32_slice(out),
            _ => return false,
        }
        true
    }
}

/// Fills lanes from an input, over any domain.
pub fn load<T: FromMemory>(launch: &Launch<'_>, slot: usize, first_row: usize, d: Domain, out: &mut [T]) {
    let view = &launch.inputs[slot];
    if let Some(range) = flat_range(launch, slot, first_row, d) {
        return T::read_run(view.data, range, out);
    }
    match d {
        Domain::Tile { row, rows, col, width } => {
            for r in 0..rows {
                let start = row_start(launch, slot, first_row + row + r) + col * view.col_stride;
                read_strided(view.data, start, view.col_stride, &mut out[r * width..(r + 1) * width]);
            }
        }
        Domain::Rows { count } => {
            for (r, out) in out[..count].iter_mut().enumerate() {
                *out = T::read(view.data, row_start(launch, slot, first_row + r));
            }
        }
        Domain::Cols { first, .. } => {
            read_strided(view.data, view.offset + first * view.col_stride, view.col_stride, out);
        }
        Domain::Scalar => out[0] = T::read(view.data, view.offset),
    }
}

fn read_strided<T: FromMemory>(data: Slice<'_>, start: usize, stride: usize, out: &mut [T]) {
    match stride {
        1 => T::read_run(data, start..start + out.len(), out),
        0 => {
            let v = T::read(data, start);
            out.fill(v);
        }
        _ => {
            for (i, out) in out.iter_mut().enumerate() {
                *out = T::read(data, start + i * stride);
            }
        }
    }
}

/// One element of an input, None where the column is out of range.
pub fn element<T: FromMemory>(launch: &Launch<'_>, slot: usize, row: usize, col: i64) -> Option<T> {
    let view = &launch.inputs[slot];
    let col = usize::try_from(col).ok().filter(|c| *c < launch.cols)?;
    Some(T::read(view.data, row_start(launch, slot, row) + col * view.col_stride))
}

/// Converts lanes into a window. Floats are rounded once, here; to an integer they saturate.
pub fn store<T: Arith + ToMemory>(window: &mut Window<'_>, range: Range<usize>, x: Src<'_, T>) {
    // A window of a Row output is filled over the rows; one value may stand for all.
    match window {
        Window::U8(w) => lanes::cast::<T, u8>(&mut w[range], x, DType::U8),
        Window::I16(w) => lanes::cast::<T, i16>(&mut w[range], x, DType::I16),
        Window::I32(w) => lanes::cast::<T, i32>(&mut w[range], x, DType::I32),
        Window::U32(w) => lanes::cast::<T, u32>(&mut w[range], x, DType::U32),
        Window::I64(w) => lanes::cast::<T, i64>(&mut w[range], x, DType::I64),
        Window::F32(w) => lanes::cast::<T, f32>(&mut w[range], x, DType::F32),
        Window::F64(w) => lanes::cast::<T, f64>(&mut w[range], x, DType::F64),
        Window::F16(w) => T::store_f16(&mut w[range], x),
        Window::BF16(w) => T::store_bf16(&mut w[range], x),
    }
}

/// Converts so many lanes into places of a window that are `step` apart.
pub fn store_strided<T: Arith + ToMemory>(
    window: &mut Window<'_>,
    start: usize,
    step: usize,
    count: usize,
    x: Src<'_, T>,
) {
    if step == 1 {
        return store(window, start..start + count, x);
    }
    macro_rules! each {
        ($w:ident, $store:expr) => {
            for (i, place) in $w[start..].iter_mut().step_by(step).take(count).enumerate() {
                $store(std::slice::from_mut(place), x.part(i, 1));
            }
        };
    }
    match window {
        Window::U8(w) => each!(w, |place, x| lanes::cast(place, x, DType::U8)),
        Window::I16(w) => each!(w, |place, x| lanes::cast(place, x, DType::I16)),
        Window::I32(w) => each!(w, |place, x| lanes::cast(place, x, DType::I32)),
        Window::U32(w) => each!(w, |place, x| lanes::cast(place, x, DType::U32)),
        Window::I64(w) => each!(w, |place, x| lanes::cast(place, x, DType::I64)),
        Window::F32(w) => each!(w, |place, x| lanes::cast(place, x, DType::F32)),
        Window::F64(w) => each!(w, |place, x| lanes::cast(place, x, DType::F64)),
        Window::F16(w) => each!(w, T::store_f16),
        Window::BF16(w) => each!(w, T::store_bf16),
    }
}

/// 16-bit floats on their way to memory past the caches.
#[derive(Debug, Default)]
pub struct Halves {
    f16: Vec<f16>,
    bf16: Vec<bf16>,
}

/// As `store`, past the caches where the types allow it.
pub fn stream<T: Arith + OutLane + ToMemory>(
    window: &mut Window<'_>,
    range: Range<usize>,
    x: Src<'_, T>,
    staging: &mut Halves,
) {
    match window {
        Window::F16(w) => {
            staging.f16.resize(range.len(), f16::ZERO);
            T::store_f16(&mut staging.f16, x);
            stream::copy(&staging.f16, &mut w[range]);
        }
        Window::BF16(w) => T::stream_bf16(&mut w[range], x, &mut staging.bf16),
        window => match (x, T::take(window)) {
            (Src::Lanes(x), Some(w)) => {
                stream::copy(x, &mut w[range]);
                T::restore(window, w);
            }
            (x, Some(w)) => {
                T::restore(window, w);
                store(window, range, x);
            }
            (x, None) => store(window, range, x),
        },
    }
}

/// A lane type that converts to every memory type.
pub trait ToMemory:
    Convert<u8> + Convert<i16> + Convert<i32> + Convert<u32> + Convert<i64> + Convert<f32> + Convert<f64>
{
    fn store_f16(out: &mut [f16], x: Src<'_, Self>)
    where
        Self: Sized;
    fn store_bf16(out: &mut [bf16], x: Src<'_, Self>)
    where
        Self: Sized;
    /// As `store_bf16`, past the caches.
    fn stream_bf16(out: &mut [bf16], x: Src<'_, Self>, staging: &mut Vec<bf16>)
    where
        Self: Sized,
    {
        staging.resize(out.len(), bf16::ZERO);
        Self::store_bf16(staging, x);
        stream::copy(staging, out);
    }
}

/// Elements from this place on, as f32.
pub fn widen(data: &Slice<'_>, start: usize, out: &mut [f32]) {
    f32::read_run(*data, start..start + out.len(), out);
}

/// Round to nearest even; NaN stays NaN.
#[inline(always)]
pub fn to_bf16(v: f32) -> bf16 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    bf16::from_bits(if v.is_nan() { nan } else { rounded } as u16)
}

impl ToMemory for f32 {
    fn store_f16(out: &mut [f16], x: Src<'_, f32>) {
        match x {
            Src::Lanes(x) => out.convert_from_f32_slice(x),
            Src::Splat(v) => out.fill(f16::from_f32(v)),
        }
    }
    fn store_bf16(out: &mut [bf16], x: Src<'_, f32>) {
        struct Narrow<'a>(&'a mut [bf16], &'a [f32]);
        impl Loop for Narrow<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                for (y, x) in self.0.iter_mut().zip(self.1) {
                    *y = to_bf16(*x);
                }
            }
        }
        match x {
            Src::Lanes(x) => dispatch(Narrow(out, x)),
            Src::Splat(v) => out.fill(to_bf16(v)),
        }
    }
    fn stream_bf16(out: &mut [bf16], x: Src<'_, f32>, _: &mut Vec<bf16>) {
        match x {
            Src::Lanes(x) => stream::narrow(x, out),
            Src::Splat(v) => out.fill(to_bf16(v)),
        }
    }
}

macro_rules! to_memory {
    ($($t:ident),*) => {$(
        impl ToMemory for $t {
            fn store_f16(out: &mut [f16], x: Src<'_, $t>) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = f16::from_f64(x.at(i) as f64);
                }
            }
            fn store_bf16(out: &mut [bf16], x: Src<'_, $t>) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = bf16::from_f64(x.at(i) as f64);
                }
            }
        }
    )*};
}
to_memory!(f64, i64, i32, i16, u32, u8);
