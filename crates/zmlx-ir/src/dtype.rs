//! Element types. A value is *stored* as any of them and *computed* as `dtype.compute()`: f16 and bf16 are
//! storage only, their arithmetic is in f32.

use std::fmt;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// Truth values; stored as one byte, 0 or 1.
    Bool,
    /// 8-bit unsigned integers.
    U8,
    /// 16-bit signed integers.
    I16,
    /// 32-bit signed integers.
    I32,
    /// 32-bit unsigned integers.
    U32,
    /// 64-bit signed integers.
    I64,
    /// IEEE half precision (storage only).
    F16,
    /// The upper half of an f32 (storage only).
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DType {
    /// All types, in the order of the enum.
    pub const ALL: [DType; 10] = [
        DType::Bool,
        DType::U8,
        DType::I16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// The name used in formulas (`f32(x)`), in text forms and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }

    /// Bytes an element takes in memory.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::Bool | DType::U8 => 1,
            DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::F64 => 8,
        }
    }

    /// Is it one of the floating-point types?
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Is it an integer type (`bool` is not)?
    pub fn is_int(self) -> bool {
        !self.is_float() && self != DType::Bool
    }

    /// The type that arithmetic on such elements is done in.
    pub fn compute(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        }
    }

    /// The type two operands meet in: floats beat integers, f64 beats f32, and integers meet in the smallest
    /// type that holds both (i64 for u32 with a signed one). `bool` meets anything as that thing.
    pub fn promote(self, other: DType) -> DType {
        use DType::*;
        let (a, b) = (self.compute(), other.compute());
        match (a, b) {
            _ if a == b => a,
            (F64, _) | (_, F64) => F64,
            (F32, _) | (_, F32) => F32,
            (Bool, t) | (t, Bool) => t,
            (I64, _) | (_, I64) => I64,
            (U32, U8) | (U8, U32) => U32,
            (U32, _) | (_, U32) => I64,
            (I32, _) | (_, I32) => I32,
            _ => I16,
        }
    }

    /// Unit round-off: half the distance from 1 to the next number (0 for exact types).
    pub fn unit_roundoff(self) -> f64 {
        match self {
            DType::F16 => 2f64.powi(-11),
            DType::BF16 => 2f64.powi(-8),
            DType::F32 => 2f64.powi(-24),
            DType::F64 => 2f64.powi(-53),
            _ => 0.0,
        }
    }

    /// Wraps a mathematical integer into this integer type, as two's complement arithmetic does.
    pub fn wrap(self, v: i64) -> i64 {
        match self {
            DType::Bool => i64::from(v != 0),
            DType::U8 => i64::from(v as u8),
            DType::I16 => i64::from(v as i16),
            DType::I32 => i64::from(v as i32),
            DType::U32 => i64::from(v as u32),
            _ => v,
        }
    }

    /// Smallest and largest value of an integer type (as i64).
    pub fn int_range(self) -> (i64, i64) {
        match self {
            DType::Bool => (0, 1),
            DType::U8 => (0, u8::MAX as i64),
            DType::I16 => (i16::MIN as i64, i16::MAX as i64),
            DType::I32 => (i32::MIN as i64, i32::MAX as i64),
            DType::U32 => (0, u32::MAX as i64),
            _ => (i64::MIN, i64::MAX),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_is_symmetric_and_holds_both() {
        for a in DType::ALL {
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a), "{a} {b}");
                let p = a.promote(b);
                if a.is_int() && b.is_int() {
                    let ((la, ha), (lb, hb), (lp, hp)) = (a.int_range(), b.int_range(), p.int_range());
                    assert!(lp <= la.min(lb) && hp >= ha.max(hb), "{a} {b} -> {p}");
                }
            }
        }
    }
}
