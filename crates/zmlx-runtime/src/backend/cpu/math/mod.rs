//! Elementary functions as straight-line arithmetic, so that a loop over them becomes SIMD.
//!
//! A function such as `f32::exp::<F>(x)` takes and gives one number, has no branch, no table and no call, and is
//! inlined. Called in a plain loop inside a [`Loop`](super::simd::Loop), it is compiled for each instruction set by
//! [`dispatch`](super::simd::dispatch), which also chooses `F`: [`Fused`](super::simd::Fused) where the machine has
//! a fused multiply-add, else [`Separate`](super::simd::Separate) (`mul_add` would be a library call there).
//!
//! ```text
//! impl Loop for Exp<'_> {
//!     fn run<F: Fma>(self) { for (y, x) in self.out.iter_mut().zip(self.x) { *y = math::f32::exp::<F>(*x) } }
//! }
//! dispatch(Exp { out, x })
//! ```
//!
//! The functions named `…_lanes` take whole slices instead: they look first whether all arguments lie in the range
//! of the fast loop, and otherwise go one by one through exact library functions (sin, cos, tan of huge arguments,
//! remainders of huge quotients).
//!
//! Errors against exact values, over all of f32 (`cargo run --release --example exhaustive_math`), in units in the
//! last place of the result, subnormal results included: see the table in `f32.rs`.

pub mod f32;
mod f32_lanes;
pub mod f64;
#[cfg(test)]
mod tests;
