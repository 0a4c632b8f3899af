//! Time of each f32 function on a tile of 1024 elements in L1, on the best instruction set of this machine.

use std::{hint::black_box, time::Instant};
use zmlx_runtime::backend::cpu::{
    math::f32 as m,
    simd::{Fma, Loop, dispatch, name},
};

const TILE: usize = 1024;

/// A tile on a page of its own: neither split cache lines nor false store-to-load dependences.
#[repr(align(4096))]
struct Tile([f32; TILE]);

/// Smallest of many means.
fn time(name: &str, mut run: impl FnMut()) {
    const CALLS: usize = 500;
    let mut best = f64::INFINITY;
    for _ in 0..40 {
        let start = Instant::now();
        for _ in 0..CALLS {
            run();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / CALLS as f64);
    }
    println!("{name:12} {best:8.1} ns a tile {:7.2} elements a ns", TILE as f64 / best);
}

macro_rules! bench {
    ($($name:literal from $from:literal to $to:literal: |$f:ident, $x:ident| $body:expr;)*) => {$({
        struct Map<'a>(&'a mut [f32], &'a [f32]);
        impl Loop for Map<'_> {
            type Output = ();
            #[inline(always)]
            fn run<$f: Fma>(self) {
                for (y, x) in self.0.iter_mut().zip(self.1) {
                    let $x = *x;
                    *y = $body;
                }
            }
        }
        let mut x = Tile([0.0; TILE]);
        let mut y = Tile([0.0; TILE]);
        for (i, x) in x.0.iter_mut().enumerate() {
            *x = $from + ($to - $from) * i as f32 / TILE as f32;
        }
        time($name, || dispatch(Map(black_box(&mut y.0), black_box(&x.0))));
    })*};
}

fn main() {
    println!("{}", name());
    bench! {
        "copy" from -4.0 to 4.0: |_F, x| x;
        "recip" from 0.0 to 8.0: |_F, x| 1.0 / x;
        "sqrt" from 0.0 to 8.0: |_F, x| x.sqrt();
        "rsqrt" from 0.0 to 8.0: |_F, x| 1.0 / x.sqrt();
        "round" from -4.0 to 4.0: |_F, x| m::round(x);
        "sign" from -4.0 to 4.0: |_F, x| m::sign(x);
        "exp" from -4.0 to 4.0: |F, x| m::exp::<F>(x);
        "exp2" from -4.0 to 4.0: |F, x| m::exp2::<F>(x);
        "expm1" from -4.0 to 4.0: |F, x| m::expm1::<F>(x);
        "log" from 0.0 to 8.0: |F, x| m::log::<F>(x);
        "log2" from 0.0 to 8.0: |F, x| m::log2::<F>(x);
        "log1p" from 0.0 to 8.0: |F, x| m::log1p::<F>(x);
        "tanh" from -4.0 to 4.0: |F, x| m::tanh::<F>(x);
        "sigmoid" from -4.0 to 4.0: |F, x| m::sigmoid::<F>(x);
        "silu" from -4.0 to 4.0: |F, x| m::silu::<F>(x);
        "softplus" from -4.0 to 4.0: |F, x| m::softplus::<F>(x);
        "erf" from -4.0 to 4.0: |F, x| m::erf::<F>(x);
        "sin" from -4.0 to 4.0: |F, x| m::sin::<F>(x);
        "cos" from -4.0 to 4.0: |F, x| m::cos::<F>(x);
        "tan" from -4.0 to 4.0: |F, x| m::tan::<F>(x);
        "pow(x, x)" from 0.0 to 8.0: |F, x| m::pow::<F>(x, x);
        "pow(x, 1.7)" from 0.0 to 8.0: |F, x| m::pow::<F>(x, 1.7);
        "x % 1.7" from 0.0 to 8.0: |F, x| m::rem::<F>(x, 1.7).0;
    }
}
