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
