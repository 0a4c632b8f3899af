//! Run-time choice of the instruction set. A loop is written once as plain Rust over slices; `dispatch` compiles it
//! for AVX-512, AVX2+FMA, NEON and the baseline, and runs the best one that the machine has.

use pulp::{Arch, Simd, WithSimd};

/// How `a·b + c` is computed: fused where the instruction set has it. (Without the instruction, `mul_add` is a slow
/// library call, so the baseline multiplies and adds.)
pub trait Fma: Copy {
    /// Is it fused, so rounded once?
    const FUSED: bool;
    /// a·b + c in f32.
    fn f32(a: f32, b: f32, c: f32) -> f32;
    /// a·b + c in f64.
    fn f64(a: f64, b: f64, c: f64) -> f64;
}

/// The instruction set has fused multiply-add.
#[derive(Clone, Copy)]
pub struct Fused;
/// It has not.
#[derive(Clone, Copy)]
pub struct Separate;

impl Fma for Fused {
    const FUSED: bool = true;
    #[inline(always)]
    fn f32(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn f64(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

impl Fma for Separate {
    const FUSED: bool = false;
    #[inline(always)]
    fn f32(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    fn f64(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

/// A loop to be compiled for each instruction set. `run` must be `#[inline(always)]`, and so must all it calls.
pub trait Loop {
    /// What it gives.
    type Output;
    /// The loop.
    fn run<F: Fma>(self) -> Self::Output;
}

struct Body<L>(L);

impl<L: Loop> WithSimd for Body<L> {
    type Output = L::Output;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> L::Output {
        if S::IS_SCALAR { self.0.run::<Separate>() } else { self.0.run::<Fused>() }
    }
}

/// Runs a loop on the best instruction set of this machine.
#[inline]
pub fn dispatch<L: Loop>(body: L) -> L::Output {
    Arch::new().dispatch(Body(body))
}

/// Name of that instruction set, for people.
pub fn name() -> &'static str {
    struct Name;
    impl WithSimd for Name {
        type Output = &'static str;
        fn with_simd<S: Simd>(self, _: S) -> &'static str {
            match S::F32_LANES {
                1 => "scalar",
                4 => "128-bit",
                8 => "AVX2+FMA",
                _ => "AVX-512",
            }
        }
    }
    Arch::new().dispatch(Name)
}
