//! A peer in another process (PyTorch): it computes the same operation on the same inputs in the same run, timed by
//! its own clock, interleaved with ours. One JSON object a line each way; `benches/peers/torch_peer.py` is the other end.

use candle_core::Tensor;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The other process.
pub struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Peer {
    /// Starts `command` (a program and its arguments, separated by spaces).
    pub fn start(command: &str) -> Result<Peer> {
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
        let from = BufReader::new(child.stdout.take().ok_or("bench: the peer has no output")?);
        let folder = std::env::temp_dir().join(format!("zmlx-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Peer { child, to, from, folder })
    }

    fn ask(&mut self, question: &Value) -> Result<Value> {
        writeln!(self.to, "{question}")?;
        self.to.flush()?;
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("bench: the peer ended".into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(format!("bench: the peer says: {error}").into()),
            None => Ok(answer),
        }
    }

    /// What the peer is, for the report.
    pub fn versions(&mut self) -> Result<String> {
        Ok(self.ask(&json!({"do": "versions"}))?["versions"].as_str().unwrap_or_default().to_string())
    }

    /// Prepares an operation; gives the names of the peer's ways to run it (none if it does not know the operation).
    pub fn setup(&mut self, op: &str, dtype: &str, backward: bool, inputs: &[Tensor]) -> Result<Vec<String>> {
        let mut files = vec![];
        for (k, t) in inputs.iter().enumerate() {
            let file = self.folder.join(format!("in{k}.npy"));
            let t = t.to_device(&candle_core::Device::Cpu)?;
            let t = if t.dtype().is_float() { t.to_dtype(candle_core::DType::F32)? } else { t };
            t.write_npy(&file)?;
            files.push(file.display().to_string());
        }
        let answer = self.ask(&json!({
            "do": "setup", "op": op, "dtype": dtype, "backward": backward, "inputs": files,
        }))?;
        let ways = answer["ways"].as_array().cloned().unwrap_or_default();
        Ok(ways.iter().filter_map(|w| w.as_str().map(str::to_string)).collect())
    }

    /// The result of one way: the first output, or the first gradient.
    pub fn output(&mut self, way: usize) -> Result<Tensor> {
        let file = self.folder.join("out.npy");
        self.ask(&json!({"do": "output", "way": way, "file": file.display().to_string()}))?;
        Ok(Tensor::read_npy(&file)?)
    }

    /// Seconds that one of `count` runs took.
    pub fn time(&mut self, way: usize, count: usize) -> Result<f64> {
        let answer = self.ask(&json!({"do": "run", "way": way, "count": count}))?;
        answer["seconds"].as_f64().ok_or_else(|| "bench: the peer gave no time".into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The peer ends when its input does; nothing is lost if it already has.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
