//! Rewrites the statements of a function so that running them records a formula.
//!
//! Both sides of an `if` run; the variables that either assigns, and its value, become selects. A `return` under
//! conditions is noted with them in `__returns`: the first that holds decides the result, and since nothing but the
//! result can be seen after a return, the statements that follow need no guard. Loops run as loops while tracing.

use crate::function::{Result, no, value_type};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::HashMap;
use syn::{
    BinOp, Block, Expr, ExprForLoop, ExprIf, ExprMethodCall, Item, Lit, Local, Pat, Path, Stmt, UnOp, spanned::Spanned,
};

/// The scopes of a function under translation.
#[derive(Default)]
pub struct Body {
    /// Names of values; for the counter of a loop, the name of its plain number.
    locals: HashMap<Ident, Option<Ident>>,
    /// Counters so far, for names that nothing hides.
    counters: usize,
    /// Inside an `if`, where `__path` holds its condition.
    branched: bool,
}

/// A translated block: statements, and the value if it ends in one.
struct Translated {
    statements: TokenStream,
    value: Option<TokenStream>,
    /// Ends in a `return` on every way through it.
    returns: bool,
}

impl Body {
    /// Enters a variable.
    pub fn declare(&mut self, name: &Ident) {
        self.locals.insert(name.clone(), None);
    }

    /// The block of the function: its value, or that of the return that was taken.
    pub fn function(&mut self, block: &Block) -> Result<TokenStream> {
        let Translated { statements, value, returns } = self.block(block)?;
        let end = match (value, returns) {
            (Some(value), _) => quote!(__returns.or(#value)),
            (None, true) => quote!(__returns.value()),
            (None, false) => return no(block, "the function ends without a value"),
        };
        Ok(quote! {
            let mut __returns = ::zmlx::__jit::Returns::default();
            #statements
            #end
        })
    }

    /// A block in a scope of its own.
    fn block(&mut self, block: &Block) -> Result<Translated> {
        let outer = self.locals.clone();
        let translated = self.statements(&block.stmts);
        self.locals = outer;
        translated
    }

    fn statements(&mut self, all: &[Stmt]) -> Result<Translated> {
        let mut out = Translated { statements: TokenStream::new(), value: None, returns: false };
        for (i, statement) in all.iter().enumerate() {
            let last = i + 1 == all.len();
            let code = match statement {
                Stmt::Local(local) => self.local(local)?,
                Stmt::Item(item @ (Item::Const(_) | Item::Use(_))) => quote!(#item),
                Stmt::Item(item) => return no(item, "an item of this kind cannot stand in a #[jit] function"),
                Stmt::Macro(m) => return no(&m.mac, "#[jit] does not take macros"),
                Stmt::Expr(Expr::If(e), semicolon) => {
                    let wanted = last && semicolon.is_none();
                    let branch = self.branch(e, false)?;
                    out.returns |= branch.returns;
                    let statements = branch.statements;
                    match branch.value {
                        Some(value) if wanted => out.value = Some(quote!({ #statements #value })),
                        _ => out.statements.extend(quote!({ #statements })),
                    }
                    continue;
                }
                Stmt::Expr(Expr::Return(e), _) => {
                    out.returns = true;
                    self.early(e.expr.as_deref(), e)?
                }
                Stmt::Expr(Expr::ForLoop(e), _) => self.unrolled(e)?,
                Stmt::Expr(Expr::Block(e), semicolon) if e.label.is_none() => {
                    let inner = self.block(&e.block)?;
                    out.returns |= inner.returns;
                    let (statements, value) = (inner.statements, inner.value);
                    match value {
                        Some(value) if last && semicolon.is_none() => out.value = Some(quote!({ #statements #value })),
                        _ => out.statements.extend(quote!({ #statements })),
                    }
                    continue;
                }
                Stmt::Expr(e, None) if last && !assigns(e) => {
                    out.value = Some(self.expr(e)?);
                    continue;
                }
                Stmt::Expr(e, _) => self.statement(e)?,
            };
            out.statements.extend(code);
        }
        if out.returns {
            // what follows a return on every way is not reached
            out.value = None;
        }
        Ok(out)
    }

    fn local(&mut self, local: &Local) -> Result<TokenStream> {
        let (pat, ty) = match &local.pat {
            Pat::Type(typed) => {
                let ty = value_type(&typed.ty)?;
                (&*typed.pat, quote!(: ::zmlx::__jit::Value<#ty>))
            }
            other => (other, TokenStream::new()),
        };
        let Some(init) = local.init.as_ref().filter(|init| init.diverge.is_none()) else {
            return no(local, "'let' gives a value at once in a #[jit] function");
        };
        let (mutable, name) = match pat {
            Pat::Ident(p) if p.by_ref.is_none() && p.subpat.is_none() => (p.mutability, &p.ident),
            Pat::Wild(w) => (None, &Ident::from(w.underscore_token)),
            other => return no(other, "#[jit] does not take patterns: bind one name"),
        };
        // the value may use what the name hides
        let value = self.expr(&init.expr)?;
        self.declare(name);
        Ok(quote!(let #mutable #name #ty = #value;))
    }

    /// An expression as a statement: an assignment, or a value that nobody uses.
    fn statement(&mut self, e: &Expr) -> Result<TokenStream> {
        match e {
            Expr::Assign(a) => {
                let name = self.variable(&a.left)?;
                let value = self.expr(&a.right)?;
                Ok(quote!(#name = #value;))
            }
            Expr::Binary(b) if compound(&b.op).is_some() => {
                let name = self.variable(&b.left)?;
                let right = self.expr(&b.right)?;
                let op = compound(&b.op);
                Ok(quote_spanned!(b.span()=> #name = #name #op (#right);))
            }
            e => {
                let value = self.expr(e)?;
                Ok(quote!(let _ = #value;))
            }
        }
    }

    /// The variable on the left of an assignment.
    fn variable(&self, e: &Expr) -> Result<Ident> {
        match e {
            Expr::Path(p) => match p.path.get_ident() {
                Some(name) if self.locals.contains_key(name) => Ok(name.clone()),
                _ => no(e, "only a variable of the function can be assigned"),
            },
            Expr::Paren(p) => self.variable(&p.expr),
            e => no(e, "only a variable of the function can be assigned"),
        }
    }

    /// `return value` under the conditions of the ifs around it.
    fn early(&mut self, value: Option<&Expr>, e: &impl ToTokens) -> Result<TokenStream> {
        let Some(value) = value else { return no(e, "'return' gives a value in a #[jit] function") };
        let value = self.expr(value)?;
        let path = if self.branched { quote!(Some(__path)) } else { quote!(None) };
        Ok(quote!(__returns.note(#path, #value);))
    }

    /// An `if`; its value is wanted, or it is a statement.
    fn branch(&mut self, e: &ExprIf, wanted: bool) -> Result<Translated> {
        if let Expr::Let(inner) = &*e.cond {
            return no(inner, "#[jit] does not take patterns: compare with '=='");
        }
        let condition = self.expr(&e.cond)?;
        let mut changed: Vec<Ident> = vec![];
        assigned(&e.then_branch.stmts, &mut vec![], &mut changed);
        if let Some((_, other)) = &e.else_branch {
            assigned_in(other, &mut vec![], &mut changed);
        }
        changed.retain(|name| self.locals.contains_key(name));
        let path = match self.branched {
            true => quote!((__path & __condition)),
            false => quote!(__condition),
        };
        let counter = path.clone();
        let negated = match self.branched {
            true => quote!((__path & !__condition)),
            false => quote!((!__condition)),
        };
        let before = std::mem::replace(&mut self.branched, true);
        let then = self.block(&e.then_branch);
        let other = match e.else_branch.as_ref().map(|(_, other)| &**other) {
            None => Ok(Translated { statements: TokenStream::new(), value: None, returns: false }),
            Some(Expr::If(inner)) => self.branch(inner, wanted),
            Some(Expr::Block(b)) => self.block(&b.block),
            Some(e) => no(e, "expected a block"),
        };
        self.branched = before;
        let (then, other) = (then?, other?);
        let (a, b) = (side(&then, &counter, &changed), side(&other, &negated, &changed));
        let value = match (&then.value, &other.value) {
            (Some(_), Some(_)) => Some(quote!(__condition.select(__then.0, __else.0))),
            (Some(_), None) if other.returns => Some(quote!(__then.0)),
            (None, Some(_)) if then.returns => Some(quote!(__else.0)),
            _ => None,
        };
        let returns = then.returns && other.returns;
        if wanted && value.is_none() && !returns {
            return no(e, "this 'if' gives no value: both sides must end in one");
        }
        let merged = changed.iter().enumerate().map(|(i, name)| {
            let i = syn::Index::from(i + 1);
            match (then.returns, other.returns) {
                (true, _) => quote!(#name = __else.#i;),
                (_, true) => quote!(#name = __then.#i;),
                _ => quote!(#name = __condition.select(__then.#i, __else.#i);),
            }
        });
        let statements = quote! {
            let __condition: ::zmlx::__jit::Value<bool> = #condition;
            let __then = #a;
            let __else = #b;
            #(#merged)*
        };
        Ok(Translated { statements, value, returns })
    }

    /// A `for` that runs while tracing.
    fn unrolled(&mut self, e: &ExprForLoop) -> Result<TokenStream> {
        if let Some(label) = &e.label {
            return no(label, "#[jit] does not take labels");
        }
        let range = self.range(&e.expr)?;
        let outer = self.locals.clone();
        let counter = format_ident!("__counter{}", self.counters);
        self.counters += 1;
        let name = match &*e.pat {
            Pat::Ident(p) if p.by_ref.is_none() && p.subpat.is_none() => {
                self.locals.insert(p.ident.clone(), Some(counter.clone()));
                let name = &p.ident;
                quote!(let #name = ::zmlx::__jit::lit(#counter);)
            }
            Pat::Wild(_) => TokenStream::new(),
            other => return no(other, "#[jit] does not take patterns: bind one name"),
        };
        let inner = self.statements(&e.body.stmts);
        self.locals = outer;
        let Translated { statements, value, .. } = inner?;
        let value = value.map(|v| quote!(let _ = #v;));
        Ok(quote!(for #counter in ::zmlx::__jit::unroll(#range) { #name #statements #value }))
    }

    /// The range of a loop, in plain numbers.
    fn range(&self, e: &Expr) -> Result<TokenStream> {
        match e {
            Expr::Paren(p) => {
                let inner = self.range(&p.expr)?;
                Ok(quote!((#inner)))
            }
            Expr::Range(r) => match (&r.start, &r.end) {
                (Some(start), Some(end)) => {
                    let (start, limits, end) = (self.constant(start)?, &r.limits, self.constant(end)?);
                    Ok(quote!((#start) #limits (#end)))
                }
                _ => no(r, "a loop of a #[jit] function has a first and a last number: 'for i in 0..4'"),
            },
            Expr::MethodCall(m) if m.method == "rev" && m.args.is_empty() => {
                let inner = self.range(&m.receiver)?;
                Ok(quote!((#inner).rev()))
            }
            Expr::MethodCall(m) if m.method == "step_by" && m.args.len() == 1 => {
                let (inner, step) = (self.range(&m.receiver)?, self.constant(&m.args[0])?);
                Ok(quote!((#inner).step_by(#step)))
            }
            e => no(e, "a loop of a #[jit] function goes over a range: 'for i in 0..4'"),
        }
    }

    /// A number that is known while tracing: literals, constants, counters of loops, and arithmetic of them.
    fn constant(&self, e: &Expr) -> Result<TokenStream> {
        match e {
            Expr::Lit(_) => Ok(quote!(#e)),
            Expr::Paren(p) => {
                let inner = self.constant(&p.expr)?;
                Ok(quote!((#inner)))
            }
            Expr::Unary(u) if matches!(u.op, UnOp::Neg(_)) => {
                let inner = self.constant(&u.expr)?;
                Ok(quote!(-(#inner)))
            }
            Expr::Binary(b) if compound(&b.op).is_none() => {
                let (left, op, right) = (self.constant(&b.left)?, &b.op, self.constant(&b.right)?);
                Ok(quote!((#left) #op (#right)))
            }
            Expr::Cast(c) => {
                let (inner, ty) = (self.constant(&c.expr)?, &c.ty);
                Ok(quote!((#inner) as #ty))
            }
            Expr::Path(p) => match p.path.get_ident().and_then(|name| self.locals.get(name)) {
                Some(Some(counter)) => Ok(quote!(#counter)),
                Some(None) => {
                    let name = quote!(#p);
                    no(
                        e,
                        format!(
                            "the bounds of a loop are constant in #[jit]: '{name}' is known only when the kernel runs"
                        ),
                    )
                }
                None => Ok(quote!(#p)),
            },
            e => no(e, "the bounds of a loop are constant in #[jit]: numbers, constants and counters of outer loops"),
        }
    }

    /// A value.
    fn expr(&mut self, e: &Expr) -> Result<TokenStream> {
        match e {
            Expr::Lit(l) => match &l.lit {
                Lit::Int(_) | Lit::Float(_) | Lit::Bool(_) => Ok(quote_spanned!(l.span()=> ::zmlx::__jit::lit(#l))),
                other => no(other, "#[jit] knows numbers, 'true' and 'false'"),
            },
            Expr::Path(p) if p.qself.is_none() => match p.path.get_ident() {
                Some(name) if self.locals.contains_key(name) => Ok(quote!(#name)),
                // what is no variable is a constant
                _ => Ok(quote_spanned!(p.span()=> ::zmlx::__jit::lit(#p))),
            },
            Expr::Paren(p) => {
                let inner = self.expr(&p.expr)?;
                Ok(quote!((#inner)))
            }
            Expr::Group(g) => self.expr(&g.expr),
            Expr::Unary(u) if !matches!(u.op, UnOp::Deref(_)) => {
                let (op, inner) = (&u.op, self.expr(&u.expr)?);
                Ok(quote_spanned!(u.span()=> (#op #inner)))
            }
            Expr::Binary(b) => self.binary(&b.left, &b.op, &b.right, e),
            Expr::Cast(c) => {
                let (inner, ty) = (self.expr(&c.expr)?, value_type(&c.ty)?);
                Ok(quote_spanned!(c.span()=> ::zmlx::__jit::Value::cast::<#ty>(#inner)))
            }
            Expr::MethodCall(m) => self.method(m),
            Expr::Call(c) => {
                let Expr::Path(p) = &*c.func else {
                    return no(&c.func, "#[jit] calls functions by their names");
                };
                let arguments: Vec<TokenStream> = c.args.iter().map(|a| self.expr(a)).collect::<Result<_>>()?;
                self.call(&p.path, &arguments)
            }
            Expr::If(inner) => {
                let branch = self.branch(inner, true)?;
                let (statements, value) = (branch.statements, branch.value);
                Ok(quote!({ #statements #value }))
            }
            Expr::Block(b) if b.label.is_none() => {
                let Translated { statements, value, .. } = self.block(&b.block)?;
                match value {
                    Some(value) => Ok(quote!({ #statements #value })),
                    None => no(b, "this block gives no value"),
                }
            }
            Expr::Macro(m) => no(m, "#[jit] does not take macros"),
            Expr::While(_) | Expr::Loop(_) => no(e, "#[jit] takes loops over a constant range: 'for i in 0..4'"),
            Expr::Match(_) => no(e, "#[jit] does not take 'match': write 'if' and 'else'"),
            Expr::Break(_) | Expr::Continue(_) => no(e, "a loop of a #[jit] function runs to its end: use 'if' inside"),
            Expr::Return(_) => no(e, "'return' stands as a statement in a #[jit] function"),
            e => no(e, "#[jit] does not take this: it takes numbers, their operators and methods, 'if' and 'for'"),
        }
    }

    fn binary(&mut self, left: &Expr, op: &BinOp, right: &Expr, whole: &Expr) -> Result<TokenStream> {
        if compound(op).is_some() {
            return no(whole, "an assignment is a statement");
        }
        let (a, b) = (self.expr(left)?, self.expr(right)?);
        let span = whole.span();
        let method = match op {
            BinOp::Lt(_) => "lt",
            BinOp::Le(_) => "le",
            BinOp::Gt(_) => "gt",
            BinOp::Ge(_) => "ge",
            BinOp::Eq(_) => "equals",
            BinOp::Ne(_) => "not_equals",
            BinOp::And(_) => return Ok(quote_spanned!(span=> (#a & #b))),
            BinOp::Or(_) => return Ok(quote_spanned!(span=> (#a | #b))),
            op => return Ok(quote_spanned!(span=> (#a #op #b))),
        };
        let method = Ident::new(method, span);
        Ok(quote_spanned!(span=> ::zmlx::__jit::Value::#method(#a, #b)))
    }

    fn method(&mut self, m: &ExprMethodCall) -> Result<TokenStream> {
        if let Some(turbofish) = &m.turbofish {
            return no(turbofish, "#[jit] does not take type arguments");
        }
        let (receiver, name) = (self.expr(&m.receiver)?, &m.method);
        let arguments: Vec<TokenStream> = m.args.iter().map(|a| self.expr(a)).collect::<Result<_>>()?;
        Ok(quote_spanned!(m.span()=> (#receiver).#name(#(#arguments),*)))
    }

    /// `f32::max(a, b)` is the method; any other function is one with `#[jit]`, whose type holds the traced form.
    fn call(&self, path: &Path, arguments: &[TokenStream]) -> Result<TokenStream> {
        let number = |name: &Ident| ["f32", "f64", "i16", "i32", "i64", "u8", "u32"].iter().any(|t| name == t);
        let span = path.span();
        match (path.segments.len(), path.segments.first(), path.segments.last(), arguments) {
            (2, Some(ty), Some(method), [receiver, rest @ ..]) if number(&ty.ident) => {
                let (ty, method) = (&ty.ident, &method.ident);
                Ok(quote_spanned!(span=> ::zmlx::__jit::Value::<#ty>::#method(#receiver, #(#rest),*)))
            }
            _ => Ok(quote_spanned!(span=> #path::__value(#(#arguments),*))),
        }
    }
}

/// One side of an `if`: its value and the variables as it leaves them.
fn side(block: &Translated, path: &TokenStream, changed: &[Ident]) -> TokenStream {
    let statements = &block.statements;
    let value = block.value.clone().unwrap_or_else(|| quote!(()));
    quote!({
        let __path: ::zmlx::__jit::Value<bool> = #path;
        #(let mut #changed = #changed;)*
        #statements
        let __value = #value;
        (__value, #(#changed),*)
    })
}

/// The operator of `+=` and its like.
fn compound(op: &BinOp) -> Option<TokenStream> {
    Some(match op {
        BinOp::AddAssign(_) => quote!(+),
        BinOp::SubAssign(_) => quote!(-),
        BinOp::MulAssign(_) => quote!(*),
        BinOp::DivAssign(_) => quote!(/),
        BinOp::RemAssign(_) => quote!(%),
        BinOp::BitAndAssign(_) => quote!(&),
        BinOp::BitOrAssign(_) => quote!(|),
        BinOp::BitXorAssign(_) => quote!(^),
        BinOp::ShlAssign(_) => quote!(<<),
        BinOp::ShrAssign(_) => quote!(>>),
        _ => return None,
    })
}

fn assigns(e: &Expr) -> bool {
    matches!(e, Expr::Assign(_)) || matches!(e, Expr::Binary(b) if compound(&b.op).is_some())
}

/// The variables from outside that these statements assign; `own` are those declared inside.
fn assigned(statements: &[Stmt], own: &mut Vec<Ident>, found: &mut Vec<Ident>) {
    let outside = own.len();
    for statement in statements {
        match statement {
            Stmt::Local(local) => {
                if let Some(init) = &local.init {
                    assigned_in(&init.expr, own, found);
                }
                let pat = if let Pat::Type(t) = &local.pat { &*t.pat } else { &local.pat };
                if let Pat::Ident(p) = pat {
                    own.push(p.ident.clone());
                }
            }
            Stmt::Expr(e, _) => assigned_in(e, own, found),
            Stmt::Item(_) | Stmt::Macro(_) => {}
        }
    }
    own.truncate(outside);
}

fn assigned_in(e: &Expr, own: &mut Vec<Ident>, found: &mut Vec<Ident>) {
    let mut target = |e: &Expr, own: &[Ident]| {
        let mut e = e;
        while let Expr::Paren(p) = e {
            e = &p.expr;
        }
        if let Expr::Path(p) = e
            && let Some(name) = p.path.get_ident()
            && !own.contains(name)
            && !found.contains(name)
        {
            found.push(name.clone());
        }
    };
    match e {
        Expr::Assign(a) => {
            target(&a.left, own);
            assigned_in(&a.right, own, found);
        }
        Expr::Binary(b) => {
            if compound(&b.op).is_some() {
                target(&b.left, own);
            }
            assigned_in(&b.left, own, found);
            assigned_in(&b.right, own, found);
        }
        Expr::If(i) => {
            assigned_in(&i.cond, own, found);
            assigned(&i.then_branch.stmts, own, found);
            if let Some((_, other)) = &i.else_branch {
                assigned_in(other, own, found);
            }
        }
        Expr::ForLoop(f) => {
            let outside = own.len();
            if let Pat::Ident(p) = &*f.pat {
                own.push(p.ident.clone());
            }
            assigned(&f.body.stmts, own, found);
            own.truncate(outside);
        }
        Expr::Block(b) => assigned(&b.block.stmts, own, found),
        Expr::Paren(p) => assigned_in(&p.expr, own, found),
        Expr::Group(g) => assigned_in(&g.expr, own, found),
        Expr::Unary(u) => assigned_in(&u.expr, own, found),
        Expr::Cast(c) => assigned_in(&c.expr, own, found),
        Expr::MethodCall(m) => {
            assigned_in(&m.receiver, own, found);
            m.args.iter().for_each(|a| assigned_in(a, own, found));
        }
        Expr::Call(c) => c.args.iter().for_each(|a| assigned_in(a, own, found)),
        Expr::Return(r) => {
            if let Some(e) = &r.expr {
                assigned_in(e, own, found);
            }
        }
        _ => {}
    }
}
