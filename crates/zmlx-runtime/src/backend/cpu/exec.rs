//! Execution of steps: resolves places to lanes and runs one SIMD loop a step. Safe code; who runs which rows, and
//! where outputs lie, is `driver`'s.

use super::{
    ahead::Ahead,
    bank::{Bank, Lane, Place, Register, with_lane},
    chain,
    lanes::{self, Arith, Src},
    memory,
    reduce::Accumulators,
    step::Step,
    stream, sums,
};
use crate::{Error, Launch, Slice};
use zmlx_ir::{DType, Op, Scalar, program::Index};

/// The lanes that a step runs over.
#[derive(Clone, Copy, Debug)]
pub enum Domain {
    /// Elements: `rows` rows from `row` (counted in the group) × `width` columns from `col`. Either one row, or whole rows.
    Tile { row: usize, rows: usize, col: usize, width: usize },
    /// One lane a row of the group.
    Rows { count: usize },
    /// One lane a column, from `first`.
    Cols { first: usize, count: usize },
    /// One lane.
    Scalar,
}

impl Domain {
    fn lanes(self) -> usize {
        match self {
            Domain::Tile { rows, width, .. } => rows * width,
            Domain::Rows { count } | Domain::Cols { count, .. } => count,
            Domain::Scalar => 1,
        }
    }
}

/// What all groups of a launch share once the prologue is done.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    pub cols: Bank,
    pub scalars: Bank,
    /// Columns repeated for tiles of several rows.
    pub wide_cols: Bank,
}

/// Access to `Shared`: written by prologue and epilogue, read by the groups.
pub enum Access<'e> {
    Read(&'e Shared),
    Write(&'e mut Shared),
}

impl Access<'_> {
    fn get(&self) -> &Shared {
        match self {
            Access::Read(s) => s,
            Access::Write(s) => s,
        }
    }
}

/// Memory of one worker; kept warm between launches.
#[derive(Debug, Default)]
pub struct Local {
    pub tile: Bank,
    pub rows: Bank,
    pub kept: Bank,
    /// Row registers repeated over their columns, for tiles of several rows.
    pub wide_rows: Bank,
    /// Inputs gathered into lanes where they do not lie flat.
    pub inputs: Bank,
    pub accs: Accumulators,
    /// Results on their way to memory past the caches.
    pub staging: Bank,
    pub halves: memory::Halves,
    pub chain: Option<Box<chain::Scratch>>,
}

/// Part of an output that one group writes.
#[derive(Debug)]
pub enum Window<'w> {
    U8(&'w mut [u8]),
    I16(&'w mut [i16]),
    I32(&'w mut [i32]),
    U32(&'w mut [u32]),
    I64(&'w mut [i64]),
    F16(&'w mut [half::f16]),
    BF16(&'w mut [half::bf16]),
    F32(&'w mut [f32]),
    F64(&'w mut [f64]),
}

/// Everything a step may touch.
pub struct Env<'e, 'w> {
    pub launch: &'e Launch<'e>,
    /// Row values: of the group, or of all rows (`Split`).
    pub local: &'e mut Local,
    pub shared: Access<'e>,
    pub outputs: &'e mut [Window<'w>],
    /// First row of the group, counted in the launch; first column that windows hold.
    pub first_row: usize,
    pub first_col: usize,
    /// Columns that a row of a window, or of a kept register, has.
    pub pitch: usize,
    pub cols: usize,
    pub total_rows: usize,
    pub name: &'e str,
    /// Sums over rows, made by this worker's task.
    pub row_sums: &'e mut [Vec<f64>],
    pub all_sums: &'e mut [f64],
    /// Outputs are stored past the caches, but for those that are read back.
    pub streams: bool,
    pub read_back: u64,
    /// Inputs come from memory and are read here first: they are asked for before they are needed.
    pub ahead: Option<&'e Ahead>,
}

impl<'w> Env<'_, 'w> {
    /// Runs steps over a domain.
    pub fn run(&mut self, steps: &[Step], d: Domain) -> Result<(), Error> {
        steps.iter().try_for_each(|s| self.step(s, d))
    }

    /// The lanes of a place.
    #[inline]
    pub fn src<T: Lane + OutLane>(&self, place: Place, d: Domain) -> Src<'_, T> {
        let shared = self.shared.get();
        match (place, d) {
            (Place::Scalar(r), _) => Src::Splat(shared.scalars.get::<T>(r)[0]),
            (Place::Tile(r), _) => Src::Lanes(&self.local.tile.get::<T>(r)[..d.lanes()]),
            (Place::Row(r), Domain::Tile { row, rows: 1, .. }) => Src::Splat(self.local.rows.get::<T>(r)[row]),
            (Place::Row(r), Domain::Tile { .. }) => Src::Lanes(&self.local.wide_rows.get::<T>(r)[..d.lanes()]),
            (Place::Row(r), Domain::Rows { count }) => Src::Lanes(&self.local.rows.get::<T>(r)[..count]),
            (Place::Row(r), _) => Src::Splat(self.local.rows.get::<T>(r)[0]),
            (Place::Col(r), Domain::Tile { rows: 1, col, width, .. }) => {
                Src::Lanes(&shared.cols.get::<T>(r)[col..col + width])
            }
            (Place::Col(r), Domain::Cols { first, count }) => {
                Src::Lanes(&shared.cols.get::<T>(r)[first..first + count])
            }
            (Place::Col(r), _) => Src::Lanes(&shared.wide_cols.get::<T>(r)[..d.lanes()]),
            (Place::Kept(r), d) => Src::Lanes(&self.local.kept.get::<T>(r)[self.window_range(d)]),
            (Place::Input(slot), d) => self.input::<T>(slot, d),
            (Place::Output(slot), d) => match T::window(&self.outputs[slot as usize]) {
                Some(w) => Src::Lanes(&w[self.window_range(d)]),
                None => Src::Splat(T::default()),
            },
        }
    }

    /// Where the lanes of a tile lie in a window or a kept register.
    pub fn window_range(&self, d: Domain) -> std::ops::Range<usize> {
        match d {
            Domain::Tile { row, rows, col, width } => {
                let start = row * self.pitch + col - self.first_col;
                start..start + rows * width
            }
            Domain::Rows { count } => 0..count,
            Domain::Cols { first, count } => first..first + count,
            Domain::Scalar => 0..1,
        }
    }

    fn input<T: Lane + OutLane>(&self, slot: u16, d: Domain) -> Src<'_, T> {
        if let Some(range) = memory::flat_range(self.launch, slot as usize, self.first_row, d)
            && let Some(data) = T::slice(self.launch.inputs[slot as usize].data)
        {
            return Src::Lanes(&data[range]);
        }
        Src::Lanes(&self.local.inputs.get::<T>(slot)[..d.lanes()])
    }

    /// The memory of an input, for columns of rows one by one: its own, or what they were gathered into.
    pub fn input_memory<T: Lane + OutLane>(&self, slot: u16, width: usize) -> &[T] {
        let view = &self.launch.inputs[slot as usize];
        match T::slice(view.data) {
            Some(data) if view.lies_flat(width) => data,
            _ => self.local.inputs.get::<T>(slot),
        }
    }

    /// Where a row begins in that memory, from column `col` on.
    pub fn input_start(&self, slot: u16, row: usize, col: usize, width: usize) -> usize {
        let view = &self.launch.inputs[slot as usize];
        let start = || memory::row_start(self.launch, slot as usize, self.first_row + row) + col * view.col_stride;
        if view.lies_flat(width) { start() } else { 0 }
    }

    /// The lanes of a column register.
    pub fn columns<T: Lane>(&self, reg: u16) -> &[T] {
        self.shared.get().cols.get::<T>(reg)
    }

    /// Takes the destination out, lets `f` fill it while everything else can be read, and puts it back.
    #[inline]
    fn write<T: Lane + OutLane>(&mut self, dst: Place, d: Domain, f: impl FnOnce(&Self, &mut [T])) {
        macro_rules! through {
            ($bank:expr, $reg:expr, $range:expr) => {{
                let range = $range;
                let mut lanes = $bank.take::<T>($reg);
                f(self, &mut lanes[range]);
                $bank.put($reg, lanes);
            }};
        }
        match dst {
            Place::Tile(r) => through!(self.local.tile, r, 0..d.lanes()),
            Place::Row(r) => through!(self.local.rows, r, 0..d.lanes()),
            Place::Kept(r) => through!(self.local.kept, r, self.window_range(d)),
            Place::Col(r) => {
                let range = self.window_range(d);
                let Access::Write(shared) = &mut self.shared else { return };
                let mut lanes = shared.cols.take::<T>(r);
                f(self, &mut lanes[range]);
                if let Access::Write(shared) = &mut self.shared {
                    shared.cols.put(r, lanes);
                }
            }
            Place::Scalar(r) => {
                let Access::Write(shared) = &mut self.shared else { return };
                let mut lanes = shared.scalars.take::<T>(r);
                f(self, &mut lanes[..1]);
                if let Access::Write(shared) = &mut self.shared {
                    shared.scalars.put(r, lanes);
                }
            }
            Place::Output(slot) => {
                let range = self.window_range(d);
                if let Some(window) = T::take(&mut self.outputs[slot as usize]) {
                    if self.streamed(slot) {
                        self.staged(
                            |e, staging| {
                                f(e, staging);
                                stream::copy(staging, &mut window[range]);
                            },
                            d.lanes(),
                        );
                    } else {
                        f(self, &mut window[range]);
                    }
                    T::restore(&mut self.outputs[slot as usize], window);
                }
            }
            Place::Input(_) => {}
        }
    }

    /// Is this output stored past the caches?
    fn streamed(&self, slot: u16) -> bool {
        self.streams && self.read_back & (1 << slot.min(63)) == 0
    }

    /// Gives `f` lanes that lie in L1, for results on their way to memory.
    fn staged<T: Lane>(&mut self, f: impl FnOnce(&Self, &mut [T]), lanes: usize) {
        let list = T::list_mut(&mut self.local.staging);
        if list.is_empty() {
            list.push(Register::default());
        }
        let mut staging = self.local.staging.take::<T>(0);
        staging.grow(lanes);
        f(self, &mut staging[..lanes]);
        self.local.staging.put(0, staging);
    }

    fn step(&mut self, step: &Step, d: Domain) -> Result<(), Error> {
        match *step {
            Step::Op { op, arity, dtype, dst, args } => {
                with_lane!(dtype, T => if arity == 0 {
                    self.write::<u8>(dst, d, |e, out| {
                        lanes::predicate(op, out, e.src::<T>(args[0], d), e.src::<T>(args[1], d))
                    });
                } else if op == Op::Select {
                    self.write::<T>(dst, d, |e, out| {
                        let c = e.src::<u8>(args[0], d);
                        lanes::select(out, c, e.src::<T>(args[1], d), e.src::<T>(args[2], d))
                    });
                } else {
                    self.write::<T>(dst, d, |e, out| {
                        let arg = |k: usize| e.src::<T>(args[k], d);
                        match arity {
                            1 => T::unary(op, out, arg(0)),
                            2 => T::binary(op, out, arg(0), arg(1)),
                            _ => T::fma(out, arg(0), arg(1), arg(2)),
                        }
                    });
                });
            }
            Step::Cast { from, to, dst, src } => with_lane!(from, F => {
                match to {
                    DType::F16 | DType::BF16 => self.write::<f32>(dst, d, |e, out| {
                        lanes::cast(out, e.src::<F>(src, d), DType::F32);
                        lanes::round_to(out, to);
                    }),
                    to => with_lane!(to, T => self.write::<T>(dst, d, |e, out| lanes::cast(out, e.src::<F>(src, d), to))),
                }
            }),
            Step::Copy { dtype, dst, src } => {
                with_lane!(dtype, T => self.write::<T>(dst, d, |e, out| lanes::copy(out, e.src::<T>(src, d))));
            }
            Step::Const { dtype, dst, bits } => with_lane!(dtype, T => {
                let value = if dtype.is_float() { T::from_f64(f64::from_bits(bits)) } else { T::from_i64(bits as i64) };
                self.write::<T>(dst, d, |_, out| out.fill(value));
            }),
            Step::Uniform { slot, dtype, dst } => with_lane!(dtype, T => {
                let value = match self.launch.uniforms[slot as usize] {
                    Scalar::Float(v) => T::from_f64(v),
                    Scalar::Int(v) => T::from_i64(v),
                };
                self.write::<T>(dst, d, |_, out| out.fill(value));
            }),
            Step::Index { index, dst } => {
                self.write::<i64>(dst, d, |e, out| match index {
                    Index::Rows => out.fill(e.total_rows as i64),
                    Index::Cols => out.fill(e.cols as i64),
                    Index::Row => count_up(out, e.first_row as i64),
                    Index::Col => count_up(out, if let Domain::Cols { first, .. } = d { first as i64 } else { 0 }),
                });
            }
            Step::Load { slot, dtype, dst } => with_lane!(dtype, T => {
                self.write::<T>(dst, d, |e, out| memory::load(e.launch, slot as usize, e.first_row, d, out));
            }),
            Step::Pick { slot, dtype, dst, t } => {
                let mut bad = None;
                with_lane!(dtype, T => self.write::<T>(dst, d, |e, out| {
                    for (r, out) in out.iter_mut().enumerate() {
                        let index = e.src::<i64>(t, d).at(r);
                        match memory::element(e.launch, slot as usize, e.first_row + r, index) {
                            Some(v) => *out = v,
                            None => { bad.get_or_insert((index, e.first_row + r)); }
                        }
                    }
                }));
                if let Some((index, row)) = bad {
                    return Err(Error::Index { op: self.name.to_string(), index, row, cols: self.cols });
                }
            }
            Step::Rand { dst, seed } => {
                self.write::<f32>(dst, d, |e, out| {
                    let Domain::Tile { row, rows, col, width } = d else { return };
                    for r in 0..rows {
                        let seed = match e.src::<i64>(seed, d) {
                            Src::Splat(s) => s,
                            Src::Lanes(l) => l[r * width],
                        };
                        let start = (e.first_row + row + r) as u64 * e.cols as u64 + col as u64;
                        lanes::rand(&mut out[r * width..(r + 1) * width], seed, start);
                    }
                });
            }
            Step::OneHot { dtype, dst, t, t_dtype, a, b } => with_lane!(dtype, T => {
                self.write::<T>(dst, d, |e, out| {
                    let Domain::Tile { rows, col, width, .. } = d else { return };
                    lanes::copy(out, e.src::<T>(b, d));
                    for r in 0..rows {
                        let t = with_lane!(t_dtype, I => e.src::<I>(t, d).at(r * width).to_i64());
                        if let Ok(t) = usize::try_from(t)
                            && (col..col + width).contains(&t)
                        {
                            out[r * width + t - col] = e.src::<T>(a, d).at(r * width + t - col);
                        }
                    }
                });
            }),
            Step::Reduce { op, dtype, src, acc, .. } => with_lane!(dtype, T => {
                let Domain::Tile { row, rows, col, width } = d else { return Ok(()) };
                let mut accs = std::mem::take(&mut self.local.accs);
                accs.add(acc as usize, op, row, rows, col, width, self.src::<T>(src, d));
                self.local.accs = accs;
            }),
            Step::Top { dtype, src, acc, .. } => with_lane!(dtype, T => {
                let Domain::Tile { row, rows, col, width } = d else { return Ok(()) };
                let mut accs = std::mem::take(&mut self.local.accs);
                for r in 0..rows {
                    accs.list(acc).add(row + r, col, self.src::<T>(src, d).part(r * width, width), width);
                }
                self.local.accs = accs;
            }),
            Step::SumRows { dtype, src, acc } => with_lane!(dtype, T => {
                let Domain::Tile { rows, col, width, .. } = d else { return Ok(()) };
                let mut sums = std::mem::take(&mut self.row_sums[acc as usize]);
                let at = col - self.first_col;
                for r in 0..rows {
                    sums::add_to(&mut sums[at..at + width], self.src::<T>(src, d).part(r * width, width));
                }
                self.row_sums[acc as usize] = sums;
            }),
            Step::SumAll { dtype, src, acc } => {
                self.all_sums[acc as usize] += match dtype {
                    DType::F64 => sums::total(self.src::<f64>(src, d), d.lanes()),
                    _ => sums::total(self.src::<f32>(src, d), d.lanes()),
                };
            }
            Step::Store { slot, dtype, src } => with_lane!(dtype, T => {
                let range = self.window_range(d);
                let mut window = std::mem::replace(&mut self.outputs[slot as usize], Window::U8(&mut []));
                if self.streamed(slot) && matches!(d, Domain::Tile { .. }) {
                    let mut staging = std::mem::take(&mut self.local.halves);
                    memory::stream(&mut window, range, self.src::<T>(src, d), &mut staging);
                    self.local.halves = staging;
                } else {
                    memory::store(&mut window, range, self.src::<T>(src, d));
                }
                self.outputs[slot as usize] = window;
            }),
            Step::StoreBeside { slot, dtype, src, side } => with_lane!(dtype, T => {
                let mut window = std::mem::replace(&mut self.outputs[slot as usize], Window::U8(&mut []));
                let src = self.src::<T>(src, d);
                if let Domain::Tile { row, rows, col, width } = d {
                    let (first, step) = side.lies(self.cols);
                    for r in 0..rows {
                        let start = (row + r) * side.width * self.cols + first + col * step;
                        memory::store_strided(&mut window, start, step, width, src.part(r * width, width));
                    }
                } else {
                    memory::store_strided(&mut window, side.column, side.width, d.lanes(), src);
                }
                self.outputs[slot as usize] = window;
            }),
        }
        Ok(())
    }

    /// Fills what tiles of several rows read flat: row registers repeated over the columns, inputs that do not lie flat.
    pub fn widen(&mut self, rows: &[(DType, u16)], inputs: &[(DType, u16)], d: Domain) {
        let Domain::Tile { row, rows: count, width, .. } = d else { return };
        if count > 1 {
            for &(dtype, reg) in rows {
                with_lane!(dtype, T => {
                    let mut wide = self.local.wide_rows.take::<T>(reg);
                    let narrow = &self.local.rows.get::<T>(reg)[row..row + count];
                    for (out, v) in wide.chunks_exact_mut(width).zip(narrow) {
                        out.fill(*v);
                    }
                    self.local.wide_rows.put(reg, wide);
                });
            }
        }
        for &(dtype, slot) in inputs {
            if memory::flat_range(self.launch, slot as usize, self.first_row, d).is_none() {
                with_lane!(dtype, T => {
                    // slots are their registers, in every type
                    let list = T::list_mut(&mut self.local.inputs);
                    if list.len() <= slot as usize {
                        list.resize_with(slot as usize + 1, Register::default);
                    }
                    let mut lanes = self.local.inputs.take::<T>(slot);
                    lanes.grow(d.lanes());
                    memory::load(self.launch, slot as usize, self.first_row, d, &mut lanes[..d.lanes()]);
                    self.local.inputs.put(slot, lanes);
                });
            }
        }
    }
}

fn count_up(out: &mut [i64], first: i64) {
    for (i, o) in out.iter_mut().enumerate() {
        *o = first + i as i64;
    }
}

/// A lane type that can lie in memory as it is.
pub trait OutLane: Lane {
    /// From a float, as a conversion does.
    fn from_f64(v: f64) -> Self;
    /// From an integer, wrapping.
    fn from_i64(v: i64) -> Self;
    /// To an integer.
    fn to_i64(self) -> i64;
    /// The memory, if it is of this type.
    fn slice<'a>(s: Slice<'a>) -> Option<&'a [Self]>;
    /// The window, if it is of this type.
    fn window<'a>(w: &'a Window<'_>) -> Option<&'a [Self]>;
    /// Takes the window out.
    fn take<'w>(w: &mut Window<'w>) -> Option<&'w mut [Self]>;
    /// Puts it back.
    fn restore<'w>(w: &mut Window<'w>, lanes: &'w mut [Self]);
}

macro_rules! out_lane {
    ($($t:ty: $v:ident),*) => {$(
        impl OutLane for $t {
            fn from_f64(v: f64) -> $t {
                v as $t
            }
            fn from_i64(v: i64) -> $t {
                v as $t
            }
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline]
            fn slice<'a>(s: Slice<'a>) -> Option<&'a [$t]> {
                if let Slice::$v(s) = s { Some(s) } else { None }
            }
            #[inline]
            fn window<'a>(w: &'a Window<'_>) -> Option<&'a [$t]> {
                if let Window::$v(w) = w { Some(w) } else { None }
            }
            #[inline]
            fn take<'w>(w: &mut Window<'w>) -> Option<&'w mut [$t]> {
                if let Window::$v(w) = w { Some(std::mem::take(w)) } else { None }
            }
            #[inline]
            fn restore<'w>(w: &mut Window<'w>, lanes: &'w mut [$t]) {
                *w = Window::$v(lanes);
            }
        }
    )*};
}
out_lane!(f32: F32, f64: F64, i64: I64, i32: I32, i16: I16, u32: U32, u8: U8);
