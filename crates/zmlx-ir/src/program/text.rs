//! The text form of a Program, one value a line, and its reader: print then parse gives the same Program.
//!
//! ```text
//! program softmax
//! input x: bf16 elem
//! %0: f32 elem = input x
//! %1: f32 row = max over cols %0
//! %2: f32 elem = sub %0 %1
//! output out: bf16 elem = %2
//! ```

use super::*;
use std::fmt::Write;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {}", if self.name.is_empty() { "_" } else { &self.name })?;
        for i in &self.inputs {
            let by = i.by.map_or(String::new(), |k| format!(" by {k}"));
            writeln!(f, "input {}: {} {:?}{by}", i.name, i.dtype, i.extent)?;
        }
        for u in &self.uniforms {
            writeln!(f, "uniform {}: {}", u.name, u.dtype)?;
        }
        for fold in &self.folds {
            writeln!(f, "fold {}", number(fold.init))?;
            for (what, p) in [("update", &fold.update), ("combine", &fold.combine)] {
                writeln!(f, "{what} {{")?;
                for line in p.to_string().lines() {
                    writeln!(f, "  {line}")?;
                }
                writeln!(f, "}}")?;
            }
        }
        for id in self.ids() {
            let node = self.node(id);
            writeln!(f, "{id:?}: {} {:?} = {}", node.dtype, node.extent, self.line(id))?;
        }
        for o in &self.outputs {
            let woven = if o.woven { " woven" } else { "" };
            let column = o.column.map_or(String::new(), |k| format!(" column {k}{woven}"));
            writeln!(f, "output {}: {} {:?} = {:?}{column}", o.name, o.dtype, o.extent, o.node)?;
        }
        Ok(())
    }
}

/// A float that reads back as itself.
fn number(v: f64) -> String {
    if v.is_nan() { format!("nan:{:016x}", v.to_bits()) } else { format!("{v:?}") }
}

fn read_number(s: &str) -> Option<f64> {
    match s.strip_prefix("nan:") {
        Some(bits) => u64::from_str_radix(bits, 16).ok().map(f64::from_bits),
        None => s.parse().ok(),
    }
}

fn over_name(over: Over) -> &'static str {
    match over {
        Over::Cols => "cols",
        Over::Rows => "rows",
        Over::All => "all",
    }
}

fn read_over(name: &str) -> Option<Over> {
    [Over::Cols, Over::Rows, Over::All].into_iter().find(|o| over_name(*o) == name)
}

const SCANS: [(ScanOp, &str); 4] =
    [(ScanOp::Sum, "sum"), (ScanOp::Prod, "prod"), (ScanOp::Max, "max"), (ScanOp::Affine, "affine")];

impl Program {
    /// The right side of a node's line.
    pub(super) fn line(&self, id: Id) -> String {
        let node = self.node(id);
        let name = |k: u32, list: &[String]| list.get(k as usize).cloned().unwrap_or_else(|| format!("?{k}"));
        let inputs = || self.inputs.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
        let mut out = match node.kind {
            Kind::Input(k) => format!("input {}", name(k, &inputs())),
            Kind::Uniform(k) => {
                let names: Vec<String> = self.uniforms.iter().map(|u| u.name.clone()).collect();
                format!("uniform {}", name(k, &names))
            }
            Kind::Const(bits) => number(f64::from_bits(bits)),
            Kind::Int(v) => format!("int {v}"),
            Kind::Index(i) => format!("index {}", i.name()),
            Kind::Op(Op::Cast(d)) => format!("cast {d}"),
            Kind::Op(op) => op.name().to_string(),
            Kind::Reduce(op, over) => match op.rank() {
                Some(rank) => format!("{} {rank} over {}", op.name(), over_name(over)),
                None => format!("{} over {}", op.name(), over_name(over)),
            },
            Kind::Fold(k) => format!("fold {k}"),
            Kind::Scan(s) => {
                let op = SCANS.iter().find(|(op, _)| *op == s.op).map_or("?", |(_, n)| n);
                let direction = if s.reverse { " reverse" } else { "" };
                let kind = if s.exclusive { " exclusive" } else { "" };
                format!("scan {op}{direction}{kind}")
            }
            Kind::Pick(k) => format!("pick {}", name(k, &inputs())),
            Kind::Rand => "rand".to_string(),
            Kind::Expand => "expand".to_string(),
            Kind::Stack => "stack".to_string(),
            Kind::Weave => "interleave".to_string(),
        };
        for a in &node.args {
            // writing to a String cannot fail
            let _ = write!(out, " {a:?}");
        }
        out
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// The line that is wrong.
    pub fn from_text(text: &str) -> Result<Program, String> {
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let mut at = 0;
        let p = read(&lines, &mut at, false)?;
        if at == lines.len() { Ok(p) } else { Err(format!("unexpected line `{}`", lines[at])) }
    }
}

/// The lines of one Program. A `part` of a fold ends at its bracket and has no folds.
fn read(lines: &[&str], at: &mut usize, part: bool) -> Result<Program, String> {
    let mut p = Program::default();
    while let Some(line) = lines.get(*at) {
        let wrong = || format!("wrong line `{line}`");
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = words[0];
        match first {
            "}" if part => return Ok(p),
            "program" => p.name = words.get(1).filter(|n| **n != "_").map_or(String::new(), |n| n.to_string()),
            "input" | "uniform" | "output" => {
                let name = words.get(1).and_then(|n| n.strip_suffix(':')).ok_or_else(wrong)?.to_string();
                let dtype = words.get(2).and_then(|d| DType::from_name(d)).ok_or_else(wrong)?;
                let extent = words.get(3).and_then(|e| Extent::from_name(e));
                match first {
                    "uniform" => p.uniforms.push(Uniform { name, dtype }),
                    "input" => {
                        let by = match words.get(4..6) {
                            Some(["by", k]) => Some(k.parse().map_err(|_| wrong())?),
                            _ => None,
                        };
                        p.inputs.push(Input { name, dtype, extent: extent.ok_or_else(wrong)?, by });
                    }
                    _ => {
                        let node = words.get(5).and_then(|w| read_id(w)).ok_or_else(wrong)?;
                        let column = match words.get(6..8) {
                            Some(["column", k]) => Some(k.parse().map_err(|_| wrong())?),
                            _ => None,
                        };
                        let (extent, woven) = (extent.ok_or_else(wrong)?, words.get(8) == Some(&"woven"));
                        p.outputs.push(Output { name, dtype, extent, node, column, woven });
                    }
                }
            }
            "fold" if !part => {
                let init = words.get(1).and_then(|w| read_number(w)).ok_or_else(wrong)?;
                *at += 1;
                let mut part = |title: &str| {
                    if lines.get(*at).is_none_or(|l| l.trim() != title) {
                        return Err(format!("expected `{title}` after `{line}`"));
                    }
                    *at += 1;
                    let part = read(lines, at, true)?;
                    *at += 1;
                    Ok(part)
                };
                let (update, combine) = (part("update {")?, part("combine {")?);
                p.folds.push(Fold { init, update, combine });
                continue;
            }
            _ => {
                let id = first.strip_suffix(':').and_then(read_id).ok_or_else(wrong)?;
                let dtype = words.get(1).and_then(|d| DType::from_name(d)).ok_or_else(wrong)?;
                let extent = words.get(2).and_then(|e| Extent::from_name(e)).ok_or_else(wrong)?;
                let (kind, args) = read_value(&p, words.get(4..).ok_or_else(wrong)?).ok_or_else(wrong)?;
                if id.index() != p.nodes.len() {
                    return Err(wrong());
                }
                let node = Node { kind, args, dtype, extent };
                p.memo.insert(node.clone(), id);
                p.nodes.push(node);
            }
        }
        *at += 1;
    }
    if part { Err("expected `}`, but the text ends".into()) } else { Ok(p) }
}

fn read_id(word: &str) -> Option<Id> {
    word.strip_prefix('%')?.parse().ok().map(Id)
}

fn read_value(p: &Program, words: &[&str]) -> Option<(Kind, Vec<Id>)> {
    let args: Vec<Id> = words.iter().filter_map(|w| read_id(w)).collect();
    let head: Vec<&str> = words.iter().copied().filter(|w| !w.starts_with('%')).collect();
    let slot = |name: &str| p.inputs.iter().position(|i| i.name == name).map(|k| k as u32);
    let kind = match head[..] {
        ["input", name] => Kind::Input(slot(name)?),
        ["pick", name] => Kind::Pick(slot(name)?),
        ["uniform", name] => Kind::Uniform(p.uniforms.iter().position(|u| u.name == name)? as u32),
        ["int", v] => Kind::Int(v.parse().ok()?),
        ["index", name] => {
            Kind::Index([Index::Row, Index::Col, Index::Rows, Index::Cols].into_iter().find(|i| i.name() == name)?)
        }
        ["cast", d] => Kind::Op(Op::Cast(DType::from_name(d)?)),
        ["fold", k] => Kind::Fold(k.parse().ok()?),
        ["rand"] => Kind::Rand,
        ["expand"] => Kind::Expand,
        ["scan", op, ref flags @ ..] => Kind::Scan(Scan {
            op: SCANS.iter().find(|(_, n)| *n == op)?.0,
            reverse: flags.contains(&"reverse"),
            exclusive: flags.contains(&"exclusive"),
        }),
        [op, "over", axes] => Kind::Reduce(ReduceOp::LIST.into_iter().find(|r| r.name() == op)?, read_over(axes)?),
        ["top", rank, "over", axes] => Kind::Reduce(ReduceOp::Top(rank.parse().ok()?), read_over(axes)?),
        ["argtop", rank, "over", axes] => Kind::Reduce(ReduceOp::ArgTop(rank.parse().ok()?), read_over(axes)?),
        [word] => match Op::ALL.into_iter().find(|o| !matches!(o, Op::Cast(_)) && o.name() == word) {
            Some(op) => Kind::Op(op),
            None => Kind::Const(read_number(word)?.to_bits()),
        },
        _ => return None,
    };
    Some((kind, args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn print_then_parse_is_the_same_program() {
        let mut p = Program::new("all");
        let x = p.input("x", DType::BF16, Extent::ELEM);
        let t = p.input("t", DType::U32, Extent::ROW);
        p.input("table", DType::F16, Extent::ELEM);
        p.inputs[2].by = Some(1);
        let eps = p.uniform("eps", DType::F32);
        let k = p.constant(DType::F32, f64::NEG_INFINITY);
        let m = p.op(Op::Max, &[x, k]);
        let s = p.scan(Scan { op: ScanOp::Max, reverse: true, exclusive: true }, &[m]);
        let r = p.reduce(ReduceOp::ArgMax, Over::Cols, s);
        let pick = p.pick(0, t);
        let seed = p.int(DType::I64, -7);
        let u = p.rand(seed);
        let y = p.op(Op::Fma, &[u, eps, pick]);
        let top = p.reduce(ReduceOp::Top(3), Over::Cols, s);
        let at = p.reduce(ReduceOp::ArgTop(63), Over::Cols, s);
        p.output("a", r, DType::U32);
        p.output("b", y, DType::BF16);
        p.output("c.0", top, DType::F32);
        p.output("c.1", top, DType::F32);
        (p.outputs[2].column, p.outputs[3].column) = (Some(0), Some(1));
        p.outputs[2..4].iter_mut().for_each(|o| o.woven = true);
        p.output("d", at, DType::U32);
        let text = p.to_string();
        assert_eq!(Program::from_text(&text), Ok(p), "{text}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = |text: &str| Program::from_text(text).expect_err("wrong");
        assert_eq!(error("input x bf16"), "wrong line `input x bf16`");
        assert_eq!(error("fold 6.\n2"), "expected `update {` after `fold 6.`");
        assert_eq!(error("fold 6\nupdate {\n"), "expected `}`, but the text ends");
        assert_eq!(error("fold 6\nupdate {\nfold 6"), "wrong line `fold 6`");
        assert_eq!(error("}"), "wrong line `}`");
    }
}
