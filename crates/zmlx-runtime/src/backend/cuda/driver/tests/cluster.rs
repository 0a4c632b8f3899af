//! Rows that blocks of a cluster share, on devices that have clusters (compute capability 9.0 and later).

use super::{Device, ramp};
use crate::backend::cuda::driver::{Kernel, Launch, View};
use zmlx_ir::{DType, Extent, Formula, Signature, schedule};

#[test]
fn rows_that_outgrow_a_block_are_softmaxed_by_a_cluster() {
    let Some(device) = Device::new("cluster") else { return };
    let facts = device.context.facts();
    if facts.cluster() == 1 {
        return println!("not run: {facts} has no clusters");
    }
    let (rows, cols) = (3, 100_003);
    let formula = Formula::parse("exp(x - max(x)) / sum(exp(x - max(x)))").expect("a formula");
    let signature = Signature { inputs: vec![(DType::F32, Extent::ELEM)] };
    let program = formula.bind("softmax", &signature).expect("a Program");
    let most = schedule::Device { cluster: facts.cluster(), ..schedule::Device::default() };
    let config = schedule::Config::pick(&program, rows as u64, cols as u64, 1, 1 << 20, most);
    assert!(config.cluster > 1, "{config:?}");

    let x: Vec<f32> = ramp(rows * cols).iter().map(|v| v * 0.01).collect();
    let (from, to) = (device.upload(&x), device.upload(&vec![f32::NAN; rows * cols]));
    let view = View { address: device.address(&from), row_strides: &[cols], col_stride: 1, table: None };
    let launch = Launch {
        row_dims: &[rows],
        cols,
        inputs: &[view],
        uniforms: &[],
        outputs: &[device.address(&to)],
        stream: device.stream.cu_stream(),
        tuned: false,
    };
    let kernel = Kernel::new(&program, &device.context);
    // SAFETY: the memory has rows × cols elements and outlives the wait for the stream; no scratch memory is asked for.
    unsafe { kernel.run(&launch, &mut |_| unreachable!("a row that is held needs no memory")) }.expect("a launch");
    let got = device.download(&to);
    for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
        let most = x.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        let sum: f64 = x.iter().map(|v| f64::from(v - most).exp()).sum();
        let wrong = x.iter().zip(got).position(|(x, got)| {
            let expected = f64::from(x - most).exp() / sum;
            (f64::from(*got) - expected).abs() > 1e-5 * expected + 1e-12 || got.is_nan()
        });
        assert_eq!(wrong, None);
    }
}
