//! Products by group: rows of x that lie by expert, times the matrix of their expert, of floats or of affine codes.
//!
//! On matrix units (`tiles.rs`) for 16-bit floats in rows of a multiple of 8; else in plain candle ops on a GPU, an expert at a time,
//! for which the host waits for the offsets. The gradients by x and by matrices of floats are two more products of the kind.

mod gradient;

use crate::{
    Error, RawKernel, Result, bridge,
    catalog::swiglu,
    host::{
        self,
        products::{Matrix, with_matrices},
    },
    portable::{dequantize_affine::dequantize_affine, moe_gate_up_swiglu::Experts, quantized_matvec::aligned},
    tiles::{BY_INDEX, CODES, GROUPED, OF_CODES, OF_MATRIX, OF_ROWS, Product, SAME, STORE, Tile, fits, kernel},
};
use candle_core::{DType, Device, Shape, Tensor};
use std::sync::LazyLock;
use zmlx_runtime::{backend::cpu::widen, list::List};

/// The matrices of experts, each of N rows and K columns.
#[derive(Clone, Copy, Debug)]
pub enum Matrices<'a> {
    /// [E, N, K].
    Floats(&'a Tensor),
    /// In affine codes of 4 or 8 bits, which are not trained.
    Codes(Experts<'a>, usize),
}

impl Matrices<'_> {
    /// E, N and K.
    fn dims(&self, op: &str, name: &str) -> Result<[usize; 3]> {
        match self {
            Matrices::Floats(w) => match w.dims() {
                &[e, n, k] => Ok([e, n, k]),
                dims => Err(Error::shape(op, name, "[E, N, K]", dims)),
            },
            Matrices::Codes(w, bits) => {
                let (p, e, n) = w.packing(op, *bits)?;
                Ok([e, n, p.cols])
            }
        }
    }
    /// What a kernel takes from the first of two for both: the columns of a scale, and their type.
    fn groups(&self, op: &str) -> Result<Option<(usize, DType)>> {
        Ok(match self {
            Matrices::Floats(_) => None,
            Matrices::Codes(w, bits) => Some((w.packing(op, *bits)?.0.group, w.scales.dtype())),
        })
    }
    fn bits(&self) -> Option<usize> {
        match self {
            Matrices::Floats(_) => None,
            Matrices::Codes(_, bits) => Some(*bits),
        }
    }
    /// As inputs of a kernel.
    fn tensors(&self) -> Result<Vec<Tensor>> {
        Ok(match self {
            Matrices::Floats(w) => vec![aligned(w)?],
            Matrices::Codes(w, _) => w.tensors()?.into(),
        })
    }
}

/// What a call of either function says.
#[derive(Clone, Debug)]
struct Call {
    op: &'static str,
    /// Rows of the result, matrices, rows and columns of each.
    rows: usize,
    e: usize,
    n: usize,
    k: usize,
    dtype: DType,
    by_index: bool,
    bits: Option<usize>,
    /// Matrices of each expert: one, or gate and up.
    count: usize,
}

impl Call {
    fn new(
        op: &'static str,
        x: &Tensor,
        index: Option<&Tensor>,
        all: &[(&str, Matrices<'_>)],
        offsets: &Tensor,
    ) -> Result<Call> {
        let (name, first) = &all[0];
        let [e, n, k] = first.dims(op, name)?;
        for (name, w) in &all[1..] {
            if w.dims(op, name)? != [e, n, k] {
                let expected = format!("[{e}, {n}, {k}], as {}", all[0].0);
                return Err(Error::argument(op, *name, expected, format!("{:?}", w.dims(op, name)?)));
            }
            if w.groups(op)? != first.groups(op)? {
                let told = |w: &Matrices<'_>| {
                    let groups = w.groups(op)?.map(|(n, dtype)| format!("groups of {n} with {}", dtype.as_str()));
                    Ok::<_, Error>(groups.unwrap_or_else(|| "floats".into()))
                };
                let expected = format!("{}, as {}", told(first)?, all[0].0);
                return Err(Error::argument(op, *name, expected, told(w)?));
            }
        }
        let none = index.is_some_and(|i| i.elem_count() > 0) && x.dims().first() == Some(&0);
        if x.rank() != 2 || x.dim(1)? != k || none {
            return Err(Error::shape(op, "x", format!("[T, {k}]"), x.dims()));
        }
        host::affine::floats(op, "x", x)?;
        for (name, w) in all {
            if let Matrices::Floats(w) = w
                && w.dtype() != x.dtype()
            {
                let expected = format!("{}, as x", x.dtype().as_str());
                return Err(Error::argument(op, format!("{name}: dtype"), expected, w.dtype().as_str()));
            }
        }
        for (name, t) in index.iter().map(|t| ("index", *t)).chain([("offsets", offsets)]) {
            if t.rank() != 1 || t.dtype() != DType::U32 {
                let got = format!("{:?} of {}", t.dims(), t.dtype().as_str());
                return Err(Error::argument(op, name, "one dimension of u32", got));
            }
        }
        if offsets.elem_count() != e + 1 {
            return Err(Error::shape(op, "offsets", format!("[{}]", e + 1), offsets.dims()));
        }
        Ok(Call {
            op,
            rows: index.map_or(x.dim(0)?, Tensor::elem_count),
            e,
            n,
            k,
            dtype: x.dtype(),
            by_index: index.is_some(),
            bits: first.bits(),
            count: all.len(),
        })
    }
    /// Tensors of a matrix.
    fn each(&self) -> usize {
        if self.bits.is_some() { 3 } else { 1 }
    }
    /// Inputs of the kernel: x, the index, matrices, offsets.
    fn parts<'a>(&self, t: &'a [Tensor]) -> (&'a Tensor, Option<&'a Tensor>, Vec<&'a [Tensor]>, &'a Tensor) {
        let at = 1 + usize::from(self.by_index);
        let matrices = t[at..].chunks(self.each()).take(self.count).collect();
        (&t[0], self.by_index.then(|| &t[1]), matrices, &t[t.len() - 1])
    }
    /// A matrix as floats of the type of x.
    fn floats(&self, w: &[Tensor]) -> Result<Tensor> {
        match self.bits {
            None => Ok(w[0].clone()),
            Some(bits) => Ok(dequantize_affine(&w[0], &w[1], &w[2], bits)?.to_dtype(self.dtype)?),
        }
    }
    fn kernel(&self, device: &Device) -> RawKernel {
        let (x, rows) = if self.by_index { ("x index", BY_INDEX) } else { ("x", SAME) };
        let (names, codes): (&[&str], bool) = match (self.count, self.bits.is_some()) {
            (1, false) => (&["w"], false),
            (1, true) => (&["w", "w_scales", "w_biases"], true),
            (_, false) => (&["gate", "up"], false),
            (_, true) => (&["gate", "gate_scales", "gate_biases", "up", "up_scales", "up_biases"], true),
        };
        let inputs: Vec<&str> = x.split(' ').chain(names.iter().copied()).chain(["offsets"]).collect();
        let Some(memory) = fits(device, self.dtype, &[self.n, self.k]) else {
            return RawKernel::new(self.op).inputs(&inputs).outputs(&["y"]);
        };
        let (tile, swiglu) = (Tile::of(memory, self.rows, self.e), self.count == 2);
        let part = |end: &str| match swiglu {
            false => format!("w{end}"),
            true => format!("(r < WIDE ? gate{end} : up{end})"),
        };
        let [w, scales, biases] = ["", "_scales", "_biases"].map(part);
        let bits = self.bits.unwrap_or(0).to_string();
        let words = [
            ("$ACROSS", "args.y_dims[1]"),
            ("$FULL", "args.x_dims[1]"),
            ("$ROW_OF", rows),
            ("$X", "x"),
            ("$W_SCALES", &scales),
            ("$W_BIASES", &biases),
            ("$WORDS", if swiglu { "args.gate_dims[2]" } else { "args.w_dims[2]" }),
            ("$GROUPS", if swiglu { "args.gate_scales_dims[2]" } else { "args.w_scales_dims[2]" }),
            ("$W", &w),
            ("$BITS", &bits),
        ];
        let product = Product {
            place: GROUPED,
            a: OF_ROWS,
            b: if codes { OF_CODES } else { OF_MATRIX },
            codes: if codes { CODES } else { ["", ""] },
            store: if swiglu { STORE_SWIGLU } else { STORE },
        };
        type Key = (&'static str, Option<usize>, bool, Tile);
        static KERNELS: LazyLock<List<(Key, RawKernel)>> = LazyLock::new(List::default);
        let key = (self.op, self.bits, self.by_index, tile);
        let make = || {
            let by = if self.by_index { "_by_index" } else { "" };
            let name = self.bits.map_or(format!("{}{by}", self.op), |bits| format!("{}_{bits}{by}", self.op));
            (key, kernel(&name, &product, &tile, swiglu, &words).inputs(&inputs).outputs(&["y"]))
        };
        let found = KERNELS.get_or_add(|(k, _)| *k == key, make).1.clone();
        let grid = tile.grid(self.rows, self.e, self.n, self.count);
        found.grid(grid)
    }
    /// On a CPU, and in plain candle ops elsewhere.
    fn run(&self, t: &[Tensor]) -> candle_core::Result<Tensor> {
        let (x, index, matrices, offsets) = self.parts(t);
        let offsets = known(self.op, offsets, self.rows)?;
        if self.dtype == DType::F64 || !x.device().is_cpu() {
            let of = |w: &[Tensor]| plain(x, index, &self.floats(w).map_err(candle_core::Error::wrap)?, &offsets);
            return match &matrices[..] {
                [w] => of(w),
                all => plain_swiglu(&of(all[0])?, &of(all[1])?),
            };
        }
        let x = match index {
            Some(index) => x.index_select(index, 0)?,
            None => x.clone(),
        };
        let x = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let mut found = vec![];
        for w in &matrices {
            let w: Vec<Tensor> = w.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
            found.push(match self.bits {
                Some(bits) => {
                    let group = self.k / w[1].dim(2)?.max(1);
                    let p = host::affine::Packing { rows: self.e * self.n, cols: self.k, group, bits };
                    with_matrices(&w, p, |[w]: [Matrix<'_>; 1]| {
                        host::grouped::matmul(&x, [self.rows, self.k], &offsets, self.n, |row, out| w.floats(row, out))
                    })?
                }
                None => {
                    let guards = bridge::Guards::lock(&[&w[0]]);
                    let w = bridge::host(&guards, 0, &w[0])?;
                    host::grouped::matmul(&x, [self.rows, self.k], &offsets, self.n, |row, out| {
                        widen(&w, row * self.k, out)
                    })
                }
            });
        }
        let up = if self.count == 2 { found.pop() } else { None };
        let mut y = found.swap_remove(0);
        if let Some(up) = up {
            y.iter_mut().zip(up).for_each(|(y, up)| *y = *y / (1.0 + (-*y).exp()) * up);
        }
        Tensor::from_vec(y, (self.rows, self.n), t[0].device())?.to_dtype(self.dtype)
    }
}

const STORE_SWIGLU: &str = "if (top + r < end && left + c < $ACROSS) {
                    const f32 up_low = element(sums[i][j + N / 2], e), up_high = element(sums[i][j + N / 2], e + 1);
                    const f32 h_low = low * sigmoid(low) * up_low, h_high = high * sigmoid(high) * up_high;
                    const u32 pair = pair_of<y_t>(h_low, h_high);
                    *(device u32*)(y + (top + r) * $ACROSS + left + c) = rows_of[r] == -2 ? 0x7fff7fffu : pair;
                }";

/// Offsets on the host: each at most the next, and the last at most the number of rows.
fn known(op: &str, offsets: &Tensor, rows: usize) -> candle_core::Result<Vec<u32>> {
    let offsets = offsets.to_vec1::<u32>()?;
    let last = offsets.last().copied().unwrap_or(0) as usize;
    if offsets.first() != Some(&0) || offsets.windows(2).any(|w| w[0] > w[1]) || last > rows {
        let expected = format!("0 first, each at most the next and all at most {rows}");
        candle_core::bail!("{op}: offsets, expected {expected}, got {offsets:?}");
    }
    Ok(offsets)
}

/// y = x·w_eᵀ in candle's ops, an expert at a time.
pub(crate) fn plain(x: &Tensor, index: Option<&Tensor>, w: &Tensor, offsets: &[u32]) -> candle_core::Result<Tensor> {
    let x = match index {
        Some(index) => x.index_select(index, 0)?,
        None => x.clone(),
    };
    let (rows, n) = (x.dim(0)?, w.dim(1)?);
    let mut all = vec![];
    for (e, ends) in offsets.windows(2).enumerate() {
        let (from, to) = (ends[0] as usize, ends[1] as usize);
        if from < to {
            all.push(x.narrow(0, from, to - from)?.matmul(&w.get(e)?.t()?)?);
        }
    }
    let done = offsets.last().copied().unwrap_or(0) as usize;
    // of nothing candle makes no zeros on a GPU
    match rows - done {
        0 if all.is_empty() => return Tensor::zeros((0, n), x.dtype(), &Device::Cpu)?.to_device(x.device()),
        0 => {}
        rest => all.push(Tensor::zeros((rest, n), x.dtype(), x.device())?),
    }
    Tensor::cat(&all, 0)
}

/// silu(gate)·up in candle's ops.
pub(crate) fn plain_swiglu(gate: &Tensor, up: &Tensor) -> candle_core::Result<Tensor> {
    (gate * (gate.neg()?.exp()? + 1.0)?.recip()?)? * up
}

/// y = x·w_eᵀ, or silu(x·gate_eᵀ)·(x·up_eᵀ), for the rows of x of each expert e.
pub(crate) fn run(
    op: &'static str,
    x: &Tensor,
    index: Option<&Tensor>,
    all: &[(&str, Matrices<'_>)],
    offsets: &Tensor,
) -> Result<Tensor> {
    let call = Call::new(op, x, index, all, offsets)?;
    let mut inputs = vec![aligned(x)?];
    inputs.extend(index.map(|t| t.contiguous()).transpose()?);
    for (_, w) in all {
        inputs.extend(w.tensors()?);
    }
    inputs.push(offsets.contiguous()?);
    let count = inputs.len();
    let (dtype, shape) = (call.dtype, Shape::from((call.rows, call.n)));
    let trained = all.iter().any(|(_, w)| matches!(w, Matrices::Floats(w) if w.track_op()));
    let (of_run, of_vjp) = (call.clone(), call.clone());
    let kernel = call
        .kernel(x.device())
        .results(move |_| vec![(shape.clone(), dtype)])
        .cpu(move |t| Ok(vec![of_run.run(t)?]))
        .vjp(move |t, _, cotangents| {
            let mut gradients = vec![None; count];
            let Some(g) = &cotangents[0] else { return Ok(gradients) };
            let (x, index, matrices, offsets) = of_vjp.parts(t);
            let floats: Vec<Tensor> = matrices.iter().map(|w| of_vjp.floats(w)).collect::<Result<_>>()?;
            // cotangents of each product
            let each = match &floats[..] {
                [_] => vec![g.contiguous()?],
                all => {
                    let product = |w: &Tensor| run(PRODUCT, x, index, &[("w", Matrices::Floats(w))], offsets);
                    let found = swiglu::ENTRY.op()?.vjp(&[&product(&all[0])?, &product(&all[1])?], &[g])?;
                    found.into_iter().flatten().collect()
                }
            };
            let mut of_x: Option<Tensor> = None;
            for (i, (g, w)) in each.iter().zip(&floats).enumerate() {
                let rows = gradient::by_rows(&of_vjp, g, w, offsets)?;
                of_x = Some(match of_x {
                    Some(before) => (before + rows)?,
                    None => rows,
                });
                if trained && of_vjp.bits.is_none() {
                    let at = 1 + usize::from(of_vjp.by_index) + i;
                    gradients[at] = Some(gradient::by_matrices(&of_vjp, g, x, index, offsets)?);
                }
            }
            gradients[0] = of_x.map(|rows| gradient::gathered(rows, index, x)).transpose()?;
            Ok(gradients)
        });
    Ok(kernel.call(&inputs[..])?.swap_remove(0))
}

/// The operation's name where a gradient makes the products again.
const PRODUCT: &str = "grouped_matmul";
