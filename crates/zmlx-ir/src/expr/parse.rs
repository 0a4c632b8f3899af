//! Parses the formula language: C's operators and precedence, `let`, `out`, helper functions.
//!
//! Total on any text: size, nesting, terms and inlining are limited, and chains of operators use no stack.

use super::{
    Formula, FormulaError, Out,
    token::{Tok, Token, tokens},
    value::type_name,
};
use crate::{
    DType,
    program::{Id, Kind},
};
use std::{collections::HashMap, ops::Range};

const MAX_TEXT: usize = 64 * 1024;
const MAX_PARAMETERS: usize = 64;
/// Nesting of brackets, calls and the like: 11 KB of stack each in a build without optimisation, where threads have 2 MiB.
pub(super) const MAX_DEPTH: usize = 100;
pub(super) const MAX_INPUTS: usize = 1000;
/// Terms that helper functions may copy, all calls together.
pub(super) const MAX_COPIED: usize = 200_000;
/// Terms of a formula.
pub(super) const MAX_TERMS: usize = 20_000;

/// Slots from here on stand for parameters of helper functions; no formula leaves this file with one.
pub(super) const PARAMETERS: u32 = 1 << 31;

pub(super) type Result<T> = std::result::Result<T, FormulaError>;

impl Formula {
    /// Parses a formula.
    ///
    /// ```
    /// let f = zmlx_ir::Formula::parse("silu(gate) * up").unwrap();
    /// assert_eq!(f.names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["gate", "up"]);
    /// ```
    pub fn parse(text: &str) -> Result<Formula> {
        Formula::parse_with("", text)
    }

    /// Parses a formula that may use the `fn` and `let` of a prelude.
    pub fn parse_with(prelude: &str, text: &str) -> Result<Formula> {
        let mut formula = Formula::default();
        let mut parser = Parser::new(&mut formula, &[], false);
        if !prelude.is_empty() {
            parser.prelude(prelude)?;
        }
        let mut outs = parser.results(text)?;
        formula.retain(0, &mut outs);
        formula.outs = outs;
        Ok(formula)
    }

    /// Parses more text into this formula, with some names standing for values it has. Its results are given back
    /// rather than added to `outs`; on an error the formula is as before.
    pub fn parse_into(&mut self, text: &str, bound: &[(&str, Id)]) -> Result<Vec<Out>> {
        self.parse_more(text, bound, false)
    }

    /// As `parse_into`, but a name that is neither bound nor among `names` is an error.
    pub fn parse_closed(&mut self, text: &str, bound: &[(&str, Id)]) -> Result<Vec<Out>> {
        self.parse_more(text, bound, true)
    }

    fn parse_more(&mut self, text: &str, bound: &[(&str, Id)], closed: bool) -> Result<Vec<Out>> {
        let (names, terms, source) = (self.names.len(), self.terms.len(), self.source.len());
        let parsed = Parser::new(self, bound, closed).results(text);
        match parsed {
            Ok(mut outs) => {
                self.retain(terms, &mut outs);
                Ok(outs)
            }
            Err(e) => {
                self.names.truncate(names);
                self.source.truncate(source);
                self.spans.truncate(terms);
                for term in self.terms.drain(terms..) {
                    self.memo.remove(&term);
                }
                Err(e)
            }
        }
    }

    /// Drops the terms from `first` on that no result needs: unused `let`s and the bodies of helper functions.
    pub(super) fn retain(&mut self, first: usize, outs: &mut [Out]) {
        let live = self.live(first, outs);
        if live.iter().all(|l| *l) {
            return;
        }
        let mut map: Vec<Id> = (0..first as u32).map(Id).collect();
        let dropped = self.terms.split_off(first);
        let spans = self.spans.split_off(first.min(self.spans.len()));
        // all of them first: a term that is renumbered may look like a later one before that
        for term in &dropped {
            self.memo.remove(term);
        }
        for (i, mut term) in dropped.into_iter().enumerate() {
            map.push(Id(self.terms.len() as u32));
            if live[first + i] {
                term.args.iter_mut().for_each(|a| *a = map[a.index()]);
                self.memo.insert(term.clone(), Id(self.terms.len() as u32));
                self.terms.push(term);
                self.spans.extend(spans.get(i).cloned());
            }
        }
        outs.iter_mut().for_each(|o| o.term = map[o.term.index()]);
    }

    /// Which terms are before `first` or needed by these results.
    pub(super) fn live(&self, first: usize, outs: &[Out]) -> Vec<bool> {
        let mut live: Vec<bool> = (0..self.terms.len()).map(|i| i < first).collect();
        outs.iter().for_each(|o| live[o.term.index()] = true);
        for i in (first..self.terms.len()).rev() {
            if live[i] {
                self.terms[i].args.iter().for_each(|a| live[a.index()] = true);
            }
        }
        live
    }
}

/// Words that cannot be names.
pub(super) const RESERVED: [&str; 10] = ["let", "out", "fn", "row", "col", "rows", "cols", "INFINITY", "NAN", "PI"];

/// `fn name(parameters) = root`: terms from `first` to `root` hold its body, over parameter slots.
#[derive(Clone, Copy)]
pub(super) struct Helper {
    pub first_slot: u32,
    pub parameters: usize,
    pub first: usize,
    pub root: Id,
}

pub(super) struct Parser<'a> {
    pub formula: &'a mut Formula,
    pub text: &'a str,
    tokens: Vec<Token>,
    pub at: usize,
    /// Where `text` begins in the formula's source.
    pub base: usize,
    /// Values that names stand for: inputs met, `let`, `out`, parameters.
    pub scope: HashMap<&'a str, Id>,
    pub helpers: HashMap<&'a str, Helper>,
    /// The helper function whose body is being parsed.
    pub inside: Option<&'a str>,
    /// The next parameter's slot.
    next_slot: u32,
    /// Unknown names are errors.
    pub closed: bool,
    pub depth: usize,
    /// Terms copied by helper functions so far.
    pub copied: usize,
}

impl<'a> Parser<'a> {
    fn new(formula: &'a mut Formula, bound: &[(&'a str, Id)], closed: bool) -> Self {
        Parser {
            formula,
            text: "",
            tokens: vec![],
            at: 0,
            base: 0,
            scope: bound.iter().copied().collect(),
            helpers: HashMap::new(),
            inside: None,
            next_slot: PARAMETERS,
            closed,
            depth: 0,
            copied: 0,
        }
    }

    fn enter(&mut self, text: &'a str) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(FormulaError::new(format!("the formula has {} bytes, more than {MAX_TEXT}", text.len())));
        }
        self.tokens = tokens(text)?;
        (self.text, self.at, self.base) = (text, 0, self.formula.source.len());
        self.formula.spans.resize(self.formula.terms.len(), 0..0);
        self.formula.source.push_str(text);
        self.formula.source.push('\n');
        Ok(())
    }

    fn prelude(&mut self, text: &'a str) -> Result<()> {
        self.enter(text)?;
        while self.next_statement() {
            match self.word() {
                Some("fn") => self.helper()?,
                Some("let") => self.binding()?,
                _ => return Err(self.error_here("a prelude holds only 'fn' and 'let'")),
            }
            self.statement_end()?;
        }
        Ok(())
    }

    fn results(&mut self, text: &'a str) -> Result<Vec<Out>> {
        self.enter(text)?;
        let mut outs: Vec<Out> = vec![];
        let mut last: Option<(Id, Range<usize>)> = None;
        while self.next_statement() {
            if let Some((_, span)) = last {
                return Err(self.error("this value is not used", span).suggest("name it with 'let' or 'out'"));
            }
            match self.word() {
                Some("fn") => self.helper()?,
                Some("let") => self.binding()?,
                Some("out") => {
                    let out = self.out(&outs)?;
                    outs.push(out);
                }
                _ => {
                    let start = self.start();
                    let term = self.expr()?;
                    last = Some((term, start..self.last_end()));
                }
            }
            self.statement_end()?;
        }
        match last {
            Some((_, span)) if !outs.is_empty() => {
                Err(self.error("beside 'out' this value is not a result", span).suggest("write 'out name = …'"))
            }
            Some((term, _)) => Ok(vec![Out { name: "out".into(), dtype: None, term }]),
            None if outs.is_empty() => Err(self.error_here("the formula has no result").suggest("end with a value")),
            None => Ok(outs),
        }
    }

    // Statements.

    /// Skips `;` and says whether anything is left.
    fn next_statement(&mut self) -> bool {
        while self.eat(";") {}
        self.peek().tok != Tok::End
    }

    fn statement_end(&mut self) -> Result<()> {
        let token = *self.peek();
        if token.tok == Tok::End || token.is(";") {
            return Ok(());
        }
        let e = self.expected("an operator or ';'");
        Err(match token.tok {
            Tok::Sign("=") => e.suggest("for a comparison write '=='"),
            Tok::Sign("**") => e.suggest("for a power write 'pow(a, b)'"),
            Tok::Sign("(") | Tok::Word | Tok::Int(_) | Tok::Float(_) => e.suggest("is an operator missing?"),
            _ => e,
        })
    }

    /// `let name = value`
    fn binding(&mut self) -> Result<()> {
        self.at += 1;
        let name = self.new_name("a name")?;
        self.expect("=")?;
        let value = self.expr()?;
        self.scope.insert(name, value);
        Ok(())
    }

    /// `out name: type = value`; without a name it is called `out`.
    fn out(&mut self, outs: &[Out]) -> Result<Out> {
        self.at += 1;
        let at = self.peek().span();
        let name = if self.peek().tok == Tok::Word { self.new_name("a name")? } else { "out" };
        let dtype = match self.eat(":") {
            true => Some(self.dtype()?),
            false => None,
        };
        self.expect("=")?;
        let term = self.expr()?;
        if outs.iter().any(|o| o.name == name) {
            return Err(self.error(format!("there are two results '{name}'"), at));
        }
        if self.formula.names.iter().any(|n| n.name == name) {
            return Err(self.error(format!("'{name}' is an input"), at).suggest("give the result another name"));
        }
        if name != "out" {
            self.scope.insert(name, term);
        }
        Ok(Out { name: name.into(), dtype, term })
    }

    fn dtype(&mut self) -> Result<DType> {
        let dtype = self.word().and_then(type_name);
        match dtype {
            Some(d) => {
                self.at += 1;
                Ok(d)
            }
            None => {
                let e = self.expected("a type");
                Err(e.did_you_mean(self.word().unwrap_or(""), DType::ALL.map(DType::name)))
            }
        }
    }

    /// `fn name(a, b) = value`
    fn helper(&mut self) -> Result<()> {
        self.at += 1;
        let at = self.peek().span();
        let name = self.new_name("a function name")?;
        if self.helpers.contains_key(name) {
            return Err(self.error(format!("there are two functions '{name}'"), at));
        }
        self.expect("(")?;
        let (first_slot, first) = (self.next_slot, self.formula.terms.len());
        // What the parameters hide.
        let mut hidden: Vec<(&str, Option<Id>)> = vec![];
        while !self.eat(")") {
            let at = self.peek().span();
            let parameter = self.new_name("a parameter")?;
            if hidden.iter().any(|(p, _)| *p == parameter) {
                return Err(self.error(format!("there are two parameters '{parameter}'"), at));
            }
            if hidden.len() == MAX_PARAMETERS {
                return Err(self.error(format!("a function has at most {MAX_PARAMETERS} parameters"), at));
            }
            let slot = self.formula.push(Kind::Input(self.next_slot), vec![]);
            self.next_slot += 1;
            hidden.push((parameter, self.scope.insert(parameter, slot)));
            if !self.peek().is(")") {
                self.expect(",")?;
            }
        }
        self.expect("=")?;
        self.inside = Some(name);
        let root = self.expr()?;
        self.inside = None;
        self.helpers.insert(name, Helper { first_slot, parameters: hidden.len(), first, root });
        for (name, value) in hidden {
            match value {
                Some(value) => self.scope.insert(name, value),
                None => self.scope.remove(name),
            };
        }
        Ok(())
    }

    // Tokens.

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    /// The token after the next `n`.
    pub(super) fn ahead(&self, n: usize) -> &Token {
        &self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }

    /// The next token, if it is a word.
    pub(super) fn word(&self) -> Option<&'a str> {
        (self.peek().tok == Tok::Word).then(|| &self.text[self.peek().span()])
    }

    pub(super) fn start(&self) -> usize {
        self.peek().span().start
    }

    pub(super) fn last_end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].span().end
    }

    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let here = self.peek().is(sign);
        self.at += usize::from(here);
        here
    }

    pub(super) fn expect(&mut self, sign: &str) -> Result<()> {
        if self.eat(sign) { Ok(()) } else { Err(self.expected(&format!("'{sign}'"))) }
    }

    /// A word that may be given a meaning.
    fn new_name(&mut self, what: &str) -> Result<&'a str> {
        match self.word() {
            Some(word) if RESERVED.contains(&word) => Err(self.error_here(format!("'{word}' is a reserved word"))),
            Some(word) => {
                self.at += 1;
                Ok(word)
            }
            None => Err(self.expected(what)),
        }
    }

    // Errors.

    pub(super) fn error(&self, message: impl Into<String>, span: Range<usize>) -> FormulaError {
        FormulaError::new(message).at(self.text, span)
    }

    pub(super) fn error_here(&self, message: impl Into<String>) -> FormulaError {
        self.error(message, self.peek().span())
    }

    pub(super) fn expected(&self, what: &str) -> FormulaError {
        let token = self.peek();
        self.error_here(match token.tok {
            Tok::End => format!("expected {what}, but the formula ends"),
            _ => format!("expected {what}, found '{}'", &self.text[token.span()]),
        })
    }
}
