//! Kernels written by hand, and the flag of an index out of range, on a device.

use super::{Device, source};
use crate::backend::{
    c_like::raw::{Raw, Tensor},
    cuda::{
        dialect::CUDA,
        driver::{Kernel, Launch, View, launch, load},
    },
};
use std::ffi::c_void;
use zmlx_ir::{DType, Extent, Formula, Scalar, Signature};

#[path = "../../../../../tests/gpu/portable.rs"]
mod portable;

#[test]
fn a_portable_softmax_is_that_of_the_cpu() {
    let Some(device) = Device::new("raw") else { return };
    let (rows, cols) = (5, 3001);
    let tensor = |name| [Tensor { name, dtype: DType::F32, rank: 2 }];
    let uniforms = [("scale".to_string(), Scalar::Float(0.5))];
    let (inputs, outputs) = (tensor("x"), tensor("y"));
    let raw = Raw {
        name: "softmax",
        inputs: &inputs,
        outputs: &outputs,
        uniforms: &uniforms,
        header: "",
        body: portable::SOFTMAX,
        threads: 256,
        shared: 0,
    };
    let text = raw.text(&CUDA).expect("a text");
    let function =
        load(&device.context, &source("softmax", &text), &[&raw.entry()], &device.cache).expect("a function");
    let x: Vec<f32> = (0..rows * cols).map(|i| (i * 7919 % 1009) as f32 / 100.0 - 5.0).collect();
    let (from, to) = (device.upload(&x), device.upload(&vec![f32::NAN; x.len()]));
    let (mut at, mut into) = (device.address(&from), device.address(&to));
    let mut args = vec![];
    raw.pack(&[&[rows, cols], &[rows, cols]], &mut args);
    let mut params: [*mut c_void; 3] = [(&raw mut at).cast(), (&raw mut into).cast(), args.as_mut_ptr().cast()];
    // SAFETY: the parameters are those of the generated signature, and the memory outlives the wait below.
    unsafe { launch(&function[0], [rows as u32, 1, 1], 224, 0, device.stream.cu_stream(), &mut params) }
        .expect("a launch");
    for (got, expected) in device.download(&to).iter().zip(portable::softmax(&x, cols, 0.5)) {
        assert!((f64::from(*got) - expected).abs() <= 3e-6 * expected, "{got}, expected {expected}");
    }
}

#[test]
fn an_index_out_of_range_is_told_once_with_its_operation() {
    let Some(device) = Device::new("flag") else { return };
    let formula = Formula::parse("x[t]").expect("a formula");
    let inputs = vec![(DType::F32, Extent::ELEM), (DType::U32, Extent::ROW)];
    let program = formula.bind("pick", &Signature { inputs }).expect("a Program");
    let kernel = Kernel::new(&program, &device.context);
    let (x, y) = (device.upload(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]), device.upload(&[0f32; 2]));
    let run = |indices: [u32; 2]| {
        let t = device.upload(&indices);
        let view = |address, row_strides, col_stride| View { address, row_strides, col_stride, table: None };
        let inputs = [view(device.address(&x), &[3], 1), view(device.address(&t), &[1], 0)];
        let outputs = [device.address(&y)];
        let stream = device.stream.cu_stream();
        let l =
            Launch { row_dims: &[2], cols: 3, inputs: &inputs, uniforms: &[], outputs: &outputs, stream, tuned: false };
        // SAFETY: the views lie in memory that outlives the wait below.
        unsafe { kernel.run(&l, &mut |_| unreachable!("no scratch memory")) }.expect("a launch");
        device.download(&y)
    };
    assert_eq!(run([2, 0]), [3.0, 4.0]);
    assert_eq!(device.context.out_of_range(), Ok(vec![]));
    let values = run([3, 1]);
    assert!(values[0].is_nan() && values[1] == 5.0, "{values:?}");
    assert_eq!(device.context.out_of_range(), Ok(vec!["pick".to_string()]));
    assert_eq!(device.context.out_of_range(), Ok(vec![]));
}
