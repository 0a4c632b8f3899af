//! A few rows times a packed matrix: y = x·wᵀ, w in MLX's affine codes of 4 or 8 bits
//!
//! x is [.., K], w the words [N, K·bits/32] with scales and biases [N, K/group], y is [.., N] in the dtype of x. Sums are in f32. A
//! warp of a GPU makes 4 columns of y: 16 bytes of words a lane and load, which x meets in shared memory. From 17 rows of x on, f16 and
//! bf16 go through matrix units, where N is a multiple of 8: codes become floats of the dtype of x on their way to shared memory. Else, and for
//! other bits, w is dequantised and candle multiplies; a CPU dequantises some rows of w at a time, for all of x. The gradient is by x.
//! Cost: N·K·bits/8 bytes and the scales and biases read, for up to 4 rows of x.
//! Source: the definition.

use super::{
    Case, Portable,
    dequantize_affine::{self, dequantize_affine, packed},
    numbers,
};
use crate::{
    Error, Grid, RawKernel, Result,
    entry::Gradient,
    host::{
        affine::{self, Packing},
        products::{self, with_matrices},
    },
    raw::text_target,
    tiles::{ALONE, CODES, OF_CODES, OF_ROWS, Product, SAME, STORE, Tile, fits, kernel},
};
use candle_core::{D, DType, Device, Shape, Tensor};
use std::sync::LazyLock;
use zmlx_runtime::list::List;

/// Most rows of x that the kernel takes; more go through a matrix product.
const FEW: usize = 16;

/// Text of the sums of four rows of codes a warp times M_ROWS rows of floats: `sum[r][k]`, a part of the columns a lane, 16 bytes
/// of words a load. `cols` is the length of rows. LOAD puts the words, scale and bias of row r from column `at` on into `now[r]`;
/// FLOAT is the float of row k in column `column`. If FRESH, WORKER of WORKERS brings floats to `room`, whose elements of a lane
/// lie 33 apart, so that neither reading nor writing meets a bank twice.
///
/// A code is made a float by an exponent: with q in the highest bits of the fraction, the bits of 1 are those of 1 + q·2⁻ᵇ.
/// Conversions of integers run at a quarter of the speed of additions on NVIDIA's chips, and the 1 is taken off once a sum.
/// Loading the next words while these are multiplied takes 30 registers more, and is slower for the threads that have no room.
const SUMS: &str = "
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        LOADS(from)
        if (FRESH) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < M_ROWS; k++) {
                for (i32 i = WORKER; i < count; i += WORKERS) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? FLOAT : 0.0f;
                }
            }
            barrier();
        }
        for (i64 base = from; base < end; base += chunk) {
            shared const f32* floats = room + (i32)((base - from) / chunk) * mine * 33 + lane;
            f32 dot[4][M_ROWS], all[M_ROWS];
            #pragma unroll
            for (i32 k = 0; k < M_ROWS; k++) {
                all[k] = 0.0f;
                #pragma unroll
                for (i32 r = 0; r < 4; r++) {
                    dot[r][k] = 0.0f;
                }
            }
            #pragma unroll
            for (i32 part = 0; part < 4; part++) {
                #pragma unroll
                for (i32 j = 0; j < per; j++) {
                    f32 v[M_ROWS];
                    #pragma unroll
                    for (i32 k = 0; k < M_ROWS; k++) {
                        v[k] = floats[k * area + (part * per + j) * 33];
                        all[k] += v[k];
                    }
                    #pragma unroll
                    for (i32 r = 0; r < 4; r++) {
                        const four<u32> w = now[r].w;
                        const u32 word = part == 0 ? w.x : part == 1 ? w.y : part == 2 ? w.z : w.w;
                        const i32 shift = j * BITS - (23 - BITS);
                        const u32 code = shift > 0 ? word >> (shift & 31) : word << (-shift & 31);
                        const f32 q = as_f32((code & ((1u << BITS) - 1) << (23 - BITS)) | one);
                        #pragma unroll
                        for (i32 k = 0; k < M_ROWS; k++) {
                            dot[r][k] = fmaf(q, v[k], dot[r][k]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 4; r++) {
                const f32 scale = now[r].scale * (f32)(1 << BITS), bias = now[r].bias - scale;
                #pragma unroll
                for (i32 k = 0; k < M_ROWS; k++) {
                    sum[r][k] = fmaf(scale, dot[r][k], fmaf(bias, all[k], sum[r][k]));
                }
            }
            LOADS(base + chunk)
        }
    }";

/// Loads from a column on, of nothing beyond the end.
const LOADS: &str = "
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = COLUMN + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                LOAD
            }
        }";

/// What stands before: elements of a lane's 16 bytes and of those of a warp, what a load brings, and the bits of 1, which a
/// compiler does not know: an instruction masks and adds them, but takes one constant only.
const BEFORE: &str = "
    constexpr i32 per = 32 / BITS, mine = 4 * per, chunk = 32 * mine, staged = STAGED, area = STAGED / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][M_ROWS];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < M_ROWS; k++) {
            sum[r][k] = 0.0f;
        }
    }";

/// A kernel's text over the sums of rows of codes.
pub(super) struct Sums {
    /// With BEFORE and SUMS in their places.
    pub body: &'static str,
    /// Brings the codes of a row.
    pub load: &'static str,
    /// A float of the other side.
    pub float: &'static str,
    /// Whether floats are to be brought, or are still there.
    pub fresh: &'static str,
    /// Do all threads of a block bring floats, or does each warp bring its own?
    pub together: bool,
    /// Columns whose floats are there at a time.
    pub staged: usize,
}

impl Sums {
    /// The text for codes of so many bits and so many rows of floats. Loops are unrolled: their bounds are constants.
    pub fn text(&self, bits: usize, rows: usize) -> String {
        let [worker, workers] = if self.together { ["thread_index", "block_threads"] } else { ["lane", "32"] };
        let loads = |column| LOADS.replace("COLUMN", column);
        let words = [
            ("BEFORE", BEFORE),
            ("SUMS", SUMS),
            ("LOADS(from)", &loads("from")),
            ("LOADS(base + chunk)", &loads("base + chunk")),
            ("LOAD", self.load),
            ("FLOAT", self.float),
            ("FRESH", self.fresh),
            ("WORKERS", workers),
            ("WORKER", worker),
            ("STAGED", &self.staged.to_string()),
            ("M_ROWS", &rows.to_string()),
            ("BITS", &bits.to_string()),
        ];
        words.iter().fold(self.body.to_string(), |text, (word, by)| text.replace(word, by))
    }
}

const TEXT: Sums = Sums {
    body: "
    shared_array(f32, room, M_ROWS * STAGED / 32 * 33);
    const i64 cols = args.x_dims[1], m = args.x_dims[0], n = args.packed_dims[0], words = args.packed_dims[1];
    const u32 group = (u32)(cols / args.scales_dims[1]);
    const i64 top = (i64)block_index_y * M_ROWS, wave = (i64)grid_blocks * warps * 4;
    // all blocks take as many turns: their threads wait for each other
    for (i64 turn = 0; turn < n; turn += wave) {
        BEFORE
        const i64 first = turn + ((i64)block_index * warps + warp) * 4;
        SUMS
        for (i32 r = 0; r < 4; r++) {
            for (i32 k = 0; k < M_ROWS; k++) {
                const f32 total = warp_sum(sum[r][k]);
                if (lane == 0 && first + r < n && top + k < m) {
                    y[(top + k) * n + first + r] = narrow<y_t>(total);
                }
            }
        }
    }",
    load: "if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }",
    float: "(top + k < m ? wide(x[(top + k) * cols + column]) : 0.0f)",
    fresh: "turn == 0 || cols > staged",
    together: true,
    staged: STAGED[0],
};

/// Rows of x at a time: one, or four.
const AT_A_TIME: [usize; 2] = [1, 4];
/// Columns of x that are there at a time: four rows of 2048 are more than the 32 KiB that a block of Apple's GPUs has.
const STAGED: [usize; 2] = [2048, 1024];
const WARPS: usize = 8;
/// Most blocks: more, and x would be brought more often. An H100 has room for four of them on each of its 132 multiprocessors.
const BLOCKS: usize = 528;

/// The product of many rows, on matrix units that have this much shared memory.
fn product(bits: usize, m: usize, n: usize, memory: usize) -> RawKernel {
    let (tile, number) = (Tile::alone(memory, m, n), bits.to_string());
    static KERNELS: LazyLock<List<((usize, Tile), RawKernel)>> = LazyLock::new(List::default);
    let words = [
        ("$ACROSS", "args.y_dims[1]"),
        ("$FULL", "args.x_dims[1]"),
        ("$ROW_OF", SAME),
        ("$X", "x"),
        ("$W_SCALES", "scales"),
        ("$W_BIASES", "biases"),
        ("$WORDS", "args.packed_dims[1]"),
        ("$GROUPS", "args.scales_dims[1]"),
        ("$W", "packed"),
        ("$BITS", &number),
    ];
    let product = Product { place: ALONE, a: OF_ROWS, b: OF_CODES, codes: CODES, store: STORE };
    let make = || {
        let kernel = kernel(&format!("quantized_matmul_{bits}"), &product, &tile, false, &words);
        ((bits, tile), kernel.inputs(&["x", "packed", "scales", "biases"]).outputs(&["y"]))
    };
    KERNELS.get_or_add(|(key, _)| *key == (bits, tile), make).1.clone().grid(tile.grid_each(1, m, n))
}

static KERNELS: LazyLock<[[RawKernel; 2]; 2]> = LazyLock::new(|| {
    [4, 8].map(|bits| {
        AT_A_TIME.map(|rows| {
            RawKernel::new(&format!("quantized_matvec_{bits}_{rows}"))
                .inputs(&["x", "packed", "scales", "biases"])
                .outputs(&["y"])
                .portable(&Sums { staged: STAGED[usize::from(rows > 1)], ..TEXT }.text(bits, rows))
        })
    })
});

/// y = x·wᵀ for `w` of codes of `bits` bits. Tracked by `x` alone.
///
/// # Errors
/// Shapes or dtypes that do not belong together; bits other than 2, 3, 4, 5, 6, 8.
pub fn quantized_matvec(x: &Tensor, w: &Tensor, scales: &Tensor, biases: &Tensor, bits: usize) -> Result<Tensor> {
    const NAME: &str = "quantized_matvec";
    let p = Packing::of(NAME, w, scales, biases, bits)?;
    if w.rank() != 2 {
        return Err(Error::shape(NAME, "words", "[N, words]", w.dims()));
    }
    affine::floats(NAME, "x", x)?;
    if x.dims().last() != Some(&p.cols) {
        return Err(Error::shape(NAME, "x", format!("[.., {}]", p.cols), x.dims()));
    }
    let mut dims = x.dims().to_vec();
    let last = dims.len() - 1;
    dims[last] = p.rows;
    let x = x.reshape(((), p.cols))?;
    let m = x.dim(0)?;
    let dtype = x.dtype();
    // on a CPU many rows are multiplied with some rows of w at a time
    let in_tiles = m > FEW && dtype != DType::F64 && text_target(x.device()).is_none();
    let units = if m > FEW { fits(x.device(), dtype, &[p.rows, p.cols]) } else { None };
    if (m > FEW && !in_tiles && units.is_none()) || m == 0 || ![4, 8].contains(&bits) {
        // the other side of the product is no function of a float that is tracked
        let w = dense(w, scales, biases, bits, dtype)?;
        return Ok(x.matmul(&w.t()?)?.reshape(dims)?);
    }
    let (n, many) = (p.rows, usize::from(m > 1));
    let kernel = match units {
        Some(memory) => product(bits, m, n, memory),
        None => {
            let blocks = [n.div_ceil(4 * WARPS).min(BLOCKS) as u32, m.div_ceil(AT_A_TIME[many]) as u32, 1];
            KERNELS[usize::from(bits == 8)][many].clone().grid(Grid { blocks, threads: 32 * WARPS as u32 })
        }
    };
    let kernel = kernel
        .results(move |_| vec![(Shape::from((m, n)), dtype)])
        .cpu(move |t| {
            let t: Vec<Tensor> = t.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
            let x = t[0].to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let y = with_matrices(&t[1..4], p, |[w]| match m > FEW {
                true => products::matmul(&x, &w),
                false => products::matvec(&x, &w),
            })?;
            Ok(vec![Tensor::from_vec(y, (m, n), t[0].device())?.to_dtype(dtype)?])
        })
        .vjp(move |t, _, cotangents| {
            let Some(g) = &cotangents[0] else { return Ok(vec![None; 4]) };
            let w = dense(&t[1], &t[2], &t[3], bits, dtype)?;
            Ok(vec![Some(g.contiguous()?.matmul(&w)?), None, None, None])
        });
    let y = kernel.call(&[&aligned(&x)?, &aligned(w)?, &scales.detach(), &biases.detach()])?.swap_remove(0);
    Ok(y.reshape(dims)?)
}

/// The numbers of w, rounded once, to this dtype: not first to that of the scales.
fn dense(w: &Tensor, scales: &Tensor, biases: &Tensor, bits: usize, dtype: DType) -> candle_core::Result<Tensor> {
    let wide = match dtype {
        dtype if dtype == scales.dtype() => dtype,
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    dequantize_affine(w, &scales.to_dtype(wide)?, &biases.to_dtype(wide)?, bits)?.to_dtype(dtype)
}

/// A tensor for a kernel that loads 16 bytes of it at a time: a view that starts elsewhere is copied.
pub(crate) fn aligned(t: &Tensor) -> candle_core::Result<Tensor> {
    let own = 16 / t.dtype().size_in_bytes();
    if t.layout().start_offset().is_multiple_of(own) { t.contiguous() } else { t.force_contiguous() }
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // sums are in f32
    }
    for (bits, group, m, rows, cols) in [
        (4, 64, 1, 37, 1088),
        (4, 32, 3, 5, 96),
        (8, 128, 1, 33, 640),
        (8, 32, 5, 9, 544),
        (4, 64, 20, 7, 64),
        (4, 64, 67, 72, 192),
        (8, 32, 17, 8, 96),
        (3, 64, 2, 8, 64),
    ] {
        let mut inputs = vec![numbers(&[m, cols], dtype, 3, &Device::Cpu)?];
        inputs.extend(packed(Packing { rows, cols, group, bits }, dtype, &Device::Cpu)?);
        let what = format!("{m} rows, {rows}x{cols}, {bits} bits, groups of {group}");
        cases.push(Case::new(&what, inputs, &[bits as f64]));
    }
    Ok(cases)
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "quantized_matvec",
    summary: "y = x·wᵀ for few rows x and w of affine codes of 4 or 8 bits",
    zmlx: &[],
    args: &["x", "packed", "scales", "biases"],
    settings: &["bits"],
    gradient: Gradient::Custom,
    wrt: &[0],
    // where candle multiplies, the dequantised numbers are rounded
    roundings: [4.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for (bits, m) in [(4, 1), (8, 1), (4, 4), (4, 512), (8, 512)] {
            // the head of a language model; on a CPU an eighth of it
            let rows = if device.is_cpu() { 18_992 } else { 151_936 };
            let p = Packing { rows, cols: 2048, group: 64, bits };
            let mut inputs = vec![numbers(&[m, 2048], dtype, 1, device)?];
            inputs.extend(packed(p, dtype, device)?);
            let bytes = (rows * 2048) as f64 * (bits as f64 / 8.0 + dtype.size_in_bytes() as f64 / 32.0);
            let flops = if m > FEW { (m * rows * 2048) as f64 } else { 0.0 };
            let flops = [flops, 2.0 * flops];
            all.push(Case {
                bytes,
                flops,
                ..Case::new(&format!("{m}x2048 · 2048x{rows}, {bits} bits"), inputs, &[bits as f64])
            });
        }
        Ok(all)
    },
    run: |t, settings| Ok(vec![quantized_matvec(&t[0], &t[1], &t[2], &t[3], settings[0] as usize)?]),
    reference: |t, settings| {
        let w = dequantize_affine::reference(&t[1..], settings)?.swap_remove(0);
        Ok(vec![t[0].matmul(&w.transpose(D::Minus1, D::Minus2)?.contiguous()?)?])
    },
};
