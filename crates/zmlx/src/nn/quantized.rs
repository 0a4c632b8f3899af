//! candle's product with quantised weights, and its gradient to the other factor: that of the dequantised weights.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, MetalStorage, Module, Result, Shape, Tensor,
    quantized::{self, QTensor},
};
use std::sync::Arc;

/// `x · wᵀ` with w of `[n, k]` in one of candle's quantised formats (GGUF), in place of `candle_core::quantized::QMatMul`. The weights
/// have no gradient. A backward pass dequantises them (n·k in f32, let go of at once).
#[derive(Clone, Debug)]
pub struct QMatMul(quantized::QMatMul);

impl QMatMul {
    /// Of weights that others may have too.
    ///
    /// # Errors
    /// What candle says of a device.
    pub fn from_arc(weights: Arc<QTensor>) -> Result<QMatMul> {
        quantized::QMatMul::from_arc(weights).map(QMatMul)
    }

    /// Of weights.
    ///
    /// # Errors
    /// What candle says of a device.
    pub fn from_qtensor(weights: QTensor) -> Result<QMatMul> {
        QMatMul::from_arc(Arc::new(weights))
    }

    /// candle's own.
    pub fn inner(&self) -> &quantized::QMatMul {
        &self.0
    }
}

impl From<quantized::QMatMul> for QMatMul {
    fn from(product: quantized::QMatMul) -> QMatMul {
        QMatMul(product)
    }
}

impl Module for QMatMul {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match &self.0 {
            quantized::QMatMul::QTensor(w) if xs.track_op() => xs.contiguous()?.apply_op1(Tracked(w.clone())),
            quantized::QMatMul::QTensor(_) => self.0.forward(&xs.contiguous()?),
            // products with a tensor, whose gradients candle keeps
            _ => self.0.forward(xs),
        }
    }
}

/// candle's op with a backward pass.
struct Tracked(Arc<QTensor>);

impl CustomOp1 for Tracked {
    fn name(&self) -> &'static str {
        "qmatmul"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.cpu_fwd(s, l)
    }
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        self.0.cuda_fwd(s, l)
    }
    fn metal_fwd(&self, s: &MetalStorage, l: &Layout) -> Result<(MetalStorage, Shape)> {
        self.0.metal_fwd(s, l)
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (n, _) = self.0.shape().dims2()?;
        let w = self.0.dequantize(g.device())?;
        let rows = g.to_dtype(DType::F32)?.reshape(((), n))?;
        Ok(Some(rows.matmul(&w)?.reshape(x.shape())?.to_dtype(x.dtype())?))
    }
}
