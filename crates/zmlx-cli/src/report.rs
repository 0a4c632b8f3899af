//! Where rows go besides the table: to standard output with `--json`, and appended to the file of `--report`, after an
//! object that says on what machine they were found. One object a line, written at once.

use crate::{device, machine, out};
use candle_core::Device;
use serde_json::{Map, Value, json};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// The file that a Mac's owner sends.
const METAL: &str = "zmlx-report.json";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The sinks of a run.
pub struct Report {
    file: Option<(File, PathBuf)>,
    json: bool,
}

impl Report {
    /// Opens the file, if there is to be one, and writes what runs where.
    pub fn open(verb: &str, path: Option<&Path>, device: &Device, json: bool) -> Result<Report> {
        let metal = matches!(device, Device::Metal(_)).then(|| Path::new(METAL));
        let mut report = Report { file: None, json };
        if let Some(path) = path.or(metal) {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|e| format!("{verb}: --report {}: {e}", path.display()))?;
            report.file = Some((file, path.to_path_buf()));
            let facts: Map<_, _> = machine::facts().into_iter().map(|(k, v)| (k.replace(' ', "_"), json!(v))).collect();
            let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let words: Vec<String> = std::env::args().skip(1).collect();
            let head = json!({
                "run": verb, "arguments": words, "device": device::name(device), "machine": facts,
                "unix_time": seconds.map_or(0, |s| s.as_secs()),
            });
            report.append(&head)?;
        }
        Ok(report)
    }

    /// A row.
    pub fn row(&mut self, row: Value) -> Result<()> {
        if self.json {
            out::line(&row);
        }
        self.append(&row)
    }

    fn append(&mut self, value: &Value) -> Result<()> {
        match &mut self.file {
            // one write a line: it is whole, whoever else appends
            Some((file, path)) => {
                file.write_all(format!("{value}\n").as_bytes()).map_err(|e| format!("{}: {e}", path.display()).into())
            }
            None => Ok(()),
        }
    }

    /// Says where the rows are.
    pub fn tell(&self) {
        if let Some((_, path)) = &self.file {
            out::note(format_args!("appended to {}\n", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_appended_to_and_reads_as_one_object_a_line() {
        let path = std::env::temp_dir().join(format!("zmlx-report-test-{}.json", std::process::id()));
        for n in 0..2 {
            let mut report = Report::open("verify", Some(&path), &Device::Cpu, false).expect("it opens");
            report.row(json!({"n": n})).expect("it is written");
        }
        let text = std::fs::read_to_string(&path).expect("it is there");
        std::fs::remove_file(&path).expect("it was there");
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("an object")).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            (&lines[0]["run"], &lines[0]["device"], &lines[3]["n"]),
            (&json!("verify"), &json!("cpu"), &json!(1))
        );
        assert!(lines[0]["machine"]["candle"].is_string());
    }

    #[test]
    fn without_a_name_only_metal_has_a_file() {
        assert!(Report::open("bench", None, &Device::Cpu, false).expect("nothing to open").file.is_none());
    }
}
