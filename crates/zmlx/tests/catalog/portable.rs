//! The kernels that are written by hand: all cases of each, with gradients, run as CUDA and as Metal text on the stand-in, in
//! every order of the threads, and are compared with plain candle ops in f64.

use crate::{
    launch::table,
    standin::{Bytes, Dialect, Unit, compiler},
};
use candle_core::{CpuStorage, Storage, Tensor};
use half::{bf16, f16};
use std::{cell::RefCell, collections::HashMap, rc::Rc};
use zmlx::{RawLaunch, harness::verify_portable, launches_run_by, portable::PORTABLES};
use zmlx_ir::DType;

/// Its name to a kernel.
fn target(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Cuda { "cuda" } else { "metal" }
}

/// A launch on the stand-in; units are kept by their text.
fn launch(dialect: Dialect, l: &RawLaunch<'_>, units: &RefCell<HashMap<String, Rc<Unit>>>) -> Vec<Tensor> {
    let text = l.raw.text(table(dialect)).unwrap_or_else(|e| panic!("{e}"));
    let entry = l.raw.entry();
    let known = units.borrow().get(&text).cloned();
    let unit = known.unwrap_or_else(|| {
        let unit = Rc::new(Unit::compile(dialect, &text, &[&entry]).unwrap_or_else(|e| panic!("{e}\n{text}")));
        units.borrow_mut().insert(text, unit.clone());
        unit
    });
    let mut buffers: Vec<Bytes> = l.inputs.iter().map(bytes).collect();
    let of = |(shape, dtype): &(candle_core::Shape, DType)| Bytes::poisoned(shape.elem_count() * dtype.size_bytes());
    buffers.extend(l.results.iter().map(of));
    if l.blocks.iter().all(|b| *b > 0) {
        let shared = if dialect == Dialect::Cuda { l.raw.shared } else { 0 };
        unit.run_in_every_order(&entry, l.blocks, [l.threads, 1, 1], shared, &mut buffers, &l.args)
            .unwrap_or_else(|e| panic!("{entry}: {e}"));
    }
    let results = l.results.iter().zip(&buffers[l.inputs.len()..]);
    results.map(|((shape, dtype), bytes)| tensor(&bytes.data, *dtype, shape)).collect()
}

fn bytes(t: &Tensor) -> Bytes {
    let t = t.force_contiguous().expect("a copy");
    let (storage, _) = t.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else { panic!("not on the CPU") };
    Bytes::new(match cpu {
        CpuStorage::U8(v) => v.clone(),
        CpuStorage::U32(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        CpuStorage::I64(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        CpuStorage::F16(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        CpuStorage::BF16(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        CpuStorage::F32(v) => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        _ => panic!("no kernel takes {:?}", t.dtype()),
    })
}

fn tensor(bytes: &[u8], dtype: DType, shape: &candle_core::Shape) -> Tensor {
    let half = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_ne_bytes(*b));
    let word = || bytes.as_chunks::<4>().0.iter().map(|b| u32::from_ne_bytes(*b));
    let cpu = &candle_core::Device::Cpu;
    match dtype {
        DType::U32 => Tensor::from_vec(word().collect::<Vec<_>>(), shape, cpu),
        DType::F16 => Tensor::from_vec(half().map(f16::from_bits).collect::<Vec<_>>(), shape, cpu),
        DType::BF16 => Tensor::from_vec(half().map(bf16::from_bits).collect::<Vec<_>>(), shape, cpu),
        DType::F32 => Tensor::from_vec(word().map(f32::from_bits).collect::<Vec<_>>(), shape, cpu),
        other => panic!("no kernel gives {other}"),
    }
    .expect("a tensor")
}

fn run(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no clang");
    }
    let units = Rc::new(RefCell::new(HashMap::new()));
    let count = Rc::new(RefCell::new(0));
    for kernel in PORTABLES {
        for dtype in [DType::F32, DType::BF16] {
            let (units, count) = (units.clone(), count.clone());
            let runner = Rc::new(move |l: &RawLaunch<'_>| {
                *count.borrow_mut() += 1;
                Ok(launch(dialect, l, &units))
            });
            let report =
                launches_run_by(target(dialect), runner, || verify_portable(kernel, dtype, &candle_core::Device::Cpu));
            let report = report.unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
            println!("{} {dtype}: {} cases, {:.2} {:?}", kernel.name, report.cases, report.value, report.gradient);
            assert!(report.ok(), "{} {dtype}: {:#?}", kernel.name, report.failures);
        }
    }
    println!("{} launches", count.borrow());
}

#[test]
fn kernels_written_by_hand_match_plain_ops_in_cuda_text() {
    run(Dialect::Cuda);
}

#[test]
fn kernels_written_by_hand_match_plain_ops_in_metal_text() {
    run(Dialect::Metal);
}

#[test]
fn kernels_written_by_hand_match_plain_ops_on_the_cpu() {
    for kernel in PORTABLES {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let report = verify_portable(kernel, dtype, &candle_core::Device::Cpu);
            let report = report.unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
            println!("{} {dtype}: {} cases, {:.2} {:?}", kernel.name, report.cases, report.value, report.gradient);
            assert!(report.ok(), "{} {dtype}: {:#?}", kernel.name, report.failures);
        }
    }
}

#[test]
fn a_page_outside_the_cache_is_not_read() {
    use zmlx::portable::paged_attention::paged_attention;
    let cpu = &candle_core::Device::Cpu;
    for dialect in [Dialect::Cuda, Dialect::Metal] {
        if compiler(dialect).is_none() {
            return println!("not run: no clang");
        }
        let units = Rc::new(RefCell::new(HashMap::new()));
        let runner = Rc::new(move |l: &RawLaunch<'_>| Ok(launch(dialect, l, &units)));
        let y = launches_run_by(target(dialect), runner, || -> candle_core::Result<Tensor> {
            let q = Tensor::ones((3, 2, 8), candle_core::DType::F32, cpu)?;
            let cache = Tensor::ones((3, 4, 1, 8), q.dtype(), cpu)?;
            let (pages, lengths) = (Tensor::new(&[[0u32, 7], [2, 1], [7, 7]], cpu)?, Tensor::new(&[6u32; 3], cpu)?);
            Ok(paged_attention(&q, &cache, &cache, &pages, &lengths, None)?)
        });
        let rows = y.and_then(|y| y.flatten(1, 2)?.to_vec2::<f32>()).unwrap_or_else(|e| panic!("{e}"));
        assert!(rows[0].iter().chain(&rows[2]).all(|v| v.is_nan()), "{rows:?}");
        assert!(rows[1].iter().all(|v| (*v - 1.0).abs() < 1e-5), "{rows:?}");
    }
}

/// What `body` gives on the CPU, as CUDA text and as Metal text.
fn everywhere(body: impl Fn() -> candle_core::Result<Vec<Tensor>>) -> Vec<Vec<Tensor>> {
    let mut all = vec![body()];
    for dialect in [Dialect::Cuda, Dialect::Metal] {
        if compiler(dialect).is_none() {
            println!("not run: no clang");
            continue;
        }
        let units = Rc::new(RefCell::new(HashMap::new()));
        all.push(launches_run_by(
            target(dialect),
            Rc::new(move |l: &RawLaunch<'_>| Ok(launch(dialect, l, &units))),
            &body,
        ));
    }
    all.into_iter().map(|r| r.unwrap_or_else(|e| panic!("{e}"))).collect()
}

#[test]
fn rows_of_nan_stay_nan_and_others_are_as_before() {
    use candle_core::{DType::F32, Var};
    use zmlx::portable::{
        attention::{Options, attention},
        paged_attention::paged_attention,
    };
    let cpu = &candle_core::Device::Cpu;
    let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("floats");
    // the first query is NaN, and so all its scores are; it is alone in its sequence
    let found = everywhere(|| {
        let x = Tensor::ones((1, 1, 2, 8), F32, cpu)?;
        let q = Tensor::cat(&[&(x.narrow(2, 0, 1)? * f64::NAN)?, &x.narrow(2, 1, 1)?], 2)?;
        let k = Tensor::ones((1, 1, 300, 8), F32, cpu)?;
        let q = Var::from_tensor(&q)?;
        let [y, lse] = attention(&q, &k, &k, &Options::default())?;
        let g = (y.sum_all()? + lse.sum_all()?)?.backward()?;
        let pages = Tensor::new(&[[0u32, 1], [2, 0]], cpu)?;
        let cache = Tensor::ones((3, 150, 1, 8), F32, cpu)?;
        let lengths = Tensor::new(&[3u32, 300], cpu)?;
        let paged = paged_attention(&q.detach().squeeze(0)?.transpose(0, 1)?, &cache, &cache, &pages, &lengths, None)?;
        Ok(vec![y, lse, g.get(&q).expect("a gradient").clone(), paged])
    });
    for found in found {
        for t in &found {
            let all = values(t);
            let (first, second) = all.split_at(all.len() / 2);
            assert!(first.iter().all(|v| v.is_nan()) && second.iter().all(|v| v.is_finite()), "{all:?}");
        }
    }
}

#[test]
fn a_row_of_nan_gives_nan_to_the_keys_that_it_sees() {
    use candle_core::{DType::F32, Var};
    use zmlx::portable::attention::{Options, attention};
    let cpu = &candle_core::Device::Cpu;
    let x = Tensor::ones((1, 1, 2, 8), F32, cpu).expect("ones");
    // the first query sees all keys but the last, or the first 100 by a mask
    let q = Tensor::cat(
        &[&(x.narrow(2, 0, 1).expect("a row") * f64::NAN).expect("NaN"), &x.narrow(2, 1, 1).expect("a row")],
        2,
    );
    let q = Var::from_tensor(&q.expect("two rows")).expect("a variable");
    let bytes: Vec<u8> = (0..600).map(|i| u8::from(!(100..300).contains(&i))).collect();
    let mask = Tensor::from_vec(bytes, (1, 1, 2, 300), cpu).expect("a mask");
    for (causal, mask, seen) in [(true, None, 299), (false, Some(&mask), 100)] {
        let by = |q: &Tensor| -> candle_core::Result<Vec<Tensor>> {
            let (k, v) = (Var::ones((1, 1, 300, 8), F32, cpu)?, Var::ones((1, 1, 300, 8), F32, cpu)?);
            let [y, lse] = attention(q, &k, &v, &Options { causal, mask, ..Options::default() })?;
            let g = (y.sum_all()? + lse.sum_all()?)?.backward()?;
            [&k, &v]
                .map(|t| g.get(t).cloned().ok_or_else(|| candle_core::Error::Msg("no gradient".into())))
                .into_iter()
                .collect()
        };
        for gradient in by(&q).expect("gradients") {
            let rows = gradient.flatten(0, 2).and_then(|g| g.to_vec2::<f32>()).expect("floats");
            let (lost, kept) = rows.split_at(seen);
            assert!(lost.iter().flatten().all(|v| v.is_nan()), "{lost:?}");
            assert!(kept.iter().flatten().all(|v| v.is_finite()), "{kept:?}");
        }
    }
}

#[test]
fn attention_of_no_queries_has_gradients_of_zero() {
    use candle_core::{DType::F32, Var};
    use zmlx::portable::attention::{Options, attention};
    let cpu = &candle_core::Device::Cpu;
    for [b, h, kv, q, n] in [[2, 2, 1, 0, 5], [2, 2, 1, 0, 0], [0, 2, 2, 3, 4], [1, 0, 1, 3, 4], [1, 2, 1, 3, 0]] {
        everywhere(|| {
            let var = |h, n| Var::ones((b, h, n, 8), F32, cpu);
            let (q, k, v) = (var(h, q)?, var(kv, n)?, var(kv, n)?);
            let [y, _] = attention(&q, &k, &v, &Options::default())?;
            assert_eq!(y.dims(), q.dims());
            let g = y.sum_all()?.backward()?;
            for t in [&q, &k, &v] {
                let g = g.get(t).expect("a gradient");
                assert_eq!(g.dims(), t.dims());
                assert_eq!(g.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0, "{b} {h} {kv} {n}");
            }
            Ok(vec![])
        });
    }
}

#[test]
fn an_expert_that_is_not_there_is_an_error_or_nan() {
    use zmlx::portable::{
        moe_down_combine::moe_down_combine,
        moe_gate_up_swiglu::{Experts, moe_gate_up_swiglu},
    };
    let cpu = &candle_core::Device::Cpu;
    let run = || -> zmlx::Result<[Tensor; 2]> {
        let words = Tensor::ones((3, 5, 4), candle_core::DType::U32, cpu)?;
        let scales = Tensor::ones((3, 5, 1), candle_core::DType::F32, cpu)?;
        let w = Experts { words: &words, scales: &scales, biases: &scales };
        let (x, experts) = (Tensor::ones((2, 32), candle_core::DType::F32, cpu)?, Tensor::new(&[[0u32], [3]], cpu)?);
        let h = moe_gate_up_swiglu(&x, w, w, &experts, 4)?.squeeze(1)?;
        let y = moe_down_combine(&x.unsqueeze(1)?, w, &experts, &x.narrow(1, 0, 1)?, 4)?;
        Ok([h, y])
    };
    let error = run().expect_err("no such expert").to_string();
    assert!(error.contains("experts, expected below 3, got 3"), "{error}");
    for dialect in [Dialect::Cuda, Dialect::Metal] {
        if compiler(dialect).is_none() {
            return println!("not run: no clang");
        }
        let units = Rc::new(RefCell::new(HashMap::new()));
        let runner = Rc::new(move |l: &RawLaunch<'_>| Ok(launch(dialect, l, &units)));
        for t in launches_run_by(target(dialect), runner, run).unwrap_or_else(|e| panic!("{e}")) {
            let rows = t.to_vec2::<f32>().expect("floats");
            assert!(rows[0].iter().all(|v| v.is_finite()) && rows[1].iter().all(|v| v.is_nan()), "{rows:?}");
        }
    }
}

#[test]
fn a_row_that_is_not_there_gives_nan_and_rows_of_no_expert_zeros() {
    use candle_core::DType::{BF16, F32};
    use zmlx::portable::grouped_matmul::grouped_matmul;
    let cpu = &candle_core::Device::Cpu;
    for dialect in [Dialect::Cuda, Dialect::Metal] {
        if compiler(dialect).is_none() {
            return println!("not run: no clang");
        }
        let units = Rc::new(RefCell::new(HashMap::new()));
        let runner = Rc::new(move |l: &RawLaunch<'_>| Ok(launch(dialect, l, &units)));
        let y = launches_run_by(target(dialect), runner, || -> candle_core::Result<Tensor> {
            let (x, w) = (Tensor::ones((2, 8), BF16, cpu)?, Tensor::ones((2, 8, 8), BF16, cpu)?);
            let (index, offsets) = (Tensor::new(&[0u32, 9, 1, 1], cpu)?, Tensor::new(&[0u32, 2, 3], cpu)?);
            grouped_matmul(&x, Some(&index), &w, &offsets)?.to_dtype(F32)
        });
        let rows = y.and_then(|y| y.to_vec2::<f32>()).unwrap_or_else(|e| panic!("{e}"));
        assert!(rows[1].iter().all(|v| v.is_nan()), "{rows:?}");
        assert!([0, 2].iter().all(|r| rows[*r] == [8.0; 8]) && rows[3] == [0.0; 8], "{rows:?}");
    }
}

#[test]
fn what_does_not_fit_is_told_and_nothing_gives_nothing() {
    use candle_core::DType::{BF16, F8E4M3, F32, I64, U32};
    use zmlx::portable::{
        attention::{Options, attention},
        dequantize_affine::dequantize_affine,
        grouped_matmul::grouped_matmul,
        grouped_swiglu::grouped_swiglu,
        moe_down_combine::moe_down_combine,
        moe_gate_up_swiglu::{Experts, moe_gate_up_swiglu},
        paged_attention::{decode_attention, paged_attention},
        quantize_affine::quantize_affine,
        quantized_grouped_swiglu::quantized_grouped_swiglu,
    };
    let cpu = &candle_core::Device::Cpu;
    let ones = |dims: &[usize], dtype| Tensor::ones(dims, dtype, cpu).expect("ones");
    // the first line: candle adds where it was, if it is asked to
    let told = |r: zmlx::Result<Tensor>, message: &str| {
        assert_eq!(r.expect_err(message).to_string().lines().next(), Some(message));
    };
    let (q, k) = (ones(&[1, 2, 3, 8], F32), ones(&[1, 1, 5, 8], F32));
    let none = Options { window: Some(0), ..Options::default() };
    told(attention(&q, &k, &k, &none).map(|y| y[0].clone()), "attention: window, expected a key at least, got 0");
    let (q, cache, pages) = (ones(&[2, 2, 8], F32), ones(&[3, 4, 1, 8], F32), ones(&[2, 2], I64));
    told(
        paged_attention(&q, &cache, &cache, &pages, &ones(&[2], U32), None),
        "paged_attention: dtypes, expected f32, f16 or bf16 of q, keys and values, and u32 of table and lengths, \
         got f32 f32 f32 i64 u32",
    );
    let (pages, lengths) = (ones(&[2, 2], U32), Tensor::new(&[8u32, 9], cpu).expect("lengths"));
    told(
        paged_attention(&q, &cache, &cache, &pages, &lengths, None),
        "paged_attention: lengths, expected up to 8 (2 pages of 4), got 9",
    );
    let k = ones(&[2, 1, 5, 8], F32);
    told(
        decode_attention(&q, &k, &k, Some(&ones(&[3], U32)), None),
        "decode_attention: lengths, expected [2] of u32, got [3] of u32",
    );
    let (none, keys) = (ones(&[0, 2, 8], F32), ones(&[0, 1, 5, 8], F32));
    assert_eq!(decode_attention(&none, &keys, &keys, None, None).expect("nothing").dims(), [0, 2, 8]);
    let (words, scale) = (ones(&[3, 5, 4], U32), ones(&[3, 5, 1], F32));
    let w = Experts { words: &words, scales: &scale, biases: &scale };
    let gate = |x: &Tensor, w, experts: &Tensor, bits| moe_gate_up_swiglu(x, w, w, experts, bits);
    let (x, experts) = (ones(&[2, 32], F32), ones(&[2, 2], U32));
    told(gate(&x, w, &experts, 3), "moe_gate_up_swiglu: bits, expected 4 or 8, got 3");
    told(gate(&ones(&[2, 64], F32), w, &experts, 4), "moe_gate_up_swiglu: x has shape [2, 64], expected [T, 32]");
    told(gate(&x, w, &ones(&[3, 2], U32), 4), "moe_gate_up_swiglu: experts, expected [2, k] of u32, got [3, 2] of u32");
    let (h, weights) = (ones(&[2, 1, 32], F32), ones(&[2, 2], F32));
    told(
        moe_down_combine(&h, w, &experts, &weights, 4),
        "moe_down_combine: h has shape [2, 1, 32], expected [2, 2, 32], as experts",
    );
    told(
        quantize_affine(&ones(&[2, 64], U32), 64, 4).map(|mut t| t.remove(0)),
        "quantize_affine: w: dtype, expected f16, bf16, f32 or f64, got u32",
    );
    let (x, w) = (ones(&[4, 8], F32), ones(&[2, 3, 8], F32));
    let u32s = |v: &[u32]| Tensor::new(v, cpu).expect("integers");
    let grouped = |index: Option<&Tensor>, offsets: &[u32]| grouped_matmul(&x, index, &w, &u32s(offsets));
    told(grouped(None, &[0, 4]), "grouped_matmul: offsets has shape [2], expected [3]");
    told(
        grouped(None, &[0, 3, 2]),
        "grouped_matmul: offsets, expected 0 first, each at most the next and all at most 4, got [0, 3, 2]",
    );
    told(
        grouped(Some(&ones(&[2], I64)), &[0, 1, 2]),
        "grouped_matmul: index, expected one dimension of u32, got [2] of i64",
    );
    told(
        grouped_swiglu(&x, None, &w, &ones(&[2, 2, 8], F32), &u32s(&[0, 1, 2])),
        "grouped_swiglu: up, expected [2, 3, 8], as gate, got [2, 2, 8]",
    );
    let (words, scale, finer) = (ones(&[2, 3, 8], U32), ones(&[2, 3, 1], F32), ones(&[2, 3, 2], F32));
    let codes = |scales| Experts { words: &words, scales, biases: scales };
    let (wide, ends) = (ones(&[4, 64], F32), u32s(&[0, 1, 2]));
    told(
        quantized_grouped_swiglu(&wide, None, codes(&scale), codes(&finer), &ends, 4),
        "quantized_grouped_swiglu: up, expected groups of 64 with f32, as gate, got groups of 32 with f32",
    );
    let sums = grouped_matmul(&ones(&[4, 0], F32), None, &ones(&[2, 3, 0], F32), &ends).expect("sums of nothing");
    assert_eq!(sums.to_vec2::<f32>().expect("zeros"), [[0.0; 3]; 4]);
    told(
        grouped_matmul(&x.to_dtype(BF16).expect("bf16"), None, &w, &u32s(&[0, 1, 2])),
        "grouped_matmul: w: dtype, expected bf16, as x, got f32",
    );
    for found in everywhere(|| {
        let (w, none) = (ones(&[2, 8, 8], BF16), u32s(&[0, 0, 0]));
        Ok(vec![
            grouped_matmul(&ones(&[0, 8], BF16), None, &w, &none)?,
            grouped_matmul(&ones(&[4, 8], BF16), Some(&u32s(&[])), &w, &none)?,
        ])
    }) {
        assert!(found.iter().all(|y| y.dims() == [0, 8]));
    }
    let scales = ones(&[2, 1], F8E4M3);
    told(
        dequantize_affine(&ones(&[2, 8], U32), &scales, &scales, 4),
        "dequantize_affine: scales: dtype, expected f16, bf16, f32 or f64, got f8e4m3",
    );
}

/// The value of products and quotients of integers, from the left; none where a name stands.
fn product(text: &str) -> Option<usize> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut value: usize = words.first()?.parse().ok()?;
    for pair in words[1..].chunks(2) {
        let by: usize = pair.get(1)?.parse().ok()?;
        value = if pair[0] == "*" { value * by } else { value / by };
    }
    Some(value)
}

/// A block of Apple's GPUs has 32 KiB.
#[test]
fn metal_texts_declare_no_more_memory_than_a_block_has() {
    let mut seen = 0;
    for kernel in zmlx::portable::PORTABLES {
        for text in texts(Dialect::Metal, kernel).split(NEXT_UNIT) {
            let arrays = text.lines().filter_map(|l| l.trim().strip_prefix("shared_array(")?.strip_suffix(");"));
            let bytes = arrays.filter_map(|array| {
                let (kind, n) = (array.split(',').next()?, array.rsplit(',').next()?.trim());
                let size = if kind.ends_with("16") { 2 } else { 4 };
                Some(product(n)? * size)
            });
            let bytes: usize = bytes.sum();
            seen += usize::from(bytes > 16 << 10);
            assert!(bytes <= 32 << 10, "{}: {bytes} bytes", kernel.name);
        }
    }
    assert!(seen > 0, "no array was found");
}

/// Between two texts of a golden file, each of which is compiled by itself (and so `zmlx-runtime`'s test of NVRTC does).
const NEXT_UNIT: &str = "\n// --- next unit ---\n";

/// The texts of all launches of the cases in f32, and of those that matrix units make in bf16, each entry once: for the golden files.
pub fn texts(dialect: Dialect, kernel: &zmlx::portable::Portable) -> String {
    let texts = Rc::new(RefCell::new(vec![]));
    let seen = texts.clone();
    let runner = Rc::new(move |l: &RawLaunch<'_>| {
        let (entry, text) = (l.raw.entry(), l.raw.text(table(dialect)).unwrap_or_else(|e| panic!("{e}")));
        let mut seen = seen.borrow_mut();
        if !seen.iter().any(|(e, _)| *e == entry) {
            seen.push((entry, text));
        }
        // nothing is computed
        let zero = |(shape, dtype): &(candle_core::Shape, DType)| {
            tensor(&vec![0; shape.elem_count() * dtype.size_bytes()], *dtype, shape)
        };
        Ok(l.results.iter().map(zero).collect())
    });
    for dtype in [DType::F32, DType::BF16] {
        let check = || verify_portable(kernel, dtype, &candle_core::Device::Cpu);
        let report = launches_run_by(target(dialect), runner.clone(), check);
        report.unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    }
    let texts = texts.borrow();
    texts.iter().map(|(_, text)| &text[..]).collect::<Vec<_>>().join(NEXT_UNIT)
}
