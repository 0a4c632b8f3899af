//! The text form of a Kernel, for people: one line a statement, in no target's language.

use super::*;
use std::fmt;

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = if self.half { ", all stored in 16 bits" } else { "" };
        writeln!(f, "kernel {}, {} threads a block{half}", self.name, self.threads)?;
        if self.cluster > 1 {
            writeln!(f, "  {} blocks a cluster", self.cluster)?;
        }
        for b in &self.buffers {
            writeln!(f, "  {} {}: {}", if b.write { "write" } else { "read" }, b.name, b.dtype)?;
        }
        for a in &self.fields {
            writeln!(f, "  field {}: {} = {:?}", a.name, a.dtype, a.role)?;
        }
        for s in &self.shared {
            writeln!(f, "  shared {}: {}[{}]", s.name, s.dtype, s.len)?;
        }
        self.block(f, &self.body, 1)
    }
}

impl Kernel {
    fn block(&self, f: &mut fmt::Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
        for s in body {
            write!(f, "{:1$}", "", depth * 2)?;
            match s {
                Stmt::Let(v, e) => writeln!(f, "{}: {} = {}", self.name_of(*v), self.dtype(e), self.line(e))?,
                Stmt::Array(v) => {
                    let (dtype, lanes) = self.vars.get(v.0 as usize).map_or((DType::F32, 0), |v| (v.dtype, v.lanes));
                    writeln!(f, "{}: {dtype}[{lanes}]", self.name_of(*v))?;
                }
                Stmt::Set(Place::Var(v), e) => writeln!(f, "{} = {}", self.name_of(*v), self.line(e))?,
                Stmt::Set(Place::Lane(v, i), e) => {
                    writeln!(f, "{}[{}] = {}", self.name_of(*v), self.line(i), self.line(e))?;
                }
                Stmt::Set(Place::Shared(k, i), e) => {
                    writeln!(f, "{}[{}] = {}", self.shared_name(*k), self.line(i), self.line(e))?;
                }
                Stmt::LoadVector { var, first, lanes, buffer, at } => {
                    let (var, first) = (self.name_of(*var), self.line(first));
                    writeln!(f, "{var}[{first}; {lanes}] = {}[{}; {lanes}]", self.buffer_name(*buffer), self.line(at))?;
                }
                Stmt::StoreVector { var, first, lanes, buffer, at } => {
                    let (var, first) = (self.name_of(*var), self.line(first));
                    writeln!(f, "{}[{}; {lanes}] = {var}[{first}; {lanes}]", self.buffer_name(*buffer), self.line(at))?;
                }
                Stmt::Store(k, i, e) => writeln!(f, "{}[{}] = {}", self.buffer_name(*k), self.line(i), self.line(e))?,
                Stmt::For { var, from, to, step, unroll, body } => {
                    let word = if *unroll { "unrolled" } else { "for" };
                    let (from, to, step) = (self.line(from), self.line(to), self.line(step));
                    writeln!(f, "{word} {} in {from}..{to} by {step}", self.name_of(*var))?;
                    self.block(f, body, depth + 1)?;
                }
                Stmt::If(c, then, otherwise) => {
                    writeln!(f, "if {}", self.line(c))?;
                    self.block(f, then, depth + 1)?;
                    if !otherwise.is_empty() {
                        writeln!(f, "{:1$}else", "", depth * 2)?;
                        self.block(f, otherwise, depth + 1)?;
                    }
                }
                Stmt::Rand4 { var, first, seed, index } => {
                    let [first, seed, index] = [first, seed, index].map(|e| self.line(e));
                    writeln!(f, "{}[{first}; 4] = rand({seed}, {index})", self.name_of(*var))?
                }
                Stmt::Barrier => writeln!(f, "barrier")?,
                Stmt::Arrive => writeln!(f, "arrive")?,
                Stmt::Await => writeln!(f, "await")?,
                Stmt::Note(text) => writeln!(f, "-- {text}")?,
            }
        }
        Ok(())
    }

    fn name_of(&self, v: VarId) -> &str {
        self.vars.get(v.0 as usize).map_or("?", |v| &v.name)
    }

    fn shared_name(&self, k: u32) -> &str {
        self.shared.get(k as usize).map_or("?", |s| &s.name)
    }

    fn buffer_name(&self, k: u32) -> &str {
        self.buffers.get(k as usize).map_or("?", |b| &b.name)
    }

    fn line(&self, e: &Expr) -> String {
        let list = |args: &[Expr]| args.iter().map(|a| self.line(a)).collect::<Vec<_>>().join(", ");
        match e {
            Expr::Float(_, bits) => format!("{:?}", f64::from_bits(*bits)),
            Expr::Int(_, v) => v.to_string(),
            Expr::Var(v) => self.name_of(*v).into(),
            Expr::Lane(v, i) => format!("{}[{}]", self.name_of(*v), self.line(i)),
            Expr::Field(k) => self.fields.get(*k as usize).map_or("?".into(), |f| format!("args.{}", f.name)),
            Expr::Special(s) => format!("{s:?}").to_lowercase(),
            Expr::Shared(k, i) => format!("{}[{}]", self.shared_name(*k), self.line(i)),
            Expr::Remote(k, at) => {
                format!("{}[{}] of rank {}", self.shared_name(*k), self.line(&at.0), self.line(&at.1))
            }
            Expr::Load(k, i) => format!("{}[{}]", self.buffer_name(*k), self.line(i)),
            Expr::Op(op, args) => format!("{}({})", op.name(), list(args)),
            Expr::Arith(op, ab) => {
                let sign = ["+", "-", "*", "/", "%", "&", "min", "max", "<", "<=", "==", "and"][*op as usize];
                format!("({} {sign} {})", self.line(&ab.0), self.line(&ab.1))
            }
            Expr::Pick(cab) => format!("({} ? {} : {})", self.line(&cab.0), self.line(&cab.1), self.line(&cab.2)),
            Expr::Fresh(e) => self.line(e),
            Expr::Order(e) => format!("order({})", self.line(e)),
            Expr::Unorder(e) => format!("unorder({})", self.line(e)),
            Expr::Shuffle(by, width, e) => format!("shuffle({by:?} of {width}, {})", self.line(e)),
            Expr::Rand(ab) => format!("rand({}, {})", self.line(&ab.0), self.line(&ab.1)),
        }
    }
}
