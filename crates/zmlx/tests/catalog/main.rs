//! The catalog as GPU text: every entry and its derived gradient, executed on the stand-in and compared with the oracle,
//! and the texts themselves.

#[path = "../../../zmlx-runtime/tests/random/case.rs"]
#[allow(dead_code, reason = "shared with the tests of the runtime")]
mod case;
mod execute;
mod golden;
#[path = "../../../zmlx-runtime/tests/gpu/launch.rs"]
mod launch;
mod order;
mod portable;
mod sample;
#[path = "../../../zmlx-runtime/tests/standin/mod.rs"]
mod standin;

use zmlx::{entry::Entry, harness};
use zmlx_ir::{DType, Program};

/// The Program of an entry, and that of its gradient as it runs: what is the same along an axis is stored once.
fn programs(entry: &Entry, dtype: DType) -> (Program, Option<Program>) {
    let (forward, mut backward) = harness::programs(entry, dtype).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
    if let Some(p) = &mut backward {
        (0..p.outputs.len()).for_each(|k| p.shrink(k));
    }
    (forward, backward)
}
