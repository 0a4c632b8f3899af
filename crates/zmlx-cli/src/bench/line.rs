//! A row of the report: as a JSON object, both ways, and as cells of a table.

use super::{Size, time::Timing};
use crate::table;
use serde_json::{Map, Value, json};
use zmlx_ir::DType;

/// The passes.
pub const COPY: &str = "copy";
pub const FORWARD: &str = "forward";
pub const GRADIENT: &str = "forward + gradient";

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    pub kernel: String,
    pub dtype: String,
    pub rows: usize,
    pub cols: usize,
    pub pass: String,
    /// Bytes that must move at least; those of the gradient alone.
    pub floor_bytes: f64,
    pub vjp_floor_bytes: f64,
    /// GB/s of a copy of this shape and dtype.
    pub copy_gbps: f64,
    /// What zmlx was compared with; what is wrong or did not run, and then nothing is timed.
    pub checked: String,
    pub wrong: Option<String>,
    /// zmlx first.
    pub ways: Vec<Timing>,
    /// Who is not timed, and why.
    pub differs: Vec<(String, String)>,
}

impl Line {
    /// Of this kernel, without times.
    pub fn named(kernel: &str, dtype: DType, size: Size) -> Line {
        let pass = if size.backward { GRADIENT } else { FORWARD };
        let (rows, cols) = (size.rows, size.cols);
        Line { kernel: kernel.into(), dtype: dtype.name().into(), rows, cols, pass: pass.into(), ..Line::default() }
    }

    /// By zmlx's time.
    pub fn gbps(&self) -> f64 {
        self.ways.first().map_or(f64::NAN, |w| self.floor_bytes / w.median / 1e6)
    }

    /// As a part of the copy's.
    pub fn fraction(&self) -> f64 {
        self.gbps() / self.copy_gbps
    }

    fn way(&self, name: &str) -> Option<&Timing> {
        self.ways.iter().find(|w| w.name == name)
    }

    /// As an object.
    pub fn object(&self, device: &str) -> Value {
        let timing = |w: &Timing| (w.name.clone(), json!({"median_ms": w.median, "p20_ms": w.p20, "p80_ms": w.p80}));
        let ways: Map<_, _> = self.ways.iter().map(timing).collect();
        let differs: Map<_, _> = self.differs.iter().map(|(name, why)| (name.clone(), json!(why))).collect();
        json!({
            "verb": "bench", "kernel": self.kernel, "dtype": self.dtype, "rows": self.rows, "cols": self.cols,
            "pass": self.pass, "device": device, "floor_bytes": self.floor_bytes,
            "vjp_floor_bytes": self.vjp_floor_bytes, "gbps": self.gbps(), "copy_gbps": self.copy_gbps,
            "checked": self.checked, "wrong": self.wrong, "first": self.ways.first().map(|w| &w.name), "ways": ways,
            "differs": differs,
        })
    }

    /// From an object; None if it is another verb's.
    pub fn parse(value: &Value) -> Option<Line> {
        if value["verb"] != "bench" {
            return None;
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
        let number = |key: &str| value[key].as_f64().unwrap_or_default();
        let first = text("first");
        let timing = |(name, w): (&String, &Value)| {
            let at = |key: &str| w[key].as_f64().unwrap_or(f64::NAN);
            Timing { name: name.clone(), median: at("median_ms"), p20: at("p20_ms"), p80: at("p80_ms") }
        };
        let mut ways: Vec<Timing> = value["ways"].as_object().into_iter().flatten().map(timing).collect();
        ways.sort_by_key(|w| w.name != first);
        let differs = value["differs"].as_object().into_iter().flatten();
        Some(Line {
            kernel: text("kernel"),
            dtype: text("dtype"),
            rows: number("rows") as usize,
            cols: number("cols") as usize,
            pass: text("pass"),
            floor_bytes: number("floor_bytes"),
            vjp_floor_bytes: number("vjp_floor_bytes"),
            copy_gbps: number("copy_gbps"),
            checked: text("checked"),
            wrong: value["wrong"].as_str().map(str::to_string),
            ways,
            differs: differs.map(|(name, why)| (name.clone(), why.as_str().unwrap_or_default().into())).collect(),
        })
    }

    /// Cells under `columns`; the other ways, named `others`, as multiples of zmlx's time.
    pub fn cells(&self, others: &[String]) -> Vec<String> {
        let Some(first) = self.ways.first() else {
            return vec![self.kernel.clone(), "FAILED".into()];
        };
        let mut cells = vec![
            self.kernel.clone(),
            format!("{:.4}", first.median),
            format!("{:.4}–{:.4}", first.p20, first.p80),
            format!("{:.0}", self.gbps()),
            format!("{:.2}", self.fraction()),
        ];
        if self.vjp_floor_bytes > 0.0 {
            let vjp = self.way(super::VJP).map(|w| self.vjp_floor_bytes / w.median / 1e6);
            cells.push(vjp.map_or("–".into(), |gbps| format!("{gbps:.0}")));
        }
        cells.extend(others.iter().map(|name| match self.way(name) {
            Some(w) => format!("{:.2}×", w.median / first.median),
            None if self.differs.iter().any(|d| d.0 == *name) => "(below)".into(),
            None => "–".into(),
        }));
        cells
    }
}

/// Columns of a pass, with their widths.
pub fn columns<'a>(pass: &str, others: &'a [String]) -> Vec<(&'a str, usize)> {
    let mut columns = vec![table::kernels(), ("zmlx ms", 8), ("p20–p80", 15), ("GB/s", 5), ("of copy", 7)];
    if pass == GRADIENT {
        columns.push(("vjp GB/s", 8));
    }
    columns.extend(others.iter().map(|name| (name.as_str(), 7)));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_as_what_was_written() {
        let timing = |name: &str, median| Timing { name: name.into(), median, p20: 0.5, p80: 2.0 };
        let line = Line {
            kernel: "softmax".into(),
            dtype: "bf16".into(),
            rows: 3,
            cols: 5,
            pass: GRADIENT.into(),
            floor_bytes: 3e6,
            vjp_floor_bytes: 2e6,
            copy_gbps: 4.0,
            checked: "plain ops".into(),
            wrong: None,
            ways: vec![timing("zmlx", 1.0), timing("candle plain", 3.0)],
            differs: vec![("liger".into(), "it is not there".into())],
        };
        assert_eq!(Line::parse(&line.object("cpu")), Some(line.clone()));
        assert_eq!((line.gbps(), line.fraction()), (3.0, 0.75));
        let others = ["candle plain", "liger", "torch"].map(String::from);
        let cells = ["softmax", "1.0000", "0.5000–2.0000", "3", "0.75", "–", "3.00×", "(below)", "–"];
        assert_eq!(line.cells(&others), cells);
        assert_eq!(columns(GRADIENT, &others).len(), cells.len());
        assert_eq!(Line::parse(&json!({"verb": "verify"})), None);
    }
}
