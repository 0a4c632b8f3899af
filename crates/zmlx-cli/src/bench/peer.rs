//! A peer in another process (PyTorch): it computes the same operation on the same inputs in the same run, timed by
//! its own clock, interleaved with ours. One JSON object a line each way; `benches/peers/torch_peer.py` is the other end and
//! says what the lines hold. No array travels: both make the inputs from seeds, and of an output come samples and sums.

use super::inputs::Seeded;
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};
use zmlx::harness::difference::Within;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Elements of an output that are compared one by one.
const SAMPLE: usize = 4096;
/// What starting Python and its libraries may take.
const START: Duration = Duration::from_secs(180);

/// The other process, and how it was started.
pub struct Peer {
    command: String,
    limit: Duration,
    process: Process,
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: Receiver<String>,
}

/// What the peer is, for the report, and the names of its ways.
pub struct Facts {
    pub versions: String,
    pub ways: Vec<String>,
}

impl Process {
    fn start(command: &str) -> Result<Process> {
        let mut words = command.split_whitespace();
        let program = words.next().ok_or("bench: --peer, expected a command, got nothing")?;
        let mut child = Command::new(program)
            .args(words)
            // glibc's allocator then keeps freed memory, as ours does: one policy on both sides
            .env("MALLOC_MMAP_MAX_", "0")
            .env("MALLOC_TRIM_THRESHOLD_", "17179869184")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("bench: --peer {command}: {e}"))?;
        let to = child.stdin.take().ok_or("bench: the peer has no input")?;
        let lines = BufReader::new(child.stdout.take().ok_or("bench: the peer has no output")?).lines();
        let (send, from) = channel();
        // reading waits without limit, so a thread does it; it ends with the peer's output
        std::thread::spawn(move || lines.map_while(std::io::Result::ok).try_for_each(|line| send.send(line)));
        Ok(Process { child, to, from })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The peer ends when its input does; nothing is lost if it already has.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts `command` (a program and its arguments, separated by spaces). Each way may take `limit` to get ready.
    pub fn start(command: &str, limit: Duration) -> Result<Peer> {
        Ok(Peer { command: command.into(), limit, process: Process::start(command)? })
    }

    /// Asks, and waits so long for an answer; a peer that gives none is started anew.
    fn ask(&mut self, question: &Value, wait: Duration) -> Result<Value> {
        let sent = writeln!(self.process.to, "{question}").and_then(|()| self.process.to.flush());
        let received = match sent {
            Ok(()) => self.process.from.recv_timeout(wait),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        let line = match received {
            Ok(line) => line,
            Err(e) => {
                self.process = Process::start(&self.command)?;
                return Err(match e {
                    RecvTimeoutError::Timeout => format!("the peer gave no answer in {} s", wait.as_secs()).into(),
                    RecvTimeoutError::Disconnected => "the peer ended".into(),
                });
            }
        };
        let answer: Value = serde_json::from_str(&line)
            .map_err(|_| format!("expected an answer in JSON, got `{}`", line.trim_end()))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(format!("the peer says: {error}").into()),
            None => Ok(answer),
        }
    }

    /// What it is.
    pub fn facts(&mut self) -> Result<Facts> {
        let answer = self.ask(&json!({"do": "versions"}), START).map_err(|e| format!("bench: --peer: {e}"))?;
        Ok(Facts { versions: answer["versions"].as_str().unwrap_or_default().into(), ways: strings(&answer["ways"]) })
    }

    /// Prepares an operation and compares its outputs: the peer's ways, each with its number or why it is not timed. None
    /// if the peer does not know the operation.
    pub fn prepare(
        &mut self,
        op: &str,
        backward: bool,
        inputs: &[Seeded],
        differs: impl Fn(&Told) -> Result<Option<String>>,
    ) -> Result<Vec<(String, std::result::Result<usize, String>)>> {
        let inputs: Vec<Value> = inputs.iter().map(Seeded::describe).collect();
        let question = json!({
            "do": "setup", "op": op, "backward": backward, "inputs": inputs,
            "limit": self.limit.as_secs_f64(),
        });
        // the peer keeps the limit of each way itself, where it can
        let setup = match self.ask(&question, START + 4 * self.limit) {
            Ok(setup) => setup,
            Err(e) => return Ok(vec![("the peer".into(), Err(e.to_string()))]),
        };
        let mut ways = vec![];
        for (number, name) in strings(&setup["ways"]).into_iter().enumerate() {
            let outcome = if setup["compared"] == false {
                None
            } else {
                let told = self.ask(&json!({"do": "output", "way": number, "sample": SAMPLE}), START);
                told.and_then(|told| differs(&Told(told))).unwrap_or_else(|e| Some(e.to_string()))
            };
            ways.push((name, outcome.map_or(Ok(number), Err)));
        }
        for (name, why) in setup["left_out"].as_object().into_iter().flatten() {
            ways.push((name.clone(), Err(why.as_str().unwrap_or_default().into())));
        }
        Ok(ways)
    }

    /// Seconds that one of `count` runs took.
    pub fn time(&mut self, way: usize, count: usize) -> Result<f64> {
        let answer = self.ask(&json!({"do": "run", "way": way, "count": count}), START)?;
        answer["seconds"].as_f64().ok_or_else(|| "the peer gave no time".into())
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_string)).collect()
}

/// What the peer tells of its outputs.
pub struct Told(Value);

impl Told {
    /// Compares with ours: elements at even distances, the mean of the absolute values, and how many are NaN.
    pub fn differs(&self, want: &[Tensor], within: Within) -> Result<Option<String>> {
        let outputs = self.0["outputs"].as_array().ok_or("the peer told no outputs")?;
        // columns beside values: those of equal values may come in another order
        let values = want.iter().any(|t| t.dtype().is_float());
        let compared = |t: &Tensor| t.dtype().is_float() || !values;
        for (k, (theirs, ours)) in outputs.iter().zip(want).enumerate().filter(|(_, (_, ours))| compared(ours)) {
            let shape: Vec<usize> = theirs["shape"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|d| d.as_u64().map(|d| d as usize))
                .collect();
            if shape != ours.dims() {
                return Ok(Some(format!("result {k}: shape {shape:?}, expected {:?}", ours.dims())));
            }
            let ours = Sums::of(ours)?;
            let sample: Vec<f64> =
                theirs["sample"].as_array().into_iter().flatten().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
            let mean = theirs["mean_abs"].as_f64().unwrap_or(f64::NAN);
            let nans = theirs["nan"].as_u64().unwrap_or(u64::MAX);
            if sample.len() != ours.sample.len() || nans != ours.nans {
                return Ok(Some(format!("result {k}: {nans} are NaN, expected {}", ours.nans)));
            }
            let limit = |v: f64| within.of_largest * ours.largest + within.relative * v.abs();
            let pairs = sample.iter().zip(&ours.sample).filter(|(t, o)| t.is_finite() || o.is_finite());
            let off = pairs.map(|(t, o)| (t - o).abs() - limit(*o)).map(|d| if d.is_nan() { f64::INFINITY } else { d });
            let off = off.fold(f64::NEG_INFINITY, f64::max);
            if off > 0.0 {
                let most = within.of_largest * ours.largest;
                return Ok(Some(format!("result {k}: largest difference {:e}, expected at most {most:e}", off + most)));
            }
            if ours.nans == 0 && (mean - ours.mean_abs).abs() > within.of_largest * ours.mean_abs.max(1e-30) {
                return Ok(Some(format!("result {k}: the mean of |y| is {mean:e}, expected {:e}", ours.mean_abs)));
            }
        }
        Ok(None)
    }
}

/// The same of a tensor of ours.
struct Sums {
    sample: Vec<f64>,
    mean_abs: f64,
    largest: f64,
    nans: u64,
}

impl Sums {
    fn of(t: &Tensor) -> candle_core::Result<Sums> {
        let n = t.elem_count();
        let count = n.min(SAMPLE);
        let at: Vec<u32> = (0..count).map(|k| (k * n / count.max(1)) as u32).collect();
        let at = Tensor::from_vec(at, count, t.device())?;
        let cpu = |t: Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let sample = cpu(t.flatten_all()?.index_select(&at, 0)?)?.to_vec1()?;
        let cols = t.dims().last().map_or(1, |c| *c).max(1);
        let wide = if t.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let rows = t.to_dtype(wide)?.contiguous()?.reshape(((), cols))?;
        let number = |t: Tensor| cpu(t)?.sum_all()?.to_scalar::<f64>();
        let nans = number(rows.ne(&rows)?.to_dtype(wide)?.sum(1)?)?;
        let size = rows.abs()?;
        let largest = cpu(size.max(1)?)?.max(0)?.to_scalar::<f64>()?;
        Ok(Sums { sample, mean_abs: number(size.sum(1)?)? / n.max(1) as f64, largest, nans: nans as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_of_the_peer_is_compared_by_samples_and_sums() -> Result<()> {
        let t = Tensor::new(&[[1f32, -2.0], [3.0, 4.0]], &Device::Cpu)?;
        let within = Within { relative: 0.0, of_largest: 0.01 };
        let told = |sample: Value, mean: f64, nan: u64| {
            let outputs = json!([{"shape": [2, 2], "sample": sample, "mean_abs": mean, "nan": nan}]);
            Told(json!({"outputs": outputs})).differs(std::slice::from_ref(&t), within)
        };
        assert_eq!(told(json!([1.0, -2.0, 3.01, 4.0]), 2.5, 0)?, None);
        assert!(told(json!([1.0, -2.0, 3.1, 4.0]), 2.5, 0)?.is_some());
        assert!(told(json!([1.0, null, 3.0, 4.0]), 2.5, 0)?.is_some());
        assert!(told(json!([1.0, -2.0, 3.0, 4.0]), 2.6, 0)?.is_some());
        assert!(told(json!([1.0, -2.0, 3.0, 4.0]), 2.5, 1)?.is_some());
        Ok(())
    }

    #[test]
    fn a_peer_that_ends_or_says_nothing_is_told() -> Result<()> {
        let mut ends = Peer::start("true", Duration::from_secs(1))?;
        assert!(
            ends.ask(&json!({"do": "versions"}), Duration::from_secs(5))
                .is_err_and(|e| e.to_string().contains("ended"))
        );
        let mut silent = Peer::start("sleep 5", Duration::from_secs(1))?;
        let told = silent.ask(&json!({"do": "versions"}), Duration::from_millis(50));
        assert!(told.is_err_and(|e| e.to_string().contains("no answer")));
        Ok(())
    }
}
