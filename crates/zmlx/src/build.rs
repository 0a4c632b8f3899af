//! Building operations from formulas and closures.

use crate::{Op, Result};
use std::{
    collections::HashMap,
    sync::{LazyLock, PoisonError, RwLock},
};
use zmlx_ir::{Expr, Formula, FormulaError, expr::trace};

/// What an operation is built from: text, or a Formula that was parsed or traced.
pub trait IntoFormula {
    #[doc(hidden)]
    fn into_formula(self) -> Result<Formula>;
}

impl IntoFormula for Formula {
    fn into_formula(self) -> Result<Formula> {
        Ok(self)
    }
}
impl IntoFormula for &str {
    fn into_formula(self) -> Result<Formula> {
        parsed("", self)
    }
}
impl IntoFormula for String {
    fn into_formula(self) -> Result<Formula> {
        parsed("", &self)
    }
}
impl IntoFormula for &String {
    fn into_formula(self) -> Result<Formula> {
        parsed("", self)
    }
}

/// Formulas by their text: one written again is not parsed again.
static PARSED: LazyLock<RwLock<HashMap<String, Formula>>> = LazyLock::new(RwLock::default);
/// More of them than this are let go of, all at once.
const PARSED_LIMIT: usize = 4096;

fn parsed(prelude: &str, text: &str) -> Result<Formula> {
    let key = if prelude.is_empty() { text.to_string() } else { format!("{prelude}\u{0}{text}") };
    if let Some(f) = PARSED.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(f.clone());
    }
    let formula = Formula::parse_with(prelude, text)?;
    let mut map = PARSED.write().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= PARSED_LIMIT {
        map.clear();
    }
    map.insert(key, formula.clone());
    Ok(formula)
}

/// An operation that computes each element by itself. Inputs broadcast by candle's rules.
///
/// # Errors
/// A formula that is wrong, with the place underlined; one that reduces a row (use [`rowwise`]).
pub fn elementwise(formula: impl IntoFormula) -> Result<Op> {
    let formula = formula.into_formula()?;
    formula.expect_pointwise()?;
    Ok(Op::from_formula(formula))
}

/// An operation whose formula may reduce and scan rows. Takes everything that [`elementwise`] takes.
///
/// # Errors
/// A formula that is wrong, with the place underlined.
pub fn rowwise(formula: impl IntoFormula) -> Result<Op> {
    Ok(Op::from_formula(formula.into_formula()?))
}

/// An elementwise operation traced from a closure over [`Expr`].
///
/// # Errors
/// As [`elementwise`]; an `Expr` that is not of this trace.
pub fn elementwise_fn<const N: usize>(names: [&str; N], f: impl FnOnce([Expr; N]) -> Expr) -> Result<Op> {
    elementwise(traced(names, f)?)
}

/// A row operation traced from a closure over [`Expr`].
///
/// # Errors
/// As [`elementwise_fn`].
pub fn rowwise_fn<const N: usize>(names: [&str; N], f: impl FnOnce([Expr; N]) -> Expr) -> Result<Op> {
    rowwise(traced(names, f)?)
}

fn traced<const N: usize>(
    names: [&str; N],
    f: impl FnOnce([Expr; N]) -> Expr,
) -> std::result::Result<Formula, FormulaError> {
    trace(&names, |inputs| vec![f(std::array::from_fn(|k| inputs[k]))])
}

/// Helper functions for formulas: `prelude("fn sq(x) = x * x;").elementwise("sq(x) + 1")`.
pub fn prelude(functions: &str) -> Prelude {
    Prelude { functions: functions.into() }
}

/// Helper functions that formulas are built with.
#[derive(Clone, Debug)]
pub struct Prelude {
    functions: String,
}

impl Prelude {
    /// As [`elementwise`].
    ///
    /// # Errors
    /// As [`elementwise`].
    pub fn elementwise(&self, formula: &str) -> Result<Op> {
        elementwise(parsed(&self.functions, formula)?)
    }

    /// As [`rowwise`].
    ///
    /// # Errors
    /// As [`rowwise`].
    pub fn rowwise(&self, formula: &str) -> Result<Op> {
        rowwise(parsed(&self.functions, formula)?)
    }
}
