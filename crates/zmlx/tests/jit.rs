//! `#[jit]`: the operation gives what the plain function gives, construct by construct. Many of these compile to a
//! wrong kernel in ZMLX's `jit`, silently.

use zmlx::prelude::*;

type Test = Result<(), Box<dyn std::error::Error>>;

const XS: [f32; 9] = [-3.5, -1.0, -0.25, -0.0, 0.0, 0.5, 1.0, 2.75, 100.0];

/// The operation on all of `XS`, beside the plain function.
fn same(op: zmlx::Result<Op>, plain: fn(f32) -> f32) -> Test {
    let x = Tensor::new(&XS, &Device::Cpu)?;
    let got = op?.call(&x)?.to_vec1::<f32>()?;
    for (x, got) in XS.iter().zip(got) {
        let want = plain(*x);
        let close = (got - want).abs() <= 1e-6 * want.abs().max(1.0);
        assert!(close || (got.is_nan() && want.is_nan()), "f({x}) = {want}, the operation gives {got}");
    }
    Ok(())
}

macro_rules! agree {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() -> Test {
            #[allow(unused)]
            use functions::$name;
            same($name::op(), $name)
        }
    )*};
}

agree!(
    compound_assignments,
    early_returns,
    a_return_in_every_branch,
    a_return_inside_a_loop,
    ifs_as_values,
    assignments_in_branches,
    else_if_chains,
    loops_accumulate,
    loops_with_steps,
    loops_with_counters_of_others,
    reassignment,
    shadowing,
    annotated,
    boolean_operators,
    casts,
    integer_literals_divide_as_integers,
    powers_and_remainders,
    maximum_of_nan,
    constants,
    calls,
    blocks,
    methods_by_path,
    signs,
    mutable_parameters,
    activations,
);

/// Code as people write it, and as clippy would not have it.
#[allow(clippy::all)]
mod functions {
    use zmlx::{FloatExt, jit};

    #[jit]
    pub fn compound_assignments(x: f32) -> f32 {
        let mut a = x;
        a += 1.0;
        a *= 2.0;
        a -= x / 4.0;
        a /= 3.0;
        a %= 5.0;
        a
    }

    #[jit]
    pub fn early_returns(x: f32) -> f32 {
        if x < -2.0 {
            return -2.0;
        }
        let y = x * x;
        if y > 4.0 {
            if x > 50.0 {
                return 4.0;
            }
            return 3.0;
        }
        y
    }

    #[jit]
    #[allow(clippy::needless_return)]
    pub fn a_return_in_every_branch(x: f32) -> f32 {
        if x > 0.0 {
            return x;
        } else {
            return -2.0 * x;
        }
    }

    #[jit]
    pub fn a_return_inside_a_loop(x: f32) -> f32 {
        let mut a = x;
        for i in 0..6 {
            if a > 10.0 {
                return a + i as f32;
            }
            a = a * 2.0 + 1.0;
        }
        -a
    }

    #[jit]
    pub fn ifs_as_values(x: f32) -> f32 {
        let a = if x > 0.0 { x } else { 0.1 * x };
        a + if a > 1.0 { 1.0 } else { a * a }
    }

    #[jit]
    pub fn assignments_in_branches(x: f32) -> f32 {
        let mut a = 1.0;
        let mut b = x;
        if x > 0.5 {
            a = x;
            if x > 2.0 {
                b += a;
                let mut a = b;
                a += 100.0;
                b -= a / 50.0;
            }
        } else {
            b = b * a - 3.0;
        }
        a * 10.0 + b
    }

    #[jit]
    pub fn else_if_chains(x: f32) -> f32 {
        let mut hits = 0;
        let y = if x < -1.0 {
            hits += 1;
            -1.0
        } else if x < 1.0 {
            hits += 2;
            x
        } else if x < 2.0 {
            return 7.0;
        } else {
            hits += 3;
            1.0
        };
        y + hits as f32
    }

    #[jit]
    pub fn loops_accumulate(x: f32) -> f32 {
        let mut term = 1.0;
        let mut sum = 0.0;
        for i in 1..=5 {
            sum += term;
            term = term * (x / 16.0) / i as f32;
        }
        sum
    }

    #[jit]
    pub fn loops_with_steps(x: f32) -> f32 {
        let mut a = x;
        for i in (0..10).step_by(3).rev() {
            a = a * 0.5 + i as f32;
        }
        for _ in 0..2 {
            a += 1.0;
        }
        a
    }

    #[jit]
    pub fn loops_with_counters_of_others(x: f32) -> f32 {
        const ROWS: i32 = 3;
        let mut a = 0.0;
        for i in 0..ROWS {
            for j in i..ROWS + 1 {
                a += x * (i * 10 + j) as f32;
            }
        }
        a
    }

    #[jit]
    pub fn reassignment(x: f32) -> f32 {
        let mut a = x;
        a = a * 2.0;
        a = a * a;
        a
    }

    #[jit]
    pub fn shadowing(x: f32) -> f32 {
        let x = x + 1.0;
        let x = if x > 0.0 {
            let x = x * 3.0;
            x
        } else {
            x
        };
        x
    }

    #[jit]
    pub fn annotated(x: f32) -> f32 {
        let n: i32 = 3;
        let y: f32 = x * 2.0;
        let big: bool = y > 1.0;
        if big { y * n as f32 } else { y }
    }

    #[jit]
    pub fn boolean_operators(x: f32) -> f32 {
        let inside = x > -2.0 && x < 2.0;
        let odd = !inside || x == 0.5;
        let a = if inside & odd { 1.0 } else { 2.0 };
        let b = if inside ^ (x >= 1.0) { 10.0 } else { 20.0 };
        let c = if x != 1.0 && (odd || x <= -1.0) { 100.0 } else { 200.0 };
        a + b + c
    }

    #[jit]
    pub fn casts(x: f32) -> f32 {
        let whole = (x * 1000.0) as i32;
        let byte = whole as u8;
        let saturated = (x * 1000.0) as u8;
        byte as f32 + saturated as f32 * 1000.0 + (whole > 3) as i32 as f32
    }

    #[jit]
    pub fn integer_literals_divide_as_integers(x: f32) -> f32 {
        let half = 1 / 2;
        let n = (7 / 2 + half) as f32;
        x * n + (-7 / 2) as f32 + (-7 % 3) as f32 + (1 << 3) as f32 + (!5 & 0xff) as f32
    }

    #[jit]
    pub fn powers_and_remainders(x: f32) -> f32 {
        x.powi(3) + x.abs().powf(1.5) + x % 0.75 + (x * x).sqrt()
    }

    #[jit]
    pub fn maximum_of_nan(x: f32) -> f32 {
        let nan = (x - x) / (x - x);
        nan.max(x) + x.max(nan).min(1.0) + x.clamp(-1.0, 2.0)
    }

    const SCALE: f32 = 0.1;

    #[jit]
    pub fn constants(x: f32) -> f32 {
        x * SCALE + std::f32::consts::PI + if x < f32::INFINITY { 1.0 } else { 2.0 }
    }

    #[jit]
    pub fn leaky(x: f32, alpha: f32) -> f32 {
        if x > 0.0 { x } else { alpha * x }
    }

    mod inner {
        #[zmlx::jit]
        pub fn square(x: f32) -> f32 {
            x * x
        }
    }

    #[jit]
    pub fn calls(x: f32) -> f32 {
        leaky(x, 0.1) + inner::square(leaky(-x, SCALE))
    }

    #[jit]
    pub fn blocks(x: f32) -> f32 {
        let y = {
            let t = x * 0.5;
            t * t
        };
        {
            let z = y + 1.0;
            z * 2.0
        }
    }

    #[jit]
    pub fn methods_by_path(x: f32) -> f32 {
        f32::max(f32::exp(f32::min(x, 1.0)), 0.5)
    }

    #[jit]
    pub fn signs(x: f32) -> f32 {
        -(x as i32).signum() as f32 + (x as i32).abs() as f32 - -x + x.trunc() + x.round() + x.floor() * 0.5
    }

    #[jit]
    pub fn mutable_parameters(mut x: f32) -> f32 {
        x += 1.0;
        if x > 1.0 {
            x = x.sqrt();
        }
        x
    }

    #[jit]
    pub fn activations(x: f32) -> f32 {
        x.sigmoid() + x.silu() + x.gelu() + x.gelu_erf() + x.softplus() + x.relu() + x.square() + (x + 4.0).rsqrt()
    }

    #[jit]
    pub fn mixed(a: i64, b: u8, flip: bool) -> i64 {
        let wide = a * 3 + b as i64;
        let low = (b + 200) as i64;
        if flip { wide >> 1 } else { low | 1 }
    }

    #[jit]
    pub fn positive(x: f32) -> bool {
        x > 0.0
    }

    #[jit]
    pub fn endless(x: f32) -> f32 {
        let mut a = x;
        for _ in 0..1_000_000_000 {
            a += 1.0;
        }
        a
    }

    #[jit]
    pub fn in_double(x: f64) -> f64 {
        (x + 1e-12) * 0.1
    }
}
use functions::*;

#[test]
fn integers_stay_integers() -> Test {
    let (a, b) = ([5i64, -9, i64::MAX, 7], [3u8, 60, 100, 255]);
    for flip in [0u8, 1] {
        let inputs =
            [Tensor::new(&a, &Device::Cpu)?, Tensor::new(&b, &Device::Cpu)?, Tensor::new(&[flip; 4], &Device::Cpu)?];
        let got = mixed::op()?.call(&inputs)?.to_vec1::<i64>()?;
        let want: Vec<i64> = (0..4)
            .map(|i| match flip {
                // as `mixed`, with the wrapping of kernels
                1 => a[i].wrapping_mul(3).wrapping_add(i64::from(b[i])) >> 1,
                _ => i64::from(b[i].wrapping_add(200)) | 1,
            })
            .collect();
        assert_eq!(got, want);
    }
    assert_eq!(mixed(5, 3, true), 9);
    Ok(())
}

#[test]
fn a_truth_value_is_stored_as_u8() -> Test {
    let y = positive::op()?.call(&Tensor::new(&[-1f32, 2.0], &Device::Cpu)?)?;
    assert_eq!(y.to_vec1::<u8>()?, [0, 1]);
    assert!(positive(1.0));
    Ok(())
}

#[test]
fn double_precision_computes_in_double() -> Test {
    let x = [1f64, 3.0];
    let y = in_double::op()?.call(&Tensor::new(&x, &Device::Cpu)?)?.to_vec1::<f64>()?;
    assert_eq!(y, [in_double(1.0), in_double(3.0)]);
    Ok(())
}

#[test]
fn gradients_follow_the_branch_taken() -> Test {
    let x = Var::new(&[-2f32, 0.5, 3.0], &Device::Cpu)?;
    let alpha = Var::new(&[0.1f32, 0.1, 0.1], &Device::Cpu)?;
    let y = leaky::op()?.call(&[&x, &alpha])?;
    let grads = y.sum_all()?.backward()?;
    assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>()?, [0.1, 1.0, 1.0]);
    assert_eq!(grads.get(&alpha).unwrap().to_vec1::<f32>()?, [-2.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn a_function_works_inside_a_closure() -> Test {
    let op = elementwise_fn(["x", "a"], |[x, a]| leaky::expr(x, a) + 1.0)?;
    let x = Tensor::new(&[-2f32, 3.0], &Device::Cpu)?;
    let a = Tensor::new(0.5f32, &Device::Cpu)?;
    assert_eq!(op.call(&[&x, &a])?.to_vec1::<f32>()?, [0.0, 4.0]);
    Ok(())
}

#[test]
fn half_floats_and_every_shape_work() -> Test {
    use candle_core::DType;
    let x = Tensor::new(&[[-2f32, 3.0, 0.5]], &Device::Cpu)?.t()?;
    for dtype in [DType::F16, DType::BF16] {
        let y = loops_accumulate::op()?.call(&x.to_dtype(dtype)?)?;
        assert_eq!((y.dims(), y.dtype()), (&[3, 1][..], dtype));
    }
    for count in [0usize, 1, 4, 1025] {
        let x = Tensor::full(2f32, count, &Device::Cpu)?;
        assert_eq!(reassignment::op()?.call(&x)?.to_vec1::<f32>()?, vec![16.0; count]);
    }
    Ok(())
}

#[test]
fn a_loop_without_bound_is_an_error() {
    let e = endless::op().unwrap_err().to_string();
    assert!(e.contains("a loop of more than 4096 turns"), "{e}");
}
