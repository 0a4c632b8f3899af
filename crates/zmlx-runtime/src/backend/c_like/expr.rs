//! Values: every op of the table on every type, with exactly its meaning.

use super::{CLUSTER, RANK, SPECIALS, Writer, prelude::Need, word};
use zmlx_ir::{
    DType, Op,
    kernel::{Arith, Expr, Shuffle, Special, WARP},
};

impl Writer<'_> {
    /// A value where nothing stands beside it.
    pub(super) fn top(&mut self, e: &Expr) -> String {
        let text = self.expr(e);
        // its outer pair of parentheses, if the first one ends at the end
        let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        let closes = |inner: &str| {
            let mut depth = 0i32;
            inner.chars().all(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth >= 0
            })
        };
        match inner {
            Some(inner) if closes(inner) => inner.into(),
            _ => text,
        }
    }

    /// A value that binds as tight as a name.
    pub(super) fn expr(&mut self, e: &Expr) -> String {
        match e {
            Expr::Float(dtype, bits) => self.float(*dtype, f64::from_bits(*bits)),
            Expr::Int(dtype, v) => self.int(*dtype, *v),
            Expr::Var(v) => self.var(*v),
            Expr::Lane(v, i) => match self.packed(*v) {
                Some(dtype) => {
                    self.needs.insert(Need::Half(dtype));
                    let i = self.expr(i);
                    format!("half_{dtype}({}[{i} / 2], {i} & 1)", self.var(*v))
                }
                None => self.lane(*v, i),
            },
            Expr::Field(k) => format!("args.{}", word(&self.k.fields[*k as usize].name, self.d)),
            Expr::Special(s) => match s {
                Special::Thread => SPECIALS[0],
                Special::Block => SPECIALS[1],
                Special::Grid => SPECIALS[2],
                Special::Cluster => CLUSTER,
                Special::Rank => RANK,
            }
            .into(),
            Expr::Shared(k, i) => format!("{}[{}]", self.shared(*k), self.top(i)),
            Expr::Remote(k, at) => {
                let dtype = self.k.shared[*k as usize].dtype;
                self.needs.insert(Need::Function("remote", dtype));
                format!("remote_{dtype}(&{}[{}], {})", self.shared(*k), self.top(&at.0), self.top(&at.1))
            }
            Expr::Load(k, i) => {
                let dtype = self.k.buffers[*k as usize].dtype;
                let element = format!("{}[{}]", self.buffer(*k), self.top(i));
                match dtype {
                    DType::F16 | DType::BF16 => {
                        self.needs.insert(Need::Widen(dtype));
                        format!("{dtype}_to_f32({element})")
                    }
                    DType::Bool => format!("({element} != 0)"),
                    _ => element,
                }
            }
            Expr::Op(op, args) => {
                let dtype = args.last().map_or(DType::F32, |a| self.k.dtype(a));
                let args: Vec<String> = args.iter().map(|a| self.expr(a)).collect();
                self.op(*op, dtype, &args)
            }
            Expr::Arith(op, ab) => {
                let (a, b) = (self.expr(&ab.0), self.expr(&ab.1));
                let sign = match op {
                    Arith::Add => "+",
                    Arith::Sub => "-",
                    Arith::Mul => "*",
                    Arith::Div => "/",
                    Arith::Rem => "%",
                    Arith::BitAnd => "&",
                    Arith::Lt => "<",
                    Arith::Le => "<=",
                    Arith::Eq => "==",
                    Arith::And => "&&",
                    Arith::Min | Arith::Max => {
                        let dtype = self.k.dtype(&ab.0);
                        let (name, own) = if *op == Arith::Min { ("min", "least") } else { ("max", "most") };
                        let has = dtype.is_float() && (self.d.own)(&format!("{own}_{dtype}")).is_some();
                        return self.function(if has { own } else { name }, dtype, &[a, b]);
                    }
                };
                format!("({a} {sign} {b})")
            }
            Expr::Pick(cab) => format!("({} ? {} : {})", self.expr(&cab.0), self.expr(&cab.1), self.expr(&cab.2)),
            Expr::Fresh(e) => {
                let dtype = self.k.dtype(e);
                match (self.d.own)(&format!("fresh_{dtype}")) {
                    Some(_) => {
                        let value = self.top(e);
                        self.function("fresh", dtype, &[value])
                    }
                    None => self.expr(e),
                }
            }
            Expr::Shuffle(by, width, e) => self.shuffle(*by, *width, e),
            Expr::Order(e) => {
                let value = self.top(e);
                self.function("order", self.k.dtype(e), &[value])
            }
            Expr::Unorder(key) => {
                let value = self.top(key);
                self.function("unorder", self.k.dtype(e), &[value])
            }
            Expr::Rand(ab) => {
                self.needs.insert(Need::Rand);
                format!("rand_unit({}, {})", self.top(&ab.0), self.top(&ab.1))
            }
        }
    }

    fn float(&self, dtype: DType, v: f64) -> String {
        let double = dtype == DType::F64;
        let text = if v.is_nan() {
            return self.d.not_numbers[2 + usize::from(double)].into();
        } else if v.is_infinite() {
            self.d.not_numbers[usize::from(double)].to_string()
        } else if double {
            format!("{:?}", v.abs())
        } else {
            format!("{:?}f", v.abs() as f32)
        };
        if v.is_sign_negative() { format!("(-{text})") } else { text }
    }

    fn int(&self, dtype: DType, v: i64) -> String {
        let name = self.d.types[dtype as usize];
        let long = self.d.long_suffix;
        match (dtype, v) {
            (DType::Bool, v) => (v != 0).to_string(),
            (DType::U8 | DType::I16, v) => format!("(({name})({v}))"),
            (DType::U32, v) => format!("{v}u"),
            (DType::I64, i64::MIN) => format!("(-{}{long} - 1)", i64::MAX),
            (DType::I64, v) if v < 0 => format!("({v}{long})"),
            (DType::I64, v) => format!("{v}{long}"),
            (_, v) if v == i64::from(i32::MIN) => format!("(-{} - 1)", i32::MAX),
            (_, v) if v < 0 => format!("({v})"),
            (_, v) => v.to_string(),
        }
    }

    /// A call of a function of the prelude.
    fn function(&mut self, name: &'static str, dtype: DType, args: &[String]) -> String {
        self.needs.insert(Need::Function(name, dtype));
        format!("{name}_{dtype}({})", list(args))
    }

    /// The function of an op's second spelling, where that is allowed and the target has one.
    fn second_spelling(&self, op: Op, dtype: DType) -> Option<&'static str> {
        let name = match op {
            Op::Exp => "exp_half",
            Op::Exp2 => "exp2_half",
            Op::Sigmoid => "sigmoid_half",
            Op::Div => "div_half",
            Op::Recip => "recip_half",
            _ => return None,
        };
        let allowed = self.k.half && dtype == DType::F32 && op.row().half.is_some();
        (allowed && (self.d.own)(&format!("{name}_f32")).is_some()).then_some(name)
    }

    /// An op on operands of one type (of a select, that of what it selects).
    fn op(&mut self, op: Op, dtype: DType, args: &[String]) -> String {
        if let Op::Cast(to) = op {
            return self.cast(dtype, to, &args[0]);
        }
        if dtype.is_float() {
            if let Some(name) = self.second_spelling(op, dtype) {
                return self.function(name, dtype, args);
            }
            if let Some(name) = (self.d.call)(op, dtype) {
                return format!("{name}({})", list(args));
            }
            return match op {
                Op::Sign
                | Op::Sigmoid
                | Op::Softplus
                | Op::Expm1
                | Op::Log1p
                | Op::Erf
                | Op::Mulz
                | Op::Min
                | Op::Max => self.function(op.row().name, dtype, args),
                Op::Recip => format!("({} / {})", self.float(dtype, 1.0), args[0]),
                Op::IsNan => format!("({0} != {0})", args[0]),
                op => spell(op.row().c, args),
            };
        }
        let name = self.d.types[dtype as usize];
        // wraps: signed types go through their unsigned ones, short ones are cut off
        let unsigned = match dtype {
            DType::I64 => self.d.u64,
            DType::I32 => self.d.types[DType::U32 as usize],
            _ => "",
        };
        let wrap = |text: &str| {
            let args: Vec<String> =
                args.iter().map(|a| if unsigned.is_empty() { a.clone() } else { format!("({unsigned}){a}") }).collect();
            format!("(({name})({}))", spell(text, &args))
        };
        match op {
            Op::Floor | Op::Ceil | Op::Round => args[0].clone(),
            Op::Neg => wrap("0 - $0"),
            Op::Add | Op::Sub | Op::Mul if dtype == DType::U32 => spell(op.row().c, args),
            Op::Add => wrap("$0 + $1"),
            Op::Sub => wrap("$0 - $1"),
            Op::Mul | Op::Mulz => wrap("$0 * $1"),
            Op::Fma => wrap("$0 * $1 + $2"),
            Op::Abs | Op::Sign | Op::Div | Op::Rem | Op::Min | Op::Max => self.function(op.row().name, dtype, args),
            Op::And if dtype == DType::Bool => spell("$0 && $1", args),
            Op::Or if dtype == DType::Bool => spell("$0 || $1", args),
            Op::Xor if dtype == DType::Bool => spell("$0 != $1", args),
            Op::And | Op::Or | Op::Xor | Op::BitNot => format!("(({name}){})", spell(op.row().c, args)),
            Op::Shl => {
                let bits = dtype.size_bytes() * 8 - 1;
                let shifted = if unsigned.is_empty() { args[0].clone() } else { format!("({unsigned}){}", args[0]) };
                format!("(({name})({shifted} << ({} & {bits})))", args[1])
            }
            Op::Shr => format!("(({name})({} >> ({} & {})))", args[0], args[1], dtype.size_bytes() * 8 - 1),
            op => spell(op.row().c, args),
        }
    }

    fn cast(&mut self, from: DType, to: DType, x: &str) -> String {
        let name = self.d.types[to.compute() as usize];
        match to {
            DType::Bool if from == DType::Bool => x.into(),
            DType::Bool => format!("({x} != 0)"),
            DType::F16 | DType::BF16 => {
                self.needs.extend([Need::Widen(to), Need::Narrow(to)]);
                format!("{to}_to_f32(f32_to_{to}((float){x}))")
            }
            to if from.is_float() && to.is_int() => {
                self.needs.insert(Need::Saturate(from, to));
                format!("{from}_to_{to}({x})")
            }
            to if to == from => x.into(),
            _ => format!("(({name}){x})"),
        }
    }

    fn shuffle(&mut self, by: Shuffle, width: u32, e: &Expr) -> String {
        let dtype = self.k.dtype(e);
        let (k, name, n) = match by {
            Shuffle::Xor(n) => (0, "shuffle_xor", n),
            Shuffle::Up(n) => (1, "shuffle_up", n),
            Shuffle::Down(n) => (2, "shuffle_down", n),
            Shuffle::Lane(n) => (3, "shuffle", n),
        };
        let (mut n, width) = (n.to_string(), width.to_string());
        if let (Shuffle::Lane(_), Some(lane), true) = (by, self.d.group_lane, width != WARP.to_string()) {
            n = spell(lane, &[String::new(), n, width.clone()]);
        }
        let small = matches!(dtype, DType::Bool | DType::U8 | DType::I16);
        if dtype.size_bytes() == 8 && self.d.shuffles_words {
            self.needs.insert(Need::Function(name, dtype));
            return format!("{name}_{dtype}({}, {n})", self.top(e));
        }
        let value = if small { format!("(int){}", self.expr(e)) } else { self.top(e) };
        let text = spell_bare(self.d.shuffles[k], &[value, n, width]);
        match dtype {
            DType::Bool => format!("({text} != 0)"),
            _ if small => format!("(({}){text})", self.d.types[dtype as usize]),
            _ => text,
        }
    }
}

fn list(args: &[String]) -> String {
    let bare = args.iter().map(|a| a.as_str()).collect::<Vec<_>>();
    bare.join(", ")
}

/// `$0`, `$1` and `$2` replaced.
fn spell_bare(text: &str, args: &[String]) -> String {
    args.iter().enumerate().fold(text.to_string(), |t, (k, a)| t.replace(&format!("${k}"), a))
}

fn spell(text: &str, args: &[String]) -> String {
    format!("({})", spell_bare(text, args))
}
