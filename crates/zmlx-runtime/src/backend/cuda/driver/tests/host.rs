//! What a launch costs the host, beside the driver's own call.

use super::{Device, texts};
use crate::backend::cuda::driver::{Kernel, Launch, View, launch};
use cudarc::driver::sys;
use std::{
    ffi::c_void,
    io::Write,
    ptr,
    time::{Duration, Instant},
};
use zmlx_ir::{DType, Extent, Formula, Signature};

/// Median times of the host for each of these, run in turns: 100 in a row, as many as a queue takes without waiting.
fn medians(device: &Device, ways: &mut [&mut dyn FnMut()]) -> Vec<Duration> {
    let mut times = vec![vec![]; ways.len()];
    for _ in 0..51 {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..100 {
                way();
            }
            times.push(start.elapsed() / 100);
            device.stream.synchronize().expect("the stream");
        }
    }
    times.iter_mut().for_each(|t| t.sort());
    times.iter().map(|t| t[25]).collect()
}

#[test]
fn a_launch_takes_the_host_little_longer_than_the_drivers_call() {
    let Some(device) = Device::new("host") else { return };
    let scale = device.load("scale", texts::SCALE);
    let memory: Vec<_> = (0..4).map(|_| device.upload(&[1f32; 1024])).collect();
    let at: Vec<u64> = memory.iter().map(|m| device.address(m)).collect();
    let (mut x, mut y) = (at[0], at[3]);
    let (mut a, mut n, stream) = (1f32, 1u32, device.stream.cu_stream());
    let mut params: [*mut c_void; 4] =
        [(&raw mut x).cast(), (&raw mut y).cast(), (&raw mut a).cast(), (&raw mut n).cast()];
    let mut again = params;
    let mut bare = || {
        // SAFETY: the arguments of the text, and memory that outlives the waits.
        unsafe {
            let p = params.as_mut_ptr();
            sys::cuLaunchKernel(scale.raw(), 1, 1, 1, 32, 1, 1, 0, stream, p, ptr::null_mut());
        }
    };
    // SAFETY: as above.
    let mut checked = || unsafe { launch(&scale, [1; 3], 32, 0, stream, &mut again).expect("a launch") };

    let views: Vec<View<'_>> = at[..3]
        .iter()
        .map(|address| View { address: *address, row_strides: &[64], col_stride: 1, table: None })
        .collect();
    let outputs = [at[3]];
    let kernels: Vec<Kernel> = ["x * 2 + 1", "x * y", "x * y + z", "softmax(x * y + z)"]
        .iter()
        .map(|text| {
            let formula = Formula::parse(text).expect("a formula");
            let inputs = vec![(DType::F32, Extent::ELEM); formula.names.len()];
            let program = formula.bind("host", &Signature { inputs }).expect("a Program");
            Kernel::new(&program, &device.context)
        })
        .collect();
    let run = |kernel: &Kernel, inputs: usize| {
        let l = Launch {
            row_dims: &[16],
            cols: 64,
            inputs: &views[..inputs],
            uniforms: &[],
            outputs: &outputs,
            stream,
            tuned: true,
        };
        // SAFETY: the memory has 16 × 64 elements and outlives the waits.
        unsafe { kernel.run(&l, &mut |_| unreachable!("no scratch memory")) }.expect("a launch");
    };
    let (mut one, mut two) = (|| run(&kernels[0], 1), || run(&kernels[1], 2));
    let (mut three, mut rows) = (|| run(&kernels[2], 3), || run(&kernels[3], 3));
    one();
    two();
    three();
    rows();
    let times = medians(&device, &mut [&mut bare, &mut checked, &mut one, &mut two, &mut three, &mut rows]);
    let names = ["the driver's call alone", "launch", "1 input", "2 inputs", "3 inputs", "3 inputs, rows"];
    for (name, time) in names.iter().zip(&times) {
        writeln!(std::io::stderr(), "host time of {name}: {time:?}").expect("stderr");
    }
    for time in &times[1..] {
        assert!(*time < 2 * times[0] + Duration::from_micros(1), "{times:?}");
    }
}
