//! What a schedule is free to choose, and the heuristic that chooses. Sizes enter through few buckets, so that a new
//! shape seldom compiles anything.

use super::{
    Device, Geometry, ROW_DIMS, Strides,
    hold::{self, stands},
    online::{Form, is_one_pass, online},
};
use crate::{
    DType, Extent, Program,
    kernel::{ASIDE_BYTES, CLUSTER, SHARED_BYTES, THREADS, VECTOR_BYTES, WARP},
    program::{Kind, Over},
};

/// How rows and columns are given to threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Any chunk to any thread. For Programs of elements alone.
    Elementwise,
    /// `row_threads` threads hold a row in registers, `chunks` vectors each: it is read once.
    Resident,
    /// `row_threads` threads walk along a row, once a stage.
    Looped,
    /// Sums over rows too long to hold: row statistics first, by `Looped`; then blocks of `row_threads · chunks` vectors
    /// of columns walk down the rows.
    Tiled,
}

/// One choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// How rows and columns are given to threads.
    pub strategy: Strategy,
    /// Threads of a block: a multiple of a warp.
    pub threads: u32,
    /// Threads of a row: a power of two that divides `threads`.
    pub row_threads: u32,
    /// Elements of a chunk, a power of two.
    pub vector: u32,
    /// Chunks that a thread holds of a row; `Elementwise` and `Looped` (without scans): that it takes at a time.
    pub chunks: u32,
    /// Blocks that hold a row together, or walk along it (`Resident` and `Looped`, without scans), each with all its
    /// threads: a power of two; 1 if a block has a row to itself.
    pub cluster: u32,
    /// Sums over rows lie in shared memory, and inputs of columns are read row by row: registers have no room.
    pub aside: bool,
    /// Dimensions that rows are decomposed over, 1 to [`ROW_DIMS`].
    pub dims: u32,
    /// Indices of 64 bits.
    pub wide: bool,
}

/// Elements from which on indices have 64 bits: strides of a grid are added to indices, so not all of 2³¹ is there.
pub(super) const WIDE: u64 = 1 << 30;
/// Threads that a processor runs side by side.
const THREADS_OF_PROCESSOR: u64 = 2048;
/// Registers of a thread that arrays may take, for blocks of at most 256, 512 and 1024 threads.
const REGISTERS: [(u32, u32); 3] = [(256, 160), (512, 80), (1024, 36)];
/// The same for kernels with sums over rows, the terms of sums in registers counted.
const REGISTERS_OF_SUMS: [(u32, u32); 2] = [(512, 80), (1024, 44)];

/// Chunks of a row from which on it is walked along, if that takes one pass. A block that holds as long a row waits for all
/// of it before it computes. (cross_entropy on an H100, walked along beside held: 64 K columns 1.3 times as fast in f32 and
/// bf16, 16 K columns 0.83 times; 2026-11-28.)
const ONE_PASS: u64 = 8192;

/// What the heuristic knows of a Program: made once, asked at each launch.
#[derive(Clone, Copy, Debug)]
pub struct Chooser {
    pub(super) facts: Facts,
    pub(super) vector: u32,
}

/// What the heuristic looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub stages: bool,
    pub sums: u32,
    /// Inputs of elements.
    pub inputs: u32,
    /// Bytes of registers that an element takes of a row that is held.
    pub bytes: u32,
    /// Those of them that sums take, and inputs of columns (where blocks stay).
    pub sum_bytes: u32,
    pub col_bytes: u32,
    pub reads_columns: bool,
    pub scans: bool,
    /// Ranks that are wanted of values of a row: of the one of which most are.
    pub ranks: u32,
    /// Columns of the widest tensor of values of a row, and values side by side in that of elements.
    width: u64,
    pub beside: u64,
    /// Walking along a row, is it read once, though exponentials of it are summed?
    pub one_pass: bool,
    /// Are squares relative to a mean found beside it there?
    pub squares: bool,
    pub elementwise: bool,
    pub elems: bool,
    /// Inputs on whose boundaries the chunks of a row may lie, a bit each: none if an output is of elements.
    leads: u64,
}

impl Facts {
    fn of(p: &Program, vector: u32) -> Facts {
        let live = p.live();
        let stands = stands(p, vector);
        let ids = || p.ids().filter(|i| live[i.index()]);
        let nodes = || ids().map(|i| p.node(i));
        let along = |k: &Kind| matches!(k, Kind::Reduce(_, Over::Cols) | Kind::Fold(_) | Kind::Scan(_));
        let down = |k: &Kind| matches!(k, Kind::Reduce(_, Over::Rows | Over::All));
        let stages = nodes().any(|n| along(&n.kind));
        let sums = nodes().filter(|n| down(&n.kind)).count() as u32;
        let scans = nodes().filter(|n| matches!(n.kind, Kind::Scan(_))).count() as u32;
        let (mut inputs, mut bytes, mut sum_bytes, mut col_bytes, mut elem_inputs) = (0, 0, 0, 0, 0);
        for id in ids() {
            let n = p.node(id);
            let size = n.dtype.size_bytes().max(4) as u32;
            match n.kind {
                // inputs of columns are held where blocks stay; where another value stands for an input, that waits as it came
                Kind::Input(k) if n.extent == Extent::ELEM || (n.extent == Extent::COL && sums > 0) => {
                    let of_elements = n.extent == Extent::ELEM;
                    inputs += u32::from(of_elements);
                    let leads = of_elements && p.inputs[k as usize].by.is_none();
                    elem_inputs |= u64::from(leads).checked_shl(k).unwrap_or(0);
                    let stands = stands.iter().any(|s| s.inputs.contains(&id));
                    let own = match p.inputs[k as usize].dtype.size_bytes() as u32 {
                        own if stands => own,
                        _ => hold::bytes(p, id, vector),
                    };
                    bytes += own;
                    col_bytes += if n.extent == Extent::COL { own } else { 0 };
                }
                kind if down(&kind) && n.extent.has_cols() => {
                    bytes += size;
                    sum_bytes += size;
                }
                Kind::Scan(_) => bytes += 2 * size,
                _ => {}
            }
        }
        Facts {
            stages,
            scans: scans > 0,
            ranks: p.ranks() as u32,
            width: width(p, Extent::ROW).unwrap_or(0),
            beside: beside(p),
            squares: ids().any(|i| online(p, i).is_some_and(|o| o.form == Form::Squares)),
            one_pass: scans == 0 && sums == 0 && is_one_pass(p),
            sums,
            inputs,
            bytes,
            sum_bytes,
            col_bytes,
            reads_columns: nodes().any(|n| matches!(n.kind, Kind::Input(_)) && n.extent == Extent::COL),
            elementwise: !stages && sums == 0 && p.outputs.iter().all(|o| o.extent == Extent::ELEM),
            // an output may repeat a value of the row
            elems: nodes().any(|n| n.extent.has_cols()) || p.outputs.iter().any(|o| o.extent.has_cols()),
            leads: if sums == 0 && p.outputs.iter().all(|o| o.extent != Extent::ELEM) { elem_inputs } else { 0 },
        }
    }
}

/// Most values of elements that lie side by side in a tensor.
pub(super) fn beside(p: &Program) -> u64 {
    width(p, Extent::ELEM).unwrap_or(1)
}

/// Outputs in the widest tensor of outputs of this extent.
fn width(p: &Program, extent: Extent) -> Option<u64> {
    p.tensors().filter(|group| group[0].extent == extent).map(|group| group.len() as u64).max()
}

/// Elements that are 16 bytes of the widest tensor of elements (of columns, if no tensor has elements).
pub(super) fn vector(p: &Program) -> u32 {
    let live = p.live();
    let inputs = p.nodes().iter().zip(&live).filter_map(|(n, l)| match n.kind {
        Kind::Input(k) if *l => p.inputs.get(k as usize).map(|i| (i.dtype, i.extent)),
        _ => None,
    });
    let tensors: Vec<(DType, Extent)> = inputs.chain(p.outputs.iter().map(|o| (o.dtype, o.extent))).collect();
    let widest = |e: Extent| tensors.iter().filter(|t| t.1 == e).map(|t| t.0.size_bytes() as u32).max();
    match widest(Extent::ELEM).or(widest(Extent::COL)) {
        Some(bytes) => (VECTOR_BYTES / bytes).min(8),
        None => 1,
    }
}

impl Chooser {
    /// Of a verified Program.
    pub fn of(p: &Program) -> Chooser {
        let vector = vector(p);
        Chooser { facts: Facts::of(p, vector), vector }
    }

    /// The heuristic: a choice for this launch, and others of about its size.
    pub fn choose(&self, g: &Geometry<'_>) -> Config {
        self.pick(g.rows(), self.cols(g), g.row_dims.len(), g.elements(), g.device)
    }

    /// Columns of the launch; where its rows start off a boundary an odd number, as both need a chunk more.
    pub(super) fn cols(&self, g: &Geometry<'_>) -> u64 {
        let off = |n: usize| !n.is_multiple_of(self.vector as usize);
        let starts_off = |(k, s): (usize, &Strides<'_>)| {
            let leads = self.facts.leads.checked_shr(k as u32).unwrap_or(0) & 1 == 1;
            leads && (off(s.shift) || g.row_dims.iter().zip(s.rows).any(|(dim, stride)| *dim > 1 && off(*stride)))
        };
        let shifted = self.facts.leads != 0 && g.inputs.iter().enumerate().any(starts_off);
        g.cols as u64 | u64::from(shifted)
    }

    /// Chunks of `vector` elements that hold any row of so many columns.
    pub(super) fn chunks(cols: u64, vector: u32) -> u64 {
        let slack = if cols.is_multiple_of(u64::from(vector)) { 0 } else { u64::from(vector) - 1 };
        (cols + slack).div_ceil(u64::from(vector)).max(1)
    }

    /// The heuristic: a choice for launches of about this size, rows starting on boundaries of 16 bytes. `dims` is the number of dimensions that the rows are
    /// decomposed over, `elements` the largest distance in elements between two elements of a tensor.
    pub fn pick(&self, rows: u64, cols: u64, dims: usize, elements: u64, device: Device) -> Config {
        let Chooser { facts: f, vector } = *self;
        let base = Config {
            strategy: Strategy::Elementwise,
            threads: 256,
            row_threads: 1,
            vector,
            chunks: 1,
            cluster: 1,
            aside: false,
            dims: dims.clamp(1, ROW_DIMS) as u32,
            wide: elements.max(rows.saturating_mul(f.width.max(cols.saturating_mul(f.beside)))) >= WIDE,
        };
        if f.elementwise {
            // several loads under way, once all processors have enough to do without
            let chunks = (4 / f.inputs.max(1)).max(1);
            let threads = rows.saturating_mul(cols) / u64::from(vector * chunks);
            let fill = u64::from(device.processors) * THREADS_OF_PROCESSOR;
            return Config { chunks: if threads >= fill { chunks } else { 1 }, ..base };
        }
        if !f.elems {
            return Config { strategy: Strategy::Resident, ..base };
        }
        let chunks = Chooser::chunks(cols, vector);
        match (f.stages, f.sums) {
            (true, 0) if f.one_pass && chunks >= ONE_PASS => base.looped_once(rows, chunks, device),
            (false, 0) => Config { strategy: Strategy::Looped, ..base.looped(chunks) },
            (false, _) => base.tiled(cols),
            (true, sums) => {
                let held = base.resident(&f, chunks).or_else(|| base.resident_aside(&f, chunks, device));
                match held.or_else(|| base.clustered(&f, chunks, device)) {
                    // (layer_norm_no_weight 139 us in place of 155, log_softmax 139 in place of 128; the same rows and day)
                    Some(config) if config.is_crowded(&f) && f.squares => base.looped(chunks).by_two(),
                    Some(config) if config.is_crowded(&f) => base.looped_by_block(),
                    Some(config) => config,
                    None if sums > 0 => base.tiled(cols),
                    None => base.looped_by_cluster(&f, chunks, device),
                }
            }
        }
    }
}

impl Config {
    /// What the heuristic chooses, asked once.
    pub fn pick(p: &Program, rows: u64, cols: u64, dims: usize, elements: u64, device: Device) -> Config {
        Chooser::of(p).pick(rows, cols, dims, elements, device)
    }

    fn resident(self, f: &Facts, chunks: u64) -> Option<Config> {
        let mut row_threads = 1;
        // up to 4 vectors a thread within a warp, where threads meet cheaply; scans go from thread to thread once a chunk
        let most = if f.scans { 1 } else { 4 };
        while row_threads < WARP && chunks > most * u64::from(row_threads) {
            row_threads *= 2;
        }
        // and as many beyond it: that many bytes hide what threads pay to meet. Scans, and terms of sums over rows, are
        // no smaller for being 16 bits wide
        let most = match f.scans || f.sums > 0 {
            true => u64::from(16 / self.vector).clamp(1, 4),
            // lists of ranks meet in a warp without waiting, and are emptied once a row and not once a warp: of 1,024 f32 by 32
            // threads about 1,250 integer instructions a row, by 64 about 1,550 (counted in sm_90 code, not timed)
            false if f.ranks > 0 => 8,
            false => most,
        };
        // NVRTC 13.0 takes half the time for a gradient of 16,384 columns if 1,024 threads share them
        let enough = if f.sums > 0 { 1024 } else { 512 };
        while (WARP..enough).contains(&row_threads) && chunks > most * u64::from(row_threads) {
            row_threads *= 2;
        }
        let fits = |t: u32| {
            let held = chunks.div_ceil(u64::from(t));
            // inputs of columns are read row by row if there is no room
            let mut registers = held * u64::from(self.vector * (f.bytes - f.col_bytes)).div_ceil(4);
            registers += u64::from(if f.sum_bytes > 0 { 2 * self.vector } else { 0 });
            // lists of ranks: a thread's, and what was found
            registers += 2 * u64::from(f.ranks) + 2 * (held * u64::from(self.vector)).min(f.ranks.into());
            let (table, least) = if f.sums > 0 { (&REGISTERS_OF_SUMS[..], 512) } else { (&REGISTERS[..], 128) };
            let room = table.iter().find(|r| t.max(least) <= r.0).map_or(0, |r| r.1);
            held <= 8 && registers <= u64::from(room)
        };
        while !fits(row_threads) {
            row_threads *= 2;
            if row_threads > 1024 {
                return None;
            }
        }
        let held = chunks.div_ceil(u64::from(row_threads)) as u32;
        // blocks that stay leave a partial sum each: a few large ones
        // a block of one row waits for itself alone (H100, layer_norm's gradient, 16384×4096 bf16: 183 us in blocks of 512, 171 in
        // blocks of 256, two a processor; 2026-11-28)
        let least = match (f.sums, row_threads) {
            (0, _) => 128,
            (_, 256) if self.vector == 8 => 256,
            _ => 512,
        };
        let threads = row_threads.max(least);
        Some(Config { strategy: Strategy::Resident, threads, row_threads, chunks: held, ..self })
    }

    /// Rows that registers hold if sums lie in shared memory.
    fn resident_aside(self, f: &Facts, chunks: u64, device: Device) -> Option<Config> {
        if f.sum_bytes == 0 {
            return None;
        }
        let bytes = f.bytes - f.sum_bytes;
        let config = Config { aside: true, ..self.resident(&Facts { bytes, sum_bytes: 0, ..*f }, chunks)? };
        let elements = u64::from(config.threads * config.chunks * config.vector);
        let most = u64::from(device.shared).saturating_sub(SHARED_BYTES as u64).min(ASIDE_BYTES as u64);
        (elements * u64::from(f.sum_bytes) <= most).then_some(config)
    }

    /// Rows that the registers of several blocks hold: as few blocks as do, in 16 bits as many as may be. Scans and ranks go
    /// from thread to thread in one block.
    fn clustered(self, f: &Facts, chunks: u64, device: Device) -> Option<Config> {
        if f.scans || f.ranks > 0 {
            return None;
        }
        let mut sizes: Vec<u32> = (1..).map(|n| 1 << n).take_while(|n| *n <= device.cluster.min(CLUSTER)).collect();
        // so much of 16-bit numbers is a block's slice that nothing else would be under way while it computes (H100, bf16: the
        // gradient of cross_entropy at 131,072 columns 715 us in two blocks of 1,024, 504 in eight of 256; layer_norm_residual
        // at 65,536 307 in two of 512, 228 in eight of 256; 2026-11-28)
        let narrow = self.vector == 8 && f.sums == 0;
        if narrow {
            sizes.reverse();
        }
        sizes.into_iter().find_map(|cluster| {
            let slice = chunks.div_ceil(u64::from(cluster));
            let config = self.resident(f, slice).or_else(|| self.resident_aside(f, slice, device))?;
            // a slice that needs no whole block is no reason for a cluster
            let whole = config.threads == config.row_threads;
            // and few threads with much each, if they read nothing else (masked_softmax at 65,536 columns 167 us in eight of
            // 256, 147 in eight of 128; the same day)
            let alone = narrow && f.bytes < 4 && !f.reads_columns && config.chunks <= 4 && config.threads > 128;
            let config = match config {
                c if alone => {
                    Config { threads: c.threads / 2, row_threads: c.row_threads / 2, chunks: 2 * c.chunks, ..c }
                }
                c => c,
            };
            whole.then_some(Config { cluster, ..config })
        })
    }

    /// Rows that are walked along by as many blocks as may share one: so few rows are under way at a time that what a stage
    /// reads is in the L2 cache for the next one. (16 rows of 256 K f32 and their results are 32 MiB.)
    fn looped_by_cluster(self, f: &Facts, chunks: u64, device: Device) -> Config {
        let cluster = device.cluster.min(CLUSTER);
        let config = self.looped(chunks);
        // each thread has some turns to make
        let worth = chunks >= 4 * u64::from(THREADS * cluster);
        if f.scans || f.ranks > 0 || cluster <= 1 || !worth {
            return config;
        }
        Config { cluster, ..config.looped_by_block() }
    }

    /// Does a block that holds a row fill a processor, with so much of 16-bit numbers a thread that nothing else is under way
    /// while it computes? Walking along the row, which then comes from the L2 cache again, is 11 to 16 % faster (H100, 1024
    /// rows of 65,536 bf16: softmax, log_softmax, rms_norm, layer_norm; 2026-11-28).
    fn is_crowded(&self, f: &Facts) -> bool {
        let packed = f.bytes <= 2 && self.vector == 8;
        packed
            && f.sums == 0
            && !f.scans
            && f.ranks == 0
            && self.cluster == 1
            && self.threads == THREADS
            && self.chunks == 8
    }

    /// Rows that are walked along by the largest block.
    fn looped_by_block(self) -> Config {
        Config { strategy: Strategy::Looped, threads: THREADS, row_threads: THREADS, chunks: 1, ..self }
    }

    /// Rows that are walked along once: by larger blocks where rows are too few to fill the device.
    fn looped_once(self, rows: u64, chunks: u64, device: Device) -> Config {
        let config = self.looped(chunks).by_two();
        let fills =
            rows.saturating_mul(u64::from(config.threads)) >= u64::from(device.processors) * THREADS_OF_PROCESSOR;
        if fills { config } else { config.looped_by_block().by_two() }
    }

    /// A walk that has two chunks under way where a thread has few bytes of one: in 16 bits.
    fn by_two(self) -> Config {
        Config { chunks: if self.vector == 8 { 2 } else { 1 }, ..self }
    }

    /// Threads that hold a row, in all of its blocks.
    pub(super) fn holders(&self) -> u32 {
        self.row_threads * self.cluster.max(1)
    }

    /// Rows that are walked along.
    pub(super) fn looped(self, chunks: u64) -> Config {
        let row_threads = chunks.div_ceil(2).next_power_of_two().clamp(u64::from(WARP), 512) as u32;
        let threads = row_threads.max(128);
        Config { strategy: Strategy::Looped, threads, row_threads, chunks: 1, cluster: 1, aside: false, ..self }
    }

    fn tiled(self, cols: u64) -> Config {
        let row_threads = cols.div_ceil(u64::from(self.vector)).next_power_of_two().clamp(8, 128) as u32;
        Config { strategy: Strategy::Tiled, threads: 256, row_threads, chunks: 1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Formula, Signature, grad::vjp};

    fn norm_gradient(dtype: DType) -> Program {
        let formula = Formula::parse("let d = x - mean(x); d * rsqrt(mean(d * d) + 1e-5) * w + b").expect("a formula");
        let inputs = [Extent::ELEM, Extent::COL, Extent::COL].map(|e| (dtype, e)).to_vec();
        let p = formula.bind("layer_norm", &Signature { inputs }).expect("a Program");
        vjp(&p, &[0, 1, 2]).expect("a gradient")
    }

    #[test]
    fn rows_stay_in_registers_as_long_as_the_device_has_room() {
        let p = norm_gradient(DType::F32);
        let pick = |cols, shared| Config::pick(&p, 4096, cols, 1, 1 << 20, Device { shared, ..Device::default() });
        let of = |c: Config| (c.strategy, c.aside);
        assert_eq!(of(pick(4096, 0)), (Strategy::Resident, false));
        assert_eq!(of(pick(16384, 0)), (Strategy::Tiled, false));
        assert_eq!(of(pick(16384, 232_448)), (Strategy::Resident, true));
        assert_eq!(of(pick(65536, 232_448)), (Strategy::Tiled, false));
    }

    #[test]
    fn rows_that_outgrow_a_block_are_shared_by_as_few_blocks_as_hold_them_or_in_16_bits_by_all() {
        let formula = Formula::parse("exp(x - max(x)) / sum(exp(x - max(x)))").expect("a formula");
        let of = |dtype, cluster| {
            let inputs = vec![(dtype, Extent::ELEM)];
            let p = formula.bind("softmax", &Signature { inputs }).expect("a Program");
            move |cols| {
                let device = Device { shared: 232_448, cluster, ..Device::default() };
                let c = Config::pick(&p, 512, cols, 1, 1 << 20, device);
                (c.strategy, c.cluster)
            }
        };
        let (wide, narrow) = (of(DType::F32, 8), of(DType::BF16, 8));
        assert_eq!(wide(32_768), (Strategy::Resident, 1));
        assert_eq!([65_533, 131_072, 262_144].map(&wide), [2, 4, 8].map(|n| (Strategy::Resident, n)));
        assert_eq!(narrow(32_768), (Strategy::Resident, 1));
        assert_eq!(narrow(65_536), (Strategy::Looped, 1));
        assert_eq!([131_072, 262_144].map(&narrow), [8, 8].map(|n| (Strategy::Resident, n)));
        // too long for any cluster to hold, and no clusters
        assert_eq!(wide(262_145), (Strategy::Looped, 8));
        assert_eq!(of(DType::F32, 1)(65_536), (Strategy::Looped, 1));
        let p = norm_gradient(DType::F32);
        let device = Device { shared: 232_448, cluster: 8, ..Device::default() };
        let sums = |cols| Config::pick(&p, 4096, cols, 1, 1 << 20, device);
        assert_eq!([65_536, 131_072].map(|n| sums(n).strategy), [Strategy::Resident; 2]);
        assert!(sums(131_072).cluster == 8 && sums(131_072).aside);
        assert_eq!(sums(262_144).strategy, Strategy::Tiled);
    }

    #[test]
    fn rows_that_are_read_once_are_walked_along() {
        let of = |formula: &str, cols| {
            let formula = Formula::parse(formula).expect("a formula");
            let p = formula.bind("f", &Signature { inputs: vec![(DType::BF16, Extent::ELEM)] }).expect("a Program");
            let device = Device { shared: 232_448, cluster: 8, processors: 132 };
            let c = Config::pick(&p, (1 << 26) / cols, cols, 1, 1 << 26, device);
            (c.strategy, c.threads)
        };
        let formulas = ["logsumexp(x)", "sum(exp(x - max(x)))", "out y: f32 = logsumexp(x) - x[0]"];
        for formula in formulas {
            assert_eq!(of(formula, 16_384).0, Strategy::Resident, "{formula}");
            assert_eq!(of(formula, 65_536), (Strategy::Looped, 512), "{formula}");
            // so few rows that blocks of 512 would not fill the device
            assert_eq!(of(formula, 262_144), (Strategy::Looped, 1024), "{formula}");
        }
        // a second pass, or a sum that is none of these
        for formula in ["softmax(x)", "sum(exp(x - min(x)))", "max(x)"] {
            assert_eq!(of(formula, 32_768).0, Strategy::Resident, "{formula}");
        }
    }
}
