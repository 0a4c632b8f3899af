//! Products of matrices on matrix units, in tiles: one text for all kernels that multiply, and its parts.
//!
//! A block makes a tile of C = A·Bᵀ, [rows, cols], the sum over the depth. Tiles of A and B go through shared memory, some steps of the
//! depth ahead of the product (on CUDA asynchronously); warps share out the tile in fragments of 16 × 16. Floats are 16 bits, sums
//! f32. Rows are loaded in chunks of 8 elements, so the dimension that lies flat in memory is a multiple of 8 ([`fits`]).
//!
//! Rows of C lie by *group* (expert): group e has rows offsets[e] up to offsets[e + 1], a number that only the device knows. So
//! there are as many blocks as there may be tiles, and tile t is of the last group whose `offsets[e] / ROWS + e` is not above
//! t; since that is at least the number of tiles before the group, each has room, and what it leaves ends at once. Behind the
//! groups lies one more for the rows that belong to none, which are zeros.

pub(crate) mod attention;
mod operands;

pub(crate) use operands::{CODES, OF_CODES, OF_MATRIX, OF_ROWS};

use crate::{Grid, RawKernel, bridge::matrix_units, raw::text_target};
use candle_core::{DType, Device};

/// What a block makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    rows: usize,
    cols: usize,
    /// The depth of a step, and steps that are in shared memory.
    depth: usize,
    stages: usize,
    /// Warps along rows and columns.
    warps: [usize; 2],
}

/// For Metal: 20 KiB of shared memory, of 32.
const SMALL: Tile = Tile { rows: 64, cols: 64, depth: 32, stages: 2, warps: [2, 1] };
/// For few rows a group.
const MEDIUM: Tile = Tile { rows: 64, cols: 128, depth: 64, stages: 3, warps: [1, 4] };
/// For many rows a group, 108 KiB, so that two blocks share a multiprocessor. The fastest of six tiles on an H100, for bf16 and for
/// codes: gate and up of 8,192 tokens 1.37 ms, with 128 × 256 1.42 and with 256 × 128 1.58.
const LARGE: Tile = Tile { rows: 128, cols: 128, depth: 64, stages: 3, warps: [2, 2] };

/// Blocks that keep a large GPU busy, about its multiprocessors.
const BLOCKS: usize = 128;

/// An operand of a product: what a thread says once, and the copy of 8 elements in its turn t to `to`, of a step of the depth that
/// begins at `from`. A thread has column `a_col` (`b_col`) of its tile and rows `a_row + t * A_STEP`. What lies outside of C is
/// copied from anywhere, and not stored; zeros are where the depth ends.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// Is the depth the dimension that does not lie flat? Then rows of the tile are steps of the depth.
    pub turned: bool,
    pub once: &'a str,
    pub copy: &'a str,
}

/// A product of matrices.
pub(crate) struct Product<'a> {
    /// Says which tile is made: `top`, `left`, and how deep the sum goes (`depth`).
    pub place: &'a str,
    pub a: Operand<'a>,
    pub b: Operand<'a>,
    /// Of B in codes: loads those of the next step, and puts them into the tile `b` as floats (then B has no copies).
    pub codes: [&'a str; 2],
    /// Stores the neighbours `low` and `high` in row r from column c on; `sums[i][j]` is the fragment and `e` the element.
    pub store: &'a str,
}

/// See the head of the file. Fragments of a warp lie in two parts of the columns, so that gate and up of a column meet in a lane.
const BODY: &str = "
    constexpr i32 ROWS = $ROWS, COLS = $COLS, DEPTH = $DEPTH, STAGES = $STAGES, THREADS = $THREADS;
    constexpr i32 WARP_ROWS = ROWS / $WARPS_DOWN, WARP_COLS = COLS / $WARPS_ACROSS, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = $A_TURNED ? DEPTH : ROWS, A_COLS = $A_TURNED ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = $B_TURNED ? DEPTH : COLS, B_COLS = $B_TURNED ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    shared y_t* tiles = (shared y_t*)memory;
    $PLACE
    // a thread copies chunks of one column
    constexpr i32 A_STEP = THREADS * 8 / A_COLS, A_TURNS = A_ROWS / A_STEP, B_STEP = THREADS * 8 / B_COLS, B_TURNS = B_ROWS / B_STEP;
    const i32 a_row = thread_index / (A_COLS / 8), a_col = thread_index % (A_COLS / 8) * 8;
    const i32 b_row = thread_index / (B_COLS / 8), b_col = thread_index % (B_COLS / 8) * 8;
    $A_ONCE
    $B_ONCE
    const i32 warp_row = warp / $WARPS_ACROSS * WARP_ROWS, warp_col = warp % $WARPS_ACROSS * (WARP_COLS / 2);
    fragment_c sums[M][N];
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N; j++) {
            clear(sums[i][j]);
        }
    }
    const i32 steps = (depth + DEPTH - 1) / DEPTH;
    // the first turns only copy
    for (i32 step = 1 - STAGES; step < steps; step++) {
        if (step >= 0) {
            copy_wait<STAGES - 2>();
            barrier();
        }
        const i32 next = step + STAGES - 1, from = next * DEPTH;
        if (next < steps) {
            shared y_t* a = tiles + next % STAGES * STAGE;
            #pragma unroll
            for (i32 t = 0; t < A_TURNS; t++) {
                shared y_t* to = a + (a_row * A_PITCH + a_col) + t * A_STEP * A_PITCH;
                $A_COPY
            }
            $B_LOOP
        }
        copy_commit();
        $LOAD_CODES
        if (step >= 0) {
            shared const y_t* stage = tiles + step % STAGES * STAGE;
            shared const y_t* a = stage + warp_row * ($A_TURNED ? 1 : A_PITCH);
            shared const y_t* b = stage + A_ROWS * A_PITCH + warp_col * ($B_TURNED ? 1 : B_PITCH);
            #pragma unroll
            for (i32 k = 0; k < DEPTH; k += 16) {
                fragment_a<y_t> of_a[M];
                fragment_b<y_t> of_b[N];
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    of_a[i] = load_a<$A_TURNED>(a, $A_TURNED ? k * A_PITCH + i * 16 : i * 16 * A_PITCH + k, A_PITCH, lane);
                }
                #pragma unroll
                for (i32 j = 0; j < N; j++) {
                    const i32 col = j / (N / 2) * (COLS / 2) + j % (N / 2) * 16;
                    of_b[j] = load_b<$B_TURNED>(b, $B_TURNED ? k * B_PITCH + col : col * B_PITCH + k, B_PITCH, lane);
                }
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    #pragma unroll
                    for (i32 j = 0; j < N; j++) {
                        multiply_add(sums[i][j], of_a[i], of_b[j]);
                    }
                }
            }
        }
        $PUT_CODES
    }
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < $STORED; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e += 2) {
                const i32 r = warp_row + i * 16 + fragment_row(e, lane);
                const i32 c = j / (N / 2) * (COLS / 2) + warp_col + j % (N / 2) * 16 + fragment_col(e, lane);
                const f32 low = element(sums[i][j], e), high = element(sums[i][j], e + 1);
                $STORE
            }
        }
    }";

/// The loop over B where it is copied.
const B_LOOP: &str = "shared y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                shared y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                $B_COPY
            }";

/// The tile of a group's rows: see the head of the file. ACROSS is the number of columns of C, of which a block makes WIDE.
pub(crate) const GROUPED: &str = "
    constexpr i32 WIDE = COLS / $PARTS;
    const i32 across = (i32)(($ACROSS + WIDE - 1) / WIDE), groups = (i32)args.offsets_len - 1;
    const i64 tile = block_index / across, all = args.y_dims[0], left = (i64)(block_index % across) * WIDE;
    i32 begun = 0;
    for (i32 e = lane; e <= groups; e += 32) {
        begun += e == 0 || offsets[e] / ROWS + e <= tile ? 1 : 0;
    }
    const i32 group = warp_sum(begun) - 1;
    const i64 first = group == 0 ? 0 : (i64)offsets[group];
    const i64 after = group < groups ? (i64)offsets[group + 1] : all, end = after < all ? after : all;
    const i64 top = first + (tile - first / ROWS - group) * ROWS;
    if (top >= end) {
        return;
    }
    const i32 depth = group < groups ? (i32)$FULL : 0;
    $ROWS_OF";

/// The tile of a product without groups. Blocks of the same columns follow each other, so that B is read from memory once.
pub(crate) const ALONE: &str = "
    constexpr i32 WIDE = COLS;
    const i64 end = args.y_dims[0], down = (end + ROWS - 1) / ROWS, group = 0;
    const i64 top = block_index % down * ROWS, left = block_index / down * WIDE;
    const i32 depth = (i32)$FULL;
    $ROWS_OF";

/// Rows of A; none: −1, none that is there: −2.
const ROWS_OF: &str = "shared_array(i32, rows_of, $ROWS);
    for (i32 i = thread_index; i < ROWS; i += THREADS) {
        rows_of[i] = top + i < end ? $ROW_OF : -1;
    }
    barrier();";

/// The row of A that is row `top + i` of C: found by an index, or the same.
pub(crate) const BY_INDEX: &str = "((i64)index[top + i] < args.x_dims[0] ? (i32)index[top + i] : -2)";
pub(crate) const SAME: &str = "(i32)(top + i)";

/// Stores neighbours of a row of C.
pub(crate) const STORE: &str = "if (top + r < end && left + c < $ACROSS) {
                    const u32 pair = pair_of<y_t>(low, high);
                    *(device u32*)(y + (top + r) * $ACROSS + left + c) = rows_of[r] == -2 ? 0x7fff7fffu : pair;
                }";

impl Product<'_> {
    /// The kernel's body. `words` stand for others in its parts: `$ACROSS`.
    pub(crate) fn body(&self, tile: &Tile, swiglu: bool, words: &[(&str, &str)]) -> String {
        let copied = self.codes[0].is_empty();
        let parts = [
            ("$PLACE", self.place),
            ("$ROWS_OF", ROWS_OF),
            ("$B_LOOP", if copied { B_LOOP } else { "" }),
            ("$LOAD_CODES", self.codes[0]),
            ("$PUT_CODES", self.codes[1]),
            ("$STORED", if swiglu { "N / 2" } else { "N" }),
            ("$STORE", self.store),
            ("$A_ONCE", self.a.once),
            ("$B_ONCE", self.b.once),
            ("$A_COPY", self.a.copy),
            ("$B_COPY", self.b.copy),
            ("$A_TURNED", if self.a.turned { "true" } else { "false" }),
            ("$B_TURNED", if self.b.turned { "true" } else { "false" }),
            ("$PARTS", if swiglu { "2" } else { "1" }),
        ];
        let text = parts.iter().fold(BODY.to_string(), |text, (word, by)| text.replace(word, by));
        let numbers = [
            ("$ROWS", tile.rows),
            ("$COLS", tile.cols),
            ("$DEPTH", tile.depth),
            ("$STAGES", tile.stages),
            ("$THREADS", tile.threads()),
            ("$WARPS_DOWN", tile.warps[0]),
            ("$WARPS_ACROSS", tile.warps[1]),
        ];
        let text = numbers.iter().fold(text, |text, (word, n)| text.replace(word, &n.to_string()));
        // last: some begin as the others do
        words.iter().fold(text, |text, (word, by)| text.replace(word, by))
    }
    /// Bytes of its shared memory.
    pub(crate) fn memory(&self, tile: &Tile) -> usize {
        let of = |turned: bool, n: usize| if turned { tile.depth * (n + 8) } else { n * (tile.depth + 8) };
        2 * tile.stages * (of(self.a.turned, tile.rows) + of(self.b.turned, tile.cols))
    }
}

impl Tile {
    pub(crate) fn threads(&self) -> usize {
        32 * self.warps[0] * self.warps[1]
    }
    /// The tile for so many rows of C in so many groups, in this much shared memory.
    pub(crate) fn of(memory: usize, rows: usize, groups: usize) -> Tile {
        let fits = |tile: &Tile| memory >= 2 * tile.stages * (tile.rows + tile.cols) * (tile.depth + 8);
        let few = rows < 48 * groups;
        [LARGE, MEDIUM].into_iter().skip(usize::from(few)).find(fits).unwrap_or(SMALL)
    }
    /// The tile for one product of this size.
    pub(crate) fn alone(memory: usize, rows: usize, cols: usize) -> Tile {
        let few = rows.div_ceil(LARGE.rows) * cols.div_ceil(LARGE.cols) < BLOCKS;
        Tile::of(memory, if few { 0 } else { rows }, 1)
    }
    /// Blocks of a product by groups: `rows` of C, `cols` of C that `parts` of a tile's columns make together.
    pub(crate) fn grid(&self, rows: usize, groups: usize, cols: usize, parts: usize) -> Grid {
        let down = rows / self.rows + groups + 1;
        Grid::new(down * (cols * parts).div_ceil(self.cols), self.threads() as u32)
    }
    /// Blocks of one product for each group.
    pub(crate) fn grid_each(&self, groups: usize, rows: usize, cols: usize) -> Grid {
        Grid::new(groups * rows.div_ceil(self.rows) * cols.div_ceil(self.cols), self.threads() as u32)
    }
}

/// The shared memory of a block where matrix units multiply floats of this type, whose rows have these lengths; elsewhere candle
/// multiplies.
pub(crate) fn fits(device: &Device, dtype: DType, flat: &[usize]) -> Option<usize> {
    let target = text_target(device)?;
    let fits = matches!(dtype, DType::F16 | DType::BF16) && flat.iter().all(|n| n.is_multiple_of(8));
    let memory = matrix_units(device)?;
    fits.then_some(if target == "metal" { memory.min(32 << 10) } else { memory })
}

/// A kernel of a product.
pub(crate) fn kernel(
    name: &str,
    product: &Product<'_>,
    tile: &Tile,
    swiglu: bool,
    words: &[(&str, &str)],
) -> RawKernel {
    let name = format!("{name}_{}x{}", tile.rows, tile.cols);
    RawKernel::new(&name).portable(&product.body(tile, swiglu, words)).shared_memory(product.memory(tile))
}
