//! The functions that a unit's kernels use: what C lacks or means otherwise than the op table, conversions of 16-bit floats,
//! and vectors in and out of memory.

use super::{Dialect, memory};
use std::collections::BTreeSet;
use zmlx_ir::DType;

/// A function of the prelude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A 16-bit float as f32.
    Widen(DType),
    /// An f32 as a 16-bit float.
    Narrow(DType),
    /// Two f32 as the 16-bit floats of a word.
    Pack(DType),
    /// A float as an integer.
    Saturate(DType, DType),
    /// `name_dtype`.
    Function(&'static str, DType),
    /// An element of a packed array.
    Half(DType),
    /// A word of a packed array, with one element set.
    Put(DType),
    /// A block of Philox.
    Philox,
    /// A random number.
    Rand,
    /// Four random numbers.
    Rand4,
    /// So many elements from memory.
    Load(DType, u32),
    /// So many elements to memory.
    Store(DType, u32),
    /// So many elements from memory to a packed array.
    Copy(DType, u32),
}

/// Could a prelude have a function of this name?
pub(super) fn is_name(name: &str) -> bool {
    let (_, last) = name.rsplit_once('_').unwrap_or(("", ""));
    matches!(name, "rand_unit" | "rand_units" | "philox")
        || DType::from_name(last.split('x').next().unwrap_or("")).is_some()
}

/// The text of these functions and those that they need, each once.
pub(super) fn text(mut needs: BTreeSet<Need>, d: &Dialect) -> String {
    for n in needs.clone() {
        needs.extend(below(n, d));
    }
    // in the order of the enum, conversions come before vectors, and functions after those that they need
    let mut functions: Vec<Need> = needs.into_iter().collect();
    let first = |n: &Need| matches!(n, Need::Function("log1p" | "expm1" | "erf" | "exp_half" | "div_half", _));
    functions.sort_by_key(|n| (!first(n), *n));
    functions.into_iter().map(|n| format!("\n{}", function(n, d))).collect()
}

fn below(n: Need, d: &Dialect) -> Vec<Need> {
    let half = |t: DType| matches!(t, DType::F16 | DType::BF16);
    match n {
        Need::Load(t, _) if half(t) => vec![Need::Widen(t)],
        Need::Store(t, _) if half(t) => vec![Need::Narrow(t), Need::Pack(t)],
        Need::Half(DType::F16) => vec![Need::Widen(DType::F16)],
        Need::Put(t) => vec![Need::Narrow(t)],
        Need::Rand | Need::Rand4 => vec![Need::Philox],
        Need::Function("sigmoid_half", t) => vec![Need::Function("exp_half", t)],
        Need::Function("recip_half", t) => vec![Need::Function("div_half", t)],
        Need::Function("softplus", t) if (d.call)(zmlx_ir::Op::Log1p, t).is_none() => vec![Need::Function("log1p", t)],
        _ => vec![],
    }
}

/// One function. `$T` is its type, `$0` zero and `$1` one of it; `$exp`, `$log`, `$log1p`, `$abs`, `$max` the target's.
fn function(n: Need, d: &Dialect) -> String {
    let text = match n {
        Need::Widen(DType::BF16) => "$fnfloat bf16_to_f32($u16 x) {\n    return $as_f32(($u32)x << 16);\n}\n".into(),
        Need::Narrow(DType::BF16) if (d.own)("f32_to_bf16").is_none() => NARROW_BF16.into(),
        Need::Widen(t) => own(d, &format!("{t}_to_f32")),
        Need::Narrow(t) => own(d, &format!("f32_to_{t}")),
        Need::Pack(t) => match (d.own)(&format!("pack_{t}")) {
            Some(text) => text.into(),
            None => format!(
                "$fn$u32 pack_{t}(float low, float high) {{\n    return ($u32)f32_to_{t}(low) | ($u32)f32_to_{t}(high) << 16;\n}}\n"
            ),
        },
        Need::Saturate(from, to) => saturate(from, to, d),
        Need::Half(DType::BF16) => HALF_BF16.into(),
        Need::Half(t) => {
            format!("$fnfloat half_{t}($u32 w, int i) {{\n    return {t}_to_f32(($u16)(w >> (16 * i)));\n}}\n")
        }
        Need::Put(t) => format!(
            "$fn$u32 put_{t}($u32 w, int i, float x) {{\n    const $u32 bits = f32_to_{t}(x);\n    \
             return i != 0 ? (w & 65535u) | (bits << 16) : (w & 4294901760u) | bits;\n}}\n"
        ),
        Need::Philox => PHILOX.into(),
        Need::Rand => RAND.into(),
        Need::Rand4 => RAND4.into(),
        Need::Copy(t, lanes) => copy(t, lanes, d),
        Need::Load(t, lanes) => load(t, lanes, d),
        Need::Store(t, lanes) => store(t, lanes, d),
        Need::Function(name, t) => {
            let text = match (name, t.is_float()) {
                ("sign", true) => "return x > $0 ? $1 : x < $0 ? -$1 : x;",
                ("sign", false) => "return ($T)((x > 0) - (x < 0));",
                ("abs", _) if t == DType::U8 || t == DType::U32 => "return x;",
                ("abs", _) => "return x < 0 ? ($T)(0 - ($U)x) : x;",
                ("sigmoid", _) => {
                    "const $T e = $exp(-$abs(x));\n    const $T r = $1 / ($1 + e);\n    return x >= $0 ? r : e * r;"
                }
                ("softplus", _) => "return (x > $0 ? x : $0) + $log1p($exp(-$abs(x)));",
                ("expm1", _) => EXPM1,
                ("log1p", _) => LOG1P,
                ("erf", _) => ERF,
                ("mulz", _) => "return a == $0 ? $0 : a * b;",
                ("div", _) if t == DType::U8 || t == DType::U32 => "return b == 0 ? 0 : a / b;",
                ("div", _) => "return b == 0 ? 0 : b == -1 ? ($T)(0 - ($U)a) : ($T)(a / b);",
                ("rem", _) if t == DType::U8 || t == DType::U32 => "return b == 0 ? 0 : a % b;",
                ("rem", _) => "return b == 0 || b == -1 ? 0 : ($T)(a % b);",
                ("min", true) => "return a <= b || a != a ? a : b;",
                ("max", true) => "return a >= b || a != a ? a : b;",
                ("min", false) => "return a <= b ? a : b;",
                ("max", false) => "return a >= b ? a : b;",
                ("order", _) if t == DType::F32 => return expand(ORDER, t, d),
                ("unorder", _) if t == DType::F32 => return expand(UNORDER, t, d),
                ("remote", _) => return expand(&own(d, name).replace("$name", &format!("{name}_{t}")), t, d),
                _ => return expand(&own(d, &format!("{name}_{t}")), t, d),
            };
            let two = matches!(name, "mulz" | "div" | "rem" | "min" | "max");
            let args = if two { "$T a, $T b" } else { "$T x" };
            format!("$fn$T {name}_{t}({args}) {{\n    {text}\n}}\n")
        }
    };
    let dtype = if let Need::Function(_, t) = n { t } else { DType::F32 };
    expand(&text, dtype, d)
}

fn own(d: &Dialect, name: &str) -> String {
    (d.own)(name).unwrap_or_default().into()
}

/// Round to nearest even; NaN stays NaN.
const NARROW_BF16: &str = "\
$fn$u16 f32_to_bf16(float x) {
    const $u32 u = $as_u32(x);
    if (x != x) {
        return ($u16)((u >> 16) | 64);
    }
    return ($u16)((u + 32767 + ((u >> 16) & 1)) >> 16);
}
";

/// The upper half of a float is a bf16.
const HALF_BF16: &str = "\
$fnfloat half_bf16($u32 w, int i) {
    return $as_f32(i != 0 ? w & 4294901760u : w << 16);
}
";

const PHILOX: &str = "\
// a block of Philox4x32-7
$fnvoid philox($i64 seed, $i64 block, $loc$u32* w) {
    $u32 c0 = ($u32)block, c1 = ($u32)(block >> 32), c2 = 0, c3 = 0;
    $u32 k0 = ($u32)seed, k1 = ($u32)(($u64)seed >> 32);
#pragma unroll
    for (int round = 0; round < 7; round++) {
        const $u64 p0 = ($u64)0xD2511F53u * c0, p1 = ($u64)0xCD9E8D57u * c2;
        c0 = ($u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = ($u32)p1;
        c2 = ($u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = ($u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
}
";

const RAND: &str = "\
// word index % 4 of block index / 4
$fnfloat rand_unit($i64 seed, $i64 index) {
    $u32 w[4];
    philox(seed, index >> 2, w);
    const int word = (int)(index & 3);
    const $u32 bits = word == 0 ? w[0] : word == 1 ? w[1] : word == 2 ? w[2] : w[3];
    return (float)(bits >> 8) * 5.9604645e-8f;
}
";

/// Of two blocks where four numbers do not lie in one.
const RAND4: &str = "\
$fnvoid rand_units($i64 seed, $i64 index, $locfloat* v) {
    $u32 w[8];
    philox(seed, index >> 2, w);
    if ((index & 3) != 0) {
        philox(seed, (index >> 2) + 1, &w[4]);
        if ((index & 1) != 0) {
#pragma unroll
            for (int i = 0; i < 7; i++) {
                w[i] = w[i + 1];
            }
        }
        if ((index & 2) != 0) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                w[i] = w[i + 2];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = (float)(w[i] >> 8) * 5.9604645e-8f;
    }
}
";

/// Kahan: the error of u = exp(x) near 1 is that of log(u), and cancels.
const EXPM1: &str = "\
const $T u = $exp(x);
    if (u == $1) {
        return x;
    }
    const $T d = u - $1;
    return d == -$1 || u > 1e30f ? d : d * (x / $log(u));";

/// As expm1: the rounding of u = 1 + x is in u − 1 too.
const LOG1P: &str = "\
const $T u = $1 + x;
    const $T d = u - $1;
    return d == $0 ? x : u > 1e30f || u <= $0 ? $log(u) : $log(u) * (x / d);";

/// Two polynomials of at most one unit in the last place each (N. Juffa).
const ERF: &str = "\
const $T t = $abs(x), s = x * x;
    if (t > 0.927734375f) {
        $T r = $fma(-1.72853470e-5f, t, 3.83197126e-4f);
        const $T u = $fma(-3.88396438e-3f, t, 2.42546219e-2f);
        r = $fma(r, s, u);
        r = $fma(r, t, -1.06777877e-1f);
        r = $fma(r, t, -6.34846687e-1f);
        r = $fma(r, t, -1.28717512e-1f);
        r = $1 - $exp($fma(r, t, -t));
        return x < $0 ? -r : r;
    }
    $T r = -5.96761703e-4f;
    r = $fma(r, s, 4.99119423e-3f);
    r = $fma(r, s, -2.67681349e-2f);
    r = $fma(r, s, 1.12819925e-1f);
    r = $fma(r, s, -3.76125336e-1f);
    r = $fma(r, s, 1.28379166e-1f);
    return $fma(r, x, x);";

/// Adding +0 makes one zero of both; negative numbers have their order turned round.
const ORDER: &str = "\
$fnint order_f32(float x) {
    const int bits = (int)$as_u32(x + 0.0f);
    return x != x ? 2147483647 : bits ^ ((bits >> 31) & 2147483647);
}
";

const UNORDER: &str = "\
$fnfloat unorder_f32(int x) {
    return $as_f32(($u32)(x ^ ((x >> 31) & 2147483647)));
}
";

fn saturate(from: DType, to: DType, d: &Dialect) -> String {
    let (lo, hi) = to.int_range();
    let long = if to == DType::I64 { d.long_suffix } else { "" };
    let [least, most] = match to {
        DType::I64 => [format!("(-{hi}{long} - 1)"), format!("{hi}{long}")],
        DType::I32 => [format!("(-{hi} - 1)"), hi.to_string()],
        DType::U32 => ["0u".into(), format!("{hi}u")],
        _ => [lo.to_string(), hi.to_string()],
    };
    let suffix = if from == DType::F64 { "" } else { "f" };
    // the first float above the range, and its least value, are powers of two
    let (below, above) = (lo as f64, 2f64.powi(if hi == i64::MAX { 63 } else { (hi + 1).ilog2() as i32 }));
    let (source, name) = (d.types[from as usize], d.types[to as usize]);
    format!(
        "$fn{name} {from}_to_{to}({source} x) {{\n    return x != x ? 0 : x <= {below:?}{suffix} ? ({name}){least} : \
         x >= {above:?}{suffix} ? ({name}){most} : ({name})x;\n}}\n"
    )
}

/// What moves `bytes` at once: its type, and its parts of 32 bits.
fn words(bytes: u32) -> (&'static str, &'static [&'static str]) {
    match bytes {
        16 => ("uint4", &["t.x", "t.y", "t.z", "t.w"]),
        8 => ("uint2", &["t.x", "t.y"]),
        4 => ("$u32", &["t"]),
        _ => ("$u16", &["t"]),
    }
}

/// The vector type of elements that are as wide as its parts, and these parts.
fn direct(t: DType, lanes: u32, d: &Dialect) -> Option<(String, Vec<&'static str>)> {
    let parts = ["t.x", "t.y", "t.z", "t.w"][..lanes.min(4) as usize].to_vec();
    let base = match t {
        DType::F32 => "float",
        DType::I32 => "int",
        DType::U32 => "uint",
        DType::F64 => "double",
        DType::I64 => return Some((d.i64x2.into(), parts)),
        _ => return None,
    };
    Some((format!("{base}{lanes}"), parts))
}

fn load(t: DType, lanes: u32, d: &Dialect) -> String {
    let (element, value) = (memory(d, t), d.types[t.compute() as usize]);
    let head = format!("$fnvoid load_{t}x{lanes}($devconst {element}* p, $loc{value}* v) {{\n");
    if let Some((vector, parts)) = direct(t, lanes, d) {
        let sets: String = parts.iter().enumerate().map(|(i, p)| format!("    v[{i}] = {p};\n")).collect();
        return format!("{head}    const {vector} t = *($devconst {vector}*)p;\n{sets}}}\n");
    }
    let size = t.size_bytes() as u32;
    let (vector, parts) = words(lanes * size);
    let (per, bits) = (4 / size, size * 8);
    let part = format!("w[i / {per}] >> ({bits} * (i % {per}))");
    let set = match t {
        DType::F16 | DType::BF16 => format!("{t}_to_f32(($u16)({part}))"),
        DType::Bool => format!("(({part}) & 255) != 0"),
        _ => format!("({element})({part})"),
    };
    format!(
        "{head}    const {vector} t = *($devconst {vector}*)p;\n    const $u32 w[{}] = {{{}}};\n#pragma unroll\n    \
         for (int i = 0; i < {lanes}; i++) {{\n        v[i] = {set};\n    }}\n}}\n",
        parts.len(),
        parts.join(", ")
    )
}

fn copy(t: DType, lanes: u32, d: &Dialect) -> String {
    let (vector, parts) = words(lanes * t.size_bytes() as u32);
    let sets: String = parts.iter().enumerate().map(|(i, p)| format!("    w[{i}] = {p};\n")).collect();
    format!(
        "$fnvoid copy_{t}x{lanes}($devconst {}* p, $loc$u32* w) {{\n    const {vector} t = *($devconst {vector}*)p;\n{sets}}}\n",
        memory(d, t)
    )
}

fn store(t: DType, lanes: u32, d: &Dialect) -> String {
    let (element, value) = (memory(d, t), d.types[t.compute() as usize]);
    let head = format!("$fnvoid store_{t}x{lanes}($dev{element}* p, const $loc{value}* v) {{\n");
    if let Some((vector, parts)) = direct(t, lanes, d) {
        let sets: String = parts.iter().enumerate().map(|(i, p)| format!("    {p} = v[{i}];\n")).collect();
        return format!("{head}    {vector} t;\n{sets}    *($dev{vector}*)p = t;\n}}\n");
    }
    let size = t.size_bytes() as u32;
    let (vector, parts) = words(lanes * size);
    let (per, bits) = (4 / size, size * 8);
    let narrow = match t {
        DType::Bool => "(v[i] ? 1 : 0)".into(),
        _ => format!("({})v[i]", if size == 1 { "$u8" } else { "$u16" }),
    };
    let sets_of =
        |word: &str| parts.iter().enumerate().map(|(i, p)| format!("    {p} = {word}w[{i}];\n")).collect::<String>();
    if matches!(t, DType::F16 | DType::BF16) {
        return format!(
            "{head}    $u32 w[{0}];\n#pragma unroll\n    for (int i = 0; i < {0}; i++) {{\n        \
             w[i] = pack_{t}(v[2 * i], v[2 * i + 1]);\n    }}\n    {vector} t;\n{1}    *($dev{vector}*)p = t;\n}}\n",
            parts.len(),
            sets_of("")
        );
    }
    let zeros = vec!["0"; parts.len()].join(", ");
    let word = if lanes * size < 4 { "($u16)" } else { "" };
    let sets = sets_of(word);
    format!(
        "{head}    $u32 w[{}] = {{{zeros}}};\n#pragma unroll\n    for (int i = 0; i < {lanes}; i++) {{\n        \
         w[i / {per}] |= ($u32){narrow} << ({bits} * (i % {per}));\n    }}\n    {vector} t;\n{sets}    \
         *($dev{vector}*)p = t;\n}}\n",
        parts.len()
    )
}

fn expand(text: &str, t: DType, d: &Dialect) -> String {
    use zmlx_ir::Op;
    let name = |t: DType| d.types[t as usize];
    let call = |op: Op| (d.call)(op, t).map_or(format!("{}_{t}", op.row().name), str::to_string);
    let unsigned = match t {
        DType::I64 => d.u64,
        DType::I32 => name(DType::U32),
        _ => name(DType::I32),
    };
    let one = if t == DType::F64 { "1.0" } else { "1.0f" };
    let zero = if t == DType::F64 { "0.0" } else { "0.0f" };
    let bits = (d.own)("bits").unwrap_or_default().split_once(' ').unwrap_or_default();
    let table: [(&str, &str); 20] = [
        ("$fn", d.function),
        ("$devconst ", &format!("{}const ", d.device)),
        ("$dev", d.device),
        ("$loc", d.local),
        ("$log1p", &call(Op::Log1p)),
        ("$exp", &call(Op::Exp)),
        ("$log", &call(Op::Log)),
        ("$abs", &call(Op::Abs)),
        ("$fma", &call(Op::Fma)),
        ("$as_f32", bits.0),
        ("$as_u32", bits.1),
        ("$u32", name(DType::U32)),
        ("$u64", d.u64),
        ("$u16", name(DType::F16)),
        ("$u8", name(DType::U8)),
        ("$i64", name(DType::I64)),
        ("$T", name(t)),
        ("$U", unsigned),
        ("$0", zero),
        ("$1", one),
    ];
    table.iter().fold(text.to_string(), |text, (key, value)| text.replace(key, value))
}
