//! Whether two Configs gave the same results. Where no sum is involved the bits must be equal. A sum depends on the order
//! of its terms in the last bits, so its Configs may differ by what f32 rounds, and where that decides how a result of 16
//! bits is rounded, by one step of it.

use crate::Buffer;
use zmlx_ir::{Program, program::Kind};

/// How far apart two right results may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Not at all.
    Bits,
    /// By the rounding of sums of so many terms.
    Sums(u64),
}

/// Elements that share a scale: sums that cancel leave errors of the size of their terms, seen in their neighbours.
const NEIGHBOURS: usize = 1024;
/// A larger share of results that are rounded otherwise is no accident.
const OTHERWISE: f64 = 0.02;

impl Agreement {
    /// Of Configs of this Program, on so many rows and columns.
    pub fn of(p: &Program, rows: u64, cols: u64) -> Agreement {
        let live = p.live();
        let sums = |k: &Kind| matches!(k, Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_));
        match p.nodes().iter().zip(&live).any(|(n, l)| *l && sums(&n.kind)) {
            true => Agreement::Sums(rows.max(cols).max(1)),
            false => Agreement::Bits,
        }
    }

    /// Compares all outputs.
    ///
    /// # Errors
    /// Which element of which output differs, and how.
    pub fn check(self, want: &[Buffer], got: &[Buffer]) -> Result<(), String> {
        if want.len() != got.len() {
            return Err(format!("{} outputs, expected {}", got.len(), want.len()));
        }
        want.iter()
            .zip(got)
            .enumerate()
            .try_for_each(|(k, (want, got))| self.one(want, got).map_err(|e| format!("output {k}{e}")))
    }

    fn one(self, want: &Buffer, got: &Buffer) -> Result<(), String> {
        use Buffer::{BF16, F16, F32, F64};
        let single = f64::from(f32::EPSILON);
        match (want, got) {
            (F64(a), F64(b)) => self.floats(a, b, |v| *v, f64::EPSILON, 0.0),
            (F32(a), F32(b)) => self.floats(a, b, |v| f64::from(*v), single, 0.0),
            // a step of these types is at most this part of the number
            (F16(a), F16(b)) => self.floats(a, b, |v| v.to_f64(), single, f64::powi(2.0, -10)),
            (BF16(a), BF16(b)) => self.floats(a, b, |v| v.to_f64(), single, f64::powi(2.0, -7)),
            (a, b) if a == b => Ok(()),
            _ => Err(": other integers".into()),
        }
    }

    fn floats<T>(self, a: &[T], b: &[T], wide: impl Fn(&T) -> f64, epsilon: f64, step: f64) -> Result<(), String> {
        if a.len() != b.len() {
            return Err(format!(": {} elements, expected {}", b.len(), a.len()));
        }
        let terms = match self {
            Agreement::Bits => 0.0,
            Agreement::Sums(n) => n as f64,
        };
        let mut otherwise = 0usize;
        for (n, (a, b)) in a.chunks(NEIGHBOURS).zip(b.chunks(NEIGHBOURS)).enumerate() {
            let finite = a.iter().map(|v| wide(v).abs()).filter(|v| v.is_finite());
            let near = 8.0 * epsilon * terms.sqrt() * finite.fold(0.0, f64::max);
            for (i, (a, b)) in a.iter().map(&wide).zip(b.iter().map(&wide)).enumerate() {
                let off = (a - b).abs();
                let sums = terms > 0.0 && off.is_finite();
                if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (sums && off <= near) {
                    continue;
                }
                if !sums || off > step * a.abs().max(b.abs()) + near {
                    return Err(format!("[{}]: {b:e}, expected {a:e}", n * NEIGHBOURS + i));
                }
                otherwise += 1;
            }
        }
        match otherwise as f64 <= 8.0 + OTHERWISE * a.len() as f64 {
            true => Ok(()),
            false => Err(format!(": {otherwise} of {} elements are rounded otherwise", a.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn f32s(values: &[f32]) -> Vec<Buffer> {
        vec![Buffer::F32(values.to_vec())]
    }

    #[test]
    fn without_sums_every_bit_counts() {
        let (a, next) = (f32s(&[1.0, f32::NAN, 0.0]), f32::from_bits(1.0f32.to_bits() + 1));
        assert_eq!(Agreement::Bits.check(&a, &f32s(&[1.0, f32::NAN, 0.0])), Ok(()));
        let wrong = Agreement::Bits.check(&a, &f32s(&[next, f32::NAN, 0.0]));
        assert_eq!(wrong, Err("output 0[0]: 1.0000001192092896e0, expected 1e0".into()));
        assert!(Agreement::Bits.check(&a, &f32s(&[1.0, f32::NAN, -0.0])).is_err());
        assert!(Agreement::Bits.check(&a, &f32s(&[1.0, 0.0, 0.0])).is_err());
        assert!(Agreement::Bits.check(&a, &f32s(&[1.0])).is_err());
        assert!(Agreement::Bits.check(&a, &[]).is_err());
        assert!(Agreement::Bits.check(&[Buffer::I32(vec![1])], &[Buffer::I32(vec![2])]).is_err());
        assert!(Agreement::Bits.check(&[Buffer::I32(vec![1])], &f32s(&[1.0])).is_err());
    }

    #[test]
    fn a_sum_in_another_order_agrees_and_one_that_lacks_a_term_does_not() {
        let terms: Vec<f32> = (0..4096).map(|i| ((i * 7919) % 4093) as f32 / 509.0 - 4.0).collect();
        let forward = terms.iter().fold(0f32, |s, t| s + t);
        let backward = terms.iter().rev().fold(0f32, |s, t| s + t);
        let lacks: f32 = terms[..4092].iter().sum();
        let sums = Agreement::Sums(4096);
        assert_ne!(forward, backward);
        assert_eq!(sums.check(&f32s(&[forward, 300.0]), &f32s(&[backward, 300.0])), Ok(()));
        assert!(sums.check(&f32s(&[forward, 300.0]), &f32s(&[lacks, 300.0])).is_err(), "{forward} {lacks}");
        assert!(sums.check(&f32s(&[forward]), &f32s(&[f32::NAN])).is_err());
        assert!(sums.check(&f32s(&[f32::INFINITY]), &f32s(&[forward])).is_err());
    }

    #[test]
    fn few_results_of_sixteen_bits_may_be_rounded_otherwise_and_many_may_not() {
        let want: Vec<bf16> = (0..1000).map(|i| bf16::from_f32(1.0 + i as f32 / 200.0)).collect();
        let off = |many: usize, by: u16| {
            let of = |(i, v): (usize, &bf16)| if i < many { bf16::from_bits(v.to_bits() + by) } else { *v };
            vec![Buffer::BF16(want.iter().enumerate().map(of).collect())]
        };
        let want = vec![Buffer::BF16(want.clone())];
        assert_eq!(Agreement::Sums(100).check(&want, &off(20, 1)), Ok(()));
        assert!(Agreement::Sums(100).check(&want, &off(20, 3)).is_err());
        let many = Agreement::Sums(100).check(&want, &off(200, 1));
        assert_eq!(many, Err("output 0: 200 of 1000 elements are rounded otherwise".into()));
        assert!(Agreement::Bits.check(&want, &off(1, 1)).is_err());
    }
}
