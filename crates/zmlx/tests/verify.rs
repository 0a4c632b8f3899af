//! Every entry on the CPU, value and gradient, in all float dtypes: what `zmlx verify` checks.

use candle_core::Device;
use zmlx::{catalog::ENTRIES, harness};
use zmlx_ir::DType;

#[test]
fn every_entry_and_its_gradient_match_the_oracle_and_plain_candle() {
    let dtypes = [DType::F32, DType::F16, DType::BF16, DType::F64];
    let jobs: Vec<_> = ENTRIES.iter().flat_map(|e| dtypes.map(|d| (*e, d))).collect();
    let mut failures = vec![];
    harness::verify_all(&jobs, &Device::Cpu, harness::Sizes::All, 2, &mut |r| {
        assert!(r.elements > 1000, "{} {} compared {} elements", r.name, r.dtype, r.elements);
        if !r.ok() {
            failures.push(format!("{} {}: {}", r.name, r.dtype, r.failures.join("\n  ")));
        }
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
