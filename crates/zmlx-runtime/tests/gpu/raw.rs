//! Portable kernels, written by hand: each text in both dialects, executed, and compared with the CPU.

use crate::{
    launch::table,
    portable,
    standin::{Bytes, Dialect, Unit, compiler},
};
use half::{bf16, f16};
use zmlx_ir::{DType, Scalar};
use zmlx_runtime::backend::c_like::raw::{Raw, Tensor};

fn run(dialect: Dialect, raw: &Raw<'_>, blocks: u32, dims: &[&[usize]], buffers: &mut [Bytes]) {
    let text = raw.text(table(dialect)).unwrap_or_else(|e| panic!("{e}"));
    let entry = raw.entry();
    let unit = Unit::compile(dialect, &text, &[&entry]).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut args = vec![];
    raw.pack(dims, &mut args);
    let shared = if dialect == Dialect::Cuda { raw.shared } else { 0 };
    unit.run_in_every_order(&entry, [blocks, 1, 1], [raw.threads, 1, 1], shared, buffers, &args)
        .unwrap_or_else(|e| panic!("{e}"));
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| bf16::from_f32(((i * 7919 + 13) % 1009) as f32 / 100.0 - 5.0).to_f32()).collect()
}

fn softmax(dialect: Dialect, dtype: DType) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let (rows, cols) = (3, 301);
    let tensor = |name| [Tensor { name, dtype, rank: 2 }];
    let uniforms = [("scale".to_string(), Scalar::Float(0.5))];
    let raw = Raw {
        name: "softmax",
        inputs: &tensor("x"),
        outputs: &tensor("y"),
        uniforms: &uniforms,
        header: "",
        body: portable::SOFTMAX,
        threads: 96,
        shared: 0,
    };
    let x = numbers(rows * cols);
    let half: Vec<u16> = x.iter().map(|v| bf16::from_f32(*v).to_bits()).collect();
    let wide = dtype == DType::F32;
    let mut buffers =
        [if wide { Bytes::of_f32(&x) } else { Bytes::of_u16(&half) }, Bytes::poisoned(x.len() * dtype.size_bytes())];
    run(dialect, &raw, rows as u32, &[&[rows, cols], &[rows, cols]], &mut buffers);
    let got: Vec<f32> = match wide {
        true => buffers[1].to_f32(),
        false => buffers[1].to_u16().into_iter().map(|v| bf16::from_bits(v).to_f32()).collect(),
    };
    let expected = portable::softmax(&x, cols, 0.5);
    // half a unit in the last place of a bf16, or the roundings of a sum in f32
    let relative = if wide { 1e-6 } else { 1.0 / 256.0 };
    for (k, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!((f64::from(*g) - e).abs() <= relative * e, "{k}: {g}, expected {e}");
    }
}

fn block_sum(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let n = 1000;
    let x: Vec<i32> = (0..n).map(|i| i * i % 101 - 40).collect();
    let raw = Raw {
        name: "block sum",
        inputs: &[Tensor { name: "x", dtype: DType::I32, rank: 1 }],
        outputs: &[Tensor { name: "sums", dtype: DType::I32, rank: 1 }],
        uniforms: &[],
        header: portable::SQUARE,
        body: portable::BLOCK_SUM,
        threads: 64,
        shared: 0,
    };
    let blocks = 3;
    let mut buffers = [Bytes::of_i32(&x), Bytes::poisoned(4 * blocks)];
    run(dialect, &raw, blocks as u32, &[&[n as usize], &[blocks]], &mut buffers);
    assert_eq!(buffers[1].to_i32(), portable::block_sums(&x, blocks, 64));
}

/// One fragment of C = A·Bᵀ, and of its row sums; operands lie by rows, or turned by columns.
fn fragments(dialect: Dialect, dtype: DType) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    // whole numbers, so that sums are exact
    let of = |seed: usize| -> Vec<f32> { (0..256).map(|i| ((i * seed + 5) % 23) as f32 - 11.0).collect() };
    let (a, b) = (of(7), of(11));
    let stored = |x: &[f32], turned: bool| -> Bytes {
        let at = |i: usize| if turned { x[i % 16 * 16 + i / 16] } else { x[i] };
        let half = |v: f32| if dtype == DType::F16 { f16::from_f32(v).to_bits() } else { bf16::from_f32(v).to_bits() };
        Bytes::of_u16(&(0..256).map(|i| half(at(i))).collect::<Vec<u16>>())
    };
    let product: Vec<f32> = (0..256).map(|i| (0..16).map(|k| a[i / 16 * 16 + k] * b[i % 16 * 16 + k]).sum()).collect();
    for turned in [[false, false], [true, false], [false, true], [true, true]] {
        let input = |name| Tensor { name, dtype, rank: 2 };
        let output = |name, rank| Tensor { name, dtype: DType::F32, rank };
        let [of_a, of_b] = turned.map(|t| t.to_string());
        let raw = Raw {
            name: "fragments",
            inputs: &[input("x"), input("w")],
            outputs: &[output("y", 2), output("sums", 1)],
            uniforms: &[],
            header: "",
            body: &portable::FRAGMENTS.replace("OF_A", &of_a).replace("OF_B", &of_b),
            threads: 32,
            shared: 2 * 2 * 16 * 24,
        };
        let mut buffers =
            [stored(&a, turned[0]), stored(&b, turned[1]), Bytes::poisoned(4 * 256), Bytes::poisoned(4 * 16)];
        run(dialect, &raw, 1, &[&[16, 16], &[16, 16], &[16, 16], &[16]], &mut buffers);
        assert_eq!(buffers[2].to_f32(), product, "{turned:?}");
        let sums: Vec<f32> = product.chunks(16).map(|row| row.iter().sum()).collect();
        assert_eq!(buffers[3].to_f32(), sums, "{turned:?}");
    }
}

#[test]
fn a_product_of_fragments_is_that_of_matrices_in_cuda_text() {
    fragments(Dialect::Cuda, DType::F16);
    fragments(Dialect::Cuda, DType::BF16);
}

#[test]
fn a_product_of_fragments_is_that_of_matrices_in_metal_text() {
    fragments(Dialect::Metal, DType::F16);
    fragments(Dialect::Metal, DType::BF16);
}

#[test]
fn a_portable_softmax_is_that_of_the_cpu_in_cuda_text() {
    softmax(Dialect::Cuda, DType::F32);
    softmax(Dialect::Cuda, DType::BF16);
}

#[test]
fn a_portable_softmax_is_that_of_the_cpu_in_metal_text() {
    softmax(Dialect::Metal, DType::F32);
    softmax(Dialect::Metal, DType::BF16);
}

#[test]
fn portable_sums_of_blocks_are_those_of_the_cpu_in_cuda_text() {
    block_sum(Dialect::Cuda);
}

#[test]
fn portable_sums_of_blocks_are_those_of_the_cpu_in_metal_text() {
    block_sum(Dialect::Metal);
}
