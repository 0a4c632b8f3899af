//! `#[jit]`: a Rust function of numbers that is an operation on tensors too.
//!
//! `function.rs` reads the signature and writes the items, `body.rs` rewrites the statements so that running them once
//! records a formula. The rewritten function has the types of the original (`f32` becomes `Value<f32>`), so rustc infers
//! the type of every literal exactly as it does in the original.

mod body;
mod function;

use proc_macro::TokenStream;

/// Makes a function of numbers an operation too: `name(1.0)` stays plain Rust, `name::op()?` is the [`Op`] and
/// `name::expr(x)` uses it inside a traced closure.
///
/// Parameters and the result are `f32`, `f64`, `i16`, `i32`, `i64`, `u8`, `u32` or `bool`; each parameter is an input
/// of the operation. `f32` stands for the float type of the tensors (f16, bf16 and f32 compute in f32, f64 in f64);
/// an input of another type is converted to the one that the parameter says.
///
/// The body may hold `let`, `let mut`, `=`, `+=` and its like, `if`/`else` (as a statement or a value), early
/// `return`, `for` over a range with constant bounds (unrolled; `.rev()` and `.step_by(n)` too), arithmetic,
/// comparisons, `&&`, `||`, `!`, bit operators, `as`, constants, methods of numbers (`x.exp()`, `x.max(y)`; those of
/// `zmlx::FloatExt` as well) and calls of other `#[jit]` functions. Anything else is a compile error where it stands.
///
/// Values are those of plain Rust, with what a kernel does on every target where Rust panics: integers wrap, and
/// `n / 0` and `n % 0` are 0. Both sides of an `if` are computed; gradients flow only through the one taken.
///
/// [`Op`]: https://docs.rs/zmlx
#[proc_macro_attribute]
pub fn jit(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(arguments.into(), item.into()).into()
}
