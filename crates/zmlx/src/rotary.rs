//! Angles of rotary position embeddings, made on the host in f64: frequencies, the ways models stretch them over longer
//! texts, and the tables of cosines and sines that the kernels read.
//!
//! Angles of tables are f64: off by 2⁻⁵³ of themselves, which at position 10⁶ is 10⁻¹⁰ radians. Kernels that make angles
//! themselves (`catalog::rope_turns`) have them in *turns*, as fractions of 2⁶⁴: `position · frequency` in integers that
//! wrap is the angle without its whole turns, exactly, however large the position is.

use candle_core::{DType, Device, Result, Tensor};
use std::f64::consts::TAU;

/// Frequencies of pairs of columns, in radians a position, and what cosines and sines are multiplied by. A number that makes no
/// angles (a base or a factor of 0) is kept, and told when tables are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    frequencies: Vec<f64>,
    base: f64,
    scale: f64,
    mistake: Option<String>,
}

impl Rotary {
    /// Of `dim` columns that turn, in pairs (of an odd number the last does not): base^(−2i / dim) for pair i.
    pub fn new(dim: usize, base: f64) -> Rotary {
        let frequencies = (0..dim / 2).map(|i| base.powf(-2.0 * i as f64 / dim as f64)).collect();
        Rotary { frequencies, base, scale: 1.0, mistake: None }.checked(base > 0.0, "base", "a number above 0", base)
    }

    /// Keeps the first mistake.
    fn checked(mut self, fits: bool, what: &str, expected: &str, got: f64) -> Rotary {
        if !(fits && got.is_finite()) {
            self.mistake.get_or_insert_with(|| format!("rotary: {what}, expected {expected}, got {got}"));
        }
        self
    }

    fn divided_by(self, factor: f64) -> Rotary {
        self.checked(factor > 0.0, "factor", "a number above 0", factor)
    }

    fn map(mut self, f: impl Fn(usize, f64) -> f64) -> Rotary {
        self.frequencies.iter_mut().enumerate().for_each(|(i, w)| *w = f(i, *w));
        self
    }

    /// Positions divided by `factor` (`rope_type` linear).
    #[must_use]
    pub fn linear(self, factor: f64) -> Rotary {
        self.divided_by(factor).map(|_, w| w / factor)
    }

    /// Llama 3.1's: slow pairs are divided by `factor`, fast ones kept, those between blended. `low` and `high` are turns in
    /// the `original` context.
    #[must_use]
    pub fn llama3(self, factor: f64, low: f64, high: f64, original: usize) -> Rotary {
        let this = self.divided_by(factor).checked(low < high, "low", "fewer turns than high", low);
        this.map(|_, w| {
            let turns = original as f64 * w / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - kept) * w / factor + kept * w
        })
    }

    /// The frequency of each pair divided by a factor of its own, as files of GGUF have them (`rope_freqs`).
    #[must_use]
    pub fn divided(self, factors: &[f64]) -> Rotary {
        let pairs = self.frequencies.len();
        let this = self.checked(factors.len() == pairs, "factors", &format!("{pairs}"), factors.len() as f64);
        let bad = factors.iter().find(|f| !(**f > 0.0 && f.is_finite()));
        let this = this.checked(bad.is_none(), "factors", "numbers above 0", bad.copied().unwrap_or(1.0));
        this.map(|i, w| w / factors.get(i).unwrap_or(&1.0))
    }

    /// YaRN's (arXiv:2309.00071): as llama3's, but blended along the pairs between those that make `fast` and `slow` turns
    /// (usually 32 and 1) in the `original` context; cosines and sines are multiplied by 0.1·ln(factor) + 1.
    #[must_use]
    pub fn yarn(self, factor: f64, fast: f64, slow: f64, original: usize) -> Rotary {
        self.blended(factor, fast, slow, original, |first, last| (first.floor(), last.ceil()))
    }

    /// The same, but the blend begins and ends between pairs (`truncate` is false, as in gpt-oss).
    #[must_use]
    pub fn yarn_untruncated(self, factor: f64, fast: f64, slow: f64, original: usize) -> Rotary {
        self.blended(factor, fast, slow, original, |first, last| (first, last))
    }

    /// Cosines and sines are multiplied by this and by nothing else (`attention_factor`).
    #[must_use]
    pub fn with_scale(self, scale: f64) -> Rotary {
        Rotary { scale, ..self }.checked(true, "scale", "a number", scale)
    }

    fn blended(
        self,
        factor: f64,
        fast: f64,
        slow: f64,
        original: usize,
        ends: impl Fn(f64, f64) -> (f64, f64),
    ) -> Rotary {
        let this =
            self.divided_by(factor).checked(0.0 < slow && slow < fast, "slow", "turns above 0, fewer than fast", slow);
        let base = this.base;
        let this = this.checked(base != 1.0, "base", "a number other than 1", base);
        let dim = 2.0 * this.frequencies.len() as f64;
        let pair = |turns: f64| dim * (original as f64 / (turns * TAU)).ln() / (2.0 * base.ln());
        let (first, last) = ends(pair(fast), pair(slow));
        let (first, last) = (first.max(0.0), last.min(dim - 1.0));
        let width = if last > first { last - first } else { 1e-3 };
        let scale = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
        let stretched = this.map(|i, w| {
            let slow = ((i as f64 - first) / width).clamp(0.0, 1.0);
            slow * w / factor + (1.0 - slow) * w
        });
        Rotary { scale, ..stretched }
    }

    /// What cosines and sines are multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The frequencies, in radians a position.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    fn fits(&self) -> Result<()> {
        self.mistake.as_ref().map_or(Ok(()), |why| Err(candle_core::Error::Msg(why.clone())))
    }

    /// Cosines and sines of positions `first ..`, `[positions, dim / 2]` each.
    ///
    /// # Errors
    /// A base or a factor that makes no angles; what the device says.
    pub fn tables(&self, first: usize, positions: usize, dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        self.fits()?;
        let table = |f: fn(f64) -> f64| {
            let at = |p: usize| self.frequencies.iter().map(move |w| f(p as f64 * w) * self.scale);
            let all: Vec<f64> = (first..first + positions).flat_map(at).collect();
            Tensor::from_vec(all, (positions, self.frequencies.len()), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }

    /// The frequencies in turns a position, of 2⁻⁶⁴ each: i64, `[dim / 2]`.
    ///
    /// # Errors
    /// A base or a factor that makes no angles; what the device says.
    pub fn turns(&self, device: &Device) -> Result<Tensor> {
        self.fits()?;
        // a turn is 2⁶⁴, which wraps to 0: as two factors, each exact
        let turn = |w: &f64| (((w / TAU).rem_euclid(1.0) * 2f64.powi(63)) as u64).wrapping_mul(2) as i64;
        let all: Vec<i64> = self.frequencies.iter().map(turn).collect();
        Tensor::from_vec(all, self.frequencies.len(), &Device::Cpu)?.to_device(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_pairs_are_stretched_and_fast_ones_kept() {
        let plain = Rotary::new(128, 5e5);
        let llama = plain.clone().llama3(8.0, 1.0, 4.0, 8192);
        let yarn = plain.clone().yarn(4.0, 32.0, 1.0, 32768);
        for (stretched, factor) in [(&llama, 8.0), (&yarn, 4.0)] {
            let ratio = |i: usize| plain.frequencies()[i] / stretched.frequencies()[i];
            assert!((ratio(0) - 1.0).abs() < 1e-12 && (ratio(63) - factor).abs() < 1e-9);
            assert!((1..64).all(|i| ratio(i) >= ratio(i - 1) - 1e-12));
        }
        assert!((yarn.scale() - 1.138_629_436_111_989).abs() < 1e-12 && llama.scale() == 1.0);
        assert_eq!(yarn.with_scale(0.5).scale(), 0.5);
        let factors: Vec<f64> = (0..64).map(|i| plain.frequencies()[i] / llama.frequencies()[i]).collect();
        let divided = plain.clone().divided(&factors);
        assert!((0..64).all(|i| (divided.frequencies()[i] / llama.frequencies()[i] - 1.0).abs() < 1e-15));
    }

    #[test]
    fn a_blend_may_begin_between_pairs() {
        // transformers' _compute_yarn_parameters for gpt-oss: pairs 8.09 to 17.4, where truncation makes it 8 to 18
        let rotary = Rotary::new(64, 150_000.0);
        let stretched = rotary.clone().yarn_untruncated(32.0, 32.0, 1.0, 4096);
        let kept = |i: usize| (stretched.frequencies()[i] * 32.0 / rotary.frequencies()[i] - 1.0) / 31.0;
        let dim = |turns: f64| 64.0 * (4096.0 / (turns * TAU)).ln() / (2.0 * 150_000f64.ln());
        let (first, last) = (dim(32.0), dim(1.0));
        assert!((first - 8.0928).abs() < 1e-4 && (last - 17.3980).abs() < 1e-4);
        for i in 0..32 {
            let slow = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
            assert!((kept(i) - (1.0 - slow)).abs() < 1e-12, "pair {i}");
        }
    }

    #[test]
    fn numbers_that_make_no_angles_are_told() {
        let plain = || Rotary::new(8, 1e4);
        let told = |r: Rotary| {
            let tables = r.tables(0, 2, DType::F32, &Device::Cpu).map(|_| ());
            assert_eq!(tables.is_err(), r.turns(&Device::Cpu).is_err());
            tables.map_or_else(|e| e.to_string(), |()| "tables".into())
        };
        assert_eq!(told(Rotary::new(8, 0.0)), "rotary: base, expected a number above 0, got 0");
        assert_eq!(told(Rotary::new(8, f64::NAN)), "rotary: base, expected a number above 0, got NaN");
        assert_eq!(told(plain().linear(0.0).linear(-1.0)), "rotary: factor, expected a number above 0, got 0");
        assert_eq!(told(plain().llama3(8.0, 4.0, 4.0, 8192)), "rotary: low, expected fewer turns than high, got 4");
        assert!(told(plain().yarn(4.0, 1.0, 32.0, 4096)).contains("slow, expected turns above 0, fewer than fast"));
        assert!(told(Rotary::new(8, 1.0).yarn(4.0, 32.0, 1.0, 4096)).contains("base, expected a number other than 1"));
        assert_eq!(told(plain().divided(&[1.0; 3])), "rotary: factors, expected 4, got 3");
        assert_eq!(told(plain().divided(&[1.0, 0.0, 1.0, 1.0])), "rotary: factors, expected numbers above 0, got 0");
        assert_eq!(told(plain().yarn(4.0, 32.0, 1.0, 4096)), "tables");
    }

    #[test]
    fn tables_of_far_positions_are_those_of_f64() -> Result<()> {
        let rotary = Rotary::new(8, 1e4);
        let (cos, sin) = rotary.tables(1_000_003, 2, DType::F32, &Device::Cpu)?;
        let (wide, _) = rotary.tables(1_000_003, 2, DType::F64, &Device::Cpu)?;
        for (j, w) in rotary.frequencies().iter().enumerate() {
            let angle = 1_000_004.0 * w;
            assert_eq!(wide.get(1)?.get(j)?.to_scalar::<f64>()?, angle.cos());
            assert_eq!(cos.get(1)?.get(j)?.to_scalar::<f32>()?, angle.cos() as f32);
            assert_eq!(sin.get(1)?.get(j)?.to_scalar::<f32>()?, angle.sin() as f32);
        }
        Ok(())
    }
}
