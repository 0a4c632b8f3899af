//! Largest error of each f32 function over all its arguments, in units in the last place, against f64. Some minutes;
//! a number as argument takes every n-th bit pattern only.

use std::thread;
use zmlx_runtime::backend::cpu::{
    math::f32 as m,
    simd::{Fma, Loop, dispatch, name},
};

/// A function under test.
trait Function: Copy + Send + Sync {
    fn at<F: Fma>(self, x: f32) -> f32;
}

struct Map<'a, G>(&'a mut [f32], &'a [f32], G);
impl<G: Function> Loop for Map<'_, G> {
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        for (y, x) in self.0.iter_mut().zip(self.1) {
            *y = self.2.at::<F>(*x);
        }
    }
}

/// Distance in units in the last place of `want`; what should be NaN, ∞ or ±0 must be so.
fn ulps(got: f32, want: f64) -> f64 {
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if (want as f32).is_infinite() || want == 0.0 {
        return if got.to_bits() == (want as f32).to_bits() { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    (f64::from(got) - want).abs() * 2f64.powi(23 - exponent)
}

fn sweep(name: &str, g: impl Function, exact: fn(f64) -> f64, step: u64, most: f32) {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = |first: u64| {
        let mut worst = (0.0, 0f32, 0f32);
        let (mut x, mut y) = (vec![0f32; 4096], vec![0f32; 4096]);
        let mut at = first * step;
        while at <= u64::from(u32::MAX) {
            for x in &mut x {
                *x = f32::from_bits(at.min(u64::from(u32::MAX)) as u32);
                at += threads * step;
            }
            dispatch(Map(&mut y, &x, g));
            for (x, y) in x.iter().zip(&y).filter(|(x, _)| x.is_nan() || x.abs() <= most) {
                let e = ulps(*y, exact(f64::from(*x)));
                if e > worst.0 {
                    worst = (e, *x, *y);
                }
            }
        }
        worst
    };
    let part = &part;
    let worst = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|i| scope.spawn(move || part(i))).collect();
        handles
            .into_iter()
            .map(|h| h.join().expect("a sweep panicked"))
            .fold((0.0, 0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
    });
    let (e, x, y) = worst;
    println!("{name:9} {e:7.3}   at {x:15e} = {:08x}   {y:15e}", x.to_bits());
}

macro_rules! sweeps {
    ($step:expr; $($name:ident $(up to $most:literal)?: |$x:ident| $exact:expr;)*) => {$({
        #[derive(Clone, Copy)]
        struct G;
        impl Function for G {
            #[inline(always)]
            fn at<F: Fma>(self, x: f32) -> f32 {
                m::$name::<F>(x)
            }
        }
        let most = [f32::INFINITY $(, $most)?];
        sweep(stringify!($name), G, |$x| $exact, $step, most[most.len() - 1]);
    })*};
}

fn sigmoid(x: f64) -> f64 {
    if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

fn main() {
    let step = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    println!("{}, every {step}. bit pattern\nfunction     ulp   at                                      gives", name());
    sweeps! { step;
        exp: |x| x.exp();
        exp2: |x| x.exp2();
        expm1: |x| x.exp_m1();
        log: |x| x.ln();
        log2: |x| x.log2();
        log1p: |x| x.ln_1p();
        tanh: |x| x.tanh();
        sigmoid: |x| sigmoid(x);
        silu up to 87.0: |x| x * sigmoid(x);
        softplus: |x| if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() };
        erf: |x| zmlx_ir::erf::erf(x);
        sin up to 1_048_576.0: |x| x.sin();
        cos up to 1_048_576.0: |x| x.cos();
        tan up to 1_048_576.0: |x| x.tan();
    }
}
