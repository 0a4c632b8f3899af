//! Asking for inputs before they are needed, where they come from memory, in the pass that reads them first. The links of a
//! chain ask between their loops, each for its share: a core waits on what it asks for beyond its sixteen or so lines at once.

use super::{chain::BLOCK, stream};
use crate::Launch;
use smallvec::SmallVec;

/// Bytes of a cache line.
const LINE: usize = 64;
/// How far ahead inputs are asked for, in bytes. (Twice as far is 5 to 15 % slower on a Xeon with 2 MiB of L2 a core.)
pub const DISTANCE: usize = 4096;
/// Links so few that a smaller block costs less than the longer wait for a larger one's share. (4096×4096 f32, the same Xeon:
/// a + b 5.6 → 5.1 ms, sum 1.8 → 1.6; of bf16, where a block takes more links for fewer bytes, 10 % slower.)
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
            Some(Input { first: v.data.address().addr() + v.offset * size + DISTANCE, pitch, size })
        });
        Ahead(inputs.collect())
    }

    /// Lanes of a block.
    pub fn block(&self, links: usize) -> usize {
        let wide = self.0.iter().all(|i| i.size >= size_of::<f32>());
        if links <= FEW_LINKS && wide { BLOCK / 2 } else { BLOCK }
    }

    /// Asks for one link's share of a block of `lanes`, from a row and a column on.
    #[inline(always)]
    pub fn ask(&self, row: usize, col: usize, lanes: usize, (link, links): (usize, usize)) {
        let share = lanes.div_ceil(links).next_multiple_of(LINE / size_of::<f32>());
        let (first, end) = (link * share, lanes.min((link + 1) * share));
        for input in &self.0 {
            let row = input.first + row * input.pitch;
            for byte in ((col + first) * input.size..(col + end) * input.size).step_by(LINE) {
                stream::prefetch(std::ptr::without_provenance::<u8>(row + byte));
            }
        }
    }
}
