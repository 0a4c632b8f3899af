//! What the targets share. An input is a line that seeds a generator, and a formula below it; the generator draws what
//! a caller would choose: types, extents, sizes, values. So a corpus reads as formulas, and a finding shrinks to one.

mod memory;

pub use memory::{Memory, oracle_data};

use zmlx_ir::{DType, Extent, Formula, Program, Scalar, Signature};

/// Programs above this many nodes are read, but neither differentiated nor run: speed finds more than size.
const MAX_NODES: usize = 1500;

/// Is it small enough to run many a second?
pub fn is_small(program: &Program) -> bool {
    program.nodes().len() <= MAX_NODES
}

/// The seed line and the formula of an input; None if it is not text.
pub fn read(data: &[u8]) -> Option<(Draw, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    let (seed, formula) = text.split_once('\n').unwrap_or(("", text));
    Some((Draw::seeded(seed), formula))
}

/// A small generator of choices (SplitMix64).
pub struct Draw(u64);

impl Draw {
    fn seeded(line: &str) -> Draw {
        // FNV-1a: near seeds give unrelated draws.
        Draw(line.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.bits() % of.len() as u64) as usize]
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.bits() % n == 0
    }
}

/// Declares some names as launch arguments and draws what the others are bound to: in half of the cases float32 of
/// full extent, which most formulas accept, else anything.
pub fn signature(formula: &mut Formula, draw: &mut Draw) -> Signature {
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
    let plain = draw.once_in(2);
    let mut inputs = Vec::new();
    for name in &mut formula.names {
        if draw.once_in(6) {
            name.uniform = Some(if draw.once_in(3) { Scalar::Int(3) } else { Scalar::Float(0.75) });
        } else if plain {
            inputs.push((DType::F32, Extent::ELEM));
        } else {
            inputs.push((draw.pick(&DTYPES), draw.pick(&EXTENTS)));
        }
    }
    Signature { inputs }
}
