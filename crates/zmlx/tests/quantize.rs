//! Codes and scales bit for bit as ml_dtypes, MLX, bitsandbytes and NumPy make them (`tests/oracle/quantize.py`), and round trips
//! over all codes.

use candle_core::{DType, Device, Tensor};
use zmlx::catalog::{
    dequantize_fp8_e4m3::dequantize_fp8_e4m3, dequantize_fp8_e5m2::dequantize_fp8_e5m2,
    dequantize_int4::dequantize_int4, dequantize_int8::dequantize_int8, dequantize_mxfp4::dequantize_mxfp4,
    dequantize_nf4::dequantize_nf4, quantize_fp8_e4m3::quantize_fp8_e4m3, quantize_fp8_e5m2::quantize_fp8_e5m2,
    quantize_int4::quantize_int4, quantize_int8::quantize_int8, quantize_mxfp4::quantize_mxfp4,
    quantize_nf4::quantize_nf4,
};

fn bits(t: &Tensor) -> Vec<u32> {
    let t = t.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>()).expect("floats");
    // zeros have no sign, and one NaN is like another
    t.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { (v + 0.0).to_bits() }).collect()
}

fn bytes(t: &Tensor) -> Vec<u8> {
    t.flatten_all().and_then(|t| t.to_vec1::<u8>()).expect("bytes")
}

#[test]
fn codes_scales_and_numbers_are_those_of_others_bit_for_bit() -> zmlx::Result<()> {
    let mut cases = 0;
    for line in include_str!("data/quantize.txt").lines() {
        let parts: Vec<&str> = line.split(" | ").collect();
        let words = |k: usize| -> Vec<u32> {
            parts[k].split(' ').map(|w| u32::from_str_radix(w, 16).expect("hexadecimal")).collect()
        };
        let small = |k: usize| words(k).into_iter().map(|w| w as u8).collect::<Vec<u8>>();
        let x = Tensor::from_vec(words(1).into_iter().map(f32::from_bits).collect::<Vec<_>>(), (1, 64), &Device::Cpu)?;
        let (codes, scales, back) = match parts[0] {
            "mxfp4" => {
                let (codes, scales) = quantize_mxfp4(&x)?;
                let back = dequantize_mxfp4(&codes, &scales, DType::F32)?;
                assert_eq!(bytes(&scales), small(3), "scales of {line}");
                (codes, None, back)
            }
            kind => {
                let (codes, scales) = match kind {
                    "e4m3" => quantize_fp8_e4m3(&x)?,
                    "e5m2" => quantize_fp8_e5m2(&x)?,
                    "int8" => quantize_int8(&x)?,
                    _ => quantize_nf4(&x)?,
                };
                let back = match kind {
                    "e4m3" => dequantize_fp8_e4m3(&codes, &scales)?,
                    "e5m2" => dequantize_fp8_e5m2(&codes, &scales)?,
                    "int8" => dequantize_int8(&codes, &scales)?,
                    _ => dequantize_nf4(&codes, &scales)?,
                };
                (codes, Some(scales), back)
            }
        };
        if let Some(scales) = scales {
            assert_eq!(bits(&scales), words(3), "scales of {line}");
        }
        assert_eq!(bytes(&codes), small(2), "codes of {line}");
        let back_of_zeros: Vec<u32> = words(4).iter().map(|w| (f32::from_bits(*w) + 0.0).to_bits()).collect();
        assert_eq!(bits(&back), back_of_zeros, "numbers of {line}");
        cases += 1;
    }
    assert!(cases > 40, "{cases} cases");
    Ok(())
}

#[test]
fn all_codes_of_mxfp4_at_all_scales_are_what_they_say_and_come_back() -> zmlx::Result<()> {
    let sizes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = |code: u8| if code < 8 { sizes[code as usize] } else { -sizes[code as usize - 8] };
    for scale in 0..=255u8 {
        // sixteen blocks of all bytes
        let codes = Tensor::from_vec((0..=255u8).collect::<Vec<_>>(), (1, 256), &Device::Cpu)?;
        let scales = Tensor::full(scale, (1, 16), &Device::Cpu)?;
        let power = if scale == 255 { f64::NAN } else { 2f64.powi(i32::from(scale) - 127) };
        let want: Vec<f64> = (0..=255u8).flat_map(|b| [value(b & 15) * power, value(b >> 4) * power]).collect();
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            let y = dequantize_mxfp4(&codes, &scales, dtype)?;
            let rounded = Tensor::new(&want[..], &Device::Cpu)?.to_dtype(dtype)?;
            // through f64, where a number of f32 lies nowhere between two of f16
            assert_eq!(bits(&y), bits(&rounded), "scale {scale} in {dtype:?}");
        }
        // blocks whose largest is 4 or 6 have the same scale again, unless it is beyond the numbers of f32
        if scale <= 252 {
            let y = dequantize_mxfp4(&codes, &scales, DType::F32)?.reshape((16, 32))?;
            let (again, there) = quantize_mxfp4(&y)?;
            let there = bytes(&there);
            // each has low nibbles 0 to 15, and so a 6
            assert_eq!(there, [scale; 16]);
            // −0 comes back as 0
            let zero = |n: u8| if n == 8 { 0 } else { n };
            let want: Vec<u8> = (0..=255u8).map(|b| zero(b & 15) | zero(b >> 4) << 4).collect();
            assert_eq!(bytes(&again), want, "scale {scale}");
        }
    }
    Ok(())
}

#[test]
fn all_bytes_of_fp8_and_all_nibbles_come_back() -> zmlx::Result<()> {
    let one = Tensor::new(&[1f32], &Device::Cpu)?;
    let of = |all: Vec<u8>| Tensor::from_vec(all.clone(), (1, all.len()), &Device::Cpu);
    // those that are numbers; −0 comes back as 0
    let e4m3 = of((0..=255u8).filter(|b| b & 127 != 127 && *b != 128).collect())?;
    let (codes, scale) = quantize_fp8_e4m3(&dequantize_fp8_e4m3(&e4m3, &one)?)?;
    assert_eq!((bytes(&codes), bits(&scale)), (bytes(&e4m3), bits(&one)));
    let e5m2 = of((0..=255u8).filter(|b| b & 127 < 124 && *b != 128).collect())?;
    let (codes, scale) = quantize_fp8_e5m2(&dequantize_fp8_e5m2(&e5m2, &one)?)?;
    assert_eq!((bytes(&codes), bits(&scale)), (bytes(&e5m2), bits(&one)));
    let all = of((0..=255).collect())?;
    let (codes, scale) = quantize_nf4(&dequantize_nf4(&all, &one)?)?;
    assert_eq!((bytes(&codes), bits(&scale)), (bytes(&all), bits(&one)));
    let (codes, scale) = quantize_int4(&dequantize_int4(&all, &one)?)?;
    assert_eq!((bytes(&codes), bits(&scale)), (bytes(&all), bits(&one)));
    let signed = of((0..=255u8).filter(|b| *b != 128).collect())?;
    let (codes, scale) = quantize_int8(&dequantize_int8(&signed, &one)?)?;
    assert_eq!((bytes(&codes), bits(&scale)), (bytes(&signed), bits(&one)));
    Ok(())
}

#[test]
fn what_is_no_number_has_a_scale_that_is_none_and_shapes_are_told() -> zmlx::Result<()> {
    let x = Tensor::new(&[1f32, f32::NAN, 2.0, f32::INFINITY], &Device::Cpu)?.repeat(8)?;
    let (codes, scales) = quantize_mxfp4(&x)?;
    assert_eq!(bytes(&scales), [255]);
    assert!(bits(&dequantize_mxfp4(&codes, &scales, DType::F32)?).iter().all(|b| *b == 0x7fc0_0000));
    let (codes, scale) = quantize_fp8_e4m3(&x)?;
    assert!(bits(&dequantize_fp8_e4m3(&codes, &scale)?).iter().all(|b| *b == 0x7fc0_0000));
    let told = |r: zmlx::Result<(Tensor, Tensor)>| r.expect_err("a mistake").to_string();
    let short = x.narrow(0, 0, 31)?;
    assert_eq!(told(quantize_mxfp4(&short)), "quantize_mxfp4: x has shape [31], expected columns in blocks of 32");
    assert_eq!(told(quantize_nf4(&short)), "quantize_nf4: x has shape [31], expected an even number of columns");
    let error = dequantize_mxfp4(&codes.reshape((2, 16))?, &scales, DType::F32).expect_err("a mistake").to_string();
    assert_eq!(error, "dequantize_mxfp4: scales has shape [1], expected [2, 1], one a block");
    // a view that is not contiguous, in 16 bits
    let x = Tensor::randn(0f32, 1f32, (64, 6), &Device::Cpu)?.to_dtype(DType::BF16)?;
    let (turned, copied) = (quantize_mxfp4(&x.t()?)?, quantize_mxfp4(&x.t()?.contiguous()?)?);
    assert_eq!((bytes(&turned.0), bytes(&turned.1)), (bytes(&copied.0), bytes(&copied.1)));
    Ok(())
}
