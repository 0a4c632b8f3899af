//! Kernels written by hand: the body of a kernel, put under a signature that its tensors give, over a prelude that means the
//! same for every target. A body that uses nothing else is *portable*: one text for all of them.
//!
//! The signature has a pointer of each input, one of each output, and `args`: of each tensor `x` the number of its elements
//! `args.x_len` and its sizes `args.x_dims[…]`, then the numbers of the launch under their names. `x_t` is the type of its
//! elements. The table of the prelude is in docs/COOKBOOK.md.

use super::{Dialect, RESERVED, prelude, prelude::Need};
use crate::Error;
use std::{collections::HashSet, fmt::Write};
use zmlx_ir::{DType, Scalar};

/// What a target's prelude of kernels written by hand has of its own.
#[derive(Debug)]
pub struct Words {
    /// Types, words and the exchange between lanes; also mathematics, where its names are not those of C.
    pub text: &'static str,
    /// Its matrix units, for the bodies that have fragments of matrices.
    pub matrix: &'static str,
    /// Declares `memory`, so many bytes that the threads of a block share.
    pub memory: fn(usize) -> String,
    /// The entry up to its opening brace: from its name, parameters, type of arguments and most threads.
    pub entry: fn(&str, &[String], &str, u32) -> String,
    /// Who this thread is, in the body.
    pub places: &'static str,
    /// What stands for the words `device` and `shared` before pointers. They are no macros: a target's own words are made
    /// of them.
    pub pointers: [&'static str; 2],
}

/// A tensor of a kernel: contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor<'a> {
    /// Its name in the body.
    pub name: &'a str,
    /// Type of its elements.
    pub dtype: DType,
    /// Number of its sizes.
    pub rank: usize,
}

/// A kernel written by hand.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Its name, for errors; the entry's is made of it.
    pub name: &'a str,
    /// What it reads.
    pub inputs: &'a [Tensor<'a>],
    /// What it writes.
    pub outputs: &'a [Tensor<'a>],
    /// Numbers of a launch, f32 or i64 as their values are.
    pub uniforms: &'a [(String, Scalar)],
    /// Functions that the body calls.
    pub header: &'a str,
    /// What a thread does.
    pub body: &'a str,
    /// The most threads of a block.
    pub threads: u32,
    /// Bytes of `memory`, which the threads of a block share; none if 0.
    pub shared: usize,
}

/// Names that the prelude and the signature take.
const NAMES: &[&str] = &[
    "u8",
    "i16",
    "u16",
    "i32",
    "u32",
    "i64",
    "u64",
    "f16",
    "bf16",
    "f32",
    "f64",
    "device",
    "shared",
    "local",
    "function",
    "shared_array",
    "barrier",
    "warp_barrier",
    "wide",
    "narrow",
    "shuffle",
    "shuffle_xor",
    "shuffle_up",
    "shuffle_down",
    "warp_sum",
    "warp_max",
    "warp_min",
    "block_sum",
    "block_max",
    "block_min",
    "across_warp",
    "across_block",
    "sum_of",
    "max_of",
    "min_of",
    "thread_index",
    "block_index",
    "block_index_y",
    "block_index_z",
    "block_threads",
    "grid_blocks",
    "lane",
    "warp",
    "warps",
    "expf",
    "exp2f",
    "logf",
    "log2f",
    "sqrtf",
    "rsqrtf",
    "tanhf",
    "sinf",
    "cosf",
    "fabsf",
    "floorf",
    "ceilf",
    "fminf",
    "fmaxf",
    "fmaf",
    "powf",
    "four",
    "four_of",
    "load4",
    "as_f32",
    "as_u32",
    "memory",
    "fragment_a",
    "fragment_b",
    "fragment_c",
    "fragment_row",
    "fragment_col",
    "load_a",
    "load_b",
    "multiply_add",
    "clear",
    "element",
    "copy_async",
    "copy_commit",
    "copy_wait",
    "pair_of",
    "store4",
    "set_element",
    "sigmoid",
    "as_a",
    "across_row",
    "FRAGMENT_HALF",
];

/// What is the same for all targets.
const COMMON: &str = "
template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, shared T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)
";

impl Raw<'_> {
    /// The name of its entry.
    pub fn entry(&self) -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        format!("raw_{}", self.name.chars().map(fits).collect::<String>().trim_end_matches('_'))
    }

    /// Its text for a target.
    ///
    /// # Errors
    /// A name that is none, or is taken; a type that the target lacks; more tensors than it takes.
    pub fn text(&self, d: &Dialect) -> Result<String, Error> {
        self.check(d)?;
        let halves = [DType::F16, DType::BF16];
        let needs = halves.iter().flat_map(|t| [Need::Widen(*t), Need::Narrow(*t)]).collect();
        let entry = self.entry();
        let args = format!("{entry}_args");
        let mut text = format!("{}{}\n{}", d.opening, prelude::text(needs, d), d.raw.text);
        text += &pointers(COMMON, d);
        if self.body.contains("fragment_c") {
            text += d.raw.matrix;
        }
        let _ = write!(text, "\n{}\nstruct {args} {{\n", pointers(self.header, d));
        for t in self.tensors() {
            let _ = writeln!(text, "    i64 {}_len;", t.name);
            if t.rank > 0 {
                let _ = writeln!(text, "    i64 {}_dims[{}];", t.name, t.rank);
            }
        }
        for (name, value) in self.uniforms {
            let _ = writeln!(text, "    {} {name};", if matches!(value, Scalar::Float(_)) { "f32" } else { "i64" });
        }
        text += "};\n\n";
        let pointer =
            |constant: &str, t: &Tensor<'_>| format!("{}{constant}{}* {}", d.device, spelling(t.dtype), t.name);
        let inputs = self.inputs.iter().map(|t| pointer("const ", t));
        let params: Vec<String> = inputs.chain(self.outputs.iter().map(|t| pointer("", t))).collect();
        text += &(d.raw.entry)(&entry, &params, &args, self.threads);
        text += " {\n";
        text += d.raw.places;
        for t in self.tensors() {
            let _ = writeln!(text, "    typedef {} {}_t;", spelling(t.dtype), t.name);
        }
        if self.shared > 0 {
            text += &(d.raw.memory)(self.shared);
        }
        let _ = write!(text, "{}\n}}\n", pointers(self.body, d));
        Ok(text)
    }

    /// The bytes of `args`, from the sizes of all tensors.
    pub fn pack(&self, dims: &[&[usize]], out: &mut Vec<u8>) {
        out.clear();
        for dims in dims {
            let len: usize = dims.iter().product();
            out.extend((len as i64).to_ne_bytes());
            out.extend(dims.iter().flat_map(|d| (*d as i64).to_ne_bytes()));
        }
        let fill = |out: &mut Vec<u8>, to: usize| out.resize(out.len().next_multiple_of(to), 0);
        for (_, value) in self.uniforms {
            match value {
                Scalar::Float(v) => out.extend((*v as f32).to_ne_bytes()),
                Scalar::Int(v) => {
                    fill(out, 8);
                    out.extend(v.to_ne_bytes());
                }
            }
        }
        fill(out, 8);
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor<'_>> {
        self.inputs.iter().chain(self.outputs)
    }

    fn check(&self, d: &Dialect) -> Result<(), Error> {
        let wrong = |what: String, expected: &str, got: &str| {
            Err(Error::Launch { op: self.name.into(), what, expected: expected.into(), got: got.into() })
        };
        let mut seen = HashSet::new();
        for name in self.tensors().map(|t| t.name).chain(self.uniforms.iter().map(|u| &u.0[..])) {
            let word = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let taken = NAMES.contains(&name) || RESERVED.contains(&name) || d.reserved.contains(&name);
            if !word || taken || prelude::is_name(name) {
                return wrong("name".into(), "one that the prelude, C++ and the target have no use for", name);
            }
            if !seen.insert(name) {
                return wrong("names".into(), "different ones", &format!("{name} twice"));
            }
        }
        if let Some(t) = self.tensors().find(|t| d.types[t.dtype as usize].is_empty()) {
            return Err(Error::Unsupported {
                op: self.name.into(),
                what: format!("tensor {}", t.name),
                dtype: t.dtype,
                target: d.target,
            });
        }
        let tensors = self.tensors().count();
        if tensors > d.buffers {
            return wrong(
                "number of tensors".into(),
                &format!("at most {} on {}", d.buffers, d.target),
                &tensors.to_string(),
            );
        }
        Ok(())
    }
}

/// A text with the target's words before its pointers.
fn pointers(text: &str, d: &Dialect) -> String {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(part) {
        let (before, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|c| !part(c)).unwrap_or(word.len()));
        let spelled = ["device", "shared"].iter().position(|w| *w == word).map_or(word, |k| d.raw.pointers[k]);
        out += before;
        out += spelled;
        rest = after;
    }
    out + rest
}

/// A type in the words of the prelude.
fn spelling(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "u8",
        dtype => dtype.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{cuda::dialect::CUDA, metal::dialect::METAL};

    fn text(inputs: &[Tensor<'_>], d: &Dialect) -> Result<String, String> {
        let y = [Tensor { name: "y", dtype: DType::F32, rank: 0 }];
        let raw = Raw {
            name: "row-sum",
            inputs,
            outputs: &y,
            uniforms: &[("eps".into(), Scalar::Float(0.5)), ("n".into(), Scalar::Int(7))],
            header: "",
            body: "y[0] = wide(x[0]);",
            threads: 64,
            shared: 0,
        };
        raw.text(d).map_err(|e| e.to_string())
    }

    #[test]
    fn a_signature_has_pointers_sizes_and_numbers_in_order() {
        let x = [Tensor { name: "x", dtype: DType::BF16, rank: 2 }];
        let block = "struct raw_row_sum_args {\n    i64 x_len;\n    i64 x_dims[2];\n    i64 y_len;\n    f32 eps;\n    i64 n;\n};";
        for d in [&CUDA, &METAL] {
            let text = text(&x, d).expect("a text");
            assert!(text.contains(block) && text.contains("typedef bf16 x_t;"), "{text}");
        }
        assert!(text(&x, &METAL).expect("a text").contains("device const bf16* x [[buffer(0)]]"));
    }

    #[test]
    fn names_and_types_that_cannot_be_are_errors() {
        let x = |name, dtype| text(&[Tensor { name, dtype, rank: 1 }], &METAL).expect_err("an error");
        assert_eq!(x("x", DType::F64), "row-sum: tensor x on f64 is not supported on metal");
        for name in ["lane", "float", "kernel", "two words", "x_f32"] {
            let expected = "row-sum: name, expected one that the prelude, C++ and the target have no use for";
            assert_eq!(x(name, DType::F32), format!("{expected}, got {name}"));
        }
        assert_eq!(x("y", DType::F32), "row-sum: names, expected different ones, got y twice");
        let many: Vec<String> = (0..31).map(|n| format!("x{n}x")).collect();
        let many: Vec<Tensor<'_>> = many.iter().map(|n| Tensor { name: n, dtype: DType::F32, rank: 0 }).collect();
        assert_eq!(
            text(&many, &METAL).expect_err("an error"),
            "row-sum: number of tensors, expected at most 30 on metal, got 32"
        );
    }

    #[test]
    fn arguments_lie_where_a_c_compiler_puts_them() {
        let uniforms = [("eps".into(), Scalar::Float(1.0)), ("n".into(), Scalar::Int(7))];
        let raw = Raw {
            name: "k",
            inputs: &[],
            outputs: &[],
            uniforms: &uniforms,
            header: "",
            body: "",
            threads: 32,
            shared: 0,
        };
        let mut out = vec![];
        raw.pack(&[&[2, 3], &[]], &mut out);
        let words: Vec<i64> = out.as_chunks::<8>().0.iter().map(|w| i64::from_ne_bytes(*w)).collect();
        assert_eq!(words, [6, 2, 3, 1, i64::from(1f32.to_bits()), 7]);
    }
}
