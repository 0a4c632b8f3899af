//! Products with weights: dense, in MLX's affine codes, or in blocks of GGUF.

use crate::Result;
use candle_core::{DType, Module, Tensor, quantized::QTensor};
use std::sync::Arc;
use zmlx::{
    nn::QMatMul,
    portable::{dequantize_affine::dequantize_affine, quantized_matvec::quantized_matvec},
};

/// The numbers of a weight, `[n, k]` or of all experts `[E, n, k]`.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// One by one.
    Dense(Tensor),
    /// MLX's codes.
    Affine(Affine),
    /// GGUF's blocks, one matrix an expert.
    Blocks(Vec<Blocks>),
}

/// A matrix in blocks of GGUF.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// As it is stored, for rows of an embedding.
    pub tensor: Arc<QTensor>,
    /// The product with it.
    pub product: QMatMul,
}

/// Codes of a few bits, `[.., n, k · bits / 32]` words of u32, with a scale and a bias a group of columns: w = scale · code + bias.
#[derive(Clone, Debug)]
pub struct Affine {
    /// Codes, one behind the other from the lowest bit on.
    pub words: Tensor,
    /// `[.., n, k / group]`
    pub scales: Tensor,
    /// As the scales.
    pub biases: Tensor,
    /// Of a code.
    pub bits: usize,
}

/// y = x · wᵀ + b
#[derive(Clone, Debug)]
pub struct Linear {
    /// Its name in the checkpoint.
    pub name: String,
    /// w, `[n, k]`
    pub matrix: Matrix,
    /// b, `[n]`
    pub bias: Option<Tensor>,
}

impl Affine {
    /// The numbers, in the dtype of the scales.
    ///
    /// # Errors
    /// Shapes that do not belong together.
    pub fn dequantize(&self) -> Result<Tensor> {
        Ok(dequantize_affine(&self.words, &self.scales, &self.biases, self.bits)?)
    }

    /// The numbers in another dtype, rounded once.
    ///
    /// # Errors
    /// As [`Affine::dequantize`].
    pub fn dequantize_in(&self, dtype: DType) -> Result<Tensor> {
        let (scales, biases) = (self.scales.to_dtype(dtype)?, self.biases.to_dtype(dtype)?);
        Ok(dequantize_affine(&self.words, &scales, &biases, self.bits)?)
    }

    /// Rows, or experts, by number.
    ///
    /// # Errors
    /// What candle says.
    pub fn select(&self, rows: &Tensor) -> Result<Affine> {
        let pick = |t: &Tensor| t.index_select(rows, 0);
        Ok(Affine {
            words: pick(&self.words)?,
            scales: pick(&self.scales)?,
            biases: pick(&self.biases)?,
            bits: self.bits,
        })
    }
}

impl Matrix {
    /// Of blocks: a matrix, or one an expert.
    ///
    /// # Errors
    /// What candle says of the device.
    pub fn blocks(blocks: QTensor) -> Result<Matrix> {
        let each = |tensor: QTensor| -> Result<Blocks> {
            let tensor = Arc::new(tensor);
            Ok(Blocks { product: QMatMul::from_arc(tensor.clone())?, tensor })
        };
        let &[count, n, k] = blocks.shape().dims() else { return Ok(Matrix::Blocks(vec![each(blocks)?])) };
        let (kind, device, data) = (blocks.dtype(), blocks.device(), blocks.data()?);
        let part = data.len() / count.max(1);
        let one = |e: usize| -> Result<Blocks> {
            let bytes = std::borrow::Cow::Borrowed(&data[e * part..(e + 1) * part]);
            let storage = candle_core::quantized::QStorage::from_data(bytes, &device, kind)?;
            each(QTensor::new(storage, (n, k))?)
        };
        Ok(Matrix::Blocks((0..count).map(one).collect::<Result<_>>()?))
    }

    /// `count` matrices as one, each asked for when its place is there.
    ///
    /// # Errors
    /// Matrices of several kinds; what candle says.
    pub fn stack(count: usize, part: impl Fn(usize) -> Result<Matrix>) -> Result<Matrix> {
        let place = |t: &Tensor| Tensor::zeros([&[count], t.dims()].concat(), t.dtype(), t.device());
        let first = part(0)?;
        let whole = match &first {
            Matrix::Dense(t) => Matrix::Dense(place(t)?),
            Matrix::Affine(a) => Matrix::Affine(Affine {
                words: place(&a.words)?,
                scales: place(&a.scales)?,
                biases: place(&a.biases)?,
                bits: a.bits,
            }),
            Matrix::Blocks(_) => Matrix::Blocks(vec![]),
        };
        let mut whole = whole;
        let mut next = Some(first);
        for e in 0..count {
            let one = next.take().map_or_else(|| part(e), Ok)?;
            let set = |to: &Tensor, from: &Tensor| to.slice_set(&from.contiguous()?.unsqueeze(0)?, 0, e);
            match (&mut whole, one) {
                (Matrix::Dense(all), Matrix::Dense(one)) => set(all, &one)?,
                (Matrix::Affine(all), Matrix::Affine(one)) if all.bits == one.bits => {
                    set(&all.words, &one.words)?;
                    set(&all.scales, &one.scales)?;
                    set(&all.biases, &one.biases)?;
                }
                (Matrix::Blocks(all), Matrix::Blocks(one)) => all.extend(one),
                _ => {
                    return Err(crate::Error::argument(
                        "experts",
                        format!("expert {e}"),
                        "stored as expert 0",
                        "another way",
                    ));
                }
            }
        }
        Ok(whole)
    }

    /// x · wᵀ, `[.., k]` to `[.., n]`, in the dtype of x.
    ///
    /// # Errors
    /// Shapes that do not belong together; what the device says.
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Matrix::Dense(w) => {
                let (k, n) = (x.dim(candle_core::D::Minus1)?, w.dim(0)?);
                let rows = x.elem_count() / k.max(1);
                let shape = [&x.dims()[..x.rank() - 1], &[n]].concat();
                // one product over all rows: candle would repeat w for a batch
                Ok(x.reshape((rows, k))?.matmul(&w.t()?)?.reshape(shape)?)
            }
            Matrix::Affine(w) => Ok(quantized_matvec(x, &w.words, &w.scales, &w.biases, w.bits)?),
            Matrix::Blocks(w) => Ok(w[0].product.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?),
        }
    }

    /// The numbers, one by one, in this dtype.
    ///
    /// # Errors
    /// What the device says.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        match self {
            Matrix::Dense(w) => Ok(w.to_dtype(dtype)?),
            Matrix::Affine(w) => w.dequantize_in(dtype),
            Matrix::Blocks(w) => {
                let each = w.iter().map(|b| b.tensor.dequantize(&b.tensor.device())?.to_dtype(dtype));
                let all = each.collect::<candle_core::Result<Vec<_>>>()?;
                match all.len() {
                    1 => Ok(all[0].clone()),
                    _ => Ok(Tensor::stack(&all, 0)?),
                }
            }
        }
    }

    /// Rows of the matrix, or of one of several.
    pub fn rows(&self) -> usize {
        let of = |t: &Tensor| t.dims().iter().rev().nth(1).copied().unwrap_or(0);
        match self {
            Matrix::Dense(w) => of(w),
            Matrix::Affine(w) => of(&w.words),
            Matrix::Blocks(w) => w.first().map_or(0, |b| b.tensor.shape().dims()[0]),
        }
    }

    /// Numbers in it.
    pub fn parameters(&self) -> usize {
        match self {
            Matrix::Dense(w) => w.elem_count(),
            Matrix::Affine(w) => w.words.elem_count() * 32 / w.bits,
            Matrix::Blocks(w) => w.iter().map(|b| b.tensor.shape().elem_count()).sum(),
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let of = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        match self {
            Matrix::Dense(w) => of(w),
            Matrix::Affine(w) => of(&w.words) + of(&w.scales) + of(&w.biases),
            Matrix::Blocks(w) => w.iter().map(|b| b.tensor.storage_size_in_bytes()).sum(),
        }
    }

    /// How it is stored, in a word.
    pub fn format(&self) -> String {
        match self {
            Matrix::Dense(w) => w.dtype().as_str().into(),
            Matrix::Affine(w) => {
                let k = w.words.dims().last().map_or(0, |n| n * 32 / w.bits);
                let group = k / w.scales.dims().last().copied().unwrap_or(1).max(1);
                format!("affine {} bits, groups of {group}", w.bits)
            }
            Matrix::Blocks(w) => w.first().map_or("none".into(), |b| format!("{:?}", b.tensor.dtype())),
        }
    }
}

impl Linear {
    /// Of `[.., k]`: `[.., n]`.
    ///
    /// # Errors
    /// As [`Matrix::product`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.matrix.product(x)?;
        match &self.bias {
            Some(b) => Ok(y.broadcast_add(b)?),
            None => Ok(y),
        }
    }
}
