//! The functions of formulas that Rust's floats lack, so that a `#[jit]` function which uses them stays plain Rust.

/// Activations and their kin on `f32` and `f64`, named and defined as in formulas; computed in f64.
pub trait FloatExt: Sized {
    /// 1 / (1 + exp(−x)), without overflow.
    fn sigmoid(self) -> Self;
    /// x · sigmoid(x)
    fn silu(self) -> Self;
    /// GELU, the tanh form.
    fn gelu(self) -> Self;
    /// GELU, the exact form: x · Φ(x).
    fn gelu_erf(self) -> Self;
    /// ln(1 + exp(x)), without overflow.
    fn softplus(self) -> Self;
    /// x, and 0 below 0; NaN stays NaN.
    fn relu(self) -> Self;
    /// 1 / sqrt(x)
    fn rsqrt(self) -> Self;
    /// x · x
    fn square(self) -> Self;
}

impl FloatExt for f64 {
    fn sigmoid(self) -> f64 {
        1.0 / (1.0 + (-self).exp())
    }
    fn silu(self) -> f64 {
        // x / ∞ is the limit, where x · 0 would lose its digits
        self / (1.0 + (-self).exp())
    }
    fn gelu(self) -> f64 {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (self + 0.044715 * self * self * self);
        0.5 * self * (1.0 + inner.tanh())
    }
    fn gelu_erf(self) -> f64 {
        0.5 * self * (1.0 + zmlx_ir::erf::erf(self * std::f64::consts::FRAC_1_SQRT_2))
    }
    fn softplus(self) -> f64 {
        self.max(0.0) + (-self.abs()).exp().ln_1p()
    }
    fn relu(self) -> f64 {
        if self > 0.0 || self.is_nan() { self } else { 0.0 }
    }
    fn rsqrt(self) -> f64 {
        1.0 / self.sqrt()
    }
    fn square(self) -> f64 {
        self * self
    }
}

macro_rules! through_f64 {
    ($($name:ident)*) => {
        impl FloatExt for f32 {$(
            fn $name(self) -> f32 {
                f64::from(self).$name() as f32
            }
        )*}
    };
}
through_f64!(sigmoid silu gelu gelu_erf softplus relu rsqrt square);

#[cfg(test)]
mod tests {
    use super::FloatExt;

    #[test]
    fn extremes_do_not_overflow() {
        assert_eq!(89f32.softplus(), 89.0);
        assert_eq!((-200f32).softplus(), 0.0);
        assert!(f64::NAN.softplus().is_nan());
        assert_eq!((1000f32.sigmoid(), (-1000f32).sigmoid()), (1.0, 0.0));
        assert_eq!(((-1000f64).silu(), 3f32.relu(), (-3f32).relu()), (-0.0, 3.0, 0.0));
        assert!((1f64.gelu() - 0.841_192).abs() < 1e-6 && (1f64.gelu_erf() - 0.841_345).abs() < 1e-6);
    }
}
