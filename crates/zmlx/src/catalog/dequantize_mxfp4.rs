//! MXFP4: codes e2m1, two a byte, times the scale of their block of 32, of e8m0
//!
//! | name  | shape      | dtype | note                                                  |
//! |-------|------------|-------|-------------------------------------------------------|
//! | x     | [.., 16·C] | u8    | two values a byte, the low nibble first               |
//! | scale | [.., C]    | u8    | 2^(scale − 127); 255 is NaN. A row of the kernel is a block |
//! | y     | [.., 32·C] | f32; f16, bf16, f64 on request |                              |
//! Cost: 17 bytes read for 32 elements, which are written.
//! Source: OCP Microscaling Formats 1.0, sections 5 and 6.3; bit for bit what ml_dtypes and MLX give. gpt-oss keeps its experts so.

use super::{dequantize_fp8_e4m3::look_up, quantize_mxfp4::BLOCK};
use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
    rowwise, stats,
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_mxfp4`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_mxfp4",
    summary: "e2m1(nibble) * 2^(scale - 127)",
    formula: "let t = i32(scale); \
              let p0 = float((t & 1) + 1) * ((t & 2) != 0 ? 4 : 1) * ((t & 4) != 0 ? 16 : 1) * ((t & 8) != 0 ? 256 : 1); \
              let p1 = p0 * ((t & 16) != 0 ? 65536 : 1) * ((t & 32) != 0 ? 4294967296 : 1) * ((t & 64) != 0 ? 1.8446744073709552e+19 : 1); \
              let p2 = p1 * ((t & 128) != 0 ? 2 : 5.877471754111438e-39); \
              let p = t == 255 ? NAN : p2; \
              let a = float(x & 7); \
              let b = float((x >> 4) & 7); \
              let u = a < 4 ? a * 0.5 : (a < 6 ? a - 2 : 2 * a - 8); \
              let v = b < 4 ? b * 0.5 : (b < 6 ? b - 2 : 2 * b - 8); \
              out y: f32 = interleave(((x & 8) != 0 ? -u : u) * p, (x > 127 ? -v : v) * p)",
    zmlx: &[],
    args: &[Arg::full("x").of(Values::Byte), Arg { name: "scale", shape: ArgShape::Row, values: Values::Byte }],
    uniforms: &[],
    fallback: |t, _| Ok(vec![plain(&t[0], &t[1], DType::F64)?.to_dtype(DType::F32)?]),
    gradient: Gradient::None("weights that are packed are not trained"),
    moves: 2.25,
    cell: OnceLock::new(),
};

/// The numbers behind codes [.., 16·C] and the scales [.., C] of their blocks, in `dtype`.
///
/// # Errors
/// No bytes, scales that are not one for each 16 bytes, a dtype that is no float.
pub fn dequantize_mxfp4(codes: &Tensor, scales: &Tensor, dtype: DType) -> Result<Tensor> {
    const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
    static OPS: [OnceLock<Op>; 4] = [const { OnceLock::new() }; 4];
    let Some(at) = DTYPES.iter().position(|d| *d == dtype) else {
        return Err(Error::argument(ENTRY.name, "dtype", "f16, bf16, f32 or f64", dtype.as_str()));
    };
    for (name, t) in [("codes", codes), ("scales", scales)] {
        if t.dtype() != DType::U8 {
            return Err(Error::argument(ENTRY.name, format!("{name}: dtype"), "u8", t.dtype().as_str()));
        }
    }
    let (rank, last) = (codes.rank(), codes.dims().last().copied().unwrap_or(1));
    let rows = &codes.dims()[..rank.saturating_sub(1)];
    if !last.is_multiple_of(BLOCK / 2) {
        return Err(Error::shape(ENTRY.name, "codes", "16 bytes a block", codes.dims()));
    }
    let blocks = [rows, &[last * 2 / BLOCK]].concat();
    if scales.dims() != blocks {
        return Err(Error::shape(ENTRY.name, "scales", format!("{blocks:?}, one a block"), scales.dims()));
    }
    let x = codes.reshape([&blocks[..], &[BLOCK / 2]].concat())?;
    let y = if bridge::runs_on(x.device()) {
        let formula = || ENTRY.formula.replace("out y: f32", &format!("out y: {}", dtype.as_str()));
        let built = || rowwise(formula())?.name(ENTRY.name).row("scale").no_grad().build();
        let op = Op::once(&OPS[at], built)?;
        // in the order in which the formula names them
        op.call(&[scales, &x])?
    } else {
        stats::count_fallback();
        plain(&x, scales, dtype)?
    };
    Ok(y.reshape([rows, &[last * 2]].concat())?)
}

/// In plain ops.
fn plain(x: &Tensor, scales: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    let sizes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = |code: usize| if code < 8 { sizes[code] } else { -sizes[code - 8] };
    let pairs: Vec<f64> = (0..256).flat_map(|byte| [value(byte & 15), value(byte >> 4)]).collect();
    let pairs = Tensor::from_vec(pairs, (256, 2), x.device())?;
    let at = x.flatten_all()?.to_dtype(DType::U32)?;
    let values = pairs.index_select(&at, 0)?.reshape([x.dims(), &[2]].concat())?.flatten_from(x.rank() - 1)?;
    let powers: Vec<f64> = (0..256).map(|e| if e == 255 { f64::NAN } else { 2f64.powi(e - 127) }).collect();
    let powers = look_up(&powers, scales, DType::F64)?.unsqueeze(D::Minus1)?;
    values.broadcast_mul(&powers)?.to_dtype(dtype)
}
