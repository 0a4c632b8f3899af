//! A Kernel under construction: unique names, nested blocks, launch arguments, index arithmetic that folds constants.

use crate::{
    DType, Op,
    kernel::{Arith, Buffer, Expr, Field, Kernel, Place, Role, Shared, Special, Stmt, Var, VarId},
};
use std::collections::HashSet;

/// A Kernel under construction.
#[derive(Default)]
pub(super) struct Emit {
    pub kernel: Kernel,
    names: HashSet<String>,
    open: Vec<Vec<Stmt>>,
    wide: bool,
}

impl Emit {
    pub fn new(name: &str, threads: u32, wide: bool) -> Emit {
        let mut e = Emit { wide, open: vec![vec![]], ..Emit::default() };
        e.kernel.threads = threads;
        e.kernel.name = e.unique(name);
        e
    }

    pub fn finish(mut self) -> Kernel {
        self.kernel.body = self.open.pop().unwrap_or_default();
        self.kernel
    }

    /// A name like this one that nothing else has.
    pub fn unique(&mut self, like: &str) -> String {
        let name = name_like(like);
        let mut candidate = name.clone();
        let mut n = 1;
        while !self.names.insert(candidate.clone()) {
            n += 1;
            candidate = format!("{name}_{n}");
        }
        candidate
    }

    pub fn push(&mut self, s: Stmt) {
        if let Some(block) = self.open.last_mut() {
            block.push(s);
        }
    }

    /// Opens a block; what is emitted until it is closed is in it.
    pub fn open(&mut self) {
        self.open.push(vec![]);
    }

    pub fn close(&mut self) -> Vec<Stmt> {
        self.open.pop().unwrap_or_default()
    }

    pub fn buffer(&mut self, name: &str, dtype: DType, write: bool) -> u32 {
        let name = self.unique(name);
        self.kernel.buffers.push(Buffer { name, dtype, write });
        self.kernel.buffers.len() as u32 - 1
    }

    pub fn shared(&mut self, name: &str, dtype: DType, len: u32) -> u32 {
        let name = self.unique(name);
        self.kernel.shared.push(Shared { name, dtype, len });
        self.kernel.shared.len() as u32 - 1
    }

    /// The launch argument with this role; fields of one role are one.
    pub fn field(&mut self, name: &str, dtype: DType, role: Role) -> Expr {
        let k = self.kernel.fields.iter().position(|f| f.role == role).unwrap_or_else(|| {
            let mut name = name_like(name);
            while self.kernel.fields.iter().any(|f| f.name == name) {
                name.push('x');
            }
            self.kernel.fields.push(Field { name, dtype, role });
            self.kernel.fields.len() - 1
        });
        Expr::Field(k as u32)
    }

    /// A launch argument that is an index.
    pub fn index_field(&mut self, name: &str, role: Role) -> Expr {
        self.field(name, self.index(), role)
    }

    pub fn var(&mut self, name: &str, dtype: DType, lanes: u32) -> VarId {
        let name = self.unique(name);
        self.kernel.vars.push(Var { name, dtype, lanes, aside: false });
        VarId(self.kernel.vars.len() as u32 - 1)
    }

    /// Declares a scalar.
    pub fn scalar(&mut self, name: &str, value: Expr) -> VarId {
        let dtype = self.kernel.dtype(&value);
        let v = self.var(name, dtype, 0);
        self.push(Stmt::Let(v, value));
        v
    }

    /// Gives a value a name, unless it is as short as one.
    pub fn named(&mut self, name: &str, value: Expr) -> Expr {
        match value {
            Expr::Var(_) | Expr::Int(..) | Expr::Float(..) | Expr::Field(_) => value,
            value => Expr::Var(self.scalar(name, value)),
        }
    }

    /// Declares an array.
    pub fn array(&mut self, name: &str, dtype: DType, lanes: u32) -> VarId {
        let v = self.var(name, dtype, lanes);
        self.push(Stmt::Array(v));
        v
    }

    /// Declares an array that lies in shared memory.
    pub fn array_aside(&mut self, name: &str, dtype: DType, lanes: u32) -> VarId {
        let v = self.array(name, dtype, lanes);
        self.kernel.vars[v.0 as usize].aside = true;
        v
    }

    pub fn set(&mut self, v: VarId, value: Expr) {
        self.push(Stmt::Set(Place::Var(v), value));
    }

    /// The type of indices.
    pub fn index(&self) -> DType {
        if self.wide { DType::I64 } else { DType::I32 }
    }

    /// A constant index.
    pub fn at(&self, v: u32) -> Expr {
        Expr::Int(self.index(), i64::from(v))
    }

    /// An i32 as an index.
    pub fn widen(&self, e: Expr) -> Expr {
        match e {
            e if !self.wide => e,
            Expr::Int(_, v) => Expr::Int(DType::I64, v),
            e => Expr::Op(Op::Cast(DType::I64), vec![e]),
        }
    }

    /// An i64 value as an index.
    pub fn narrow(&self, e: Expr) -> Expr {
        if self.wide { e } else { Expr::Op(Op::Cast(DType::I32), vec![e]) }
    }

    /// An index as an i64 value.
    pub fn as_value(&self, e: Expr) -> Expr {
        if self.wide { e } else { Expr::Op(Op::Cast(DType::I64), vec![e]) }
    }
}

/// What a text may call something of this name.
fn name_like(like: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut name: String = like.chars().map(fits).collect();
    name = name.trim_matches('_').into();
    if let Some(first) = name.chars().next().filter(char::is_ascii_uppercase) {
        name.replace_range(..1, &first.to_ascii_lowercase().to_string());
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert(0, 'v');
    }
    name
}

pub(super) fn thread() -> Expr {
    Expr::Special(Special::Thread)
}

pub(super) fn block() -> Expr {
    Expr::Special(Special::Block)
}

pub(super) fn grid() -> Expr {
    Expr::Special(Special::Grid)
}

/// An i32 constant.
pub(super) fn int(v: i64) -> Expr {
    Expr::Int(DType::I32, v)
}

pub(super) fn truth(v: bool) -> Expr {
    Expr::Int(DType::Bool, i64::from(v))
}

pub(super) fn is_true(e: &Expr) -> bool {
    *e == truth(true)
}

pub(super) fn arith(op: Arith, a: Expr, b: Expr) -> Expr {
    let (x, y) = (a.as_int(), b.as_int());
    let dtype = match (&a, &b) {
        (Expr::Int(d, _), _) | (_, Expr::Int(d, _)) => *d,
        _ => DType::I32,
    };
    match (op, x, y) {
        (Arith::Add, _, Some(0)) | (Arith::Sub, _, Some(0)) => a,
        (Arith::Mul | Arith::Div, _, Some(1)) => a,
        (Arith::Add, Some(0), _) | (Arith::Mul, Some(1), _) => b,
        (Arith::Mul | Arith::BitAnd, Some(0), _) | (Arith::Mul | Arith::BitAnd, _, Some(0)) => Expr::Int(dtype, 0),
        (Arith::Rem, _, Some(1)) | (Arith::Div, Some(0), _) => Expr::Int(dtype, 0),
        (Arith::Add, Some(x), Some(y)) => Expr::Int(dtype, x + y),
        (Arith::Mul, Some(x), Some(y)) => Expr::Int(dtype, x * y),
        (Arith::And, Some(1), _) => b,
        (Arith::And, _, Some(1)) => a,
        _ => Expr::Arith(op, Box::new((a, b))),
    }
}

pub(super) fn add(a: Expr, b: Expr) -> Expr {
    arith(Arith::Add, a, b)
}

pub(super) fn sub(a: Expr, b: Expr) -> Expr {
    arith(Arith::Sub, a, b)
}

pub(super) fn mul(a: Expr, b: Expr) -> Expr {
    arith(Arith::Mul, a, b)
}

pub(super) fn and(a: Expr, b: Expr) -> Expr {
    arith(Arith::And, a, b)
}

pub(super) fn lt(a: Expr, b: Expr) -> Expr {
    arith(Arith::Lt, a, b)
}

pub(super) fn equal(a: Expr, b: Expr) -> Expr {
    arith(Arith::Eq, a, b)
}

pub(super) fn pick(c: Expr, a: Expr, b: Expr) -> Expr {
    if is_true(&c) { a } else { Expr::Pick(Box::new((c, a, b))) }
}

pub(super) fn op(op: Op, args: impl Into<Vec<Expr>>) -> Expr {
    Expr::Op(op, args.into())
}

/// A constant of a type.
pub(super) fn constant(dtype: DType, v: f64) -> Expr {
    if dtype.is_float() { Expr::Float(dtype, v.to_bits()) } else { Expr::Int(dtype, dtype.wrap(v as i64)) }
}
