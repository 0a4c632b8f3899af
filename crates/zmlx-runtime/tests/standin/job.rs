//! A launch: a job file goes in, a child process runs it, the memory of the buffers comes out.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    Unit,
    compile::{folder, unique},
};

/// The order in which the machine runs the lanes of a warp, the warps of a block and the blocks of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Reverse,
    /// By this seed.
    Random(u64),
}

impl Order {
    pub const ALL: [Order; 3] = [Order::Forward, Order::Reverse, Order::Random(1)];
}

/// Device memory: an allocation of exactly these bytes, whose address is `shift` bytes past a multiple of 256.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bytes {
    pub data: Vec<u8>,
    pub shift: usize,
}

impl Bytes {
    pub fn new(data: Vec<u8>) -> Bytes {
        Bytes { data, shift: 0 }
    }

    /// Memory for a result: every float in it is NaN.
    pub fn poisoned(len: usize) -> Bytes {
        Bytes::new(vec![0xff; len])
    }

    pub fn of_f32(values: &[f32]) -> Bytes {
        Bytes::new(values.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }

    pub fn of_f64(values: &[f64]) -> Bytes {
        Bytes::new(values.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }

    pub fn of_i32(values: &[i32]) -> Bytes {
        Bytes::new(values.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }

    /// Half floats as their bits.
    pub fn of_u16(values: &[u16]) -> Bytes {
        Bytes::new(values.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }

    /// The same memory at another address.
    pub fn shifted(self, shift: usize) -> Bytes {
        Bytes { shift, ..self }
    }

    pub fn to_f32(&self) -> Vec<f32> {
        self.chunks().map(f32::from_ne_bytes).collect()
    }

    pub fn to_f64(&self) -> Vec<f64> {
        self.chunks().map(f64::from_ne_bytes).collect()
    }

    pub fn to_i32(&self) -> Vec<i32> {
        self.chunks().map(i32::from_ne_bytes).collect()
    }

    pub fn to_u16(&self) -> Vec<u16> {
        self.chunks().map(u16::from_ne_bytes).collect()
    }

    fn chunks<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> {
        self.data.as_chunks::<N>().0.iter().copied()
    }
}

/// Longest part of the machine's report that a message shows, in lines: a report of the address sanitizer ends with
/// the state of the memory around, which says little here.
const REPORT_LINES: usize = 24;

impl Unit {
    /// Runs an entry. What it wrote is in `buffers` afterwards; after an error they are as before.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of a launch")]
    pub fn run(
        &self,
        entry: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: usize,
        buffers: &mut [Bytes],
        args: &[u8],
        order: Order,
    ) -> Result<(), String> {
        let (order_number, seed) = match order {
            Order::Forward => (0, 0),
            Order::Reverse => (1, 0),
            Order::Random(seed) => (2, seed),
        };
        let mut job = Vec::new();
        let number = |job: &mut Vec<u8>, n: u64| job.extend(n.to_ne_bytes());
        number(&mut job, entry.len() as u64);
        job.extend(entry.as_bytes());
        for n in grid.into_iter().chain(block) {
            number(&mut job, n.into());
        }
        for n in [shared_bytes as u64, order_number, seed, args.len() as u64] {
            number(&mut job, n);
        }
        job.extend(args);
        number(&mut job, buffers.len() as u64);
        for buffer in buffers.iter() {
            number(&mut job, buffer.data.len() as u64);
            number(&mut job, buffer.shift as u64);
            job.extend(&buffer.data);
        }
        let (job_file, result_file) = (unique("job"), unique("result"));
        let done = fs::write(&job_file, job)
            .map_err(|e| format!("{}: {e}", folder().display()))
            .and_then(|()| self.execute(&job_file, &result_file))
            .and_then(|()| fs::read(&result_file).map_err(|e| format!("the machine left no result: {e}")));
        // They are gone already if something failed above.
        let _ = (fs::remove_file(job_file), fs::remove_file(result_file));
        let result = done.map_err(|e| format!("{entry}, {order:?}: {e}"))?;
        if result.len() != buffers.iter().map(|b| b.data.len()).sum::<usize>() {
            return Err(format!("{entry}: the result has {} bytes", result.len()));
        }
        let mut rest = &result[..];
        for buffer in buffers {
            let (mine, others) = rest.split_at(buffer.data.len());
            buffer.data.copy_from_slice(mine);
            rest = others;
        }
        Ok(())
    }

    /// Runs an entry in each order; that they give the same bits is part of the promise.
    pub fn run_in_every_order(
        &self,
        entry: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: usize,
        buffers: &mut [Bytes],
        args: &[u8],
    ) -> Result<(), String> {
        let before = buffers.to_vec();
        self.run(entry, grid, block, shared_bytes, buffers, args, Order::ALL[0])?;
        for &order in &Order::ALL[1..] {
            let mut again = before.clone();
            self.run(entry, grid, block, shared_bytes, &mut again, args, order)?;
            for (n, (a, b)) in buffers.iter().zip(&again).enumerate() {
                if let Some(at) = a.data.iter().zip(&b.data).position(|(a, b)| a != b) {
                    return Err(format!("{entry}: Forward and {order:?} differ in buffer {n} at byte {at}"));
                }
            }
        }
        Ok(())
    }
}

impl Unit {
    fn execute(&self, job: &Path, result: &Path) -> Result<(), String> {
        let output = Command::new(&self.machine)
            .args([&*self.binary, job, result])
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("{}: {e}", self.machine.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let report = String::from_utf8_lossy(&output.stderr);
        let mut lines: Vec<&str> = report.lines().take(REPORT_LINES).collect();
        // The sanitizer's death comes last, and with it the thread in which it happened.
        lines.extend(report.lines().skip(REPORT_LINES).filter(|line| line.starts_with("in ")));
        Err(format!("{}\n{}", output.status, lines.join("\n")))
    }
}
