//! What the targets share. An input is a line that seeds a generator, and a formula below it; the generator draws what
//! a caller would choose: types, extents, sizes, values. So a corpus reads as formulas, and a finding shrinks to one.

#[path = "../../crates/zmlx-runtime/tests/random/case.rs"]
pub mod case;

use zmlx_ir::{DType, Extent, Formula, Program, Scalar, Signature, program::random::Random};

/// Programs above this many nodes are read, but neither differentiated nor run: speed finds more than size.
const MAX_NODES: usize = 1500;

/// Is it small enough to run many a second?
pub fn is_small(program: &Program) -> bool {
    program.nodes().len() <= MAX_NODES
}

/// The generator that the seed line starts and the formula of an input; None if it is not text.
pub fn read(data: &[u8]) -> Option<(Random, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    let (seed, formula) = text.split_once('\n').unwrap_or(("", text));
    // FNV-1a
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    Some((Random::new(hash), formula))
}

/// Declares some names as launch arguments and draws what the others are bound to: in half of the cases float32 of
/// full extent, which most formulas accept, else anything.
pub fn signature(formula: &mut Formula, draw: &mut Random) -> Signature {
    const DTYPES: [DType; 10] = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I64,
        DType::I32,
        DType::U32,
        DType::I16,
        DType::U8,
        DType::Bool,
    ];
    const EXTENTS: [Extent; 4] = [Extent::ELEM, Extent::ROW, Extent::COL, Extent::UNIFORM];
    let plain = draw.chance(1, 2);
    let mut inputs = Vec::new();
    for name in &mut formula.names {
        if draw.chance(1, 6) {
            name.uniform = Some(if draw.chance(1, 3) { Scalar::Int(3) } else { Scalar::Float(0.75) });
        } else if plain {
            inputs.push((DType::F32, Extent::ELEM));
        } else {
            inputs.push((draw.pick(&DTYPES), draw.pick(&EXTENTS)));
        }
    }
    Signature { inputs }
}
