//! The largest of a row in order: a sorted list of keys and columns for each row, into which lanes are put. Nearly all lanes
//! are smaller than the last of the list; that is found out for a block of them at once.
//!
//! A key is an integer that orders values as ranks do: zeros are equal, NaN is above all numbers.

use super::{
    bank::Lane,
    lanes::Src,
    simd::{Fma, Loop, dispatch},
};
use std::cmp::Ordering;
use zmlx_ir::{DType, program::ReduceOp};

/// Lanes that are looked at together.
const BLOCK: usize = 32;

/// What a rank has: a key and its column.
type Ranked = (i64, u32);

/// The lists of some rows.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// Length of a full list.
    ranks: usize,
    rows: Vec<Vec<Ranked>>,
}

impl Lists {
    /// Empty ones, of so many ranks for so many rows.
    pub fn start(&mut self, ranks: usize, rows: usize) {
        self.ranks = ranks;
        self.rows.truncate(rows);
        self.rows.iter_mut().for_each(Vec::clear);
        self.rows.resize_with(rows, || Vec::with_capacity(ranks));
    }

    /// Puts the lanes of a row in that begin at a column behind all that are there.
    pub fn add<T: Ordered>(&mut self, row: usize, col: usize, x: Src<'_, T>, width: usize) {
        let list = &mut self.rows[row];
        let Src::Lanes(lanes) = x else {
            for i in 0..width.min(self.ranks) {
                insert(list, self.ranks, (x.at(0).key(), (col + i) as u32));
            }
            return;
        };
        // the last of a full list: what is not above it stays outside
        let last = |list: &[Ranked], ranks| if list.len() < ranks { None } else { list.last().map(|l| T::of_key(l.0)) };
        let mut least = last(list, self.ranks);
        for (k, block) in lanes.chunks(BLOCK).enumerate() {
            if least.is_some_and(|least| !T::any_above(block, least)) {
                continue;
            }
            for (i, x) in block.iter().enumerate() {
                if least.is_none_or(|least| x.is_above(least)) {
                    insert(list, self.ranks, (x.key(), (col + k * BLOCK + i) as u32));
                    least = last(list, self.ranks);
                }
            }
        }
    }

    /// Puts the list of another worker in, whose columns come behind these.
    pub fn merge(&mut self, row: usize, other: &Lists) {
        for ranked in &other.rows[row] {
            insert(&mut self.rows[row], self.ranks, *ranked);
        }
    }

    /// Writes a rank of each row into the lanes of a row register: values that were of type `from`, or columns.
    pub fn finish<T: Ordered>(&self, op: ReduceOp, from: DType, out: &mut [T]) {
        let rank = usize::from(op.rank().unwrap_or(0));
        for (list, out) in self.rows.iter().zip(out) {
            *out = match (list.get(rank), op.is_column()) {
                (Some((_, col)), true) => T::of_integer(i64::from(*col)),
                (Some((key, _)), false) => T::of_key(*key),
                (None, true) => T::of_integer(0),
                (None, false) if from.is_float() => T::of_key(T::LOWEST),
                (None, false) => T::of_integer(from.int_range().0),
            };
        }
    }
}

/// Puts one in behind those that are not smaller, if it is among the first so many.
fn insert(list: &mut Vec<Ranked>, ranks: usize, new: Ranked) {
    if list.len() < ranks {
        list.push(new);
    } else {
        match list.last_mut() {
            Some(last) if new.0 > last.0 => *last = new,
            _ => return,
        }
    }
    let mut at = list.len() - 1;
    while at > 0 && list[at - 1].0 < new.0 {
        list.swap(at - 1, at);
        at -= 1;
    }
}

/// A lane type whose values have an order.
pub trait Ordered: Lane {
    /// The key of −∞; of integers the least key.
    const LOWEST: i64;
    fn key(self) -> i64;
    fn of_key(key: i64) -> Self;
    fn of_integer(v: i64) -> Self;
    /// Is its key greater? (Yes where that is not sure.)
    fn is_above(self, least: Self) -> bool;
    /// Is that of any of these?
    fn any_above(x: &[Self], least: Self) -> bool;
}

macro_rules! ordered_floats {
    ($($t:ident $int:ident),*) => {$(
        impl Ordered for $t {
            const LOWEST: i64 = {
                let bits = $t::NEG_INFINITY.to_bits() as $int;
                (bits ^ $int::MAX) as i64
            };
            fn key(self) -> i64 {
                let bits = (self + 0.0).to_bits() as $int;
                i64::from(if self.is_nan() { $int::MAX } else if bits < 0 { bits ^ $int::MAX } else { bits })
            }
            fn of_key(key: i64) -> $t {
                let bits = key as $int;
                $t::from_bits((if bits < 0 { bits ^ $int::MAX } else { bits }) as _)
            }
            fn of_integer(v: i64) -> $t {
                v as $t
            }
            #[inline(always)]
            fn is_above(self, least: $t) -> bool {
                // NaN is not below anything
                !matches!(self.partial_cmp(&least), Some(Ordering::Less | Ordering::Equal))
            }
            fn any_above(x: &[$t], least: $t) -> bool {
                struct Above<'a>(&'a [$t], $t);
                impl Loop for Above<'_> {
                    type Output = bool;
                    #[inline(always)]
                    fn run<F: Fma>(self) -> bool {
                        !self.0.iter().fold(true, |below, x| below & (*x <= self.1))
                    }
                }
                dispatch(Above(x, least))
            }
        }
    )*};
}
ordered_floats!(f32 i32, f64 i64);

macro_rules! ordered_integers {
    ($($t:ident),*) => {$(
        impl Ordered for $t {
            const LOWEST: i64 = $t::MIN as i64;
            fn key(self) -> i64 {
                self as i64
            }
            fn of_key(key: i64) -> $t {
                key as $t
            }
            fn of_integer(v: i64) -> $t {
                v as $t
            }
            fn is_above(self, least: $t) -> bool {
                self > least
            }
            fn any_above(x: &[$t], least: $t) -> bool {
                x.iter().fold(false, |above, x| above | (*x > least))
            }
        }
    )*};
}
ordered_integers!(i64, i32, i16, u32, u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_the_largest_in_order_and_of_equals_the_first_columns() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let mut x = vec![-inf; 200];
        for (at, value) in [(3, 0.0), (5, -0.0), (70, 2.0), (71, nan), (130, 2.0), (131, inf), (199, -nan)] {
            x[at] = value;
        }
        let mut lists = Lists::default();
        lists.start(9, 1);
        lists.add(0, 0, Src::Lanes(&x[..100]), 100);
        lists.add(0, 100, Src::Lanes(&x[100..]), 100);
        let cols: Vec<u32> = lists.rows[0].iter().map(|r| r.1).collect();
        assert_eq!(cols, [71, 199, 131, 70, 130, 3, 5, 0, 1]);
        let mut value = [1f32];
        for (rank, expected) in [(2, inf), (3, 2.0), (5, 0.0), (7, -inf), (60, -inf)] {
            lists.finish(ReduceOp::Top(rank), DType::F32, &mut value);
            assert_eq!(value[0], expected);
        }
        lists.finish(ReduceOp::Top(1), DType::F32, &mut value);
        assert!(value[0].is_nan());
    }

    #[test]
    fn keys_are_in_the_order_of_their_values_and_give_them_back() {
        let values = [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY];
        assert!(values.windows(2).all(|w| w[0].key() < w[1].key()));
        assert!(values.iter().all(|v| f64::of_key(v.key()) == *v));
        assert!([f64::NAN, -f64::NAN].iter().all(|v| v.key() == i64::MAX));
        assert_eq!((f64::NEG_INFINITY.key(), f32::NEG_INFINITY.key()), (f64::LOWEST, f32::LOWEST));
    }
}
