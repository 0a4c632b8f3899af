//! Prints a Formula as formula text that parses to an equal one. Terms used more than once become `let`s, so the
//! text is as long as the graph; so do deep ones, so that neither printing nor parsing nests far.

use super::{Formula, value::BINARY};
use crate::{
    Op,
    program::{Id, Kind, ScanOp},
};
use std::fmt::{self, Write as _};

/// Levels of nesting before a term gets a `let`.
const MAX_NESTING: u32 = 40;

/// Precedences beside those of `BINARY`.
const TERNARY: u8 = 1;
const UNARY: u8 = 12;
const PRIMARY: u8 = 13;

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer =
            Printer { formula: self, lets: vec![None; self.terms().len()], order: vec![], text: String::new() };
        printer.formula();
        // Names are numbered by appearance; where the text alone would number them otherwise, it lists them first.
        let in_order = printer.order.iter().enumerate().all(|(i, &slot)| i == slot as usize);
        if !in_order || printer.order.len() != self.names.len() {
            for name in &self.names {
                write!(f, "let _ = {}; ", name.name)?;
            }
        }
        f.write_str(&printer.text)
    }
}

struct Printer<'a> {
    formula: &'a Formula,
    /// The number of a term's `let`.
    lets: Vec<Option<usize>>,
    /// Slots of names as they appear.
    order: Vec<u32>,
    text: String,
}

impl Printer<'_> {
    fn formula(&mut self) {
        let count = self.formula.terms().len();
        let live = self.formula.live(0, &self.formula.outs);
        let mut uses = vec![0u32; count];
        for (term, _) in self.formula.terms().iter().zip(&live).filter(|(_, live)| **live) {
            term.args.iter().for_each(|a| uses[a.index()] += 1);
        }
        self.formula.outs.iter().for_each(|o| uses[o.term.index()] += 1);
        let mut depth = vec![0u32; count];
        let mut number = 0;
        for i in (0..count).filter(|i| live[*i]) {
            let term = &self.formula.terms()[i];
            if term.args.is_empty() {
                continue;
            }
            depth[i] = 1 + term.args.iter().map(|a| depth[a.index()]).max().unwrap_or(0);
            if uses[i] > 1 || depth[i] > MAX_NESTING {
                while self.taken(number) {
                    number += 1;
                }
                let _ = write!(self.text, "let t{number} = ");
                self.value(Id(i as u32), 0);
                self.text.push_str("; ");
                self.lets[i] = Some(number);
                (depth[i], number) = (0, number + 1);
            }
        }
        let outs = &self.formula.outs;
        for (i, out) in outs.iter().enumerate() {
            if outs.len() > 1 || out.name != "out" || out.dtype.is_some() {
                self.text.push_str("out");
                if out.name != "out" {
                    let _ = write!(self.text, " {}", out.name);
                }
                if let Some(dtype) = out.dtype {
                    let _ = write!(self.text, ": {dtype}");
                }
                self.text.push_str(" = ");
            }
            self.value(out.term, 0);
            if i + 1 < outs.len() {
                self.text.push_str("; ");
            }
        }
    }

    /// Is `t<number>` a name already?
    fn taken(&self, number: usize) -> bool {
        let name = format!("t{number}");
        let is = |n: &str| n == name;
        self.formula.names.iter().any(|n| is(&n.name)) || self.formula.outs.iter().any(|o| is(&o.name))
    }

    fn name(&mut self, slot: u32) {
        if !self.order.contains(&slot) {
            self.order.push(slot);
        }
        match self.formula.names.get(slot as usize) {
            Some(n) => self.text.push_str(&n.name),
            None => {
                let _ = write!(self.text, "input{slot}");
            }
        }
    }

    /// The value, in brackets if it binds looser than `tight`.
    fn value(&mut self, id: Id, tight: u8) {
        if let Some(number) = self.lets[id.index()] {
            let _ = write!(self.text, "t{number}");
            return;
        }
        let brackets = self.precedence(id) < tight;
        if brackets {
            self.text.push('(');
        }
        self.bare(id);
        if brackets {
            self.text.push(')');
        }
    }

    fn precedence(&self, id: Id) -> u8 {
        let term = &self.formula.terms()[id.index()];
        match term.kind {
            Kind::Op(Op::Select) => TERNARY,
            Kind::Op(Op::Neg | Op::Not | Op::BitNot) => UNARY,
            Kind::Const(bits) if f64::from_bits(bits).is_sign_negative() => UNARY,
            Kind::Int(v) if v < 0 => UNARY,
            Kind::Op(op) => self.sign(op, &term.args).map_or(PRIMARY, |b| b.1),
            _ => PRIMARY,
        }
    }

    /// The operator that an op is written as; `&&` and `||` between truth values.
    fn sign(&self, op: Op, args: &[Id]) -> Option<&'static (&'static str, u8, Op)> {
        let truths = args.iter().all(|a| self.formula.is_truth(*a, 8));
        BINARY.iter().find(|b| b.2 == op && (truths || !matches!(b.0, "&&" | "||")))
    }

    fn bare(&mut self, id: Id) {
        let formula = self.formula;
        let term = &formula.terms()[id.index()];
        match (term.kind, term.args.as_slice()) {
            (Kind::Input(slot), _) => self.name(slot),
            (Kind::Const(bits), _) => self.number(f64::from_bits(bits)),
            (Kind::Int(v), _) => {
                let _ = write!(self.text, "{v}");
            }
            (Kind::Index(index), _) => self.text.push_str(index.name()),
            (Kind::Pick(slot), &[t]) => {
                self.name(slot);
                self.text.push('[');
                self.value(t, 0);
                self.text.push(']');
            }
            (Kind::Op(Op::Select), &[c, a, b]) => {
                self.value(c, TERNARY + 1);
                self.text.push_str(" ? ");
                self.value(a, 0);
                self.text.push_str(" : ");
                self.value(b, TERNARY);
            }
            (Kind::Op(op @ (Op::Neg | Op::Not | Op::BitNot)), &[x]) => {
                self.text.push(match op {
                    Op::Neg => '-',
                    Op::Not => '!',
                    _ => '~',
                });
                // `-1` is the literal; the negation of the literal 1 is `-(1)`.
                let literal = matches!(formula.terms()[x.index()].kind, Kind::Const(_) | Kind::Int(_));
                self.value(x, if op == Op::Neg && literal { PRIMARY + 1 } else { UNARY });
            }
            (Kind::Op(Op::Pow), &[x, one]) if formula.terms()[one.index()].kind == Kind::Const(1f64.to_bits()) => {
                self.call("float", &[x]);
            }
            (Kind::Op(op), args) => match (self.sign(op, args), args) {
                (Some(&(sign, precedence, _)), &[a, b]) => {
                    self.value(a, precedence);
                    let _ = write!(self.text, " {sign} ");
                    self.value(b, precedence + 1);
                }
                _ => self.call(op.name(), args),
            },
            (Kind::Reduce(op, _), &[x]) if op.rank().is_some() => {
                let _ = write!(self.text, "{}(", op.name());
                self.value(x, 0);
                let _ = write!(self.text, ", {})", op.rank().unwrap_or(0));
            }
            (Kind::Reduce(op, _), args) => self.call(op.name(), args),
            (Kind::Stack, args) => self.call("stack", args),
            (Kind::Weave, args) => self.call("interleave", args),
            (Kind::Scan(scan), args) => {
                let name = ["cumsum", "cumprod", "cummax", "affine"][match scan.op {
                    ScanOp::Sum => 0,
                    ScanOp::Prod => 1,
                    ScanOp::Max => 2,
                    ScanOp::Affine => 3,
                }];
                self.call(name, args);
            }
            (Kind::Fold(slot), args) => self.call(&format!("fold{slot}"), args),
            (Kind::Rand, args) => self.call("rand", args),
            (Kind::Expand, args) => self.call("expand", args),
            (Kind::Uniform(_) | Kind::Pick(_), _) => self.text.push('?'),
        }
    }

    fn call(&mut self, name: &str, args: &[Id]) {
        self.text.push_str(name);
        self.text.push('(');
        for (i, &a) in args.iter().enumerate() {
            if i > 0 {
                self.text.push_str(", ");
            }
            self.value(a, 0);
        }
        self.text.push(')');
    }

    /// The shortest spelling that reads as the same f64; large ones with an exponent, since plain digits would be
    /// read as another integer.
    fn number(&mut self, v: f64) {
        let size = v.abs();
        let _ = match size {
            _ if v.is_nan() => write!(self.text, "NAN"),
            f64::INFINITY => write!(self.text, "{}INFINITY", if v < 0.0 { "-" } else { "" }),
            _ if size == 0.0 || (1e-4..1e15).contains(&size) => write!(self.text, "{v}"),
            _ => write!(self.text, "{v:e}"),
        };
    }
}
