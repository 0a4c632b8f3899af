//! Registers: vectors of lanes, one list a type. `Place` names where a value lives.

use std::ops::{Deref, DerefMut};
use zmlx_ir::DType;

/// Where a value lives while a Program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A tile register: one lane an element of the tile.
    Tile(u16),
    /// A row register: one lane a row of the group.
    Row(u16),
    /// A column register: one lane a column, made once a launch.
    Col(u16),
    /// A scalar, made once a launch.
    Scalar(u16),
    /// A value of whole rows, kept from one pass to the next.
    Kept(u16),
    /// An input read where it lies.
    Input(u16),
    /// An output written (and read back) where it lies.
    Output(u16),
}

/// Bytes of a cache line, and of the widest vector. A vector that lies across two lines costs twice.
const LINE: usize = 64;

/// Lanes that start on a cache line.
#[derive(Debug, Default)]
pub struct Register<T> {
    memory: Vec<T>,
    start: usize,
}

impl<T: Lane> Register<T> {
    /// At least this many lanes.
    pub fn grow(&mut self, lanes: usize) {
        if self.len() < lanes {
            self.memory = vec![T::default(); lanes + LINE / size_of::<T>()];
            // at most the lanes added; where it cannot be told, the first
            let start = self.memory.as_ptr().align_offset(LINE);
            self.start = if start <= LINE / size_of::<T>() { start } else { 0 };
        }
    }
}

impl<T: Lane> Clone for Register<T> {
    fn clone(&self) -> Register<T> {
        let mut copy = Register::default();
        copy.grow(self.len());
        let lanes = copy.len().min(self.len());
        copy[..lanes].copy_from_slice(&self[..lanes]);
        copy
    }
}

impl<T> Deref for Register<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.memory[self.start..]
    }
}

impl<T> DerefMut for Register<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..]
    }
}

/// A Rust type that lanes can have. Truth values are u8 lanes of 0 or 1.
pub trait Lane: Copy + Default + Send + Sync + PartialOrd + std::fmt::Debug + 'static {
    /// The registers of this type.
    fn list(bank: &Bank) -> &Vec<Register<Self>>;
    /// The registers of this type.
    fn list_mut(bank: &mut Bank) -> &mut Vec<Register<Self>>;
}

macro_rules! bank {
    ($($field:ident: $t:ty),*) => {
        /// Registers of every lane type. A register keeps its capacity, so a warm bank allocates nothing.
        #[derive(Clone, Debug, Default)]
        pub struct Bank {
            $($field: Vec<Register<$t>>,)*
        }

        $(impl Lane for $t {
            fn list(bank: &Bank) -> &Vec<Register<$t>> {
                &bank.$field
            }
            fn list_mut(bank: &mut Bank) -> &mut Vec<Register<$t>> {
                &mut bank.$field
            }
        })*
    };
}
bank!(f32: f32, f64: f64, i64: i64, i32: i32, i16: i16, u32: u32, u8: u8);

impl Bank {
    /// All lanes of a register.
    #[inline]
    pub fn get<T: Lane>(&self, reg: u16) -> &[T] {
        &T::list(self)[reg as usize]
    }

    /// Takes a register out to write it while others are read; `put` it back.
    #[inline]
    pub fn take<T: Lane>(&mut self, reg: u16) -> Register<T> {
        std::mem::take(&mut T::list_mut(self)[reg as usize])
    }

    /// Puts a register back.
    #[inline]
    pub fn put<T: Lane>(&mut self, reg: u16, lanes: Register<T>) {
        T::list_mut(self)[reg as usize] = lanes;
    }

    /// Makes sure that each register asked for has at least `lanes` lanes.
    #[inline]
    pub fn reserve(&mut self, wanted: &Counts, lanes: usize) {
        if !wanted.is_empty() {
            self.grow(wanted, lanes);
        }
    }

    fn grow(&mut self, wanted: &Counts, lanes: usize) {
        fn grow<T: Lane>(list: &mut Vec<Register<T>>, count: u16, lanes: usize) {
            if list.len() < count as usize {
                list.resize_with(count as usize, Register::default);
            }
            list[..count as usize].iter_mut().for_each(|reg| reg.grow(lanes));
        }
        grow(&mut self.f32, wanted.of(DType::F32), lanes);
        grow(&mut self.f64, wanted.of(DType::F64), lanes);
        grow(&mut self.i64, wanted.of(DType::I64), lanes);
        grow(&mut self.i32, wanted.of(DType::I32), lanes);
        grow(&mut self.i16, wanted.of(DType::I16), lanes);
        grow(&mut self.u32, wanted.of(DType::U32), lanes);
        grow(&mut self.u8, wanted.of(DType::U8), lanes);
    }

    /// Lets go of registers longer than this, so that one huge row does not hold memory for ever.
    pub fn trim(&mut self, lanes: usize) {
        fn cut<T: Lane>(list: &mut [Register<T>], lanes: usize) {
            for reg in list.iter_mut().filter(|r| r.len() > lanes) {
                *reg = Register::default();
            }
        }
        cut(&mut self.f32, lanes);
        cut(&mut self.f64, lanes);
        cut(&mut self.i64, lanes);
        cut(&mut self.i32, lanes);
        cut(&mut self.i16, lanes);
        cut(&mut self.u32, lanes);
        cut(&mut self.u8, lanes);
    }
}

/// How many registers of each type are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts([u16; 7]);

impl Counts {
    fn slot(dtype: DType) -> usize {
        match dtype.compute() {
            DType::F64 => 1,
            DType::I64 => 2,
            DType::I32 => 3,
            DType::I16 => 4,
            DType::U32 => 5,
            DType::U8 | DType::Bool => 6,
            _ => 0,
        }
    }
    /// Registers of this type.
    pub fn of(&self, dtype: DType) -> u16 {
        self.0[Self::slot(dtype)]
    }
    /// One more register of this type; gives its number.
    pub fn add(&mut self, dtype: DType) -> u16 {
        let n = &mut self.0[Self::slot(dtype)];
        *n += 1;
        *n - 1
    }
    /// Are none wanted?
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 7]
    }
}

/// Runs `$body` with `$t` bound to the lane type of a compute dtype.
macro_rules! with_lane {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            zmlx_ir::DType::F64 => {
                type $t = f64;
                $body
            }
            zmlx_ir::DType::I64 => {
                type $t = i64;
                $body
            }
            zmlx_ir::DType::I32 => {
                type $t = i32;
                $body
            }
            zmlx_ir::DType::I16 => {
                type $t = i16;
                $body
            }
            zmlx_ir::DType::U32 => {
                type $t = u32;
                $body
            }
            zmlx_ir::DType::U8 | zmlx_ir::DType::Bool => {
                type $t = u8;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}
pub(crate) use with_lane;
