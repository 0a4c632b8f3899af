//! Affine quantisation bit for bit as MLX does it on a CPU (`tests/oracle/affine.py`); kernels with gradients of their own.

use candle_core::{DType, Device, Tensor, Var};
use zmlx::{
    RawKernel,
    portable::{
        attention::{Options, attention},
        dequantize_affine::dequantize_affine,
        paged_attention::decode_attention,
        quantize_affine::quantize_affine,
    },
};

fn bits(t: &Tensor) -> Vec<u32> {
    let values = t.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>()).expect("floats");
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn codes_scales_biases_and_numbers_are_those_of_mlx_bit_for_bit() -> zmlx::Result<()> {
    let mut cases = 0;
    for line in include_str!("data/affine.txt").lines() {
        let parts: Vec<&str> = line.split(" | ").collect();
        let head: Vec<&str> = parts[0].split(' ').collect();
        let dtype: DType = head[0].parse().expect("a dtype");
        let (width, group): (usize, usize) = (head[1].parse().expect("bits"), head[2].parse().expect("a group"));
        let words = |k: usize| -> Vec<u32> {
            parts[k].split(' ').map(|w| u32::from_str_radix(w, 16).expect("hexadecimal")).collect()
        };
        let w: Vec<f32> = words(1).into_iter().map(f32::from_bits).collect();
        let w = Tensor::from_vec(w, (1, 128), &Device::Cpu)?.to_dtype(dtype)?;
        let made = quantize_affine(&w, group, width)?;
        assert_eq!(made[0].flatten_all()?.to_vec1::<u32>()?, words(2), "words of {}", parts[0]);
        assert_eq!(bits(&made[1]), words(3), "scales of {}", parts[0]);
        assert_eq!(bits(&made[2]), words(4), "biases of {}", parts[0]);
        assert_eq!(bits(&dequantize_affine(&made[0], &made[1], &made[2], width)?), words(5), "numbers of {}", parts[0]);
        cases += 1;
    }
    assert_eq!(cases, 18);
    Ok(())
}

#[test]
fn a_kernel_with_a_vjp_is_on_the_tape() -> zmlx::Result<()> {
    let square =
        RawKernel::new("square").inputs(&["x", "by"]).outputs(&["y"]).cpu(|t| Ok(vec![(t[0].sqr()? * &t[1])?])).vjp(
            |t, _, g| {
                let g = g[0].as_ref().map_or_else(|| t[0].zeros_like(), |g| Ok(g.clone()))?;
                Ok(vec![Some((((&t[0] * 2.0)? * &t[1])? * g)?), None])
            },
        );
    let x = Var::from_tensor(&Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?)?;
    let by = Tensor::new(&[1f32, 10.0, 100.0], &Device::Cpu)?;
    let y = square.call(&[x.as_tensor(), &by])?.remove(0);
    let store = y.backward()?;
    let g = store.get(&x).expect("a gradient").to_vec1::<f32>()?;
    assert_eq!(g, [2.0, 40.0, 600.0]);
    // what the closure has no gradient for is said, not lost
    let by = Var::from_tensor(&by)?;
    let y = square.call(&[x.as_tensor(), by.as_tensor()])?.remove(0);
    let why = y.backward().expect_err("no gradient").to_string();
    assert!(why.contains("square") && why.contains("by has none"), "{why}");
    Ok(())
}

#[test]
fn a_decoded_query_is_the_last_row_of_attention() -> zmlx::Result<()> {
    let t = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu);
    let (q, k, v) = (t(&[2, 4, 1, 24])?, t(&[2, 2, 77, 24])?, t(&[2, 2, 77, 24])?);
    let [want, _] = attention(&q, &k, &v, &Options { causal: true, ..Options::default() })?;
    let got = decode_attention(&q.squeeze(2)?, &k, &v, None, None)?;
    let off = (got - want.squeeze(2)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(off < 1e-5, "{off}");
    Ok(())
}
