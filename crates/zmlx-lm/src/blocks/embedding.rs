//! Rows of a vocabulary, by token; the same rows may be the head.

use super::Matrix;
use crate::Result;
use candle_core::{DType, Tensor};

/// The rows of a vocabulary, `[v, k]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Its name in the checkpoint.
    pub name: String,
    /// The rows.
    pub matrix: Matrix,
    /// Of what it gives.
    pub dtype: DType,
}

impl Embedding {
    /// The rows of tokens `[b, t]` of u32: `[b, t, k]`.
    ///
    /// # Errors
    /// A token outside of the vocabulary; what the device says.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let ids = tokens.flatten_all()?;
        let rows = match &self.matrix {
            Matrix::Dense(w) => w.index_select(&ids, 0)?,
            Matrix::Affine(w) => w.select(&ids)?.dequantize_in(self.dtype)?,
            Matrix::Blocks(w) => w[0].tensor.embedding(&ids)?,
        };
        let k = rows.dim(1)?;
        Ok(rows.to_dtype(self.dtype)?.reshape([tokens.dims(), &[k]].concat())?)
    }

    /// As a head: the products of `[.., k]` with every row.
    ///
    /// # Errors
    /// As [`Matrix::product`].
    pub fn head(&self, x: &Tensor) -> Result<Tensor> {
        self.matrix.product(x)
    }
}
