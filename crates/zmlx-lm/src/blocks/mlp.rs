//! The gated feed-forward block: down(act(gate(x)) · up(x)).

use super::{Linear, Swap};
use crate::{Config, Result, Weights};
use candle_core::Tensor;

/// The function of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x)
    Silu,
    /// The approximation by tanh.
    GeluTanh,
    /// The exact one, by erf.
    GeluErf,
    /// max(x, 0)
    Relu,
}

/// A kernel for (gate, up) ↦ act(gate) · up.
pub type GateKernel = dyn Fn(Activation, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync;

/// down(act(gate(x)) · up(x))
#[derive(Clone, Debug)]
pub struct Mlp {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[f, d]`
    pub gate_proj: Linear,
    /// `[f, d]`
    pub up_proj: Linear,
    /// `[d, f]`
    pub down_proj: Linear,
    /// Of the gate.
    pub activation: Activation,
    /// `swiglu_mlp`, `geglu_mlp`
    pub kernel: Swap<GateKernel>,
}

impl Activation {
    /// By the name that `hidden_act` has for it.
    ///
    /// # Errors
    /// Another name.
    pub fn named(config: &Config, field: &str, name: &str) -> Result<Activation> {
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_tanh" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::GeluErf),
            "relu" => Ok(Activation::Relu),
            other => Err(config.wrong(field, "silu, gelu, gelu_pytorch_tanh or relu", other)),
        }
    }

    /// Of each element.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Silu => x.silu()?,
            Activation::GeluTanh => x.gelu()?,
            Activation::GeluErf => x.gelu_erf()?,
            Activation::Relu => x.relu()?,
        })
    }

    /// act(gate) · up in candle's own operations.
    ///
    /// # Errors
    /// What candle says of shapes or of the device.
    pub fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        Ok((self.forward(gate)? * up)?)
    }
}

impl Mlp {
    /// With weights `gate_proj`, `up_proj` and `down_proj`.
    ///
    /// # Errors
    /// As [`Weights::linear`].
    pub fn new(w: &Weights, d: usize, f: usize, bias: bool, activation: Activation) -> Result<Mlp> {
        Mlp::named(w, ["gate_proj", "up_proj", "down_proj"], [d, f], bias, activation)
    }

    /// The same where the projections have other names.
    ///
    /// # Errors
    /// As [`Weights::linear`].
    pub fn named(
        w: &Weights,
        [gate, up, down]: [&str; 3],
        [d, f]: [usize; 2],
        bias: bool,
        activation: Activation,
    ) -> Result<Mlp> {
        Ok(Mlp {
            name: w.prefix().into(),
            gate_proj: w.linear(gate, f, d, bias)?,
            up_proj: w.linear(up, f, d, bias)?,
            down_proj: w.linear(down, d, f, bias)?,
            activation,
            kernel: Swap::default(),
        })
    }

    /// Of `[.., d]`.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (gate, up) = (self.gate_proj.forward(x)?, self.up_proj.forward(x)?);
        let hidden = match self.kernel.get() {
            Some(kernel) => kernel(self.activation, &gate, &up)?,
            None => self.activation.gated(&gate, &up)?,
        };
        self.down_proj.forward(&hidden)
    }
}
