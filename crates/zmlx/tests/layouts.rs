//! Any shapes, strides and offsets: random ones beside candle's own broadcasting in f64, values and gradients.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use zmlx::{Op, elementwise, rowwise};

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }

    fn dims(&mut self, sizes: &[usize], least: usize) -> Vec<usize> {
        (0..least + self.below(5)).map(|_| sizes[self.below(sizes.len())]).collect()
    }

    /// A shape that broadcasts to this one: some sizes 1, some of the first missing.
    fn lesser(&mut self, dims: &[usize]) -> Vec<usize> {
        let missing = if self.below(3) == 0 { self.below(dims.len() + 1) } else { 0 };
        dims[missing..].iter().map(|d| if self.below(3) == 0 { 1 } else { *d }).collect()
    }

    /// A tensor of this shape: contiguous, transposed, cut out of a larger one, or expanded.
    fn tensor(&mut self, dims: &[usize], dtype: DType) -> Result<Tensor> {
        let normal = |dims: &[usize]| Tensor::randn(0f32, 1f32, dims, &Device::Cpu)?.to_dtype(dtype);
        let mut other = dims.to_vec();
        match self.below(4) {
            1 if !dims.is_empty() => {
                let (a, b) = (self.below(dims.len()), self.below(dims.len()));
                other.swap(a, b);
                normal(&other)?.transpose(a, b)
            }
            2 if !dims.is_empty() => {
                let a = self.below(dims.len());
                other[a] += 3;
                normal(&other)?.narrow(a, 2, dims[a])
            }
            3 => {
                other.iter_mut().for_each(|d| *d = if self.below(2) == 0 { 1 } else { *d });
                normal(&other)?.broadcast_as(dims)
            }
            _ => normal(dims),
        }
    }
}

fn wide(t: &Tensor) -> Result<Tensor> {
    t.to_dtype(DType::F64)
}

/// The largest difference, relative to the reference where that is above 1.
fn off(got: &Tensor, want: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), want.dims());
    let flat = |t: &Tensor| wide(t)?.flatten_all()?.to_vec1::<f64>();
    let apart = |(g, w): (f64, f64)| if g == w { 0.0 } else { (g - w).abs() / (1.0 + w.abs()) };
    let all = flat(got)?.into_iter().zip(flat(want)?).map(apart);
    Ok(all.fold(0.0, |most, v| if v.is_nan() { f64::INFINITY } else { v.max(most) }))
}

/// The operation and plain ops in f64 on these tensors: values, and gradients by all of them.
fn compare(op: &Op, plain: impl Fn(&[Tensor]) -> Result<Tensor>, tensors: &[Tensor], what: &str) -> Result<()> {
    let dtype = tensors[0].dtype();
    let (value, gradient) = match dtype {
        DType::F64 => (1e-11, 1e-9),
        DType::F32 => (1e-4, 5e-3),
        DType::F16 => (1e-2, 0.1),
        _ => (6e-2, 0.6),
    };
    let vars = tensors.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let exact = tensors.iter().map(|t| Var::from_tensor(&wide(t)?)).collect::<Result<Vec<_>>>()?;
    let all = |vars: &[Var]| vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let y = op.call(&all(&vars)[..]).unwrap_or_else(|e| panic!("{what}: {e}"));
    if y.elem_count() == 0 {
        return Ok(()); // candle's own reductions of nothing panic
    }
    let want = plain(&all(&exact))?;
    assert_eq!(y.dtype(), dtype, "{what}");
    assert!(off(&y, &want)? < value, "{what}: {}", off(&y, &want)?);
    let g = Tensor::randn(0f32, 1f32, y.dims(), &Device::Cpu)?.to_dtype(dtype)?;
    let ours = wide(&(&y * &g)?)?.sum_all()?.backward()?;
    let theirs = (want * wide(&g)?)?.sum_all()?.backward()?;
    for (v, w) in vars.iter().zip(&exact) {
        let (v, w) = (ours.get(v).expect("a gradient"), theirs.get(w).expect("a gradient"));
        assert!(off(v, w)? < gradient, "{what}: gradient {}", off(v, w)?);
    }
    Ok(())
}

fn told(tensors: &[Tensor]) -> String {
    let of = |t: &Tensor| format!("{:?}{:?}", t.dims(), t.stride());
    format!("{} {}", tensors[0].dtype().as_str(), tensors.iter().map(of).collect::<Vec<_>>().join(" "))
}

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::BF16, DType::F16];

#[test]
fn pointwise_formulas_broadcast_as_candle_does() -> Result<()> {
    let op = elementwise("a * b + c * tanh(a)")?;
    let plain = |t: &[Tensor]| t[0].broadcast_mul(&t[1])?.broadcast_add(&t[2].broadcast_mul(&t[0].tanh()?)?);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..1500 {
        let dims = random.dims(&[0, 1, 1, 2, 3, 5, 7], 0);
        let dtype = DTYPES[random.below(4)];
        let tensors = [0, 1, 2].map(|_| {
            let dims = random.lesser(&dims);
            random.tensor(&dims, dtype)
        });
        let tensors: Vec<Tensor> = tensors.into_iter().collect::<Result<_>>()?;
        compare(&op, plain, &tensors, &told(&tensors))?;
    }
    Ok(())
}

#[test]
fn formulas_of_rows_take_any_layout() -> Result<()> {
    let op = rowwise("let d = x - mean(x); d * rsqrt(mean(d * d) + 0.1) * w + b")?;
    let plain = |t: &[Tensor]| {
        let d = t[0].broadcast_sub(&t[0].mean_keepdim(D::Minus1)?)?;
        let scale = (d.sqr()?.mean_keepdim(D::Minus1)? + 0.1)?.sqrt()?.recip()?;
        d.broadcast_mul(&scale)?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
    };
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..1000 {
        let dims = random.dims(&[0, 1, 2, 3, 5, 33], 1);
        let dtype = DTYPES[random.below(4)];
        let (w, b) = (random.lesser(&dims), random.lesser(&dims));
        let tensors = [random.tensor(&dims, dtype)?, random.tensor(&w, dtype)?, random.tensor(&b, dtype)?];
        compare(&op, plain, &tensors, &told(&tensors))?;
    }
    Ok(())
}
