//! Formulas: what a user writes, before dtypes and extents are known.
//!
//! A Formula is a hash-consed graph of the same [`Kind`]s as a Program, untyped: every name is a `Kind::Input`,
//! every literal a `Kind::Const`. `bind` gives it the dtypes and extents of a call and makes a Program.
//!
//! `parse` reads the formula language, `trace` runs a closure over [`Expr`]; both build through `functions`,
//! so a function means the same in either.

mod bind;
mod error;
mod functions;
mod parse;
mod text;
mod token;
mod trace;
mod value;

pub use bind::Signature;
pub use error::{FormulaError, nearest};
pub use functions::{Function, functions};
pub use trace::{Expr, fail, interleave, stack, trace};

use crate::{
    DType,
    program::{Extent, Fold, Id, Kind},
};
use std::{collections::HashMap, ops::Range};

/// A name that is not bound inside the formula: a tensor input, or a launch argument once declared so.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// As written.
    pub name: String,
    /// Declared as a launch argument, with its default value.
    pub uniform: Option<Scalar>,
    /// Declared extent (`.row("t")`); otherwise it follows from the shape at the call.
    pub extent: Option<Extent>,
    /// Declared as a table: the name whose integers, one a row, say which row of it each row reads (`.rows_by("x", "at")`).
    pub by: Option<String>,
}

/// The value of a launch argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A number that takes the float type of the Program.
    Float(f64),
    /// An integer, passed as i64.
    Int(i64),
}

macro_rules! scalar_from {
    ($($t:ty => $v:ident),*) => {$(
        impl From<$t> for Scalar {
            fn from(v: $t) -> Scalar {
                Scalar::$v(v.into())
            }
        }
    )*};
}
scalar_from!(f32 => Float, f64 => Float, i32 => Int, u32 => Int, i64 => Int, u8 => Int);

/// One untyped value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// What it computes.
    pub kind: Kind,
    /// From what.
    pub args: Vec<Id>,
}

/// One result of a formula.
#[derive(Clone, Debug, PartialEq)]
pub struct Out {
    /// `out h = …` gives `h`; the single result of an expression is called `out`.
    pub name: String,
    /// `out h: f32 = …`; None: that of the first Elem input.
    pub dtype: Option<DType>,
    /// The value.
    pub term: Id,
}

/// An untyped computation with named inputs.
#[derive(Clone, Debug, Default)]
pub struct Formula {
    /// Unbound names in order of appearance.
    pub names: Vec<Name>,
    /// Results.
    pub outs: Vec<Out>,
    /// Custom monoids (`reduce()`, `map_reduce()`), over f32; `bind` retypes them.
    pub folds: Vec<Fold>,
    terms: Vec<Term>,
    memo: HashMap<Term, Id>,
    /// What was parsed, and where in it each term stands, for the errors of `bind`.
    source: String,
    spans: Vec<Range<u32>>,
}

/// The same results of the same names, however the terms are numbered.
impl PartialEq for Formula {
    fn eq(&self, other: &Formula) -> bool {
        let live = self.live(0, &self.outs);
        let mut same: Vec<Option<Id>> = vec![None; self.terms.len()];
        for (i, term) in self.terms.iter().enumerate().filter(|(i, _)| live[*i]) {
            let args: Option<Vec<Id>> = term.args.iter().map(|a| same[a.index()]).collect();
            same[i] = args.and_then(|args| other.memo.get(&Term { kind: term.kind, args }).copied());
            if same[i].is_none() {
                return false;
            }
        }
        let outs = self.outs.iter().zip(&other.outs);
        self.names == other.names
            && self.folds == other.folds
            && self.outs.len() == other.outs.len()
            && outs
                .into_iter()
                .all(|(a, b)| a.name == b.name && a.dtype == b.dtype && same[a.term.index()] == Some(b.term))
    }
}

impl Formula {
    /// The terms, arguments before users.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Adds a term, or finds the equal one that is there.
    pub fn push(&mut self, kind: Kind, args: Vec<Id>) -> Id {
        let term = Term { kind, args };
        if let Some(&id) = self.memo.get(&term) {
            return id;
        }
        let id = Id(self.terms.len() as u32);
        self.memo.insert(term.clone(), id);
        self.terms.push(term);
        id
    }

    /// The value of a name, entered at its first appearance.
    pub fn name(&mut self, name: &str) -> Id {
        let slot = match self.names.iter().position(|n| n.name == name) {
            Some(slot) => slot,
            None => {
                self.names.push(Name { name: name.into(), uniform: None, extent: None, by: None });
                self.names.len() - 1
            }
        };
        self.push(Kind::Input(slot as u32), vec![])
    }

    /// A literal.
    pub fn literal(&mut self, value: f64) -> Id {
        self.push(Kind::Const(value.to_bits()), vec![])
    }

    /// Does it reduce or scan a row, or use positions in it (so that its last axis must stay an axis)?
    pub fn uses_rows(&self) -> bool {
        self.terms.iter().any(|t| {
            use Kind::*;
            matches!(t.kind, Reduce(..) | Fold(_) | Scan(_) | Pick(_) | Index(_) | Stack | Weave)
        })
    }
}
