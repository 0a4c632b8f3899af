//! Parses values: operators, casts, calls, loads, and the names they are made of.

use super::{
    Formula, FormulaError, functions,
    parse::{Helper, MAX_COPIED, MAX_DEPTH, MAX_INPUTS, MAX_TERMS, Parser, RESERVED, Result},
    token::Tok,
};
use crate::{
    DType, Op,
    program::{Id, Index, Kind},
};
use std::ops::Range;

/// A binary operator: sign, precedence as in C, meaning.
pub(super) const BINARY: [(&str, u8, Op); 18] = [
    ("||", 2, Op::Or),
    ("&&", 3, Op::And),
    ("|", 4, Op::Or),
    ("^", 5, Op::Xor),
    ("&", 6, Op::And),
    ("==", 7, Op::Eq),
    ("!=", 7, Op::Ne),
    ("<", 8, Op::Lt),
    ("<=", 8, Op::Le),
    (">", 8, Op::Gt),
    (">=", 8, Op::Ge),
    ("<<", 9, Op::Shl),
    (">>", 9, Op::Shr),
    ("+", 10, Op::Add),
    ("-", 10, Op::Sub),
    ("*", 11, Op::Mul),
    ("/", 11, Op::Div),
    ("%", 11, Op::Rem),
];

/// Accepted before a function's name and ignored.
const NAMESPACES: [&str; 4] = ["metal", "std", "fast", "precise"];

/// The type of a name of ours or of C's and Metal's. `float` is not among them: it is the function that gives the
/// float type of the Program.
pub(super) fn type_name(name: &str) -> Option<DType> {
    DType::from_name(name).or(match name {
        "half" => Some(DType::F16),
        "bfloat" | "bfloat16" => Some(DType::BF16),
        "double" => Some(DType::F64),
        "uchar" => Some(DType::U8),
        "short" => Some(DType::I16),
        "int" => Some(DType::I32),
        "uint" => Some(DType::U32),
        "long" => Some(DType::I64),
        _ => None,
    })
}

/// What stands before a value.
#[derive(Clone, Copy)]
enum Prefix {
    /// `+x` and `(T)x`, T being the type that x has.
    Same,
    /// `(float)x`
    Float,
    Op(Op),
}

fn cast(name: &str) -> Option<Prefix> {
    match name {
        "T" => Some(Prefix::Same),
        "float" => Some(Prefix::Float),
        _ => type_name(name).map(|d| Prefix::Op(Op::Cast(d))),
    }
}

impl<'a> Parser<'a> {
    /// `c ? a : b` and everything that binds tighter.
    pub(super) fn expr(&mut self) -> Result<Id> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error_here(format!("nested more than {MAX_DEPTH} deep")));
        }
        // Else-branches form a chain, so they are kept in a list and not on the stack.
        let mut choices: Vec<(usize, Id, Id)> = vec![];
        let mut value = loop {
            let start = self.start();
            let value = self.binary()?;
            if !self.eat("?") {
                break value;
            }
            let then = self.expr()?;
            self.expect(":")?;
            choices.push((start, value, then));
        };
        while let Some((start, condition, then)) = choices.pop() {
            value = self.formula.op(Op::Select, &[condition, then, value]);
            self.made(start)?;
        }
        self.depth -= 1;
        Ok(value)
    }

    /// Binary operators, by their precedence: an operator waits on the stack until a looser one comes.
    fn binary(&mut self) -> Result<Id> {
        let mut waiting: Vec<(usize, Id, &(&str, u8, Op))> = vec![];
        let mut start = self.start();
        let mut value = self.unary()?;
        loop {
            let next = match self.peek().tok {
                Tok::Sign(sign) => BINARY.iter().find(|b| b.0 == sign),
                _ => None,
            };
            let precedence = next.map_or(0, |b| b.1);
            while let Some(&(left_start, left, &(sign, _, op))) = waiting.last().filter(|(_, _, b)| b.1 >= precedence) {
                waiting.pop();
                start = left_start;
                value = match sign {
                    "&&" | "||" => {
                        let (left, right) = (self.formula.truth(left), self.formula.truth(value));
                        self.formula.op(op, &[left, right])
                    }
                    _ => self.formula.op(op, &[left, value]),
                };
                self.made(start)?;
            }
            let Some(operator) = next else { return Ok(value) };
            self.at += 1;
            waiting.push((start, value, operator));
            start = self.start();
            value = self.unary()?;
        }
    }

    /// `-x`, `!x`, `~x`, `+x` and casts `(f32)x`.
    fn unary(&mut self) -> Result<Id> {
        let mut prefixes: Vec<(usize, Prefix)> = vec![];
        while let Some((prefix, tokens)) = self.prefix() {
            prefixes.push((self.start(), prefix));
            self.at += tokens;
        }
        let mut value = self.postfix()?;
        while let Some((start, prefix)) = prefixes.pop() {
            value = match prefix {
                Prefix::Same => value,
                Prefix::Float => self.formula.as_float(value),
                Prefix::Op(op) => self.formula.op(op, &[value]),
            };
            self.made(start)?;
        }
        Ok(value)
    }

    /// The prefix that stands here and how many tokens it has.
    fn prefix(&self) -> Option<(Prefix, usize)> {
        let Tok::Sign(sign) = self.peek().tok else { return None };
        match sign {
            "-" if self.number(1).is_some() => None, // a negative literal
            "-" => Some((Prefix::Op(Op::Neg), 1)),
            "+" => Some((Prefix::Same, 1)),
            "!" => Some((Prefix::Op(Op::Not), 1)),
            "~" => Some((Prefix::Op(Op::BitNot), 1)),
            "(" if self.ahead(1).tok == Tok::Word && self.ahead(2).is(")") => {
                let name = &self.text[self.ahead(1).span()];
                let prefix = cast(name)?;
                let operand = match self.ahead(3).tok {
                    Tok::Word | Tok::Int(_) | Tok::Float(_) | Tok::Sign("(" | "!" | "~") => true,
                    // `(T) - x` is a difference where T is a value, and so it is where nobody knows.
                    Tok::Sign("-" | "+") => name != "T" && !self.scope.contains_key(name),
                    _ => false,
                };
                operand.then_some((prefix, 3))
            }
            _ => None,
        }
    }

    /// The literal `n` tokens ahead, negated if `n` is odd (a minus stands before it).
    fn number(&self, n: usize) -> Option<Kind> {
        let token = self.ahead(n);
        let value = match token.tok {
            // Whole numbers that an f64 does not hold stay integers.
            Tok::Int(v) if v as f64 as i128 != i128::from(v) => return Some(Kind::Int(if n == 1 { -v } else { v })),
            Tok::Int(v) => v as f64,
            Tok::Float(v) => v,
            Tok::Word => match &self.text[token.span()] {
                "INFINITY" => f64::INFINITY,
                "PI" => std::f64::consts::PI,
                "NAN" => return Some(Kind::Const(f64::NAN.to_bits())),
                _ => return None,
            },
            _ => return None,
        };
        Some(Kind::Const(if n == 1 { -value } else { value }.to_bits()))
    }

    /// A value and the loads `x[t]` after it.
    fn postfix(&mut self) -> Result<Id> {
        let start = self.start();
        let mut value = self.primary()?;
        while self.eat("[") {
            let t = self.expr()?;
            self.expect("]")?;
            value = self.pick(value, t, start..self.last_end())?;
            self.made(start)?;
        }
        Ok(value)
    }

    fn pick(&mut self, x: Id, t: Id, span: Range<usize>) -> Result<Id> {
        match self.formula.terms[x.index()].kind {
            Kind::Input(slot) => Ok(self.formula.push(Kind::Pick(slot), vec![t])),
            _ => Err(self.error("only an input can be indexed", span)),
        }
    }

    fn primary(&mut self) -> Result<Id> {
        let start = self.start();
        let minus = usize::from(self.peek().is("-"));
        if let Some(literal) = self.number(minus) {
            self.at += 1 + minus;
            let id = self.formula.push(literal, vec![]);
            self.made(start)?;
            return Ok(id);
        }
        if self.eat("(") {
            let value = self.expr()?;
            self.expect(")")?;
            return Ok(value);
        }
        let Some(mut word) = self.word() else { return Err(self.expected("a value")) };
        while self.ahead(1).is("::") {
            if !NAMESPACES.contains(&word) {
                return Err(self.error_here(format!("unknown namespace '{word}'")).did_you_mean(word, NAMESPACES));
            }
            self.at += 2;
            word = self.word().ok_or_else(|| self.expected("a function"))?;
        }
        let at = self.peek().span();
        if self.ahead(1).is("(") && !RESERVED.contains(&word) {
            self.at += 2;
            let mut args: Vec<Id> = vec![];
            while !self.eat(")") {
                args.push(self.expr()?);
                if !self.peek().is(")") && !self.eat(",") {
                    return Err(self.expected("',' or ')'"));
                }
            }
            let id = self.call(word, &args, at)?;
            self.made(start)?;
            return Ok(id);
        }
        let id = self.name()?;
        self.made(start)?;
        Ok(id)
    }

    /// A name that is not called.
    fn name(&mut self) -> Result<Id> {
        let word = self.word().unwrap_or_default();
        let index = [Index::Row, Index::Col, Index::Rows, Index::Cols].into_iter().find(|i| i.name() == word);
        let id = if let Some(index) = index {
            self.formula.push(Kind::Index(index), vec![])
        } else if RESERVED.contains(&word) {
            return Err(self.error_here(format!("'{word}' is a reserved word and begins a statement")));
        } else if word == "_" {
            return Err(self.error_here("'_' names no value").suggest("give it another name"));
        } else if let Some(&id) = self.scope.get(word) {
            id
        } else {
            let known = self.formula.names.iter().any(|n| n.name == word);
            if let Some(function) = self.inside {
                let e = self.error_here(format!("'{word}' is not a parameter of '{function}'"));
                return Err(e.suggest("pass it as an argument"));
            }
            if self.closed && !known {
                let names = self.formula.names.iter().map(|n| n.name.as_str());
                return Err(self
                    .error_here(format!("unknown name '{word}'"))
                    .did_you_mean(word, names.chain(self.scope.keys().copied())));
            }
            if !known && self.formula.names.len() == MAX_INPUTS {
                return Err(self.error_here(format!("more than {MAX_INPUTS} inputs")));
            }
            let id = self.formula.name(word);
            self.scope.insert(word, id);
            id
        };
        self.at += 1;
        Ok(id)
    }

    fn call(&mut self, name: &str, args: &[Id], at: Range<usize>) -> Result<Id> {
        let whole = at.start..self.last_end();
        if self.inside == Some(name) {
            let e = self.error(format!("'{name}' calls itself"), at);
            return Err(e.suggest("helper functions are inlined and cannot recurse"));
        }
        if let Some(&helper) = self.helpers.get(name) {
            return self.inline(name, helper, args, whole);
        }
        if let Some(id) = functions::call(self.formula, name, args) {
            return id.map_err(|e| e.at(self.text, whole));
        }
        if let (Some(prefix), &[x]) = (cast(name), args) {
            return Ok(match prefix {
                Prefix::Op(op) => self.formula.op(op, &[x]),
                _ => x,
            });
        }
        if cast(name).is_some() {
            return Err(self.error(format!("{name} takes 1 argument, not {}", args.len()), whole));
        }
        let e = self.error(format!("unknown function '{name}'"), at);
        Err(match name {
            "select" => e.suggest("write 'where(c, a, b)' or 'c ? a : b'"),
            _ if self.scope.contains_key(name) => e.suggest(format!("for a product write '{name} * (…)'")),
            _ => e.did_you_mean(name, functions::known().chain(self.helpers.keys().copied())),
        })
    }

    /// Copies the body of a helper function with its parameters replaced.
    fn inline(&mut self, name: &str, helper: Helper, args: &[Id], span: Range<usize>) -> Result<Id> {
        let Helper { first_slot, parameters, first, root } = helper;
        if args.len() != parameters {
            let plural = if parameters == 1 { "" } else { "s" };
            let message = format!("{name} takes {parameters} argument{plural}, not {}", args.len());
            return Err(self.error(message, span));
        }
        self.copied += (root.index() + 1).saturating_sub(first);
        if self.copied > MAX_COPIED {
            return Err(self.error(format!("helper functions expand to more than {MAX_COPIED} terms"), span));
        }
        let argument = |slot: u32| slot.checked_sub(first_slot).and_then(|i| args.get(i as usize)).copied();
        // A term from before the definition has no parameter in it.
        let mut copies: Vec<Id> = vec![];
        let copy = |copies: &[Id], id: Id| id.index().checked_sub(first).map_or(id, |i| copies[i]);
        for i in first..=root.index() {
            let term = self.formula.terms[i].clone();
            let args: Vec<Id> = term.args.iter().map(|&a| copy(&copies, a)).collect();
            copies.push(match (term.kind, args.as_slice()) {
                (Kind::Input(slot), _) if let Some(x) = argument(slot) => x,
                (Kind::Pick(slot), &[t]) if let Some(x) = argument(slot) => self.pick(x, t, span.clone())?,
                (kind, _) => self.formula.push(kind, args),
            });
            self.made(span.start)?;
        }
        Ok(copy(&copies, root))
    }

    /// Gives the terms made since the last call their place, from `start` to the last token read.
    fn made(&mut self, start: usize) -> Result<()> {
        let count = self.formula.terms.len();
        if count > MAX_TERMS {
            return Err(self.error(format!("more than {MAX_TERMS} terms"), start..self.last_end()));
        }
        let span = (self.base + start) as u32..(self.base + self.last_end()) as u32;
        self.formula.spans.resize(count, span);
        Ok(())
    }
}

impl Formula {
    /// This error at the place of a term, if that is known.
    pub(super) fn place(&self, e: FormulaError, id: Id) -> FormulaError {
        match self.spans.get(id.index()).filter(|s| !s.is_empty()) {
            Some(span) => e.at(&self.source, span.start as usize..span.end as usize),
            None => e,
        }
    }
}
