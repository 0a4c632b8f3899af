//! CUDA texts, compiled by NVRTC itself. No GPU is needed; where the library is not found, nothing is run and that is
//! said (`.ci/nvrtc.sh` brings it).

use std::io::Write;
use zmlx_ir::{DType, Scalar, schedule};
use zmlx_runtime::{
    Error,
    backend::{
        c_like::{
            self,
            raw::{Raw, Tensor},
        },
        cuda::{
            dialect::CUDA,
            driver::{Code, Source, compile, version},
        },
    },
};

#[path = "gpu/portable.rs"]
mod portable;
#[path = "../src/backend/cuda/driver/tests/texts.rs"]
mod texts;

fn source<'a>(op: &'a str, text: &'a str) -> Source<'a> {
    Source { op, text, options: &[] }
}

/// Is NVRTC there? Said past the test's own capture of its output.
fn nvrtc() -> bool {
    match version() {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error, Error::Device { .. }), "{error}");
            writeln!(std::io::stderr(), "not run: libnvrtc not found").expect("stderr");
            false
        }
    }
}

fn contains(code: &Code, text: &str) -> bool {
    code.bytes().windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn without_nvrtc_there_is_an_error_that_says_so_and_no_panic() {
    if let Err(error) = compile(&source("scale", texts::SCALE), (9, 0)) {
        assert!(error.to_string().starts_with("cuda: compiler, expected NVRTC (libnvrtc"), "{error}");
    }
}

#[test]
fn each_text_becomes_code_for_both_architectures() {
    if !nvrtc() {
        return;
    }
    for (entry, text) in texts::ALL {
        for capability in [(8, 0), (9, 0)] {
            let code = compile(&source(entry, text), capability).unwrap_or_else(|error| panic!("{error}"));
            assert!(matches!(code, Code::Cubin(_)) && code.bytes().starts_with(b"\x7fELF"), "{entry} {capability:?}");
            assert!(contains(&code, &format!(".text.{entry}")), "{entry} {capability:?}");
        }
    }
}

/// Whatever an operation is called: the names of the catalog, and words of C++ and its libraries.
#[test]
fn no_name_of_an_operation_is_in_the_way() {
    if !nvrtc() {
        return;
    }
    let golden = format!("{}/../zmlx/tests/golden", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&golden).unwrap_or_else(|e| panic!("{golden}: {e}")).flatten();
    let stems = files.filter_map(|f| Some(f.path().file_stem()?.to_str()?.to_string()));
    const WORDS: &str = "std main int kernel float4 dim3 uint3 threadIdx warpSize gridDim assert printf half size_t malloc free \
        memcpy memset clock clock64 wchar_t ptrdiff_t nullptr_t va_list sinpi rhypot y0 j1 jn tgamma signbit operator typeid \
        llrint sigmoid silu rand trap brkpt saturate rsqrt mad24 max3 and xor";
    let names: std::collections::BTreeSet<String> = stems.chain(WORDS.split_whitespace().map(String::from)).collect();
    assert!(names.len() > 60);
    let schedules: Vec<_> = names
        .iter()
        .map(|name| {
            let mut p = zmlx_ir::Program::new(name);
            let x = p.input("x", DType::F32, zmlx_ir::Extent::ELEM);
            let y = p.op(zmlx_ir::Op::Add, &[x, x]);
            p.output("out", y, DType::F32);
            let config = schedule::Config::pick(&p, 10, 10, 1, 100, schedule::Device::default());
            schedule::schedule(&p, &config).unwrap_or_else(|e| panic!("{name}: {e}"))
        })
        .collect();
    let kernels: Vec<_> = schedules.iter().flat_map(|s| &s.steps).map(|s| &s.kernel).collect();
    let text = c_like::unit(&kernels, &CUDA).unwrap_or_else(|e| panic!("{e}"));
    compile(&source("names", &text), (9, 0)).unwrap_or_else(|e| panic!("{e}"));
}

/// The texts that the printer makes, of the catalog too, are those that the drivers' tests do not write by hand.
#[test]
fn every_golden_text_becomes_code() {
    if !nvrtc() {
        return;
    }
    let mut compiled = 0;
    for folder in ["tests/golden", "../zmlx/tests/golden"] {
        let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten() {
            let path = file.path();
            if path.extension().is_some_and(|e| e == "cuda") {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let name = path.display().to_string();
                // of kernels written by hand, each launch's text is a unit
                for unit in text.split("// --- next unit ---") {
                    // with the option that the driver gives
                    let source = Source { options: &["--minimal"], ..source(&name, unit) };
                    compile(&source, (9, 0)).unwrap_or_else(|error| panic!("{error}"));
                    compiled += 1;
                }
            }
        }
    }
    assert!(compiled > 25, "{compiled} files");
}

/// What kernels written by hand are given to stand on, in all its words.
#[test]
fn portable_kernels_become_code() {
    if !nvrtc() {
        return;
    }
    let uniforms = [("scale".to_string(), Scalar::Float(1.0))];
    let words = "
        shared_array(f32, part, 32);
        f32 v = powf(fabsf(floorf(ceilf(x[lane]))), 2.0f) + fminf(INFINITY, NAN) + wide(x[warp]);
        v = fmaf(exp2f(logf(tanhf(sinf(cosf(v))))), sqrtf(rsqrtf(log2f(v))), fmaxf(expf(v), (f32)warps));
        v += shuffle(shuffle_up(shuffle_down(v, 1), 1), 3) + warp_max(v) * warp_min(v) + warp_sum(v);
        v += block_min(v, part) + block_max(v, part);
        warp_barrier();
        y[block_index_y + block_index_z * grid_blocks] = narrow<y_t>(v);";
    let fragments = portable::FRAGMENTS.replace("OF_A", "true").replace("OF_B", "false");
    let raw = |name, dtype, header, body| {
        let of = |names: &[&'static str], dtype| -> Vec<Tensor<'_>> {
            names.iter().map(|name| Tensor { name, dtype, rank: 2 }).collect()
        };
        let (inputs, outputs) = match name {
            "fragments" => (of(&["x", "w"], dtype), of(&["y", "sums"], DType::F32)),
            "sum" => (of(&["x"], dtype), of(&["sums"], dtype)),
            _ => (of(&["x"], dtype), of(&["y"], dtype)),
        };
        let raw = Raw {
            name,
            inputs: &inputs,
            outputs: &outputs,
            uniforms: &uniforms,
            header,
            body,
            threads: 256,
            shared: if name == "fragments" { 2 * 2 * 16 * 24 } else { 0 },
        };
        let text = raw.text(&CUDA).unwrap_or_else(|error| panic!("{error}"));
        let source = Source { options: &["--minimal"], ..source(name, &text) };
        let code = compile(&source, (9, 0)).unwrap_or_else(|error| panic!("{error}"));
        assert!(contains(&code, &format!(".text.{}", raw.entry())), "{name}");
    };
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        raw("softmax", dtype, "", portable::SOFTMAX);
    }
    raw("sum", DType::I32, portable::SQUARE, portable::BLOCK_SUM);
    raw("words", DType::F32, "", words);
    for dtype in [DType::F16, DType::BF16] {
        raw("fragments", dtype, "", &fragments);
    }
}

#[test]
fn the_same_text_becomes_the_same_code() {
    if nvrtc() {
        let once = || compile(&source("row_sum", texts::ROW_SUM), (9, 0)).expect("code");
        assert_eq!(once(), once());
    }
}

#[test]
fn a_device_newer_than_the_compiler_gets_ptx_of_the_newest_that_it_knows() {
    if !nvrtc() {
        return;
    }
    let code = compile(&source("scale", texts::SCALE), (99, 0)).expect("code");
    assert!(matches!(&code, Code::Ptx(text) if text.ends_with(b"\0")));
    assert!(contains(&code, ".target sm_1") && contains(&code, ".entry scale("));
}

#[test]
fn a_device_older_than_any_that_the_compiler_knows_is_an_error_that_lists_them() {
    if nvrtc() {
        let error = compile(&source("scale", texts::SCALE), (3, 0)).unwrap_err().to_string();
        assert!(error.starts_with("scale: compute capability of the device, 3.0, expected one that"), "{error}");
        assert!(error.contains(" 90,") && error.ends_with("got sm_30"), "{error}");
    }
}

#[test]
fn a_mistake_is_told_with_its_line_and_the_log() {
    if !nvrtc() {
        return;
    }
    let text = texts::SCALE.replace("a * x[i]", "a * z[i]");
    match compile(&source("scale", &text), (9, 0)) {
        Err(Error::Compile { op, target, line, text, log }) => {
            assert_eq!((op.as_str(), target.as_str(), line), ("scale", "sm_90", Some(3)));
            assert!(text.contains("a * z[i]"), "{text}");
            assert!(log.contains("identifier \"z\" is undefined"), "{log}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_reach_the_compiler_and_unknown_ones_are_errors() {
    if !nvrtc() {
        return;
    }
    let text = "extern \"C\" __global__ void k(float* y) { y[0] = VALUE; }";
    let with = |options| compile(&Source { op: "k", text, options }, (8, 0));
    assert!(with(&["-DVALUE=2.0f", "--fmad=false"]).is_ok());
    assert!(matches!(with(&[]), Err(Error::Compile { line: Some(1), .. })));
    assert!(matches!(with(&["-DVALUE=1", "--no-such-option"]), Err(Error::Compile { line: None, .. })));
}
