//! Asking for inputs before they are needed, where they come from memory, in the pass that reads them first. The links of a
//! chain ask between their loops, each for a share as large as its work: a core waits on what it asks for beyond its sixteen or so lines
//! at once. (Shares of equal size: AdamW 4096×4096 bf16 13.6 ms, by work 12.5; f32 15.8 and 14.3.)

use super::{chain::BLOCK, stream};
use crate::Launch;
use smallvec::SmallVec;

/// Bytes of a cache line.
const LINE: usize = 64;
/// How far ahead inputs are asked for, in lanes. (In bytes it was the same for all types: of bf16, 2 KiB in place of 4 and half of
/// the block, sum 4096×4096 0.79 → 0.66 ms on a Xeon with 2 MiB of L2 a core. Twice as far is no better, or 5 to 15 % slower.)
pub const DISTANCE: usize = BLOCK;
/// Links so few that a smaller block costs less than the longer wait for a larger one's share. (4096×4096 f32, the same Xeon:
/// a + b 5.6 → 5.1 ms, sum 1.8 → 1.6.)
const FEW_LINKS: usize = 3;

/// The inputs of a launch that lie flat in memory.
pub struct Ahead(SmallVec<[Input; 4]>);

struct Input {
    /// The address of what is asked for at the first element: never read through, so it may lie past the end.
    first: usize,
    /// Bytes from row to row, and of an element.
    pitch: usize,
    size: usize,
}

impl Ahead {
    /// Those of this launch.
    pub fn of(launch: &Launch<'_>) -> Ahead {
        let pitch = |strides: &[usize]| match strides {
            [] => Some(0),
            [stride] => (*stride > 0 || launch.rows() == 1).then_some(*stride),
            _ => None,
        };
        let inputs = launch.inputs.iter().filter(|v| v.col_stride == 1).filter_map(|v| {
            let size = v.data.dtype().size_bytes();
            let pitch = pitch(v.row_strides)? * size;
            Some(Input { first: v.data.address().addr() + (v.offset + DISTANCE) * size, pitch, size })
        });
        Ahead(inputs.collect())
    }

    /// Lanes of a block.
    pub fn block(links: usize) -> usize {
        if links <= FEW_LINKS { BLOCK / 2 } else { BLOCK }
    }

    /// Asks for the share of a block of `lanes`, from a row and a column on, that is from one part of the work on it to another.
    #[inline(always)]
    pub fn ask(&self, row: usize, col: usize, lanes: usize, (from, to, all): (usize, usize, usize)) {
        let (first, end) = (col + lanes * from / all, col + lanes * to / all);
        for input in &self.0 {
            let row = input.first + row * input.pitch;
            // lines that begin there
            for line in (first * input.size).div_ceil(LINE)..(end * input.size).div_ceil(LINE) {
                stream::prefetch(std::ptr::without_provenance::<u8>(row + line * LINE));
            }
        }
    }
}
