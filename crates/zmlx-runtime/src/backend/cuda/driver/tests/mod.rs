//! The CUDA driver on a device. On a machine without one nothing is run, and that is said.

use super::{Context, Function, Source, count, facts, launch, load, open};
use crate::{
    Error,
    cache::{Cache, Key, LIMIT_BYTES},
};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr, sys};
use half::{bf16, f16};
use std::{
    ffi::c_void,
    fs,
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

mod cluster;
mod host;
mod raw;
mod texts;

/// The device, a stream that can be captured, and a cache of the test's own.
struct Device {
    context: Context,
    stream: Arc<CudaStream>,
    folder: PathBuf,
    cache: Cache,
}

impl Device {
    fn new(test: &str) -> Option<Device> {
        let context = match open(0) {
            Ok(context) => context,
            Err(error) => {
                assert!(matches!(error, Error::Device { .. }), "{error}");
                writeln!(std::io::stderr(), "not run: {error}").expect("stderr");
                return None;
            }
        };
        // SAFETY: each test orders its own work with one stream and waits for it.
        unsafe { context.cuda().disable_event_tracking() };
        let stream = context.cuda().new_stream().expect("a stream");
        let folder = std::env::temp_dir().join(format!("zmlx-gpu-{test}-{}", std::process::id()));
        Some(Device { context, stream, cache: Cache::at(&folder, LIMIT_BYTES), folder })
    }

    fn load(&self, entry: &str, text: &str) -> Function {
        load(&self.context, &source(entry, text), &[entry], &self.cache).expect("a function").remove(0)
    }

    fn upload<T: DeviceRepr>(&self, values: &[T]) -> CudaSlice<T> {
        self.stream.clone_htod(values).expect("memory")
    }

    fn download<T: DeviceRepr + Clone + Default>(&self, memory: &CudaSlice<T>) -> Vec<T> {
        let values = self.stream.clone_dtoh(memory).expect("memory");
        self.stream.synchronize().expect("the stream");
        values
    }

    fn address<T>(&self, memory: &CudaSlice<T>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    /// Launches a kernel over two arrays and a few numbers: so many blocks, threads and bytes of shared memory.
    fn run(&self, function: &Function, shape: [u32; 3], arrays: [u64; 2], rest: &[Arg]) -> Result<(), Error> {
        let ([grid, block, shared], [x, y]) = (shape, arrays);
        let (mut x, mut y, mut rest) = (x, y, rest.to_vec());
        let mut params: Vec<*mut c_void> = vec![(&raw mut x).cast(), (&raw mut y).cast()];
        params.extend(rest.iter_mut().map(|arg| match arg {
            Arg::F32(v) => (v as *mut f32).cast(),
            Arg::U32(v) => (v as *mut u32).cast(),
        }));
        // SAFETY: the tests give the arguments of the texts, and memory that outlives their wait for the stream.
        unsafe { launch(function, [grid, 1, 1], block, shared, self.stream.cu_stream(), &mut params) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn source<'a>(op: &'a str, text: &'a str) -> Source<'a> {
    Source { op, text, options: &[] }
}

#[derive(Clone, Copy)]
enum Arg {
    F32(f32),
    U32(u32),
}

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 1000) as f32 - 500.0).collect()
}

#[test]
fn a_device_tells_its_facts() {
    let Some(device) = Device::new("facts") else { return };
    let facts = device.context.facts();
    writeln!(std::io::stderr(), "{facts:?}").expect("stderr");
    assert!(facts.capability >= (7, 5) && facts.driver >= (12, 0), "{facts:?}");
    assert!(facts.multiprocessors > 0 && facts.shared_per_block >= 48 << 10 && facts.l2_bytes > 0, "{facts:?}");
    assert_eq!(facts.grid, [i32::MAX as u32, 65535, 65535]);
}

#[test]
fn each_function_tells_what_it_takes() {
    let Some(device) = Device::new("functions") else { return };
    for (entry, text) in texts::ALL {
        let function = device.load(entry, text);
        assert_eq!(function.name(), entry);
        assert!((8..=255).contains(&function.registers) && function.local_bytes == 0, "{function:?}");
        assert_eq!(function.max_threads, 1024, "{function:?}");
        assert_eq!(function.static_shared, if entry == "row_sum" { 128 } else { 0 }, "{function:?}");
        let all = device.context.facts().shared_per_block;
        assert_eq!(function.static_shared + function.dynamic_shared, all, "{function:?}");
        assert!(function.blocks_per_multiprocessor(256, 0).expect("a number") >= 4, "{function:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    if let Err(error) = open(1000) {
        assert!(error.to_string().starts_with("cuda: "), "{error}");
    } else {
        panic!("device 1000");
    }
}

#[test]
fn every_device_is_listed_in_words_or_there_is_none() {
    match facts() {
        Ok(all) => {
            assert_eq!(count(), Ok(all.len()));
            assert!(all.iter().all(|facts| facts.to_string().contains(", sm_")), "{all:?}");
        }
        Err(error) => assert!(error.to_string().starts_with("cuda: "), "{error}"),
    }
}

#[test]
fn each_text_computes_what_it_says() {
    let Some(device) = Device::new("texts") else { return };
    let n = 100_003;
    let x = ramp(n);
    let on_device = device.upload(&x);
    let y = device.upload(&vec![f32::NAN; n]);
    let (from, to) = (device.address(&on_device), device.address(&y));

    let scale = device.load("scale", texts::SCALE);
    device.run(&scale, [64, 256, 0], [from, to], &[Arg::F32(3.0), Arg::U32(n as u32)]).expect("a launch");
    assert_eq!(device.download(&y), x.iter().map(|v| 3.0 * v).collect::<Vec<_>>());

    let (rows, cols) = (100, 1000);
    let row_sum = device.load("row_sum", texts::ROW_SUM);
    for block in [32, 96, 1024] {
        device.run(&row_sum, [rows, block, 0], [from, to], &[Arg::U32(cols)]).expect("a launch");
        let sums = x.chunks(cols as usize).map(|row| row.iter().sum::<f32>());
        assert_eq!(device.download(&y)[..rows as usize], sums.take(rows as usize).collect::<Vec<_>>());
    }

    let half: Vec<f16> = x.iter().map(|v| f16::from_f32(v / 7.0)).collect();
    let bits: Vec<u16> = half.iter().map(|v| v.to_bits()).collect();
    let (on_device, y) = (device.upload(&bits), device.upload(&vec![0u16; n]));
    let half_add = device.load("half_add", texts::HALF);
    let (from, to, blocks) = (device.address(&on_device), device.address(&y), n.div_ceil(128) as u32);
    device.run(&half_add, [blocks, 128, 0], [from, to], &[Arg::U32(n as u32)]).expect("a launch");
    let expected: Vec<u16> = half.iter().map(|v| f16::from_f32(v.to_f32() + 1.0).to_bits()).collect();
    assert_eq!(device.download(&y), expected);

    let bfloat: Vec<bf16> = x.iter().map(|v| bf16::from_f32(v / 7.0)).collect();
    let bits: Vec<u16> = bfloat.iter().map(|v| v.to_bits()).collect();
    let on_device = device.upload(&bits);
    let bfloat_add = device.load("bfloat_add", texts::BFLOAT);
    device
        .run(&bfloat_add, [blocks, 128, 0], [device.address(&on_device), to], &[Arg::U32(n as u32)])
        .expect("a launch");
    let expected: Vec<u16> = bfloat.iter().map(|v| bf16::from_f32(v.to_f32() + 1.0).to_bits()).collect();
    assert_eq!(device.download(&y), expected);
}

#[test]
fn a_launch_may_take_all_the_shared_memory_that_the_device_has() {
    let Some(device) = Device::new("shared") else { return };
    let reverse = device.load("reverse", texts::REVERSE);
    let per = reverse.dynamic_shared as usize / 4;
    assert_eq!(reverse.dynamic_shared, device.context.facts().shared_per_block);
    let x = ramp(3 * per);
    let (on_device, y) = (device.upload(&x), device.upload(&vec![f32::NAN; 3 * per]));
    let (from, to) = (device.address(&on_device), device.address(&y));
    device.run(&reverse, [3, 1024, 4 * per as u32], [from, to], &[Arg::U32(per as u32)]).expect("a launch");
    let expected: Vec<f32> = x.chunks(per).flat_map(|part| part.iter().rev().copied()).collect();
    assert_eq!(device.download(&y), expected);
    assert_eq!(reverse.blocks_per_multiprocessor(1024, reverse.dynamic_shared), Ok(1));
}

#[test]
fn a_launch_that_does_not_fit_is_an_error_and_an_empty_grid_is_none() {
    let Some(device) = Device::new("limits") else { return };
    let scale = device.load("scale", texts::SCALE);
    let memory = device.upload(&[0f32]);
    let at = device.address(&memory);
    let args = [Arg::F32(1.0), Arg::U32(1)];
    let run = |grid, block, shared| device.run(&scale, [grid, block, shared], [at, at], &args);
    for (grid, block, shared) in [(1 << 31, 32, 0), (1, 0, 0), (1, 2048, 0), (1, 32, 1 << 20)] {
        let error = run(grid, block, shared).unwrap_err().to_string();
        assert!(error.starts_with("scale: launch, expected at most [2147483647, 65535, 65535] blocks"), "{error}");
    }
    assert_eq!(run(0, 32, 0), Ok(()));
    assert_eq!(run(i32::MAX as u32, 1, 0), Ok(()));
    device.stream.synchronize().expect("the stream");
}

#[test]
fn a_thread_that_never_saw_the_device_may_launch() {
    let Some(device) = Device::new("thread") else { return };
    let scale = device.load("scale", texts::SCALE);
    let memory = device.upload(&[2f32]);
    let at = device.address(&memory);
    let stream = device.stream.cu_stream() as usize;
    std::thread::scope(|scope| {
        let launched = scope.spawn(|| {
            let (mut x, mut y, mut a, mut n) = (at, at, 5f32, 1u32);
            let mut params: [*mut c_void; 4] =
                [(&raw mut x).cast(), (&raw mut y).cast(), (&raw mut a).cast(), (&raw mut n).cast()];
            // SAFETY: the arguments of the text, and memory that outlives the wait below.
            unsafe { launch(&scale, [1; 3], 32, 0, stream as sys::CUstream, &mut params) }
        });
        assert_eq!(launched.join().expect("the thread"), Ok(()));
    });
    assert_eq!(device.download(&memory), [10.0]);
}

#[test]
fn launches_are_captured_and_replayed_also_when_their_function_is_gone() {
    let Some(device) = Device::new("capture") else { return };
    let memory = device.upload(&[1f32; 1000]);
    let at = device.address(&memory);
    let scale = device.load("scale", texts::SCALE);
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    device.stream.begin_capture(mode).expect("a capture");
    for _ in 0..3 {
        device.run(&scale, [4, 256, 0], [at, at], &[Arg::F32(2.0), Arg::U32(1000)]).expect("a launch");
    }
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = device.stream.end_capture(flags).expect("a graph").expect("a graph");
    drop(scale);
    assert_eq!(device.download(&memory), [1.0; 1000]);
    for _ in 0..2 {
        graph.launch().expect("a launch");
    }
    assert_eq!(device.download(&memory), [64.0; 1000]);
}

#[test]
fn code_is_kept_on_disk_and_what_the_driver_refuses_is_made_anew() {
    let Some(device) = Device::new("kept") else { return };
    let timed = || {
        let start = Instant::now();
        device.load("row_sum", texts::ROW_SUM);
        start.elapsed()
    };
    let (compiled, kept) = (timed(), timed());
    writeln!(std::io::stderr(), "first load {compiled:?}, from the cache {kept:?}").expect("stderr");
    assert_eq!(device.cache.describe().files, 1);
    assert!(kept < compiled && kept < Duration::from_millis(10), "{kept:?} after {compiled:?}");

    // A whole file of the cache whose code is no code.
    let (major, minor) = device.context.facts().capability;
    let key = Key::new(texts::ROW_SUM, &format!("cuda sm_{major}{minor}"), &[]);
    assert!(device.cache.get(&key).is_some_and(|code| code.starts_with(b"\x7fELF")));
    device.cache.put(&key, b"no code\0");
    device.load("row_sum", texts::ROW_SUM);
    assert!(device.cache.get(&key).is_some_and(|code| code.starts_with(b"\x7fELF")));
}

#[test]
fn an_entry_that_the_text_lacks_is_an_error() {
    let Some(device) = Device::new("entry") else { return };
    let error = load(&device.context, &source("scale", texts::SCALE), &["scale", "shift"], &device.cache);
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("scale: entry of the text, expected extern \"C\" __global__ void shift(…)"), "{error}");
}
