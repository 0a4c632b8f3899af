//! The items that `#[jit]` writes beside a function: a type of the same name (types and functions have different name
//! spaces) that holds the traced function and the operation.

use crate::body::Body;
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Error, FnArg, ItemFn, Pat, ReturnType, Type};

/// What a value may be: those candle stores and Rust computes with.
const TYPES: [&str; 8] = ["f32", "f64", "i16", "i32", "i64", "u8", "u32", "bool"];

/// What is wrong, and the tokens that it is about.
#[derive(Debug)]
pub struct Mistake {
    pub at: TokenStream,
    pub message: String,
}
pub type Result<T> = std::result::Result<T, Mistake>;

/// A mistake at this node.
pub fn no<T>(at: &impl ToTokens, message: impl Into<String>) -> Result<T> {
    Err(Mistake { at: at.to_token_stream(), message: message.into() })
}

/// The function and what belongs to it. A mistake is reported where it is, and the function still stands, so that
/// nothing else is reported for want of it.
pub fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let error = Error::new_spanned(&item, "#[jit] stands before a function").into_compile_error();
            return quote!(#error #item);
        }
    };
    let companion = match arguments.is_empty() {
        true => companion(&function),
        false => no(&arguments, "#[jit] takes no arguments"),
    };
    let companion = companion.unwrap_or_else(|m| Error::new_spanned(m.at, m.message).into_compile_error());
    quote!(#[allow(dead_code)] #function #companion)
}

fn companion(function: &ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    plain(function)?;
    let (mut names, mut types) = (vec![], vec![]);
    let mut body = Body::default();
    for input in &signature.inputs {
        let (name, mutable, ty) = parameter(input)?;
        body.declare(&name);
        types.push(value_type(ty)?.to_token_stream());
        names.push((name, mutable));
    }
    let ReturnType::Type(_, result) = &signature.output else {
        return no(&signature.ident, "#[jit] needs a result: write '-> f32'");
    };
    let result = value_type(result)?;
    let block = body.function(&function.block)?;
    let (vis, name, doc) = (&function.vis, &signature.ident, format!("`{}` as an operation.", signature.ident));
    let plain: Vec<&Ident> = names.iter().map(|(name, _)| name).collect();
    let patterns = names.iter().map(|(name, mutable)| if *mutable { quote!(mut #name) } else { quote!(#name) });
    let words: Vec<String> = plain.iter().map(|name| word(name)).collect();
    let text = word(name);
    let slots = 0..plain.len();
    Ok(quote! {
        #[doc = #doc]
        #[allow(non_camel_case_types, dead_code)]
        #vis struct #name {}
        #[allow(dead_code, non_snake_case, unused, clippy::all)]
        impl #name {
            /// The operation; each parameter is an input.
            #vis fn op() -> ::zmlx::Result<::zmlx::Op> {
                ::zmlx::__jit::build(#text, &[#(#words),*], |__inputs| {
                    Self::__value(#(::zmlx::__jit::Value::input(__inputs[#slots])),*).expr()
                })
            }
            /// Its use inside a traced closure.
            #vis fn expr(#(#plain: ::zmlx::Expr),*) -> ::zmlx::Expr {
                Self::__value(#(::zmlx::__jit::Value::input(#plain)),*).expr()
            }
            #[doc(hidden)]
            #vis fn __value(#(#patterns: ::zmlx::__jit::Value<#types>),*) -> ::zmlx::__jit::Value<#result> {
                #block
            }
        }
    })
}

/// The name without `r#`.
fn word(name: &Ident) -> String {
    let text = name.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_string)
}

/// A signature that has a meaning for tensors.
fn plain(function: &ItemFn) -> Result<()> {
    let s = &function.sig;
    let faults = [
        (s.asyncness.map(|t| t.to_token_stream()), "an async function"),
        (s.unsafety.map(|t| t.to_token_stream()), "an unsafe function"),
        (s.abi.as_ref().map(|t| t.to_token_stream()), "an extern function"),
        (s.generics.params.first().map(|t| t.to_token_stream()), "a generic function"),
        (s.generics.where_clause.as_ref().map(|t| t.to_token_stream()), "a where clause"),
        (s.variadic.as_ref().map(|t| t.to_token_stream()), "a variadic function"),
    ];
    for (at, what) in faults {
        if let Some(at) = at {
            return no(&at, format!("#[jit] does not take {what}"));
        }
    }
    if s.inputs.is_empty() {
        return no(&s.ident, "#[jit] needs a parameter: an operation has an input");
    }
    Ok(())
}

fn parameter(input: &FnArg) -> Result<(Ident, bool, &Type)> {
    match input {
        FnArg::Receiver(receiver) => no(receiver, "#[jit] does not take methods"),
        FnArg::Typed(typed) => match &*typed.pat {
            Pat::Ident(p) if p.by_ref.is_none() && p.subpat.is_none() => {
                Ok((p.ident.clone(), p.mutability.is_some(), &typed.ty))
            }
            other => no(other, "a parameter of a #[jit] function is a name"),
        },
    }
}

/// The type, if it is one of numbers.
pub fn value_type(ty: &Type) -> Result<&Ident> {
    if let Type::Path(path) = ty
        && let Some(name) = path.path.get_ident()
        && TYPES.contains(&name.to_string().as_str())
    {
        return Ok(name);
    }
    let known = TYPES.join(", ");
    no(ty, format!("#[jit] does not know the type '{}'; it knows {known}", ty.to_token_stream()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message and the text that it points at.
    fn mistake(code: &str) -> (String, String) {
        let function: ItemFn = syn::parse_str(code).unwrap();
        let mistake = companion(&function).unwrap_err();
        (mistake.message, mistake.at.to_string())
    }

    #[test]
    fn what_is_not_accepted_is_an_error_where_it_stands() {
        for (code, place) in [
            ("async fn f(x: f32) -> f32 { x }", "async"),
            ("fn f<T>(x: f32) -> f32 { x }", "T"),
            ("fn f(x: f32) { }", "f"),
            ("fn f() -> f32 { 1.0 }", "f"),
            ("fn f(x: &[f32]) -> f32 { 1.0 }", "&[f32]"),
            ("fn f(x: usize) -> f32 { 1.0 }", "usize"),
            ("fn f((a, b): f32) -> f32 { a }", "(a, b)"),
            ("fn f(x: f32) -> f32 { while x > 0.0 { } x }", "while x > 0.0 { }"),
            ("fn f(x: f32) -> f32 { loop { } }", "loop { }"),
            ("fn f(x: f32) -> f32 { match x { _ => x } }", "match x { _ => x }"),
            ("fn f(x: f32) -> f32 { for i in 0..3 { break; } x }", "break"),
            ("fn f(x: f32) -> f32 { for i in 0..3 { continue; } x }", "continue"),
            ("fn f(n: i32) -> i32 { for i in 0..n { } n }", "n"),
            ("fn f(n: i32) -> i32 { for i in 0.. { } n }", "0.."),
            ("fn f(n: i32) -> i32 { for i in list { } n }", "list"),
            ("fn f(x: f32) -> f32 { let (a, b) = (x, x); a }", "(a, b)"),
            ("fn f(x: f32) -> f32 { let a; a = x; a }", "let a;"),
            ("fn f(x: f32) -> f32 { println!(\"{x}\"); x }", "println!(\"{x}\")"),
            ("fn f(x: f32) -> f32 { let g = |y| y; x }", "|y| y"),
            ("fn f(x: f32) -> f32 { x[0] }", "x[0]"),
            ("fn f(x: f32) -> f32 { *&x }", "*&x"),
            ("fn f(x: f32) -> f32 { x.0 }", "x.0"),
            ("fn f(x: f32) -> f32 { fn g() {} x }", "fn g() {}"),
            ("fn f(x: f32) -> f32 { let a = \"s\"; x }", "\"s\""),
            ("fn f(x: f32) -> f32 { x as usize as f32 }", "usize"),
            ("fn f(x: f32) -> f32 { X = x; x }", "X"),
            ("fn f(x: f32) -> f32 { let c = if x > 0.0 { x }; x }", "if x > 0.0 { x }"),
            ("fn f(x: f32) -> f32 { if let y = x { y } else { x } }", "let y = x"),
            ("fn f(x: f32) -> f32 { unsafe { x } }", "unsafe { x }"),
            ("fn f(x: f32) -> f32 { x.max::<f32>(x) }", "::<f32>"),
        ] {
            let (message, at) = mistake(code);
            let letters = |text: &str| text.replace(char::is_whitespace, "");
            assert_eq!(letters(&at), letters(place), "{code}: {message}");
            assert!(message.len() > 10, "{code}: {message}");
        }
    }

    #[test]
    fn messages_say_what_to_write_instead() {
        assert_eq!(
            mistake("fn f(n: i32) -> i32 { for i in 0..n { } n }").0,
            "the bounds of a loop are constant in #[jit]: 'n' is known only when the kernel runs"
        );
        assert!(mistake("fn f(x: f16) -> f32 { 1.0 }").0.contains("it knows f32, f64"));
    }

    #[test]
    fn the_function_itself_is_left_as_it_is() {
        let code = quote!(
            pub fn f(x: f32) -> f32 {
                x * 2.0
            }
        );
        let out = expand(TokenStream::new(), code.clone()).to_string();
        assert!(out.contains(&code.to_string()), "{out}");
        let wrong = expand(
            TokenStream::new(),
            quote!(
                struct S;
            ),
        )
        .to_string();
        assert!(wrong.contains("compile_error") && wrong.contains("struct S"), "{wrong}");
        assert!(expand(quote!(fast), code).to_string().contains("takes no arguments"));
    }
}
