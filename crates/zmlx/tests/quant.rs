//! Packed numbers over all their bit patterns, against tables that others made (`tests/oracle/fp8.py`).

use candle_core::{DType, Device, Tensor};
use zmlx::catalog::{
    dequantize_fp8_e4m3::dequantize_fp8_e4m3, dequantize_fp8_e5m2::dequantize_fp8_e5m2,
    dequantize_int4::dequantize_int4, dequantize_int8::dequantize_int8, dequantize_nf4::dequantize_nf4,
    pack_bits::pack_bits, swiglu_int8::swiglu_int8, unpack_bits::unpack_bits,
};

fn all_bytes() -> Tensor {
    Tensor::from_vec((0..=255u8).collect(), 256, &Device::Cpu).expect("bytes")
}

fn one() -> Tensor {
    Tensor::new(&[1f32], &Device::Cpu).expect("a scale")
}

fn bits(t: &Tensor) -> Vec<u32> {
    let values = t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("numbers of f32");
    // one NaN is like another
    values.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect()
}

#[test]
fn fp8_bytes_are_those_of_ml_dtypes_bit_for_bit() {
    let table: Vec<Vec<u32>> = include_str!("data/fp8.txt")
        .lines()
        .map(|l| l.split(' ').map(|w| u32::from_str_radix(w, 16).expect("hexadecimal")).collect())
        .collect();
    assert_eq!(table.len(), 256);
    let want = |k: usize| -> Vec<u32> {
        table.iter().map(|r| if f32::from_bits(r[k]).is_nan() { 0x7fc0_0000 } else { r[k] }).collect()
    };
    assert_eq!(bits(&dequantize_fp8_e4m3(&all_bytes(), &one()).expect("it runs")), want(1));
    assert_eq!(bits(&dequantize_fp8_e5m2(&all_bytes(), &one()).expect("it runs")), want(2));
}

#[test]
fn bytes_and_nibbles_are_what_their_bits_say() {
    let signed = dequantize_int8(&all_bytes(), &one()).expect("it runs").to_vec1::<f32>().expect("f32");
    assert!((0..=255u8).zip(signed).all(|(b, v)| v == f32::from(b as i8)));
    let nibbles = dequantize_int4(&all_bytes(), &one()).expect("it runs").to_vec1::<f32>().expect("f32");
    assert_eq!(nibbles.len(), 512);
    assert!(
        (0..=255u8)
            .all(|b| nibbles[2 * b as usize] == f32::from(b & 15) && nibbles[2 * b as usize + 1] == f32::from(b >> 4))
    );
    let nf4 = dequantize_nf4(&all_bytes(), &one()).expect("it runs").to_vec1::<f32>().expect("f32");
    // the ends and the middle of the table of arXiv:2305.14314
    let at = |q: usize| nf4[2 * q];
    assert_eq!((at(0), at(7), at(8), at(15)), (-1.0, 0.0, 0.079_580_3, 1.0));
    assert!((1..16).all(|q| at(q) > at(q - 1)) && (0..256).all(|b| nf4[2 * b + 1] == at(b >> 4)));
}

#[test]
fn a_block_is_a_row() {
    let x = all_bytes().reshape((8, 32)).expect("blocks");
    let scales = Tensor::arange(1f32, 9f32, &Device::Cpu).expect("scales");
    let y = dequantize_int8(&x, &scales).expect("it runs").to_vec2::<f32>().expect("f32");
    assert!((0..256).all(|i| y[i / 32][i % 32] == f32::from(i as u8 as i8) * (i / 32 + 1) as f32));
    let y = dequantize_int4(&x, &scales.to_dtype(DType::BF16).expect("bf16")).expect("it runs");
    assert_eq!((y.dims(), y.dtype()), (&[8, 64][..], DType::BF16));
}

#[test]
fn swiglu_of_bytes_is_swiglu() {
    // 1.5 and 2 with scales of a half: ZMLX gives 3.679
    let byte = |v: u8| Tensor::new(&[[v]], &Device::Cpu).expect("a byte");
    let half = Tensor::new(&[0.5f32], &Device::Cpu).expect("a scale");
    let y = swiglu_int8(&byte(3), &half, &byte(4), &half).expect("it runs").to_vec2::<f32>().expect("f32");
    assert!((y[0][0] - 2.452_72).abs() < 1e-4, "{y:?}");
}

#[test]
fn packed_bits_unpack_to_what_they_were() {
    let bits = unpack_bits(&all_bytes()).expect("it runs");
    assert_eq!(bits.dims(), [2048]);
    let first: Vec<u8> = bits.narrow(0, 8 * 0b0100_1101, 8).and_then(|t| t.to_vec1()).expect("u8");
    assert_eq!(first, [1, 0, 1, 1, 0, 0, 1, 0]);
    let packed: Vec<u8> = pack_bits(&bits).expect("it runs").to_vec1().expect("u8");
    assert_eq!(packed, (0..=255).collect::<Vec<u8>>());
    let error = pack_bits(&all_bytes().narrow(0, 0, 7).expect("seven")).expect_err("seven bits are no byte");
    assert!(error.to_string().starts_with("pack_bits: x, expected a multiple of eight elements, got 7"), "{error}");
}
