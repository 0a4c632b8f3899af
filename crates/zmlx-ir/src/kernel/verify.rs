//! Verification: what every Kernel satisfies before it is printed. A printer may rely on all of it, and so never panics.
//! A fault is a schedule's: no Program leads to one.

use super::{
    uniform::{Among, Uniformity},
    *,
};
use crate::op::Class;
use std::collections::{HashMap, HashSet};

struct Checker<'a> {
    k: &'a Kernel,
    uniform: Uniformity,
    scope: HashSet<VarId>,
    declared: HashSet<VarId>,
    /// First and last value of the counters with constant bounds.
    ranges: HashMap<VarId, (i64, i64)>,
    counters: Vec<VarId>,
    faults: Vec<String>,
}

impl Kernel {
    /// All faults, or none.
    ///
    /// # Errors
    /// The faults.
    pub fn verify(&self) -> Result<(), Vec<String>> {
        let mut c = Checker {
            k: self,
            uniform: Uniformity::of(self, Among::Block),
            scope: HashSet::new(),
            declared: HashSet::new(),
            ranges: HashMap::new(),
            counters: vec![],
            faults: vec![],
        };
        c.tables();
        c.block(&self.body, false);
        c.faults.extend(self.cluster_faults());
        if c.faults.is_empty() { Ok(()) } else { Err(c.faults) }
    }
}

fn is_index(d: DType) -> bool {
    matches!(d, DType::I32 | DType::I64)
}

impl Checker<'_> {
    fn expect(&mut self, ok: bool, what: impl FnOnce() -> String) {
        if !ok {
            self.faults.push(what());
        }
    }

    fn tables(&mut self) {
        let k = self.k;
        self.expect(k.threads > 0 && k.threads.is_multiple_of(WARP) && k.threads <= THREADS, || {
            format!("{} threads a block, expected a multiple of {WARP} up to {THREADS}", k.threads)
        });
        let names = std::iter::once(&k.name)
            .chain(k.buffers.iter().map(|b| &b.name))
            .chain(k.shared.iter().map(|s| &s.name))
            .chain(k.vars.iter().map(|v| &v.name));
        let (mut seen, mut fields) = (HashSet::new(), HashSet::new());
        for (name, fresh) in
            names.map(|n| (n, seen.insert(n))).chain(k.fields.iter().map(|f| (&f.name, fields.insert(&f.name))))
        {
            // a printer appends `_` to the words of its language
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let ok =
                name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(word) && !name.ends_with('_');
            self.expect(ok, || format!("`{name}` is no name"));
            self.expect(fresh, || format!("`{name}` names two things"));
        }
        for f in &k.fields {
            let ok = matches!(f.dtype, DType::I32 | DType::I64 | DType::F32 | DType::F64);
            self.expect(ok, || format!("field {} of type {}", f.name, f.dtype));
        }
        let packed = |v: &Var| matches!(v.dtype, DType::F16 | DType::BF16) && v.lanes > 0 && v.lanes.is_multiple_of(2);
        let vars = k.vars.iter().filter(|v| !packed(v)).map(|v| (&v.name, v.dtype));
        for (name, dtype) in vars.chain(k.shared.iter().map(|s| (&s.name, s.dtype))) {
            self.expect(dtype == dtype.compute(), || format!("{name} has the storage type {dtype}"));
        }
        let bytes: usize = k.shared.iter().map(|s| s.len as usize * s.dtype.size_bytes()).sum();
        let aside = k.aside_bytes();
        self.expect(aside <= ASIDE_BYTES, || format!("{aside} bytes of arrays aside, at most {ASIDE_BYTES}"));
        let odd = k.vars.iter().any(|v| v.aside && (v.lanes == 0 || v.dtype != v.dtype.compute()));
        self.expect(!odd, || "a scalar or packed array is aside".into());
        self.expect(bytes <= SHARED_BYTES, || format!("{bytes} bytes of shared memory, at most {SHARED_BYTES}"));
    }

    fn block(&mut self, body: &[Stmt], parted: bool) {
        let outer = self.scope.clone();
        for s in body {
            self.stmt(s, parted);
        }
        self.scope = outer;
    }

    fn declare(&mut self, v: VarId, array: bool) {
        let Some(var) = self.k.vars.get(v.0 as usize) else {
            return self.faults.push(format!("variable {} is not there", v.0));
        };
        self.expect((var.lanes > 0) == array, || format!("{} is declared as what it is not", var.name));
        let fresh = self.declared.insert(v);
        self.expect(fresh, || format!("{} is declared twice", var.name));
        self.scope.insert(v);
    }

    fn var(&mut self, v: VarId, array: bool) -> Option<(DType, u32)> {
        let Some(var) = self.k.vars.get(v.0 as usize) else {
            self.faults.push(format!("variable {} is not there", v.0));
            return None;
        };
        let known = self.scope.contains(&v);
        self.expect(known, || format!("{} is used before its declaration or outside of its block", var.name));
        self.expect((var.lanes > 0) == array, || format!("{} is used as what it is not", var.name));
        Some((var.dtype, var.lanes))
    }

    /// `count` elements of an array from `first` on must be there.
    fn lanes(&mut self, v: VarId, first: &Expr, count: u32) -> Option<DType> {
        let (dtype, lanes) = self.var(v, true)?;
        let name = &self.k.vars[v.0 as usize].name;
        match self.range(first) {
            Some((lo, hi)) if lo >= 0 && hi + i64::from(count) <= i64::from(lanes) => {}
            Some((lo, hi)) => self.faults.push(format!("{name} has {lanes} elements, {lo}..{hi} + {count} are used")),
            None => self.faults.push(format!("an index of {name} is not constant after unrolling")),
        }
        Some(dtype)
    }

    fn range(&self, e: &Expr) -> Option<(i64, i64)> {
        match e {
            Expr::Int(_, v) => Some((*v, *v)),
            Expr::Var(v) => self.ranges.get(v).copied(),
            Expr::Arith(op, ab) => {
                let ((a, b), (c, d)) = (self.range(&ab.0)?, self.range(&ab.1)?);
                match op {
                    Arith::Add => Some((a + c, b + d)),
                    Arith::Sub => Some((a - d, b - c)),
                    Arith::Mul if a >= 0 && c >= 0 => Some((a * c, b * d)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn index(&mut self, e: &Expr) {
        let dtype = self.expr(e);
        self.expect(is_index(dtype), || format!("an index of type {dtype}"));
    }

    fn buffer(&mut self, k: u32, write: bool) -> Option<DType> {
        match self.k.buffers.get(k as usize) {
            Some(b) if b.write == write => Some(b.dtype),
            Some(b) => {
                self.faults.push(format!("{} is read and written", b.name));
                None
            }
            None => {
                self.faults.push(format!("buffer {k} is not there"));
                None
            }
        }
    }

    fn vector(&mut self, var: VarId, first: &Expr, lanes: u32, buffer: u32, at: &Expr, write: bool) {
        let dtype = self.lanes(var, first, lanes);
        let aside = self.k.vars.get(var.0 as usize).is_some_and(|v| v.aside);
        self.expect(!aside, || "a vector to or from an array that is aside".into());
        self.index(at);
        self.expr(first);
        if let (Some(memory), Some(dtype)) = (self.buffer(buffer, write), dtype) {
            let bytes = lanes * memory.size_bytes() as u32;
            let packs = memory == dtype && lanes > 1 && !write;
            let ok = lanes.is_power_of_two() && bytes <= VECTOR_BYTES && (memory.compute() == dtype || packs);
            self.expect(ok, || format!("a vector of {lanes} × {memory} to or from {dtype}"));
        }
    }

    fn stmt(&mut self, s: &Stmt, parted: bool) {
        let shuffles = |e: &&Expr| e.any(&|e| matches!(e, Expr::Shuffle(..)));
        let meets = matches!(s, Stmt::Barrier | Stmt::Arrive | Stmt::Await) || s.exprs().iter().any(shuffles);
        self.expect(!(meets && parted), || "threads meet where not all of them come".into());
        match s {
            Stmt::Let(v, e) => {
                let dtype = self.expr(e);
                self.declare(*v, false);
                let own = self.k.dtype(&Expr::Var(*v));
                self.expect(own == dtype, || format!("a variable of {own} starts with a {dtype}"));
            }
            Stmt::Array(v) => self.declare(*v, true),
            Stmt::Set(place, e) => {
                let dtype = self.expr(e);
                let own = match place {
                    Place::Var(v) => {
                        let counts = self.counters.contains(v);
                        self.expect(!counts, || "a counter is assigned".into());
                        self.var(*v, false).map(|v| v.0)
                    }
                    Place::Lane(v, i) => self.lanes(*v, i, 1).map(DType::compute),
                    Place::Shared(k, i) => {
                        self.index(i);
                        self.k.shared.get(*k as usize).map(|s| s.dtype)
                    }
                };
                self.expect(own == Some(dtype), || format!("a {dtype} is assigned to {own:?}"));
            }
            Stmt::LoadVector { var, first, lanes, buffer, at } => self.vector(*var, first, *lanes, *buffer, at, false),
            Stmt::StoreVector { var, first, lanes, buffer, at } => self.vector(*var, first, *lanes, *buffer, at, true),
            Stmt::Store(k, at, e) => {
                self.index(at);
                let dtype = self.expr(e);
                let memory = self.buffer(*k, true);
                let ok = memory.is_none_or(|m| m.compute() == dtype);
                self.expect(ok, || format!("a {dtype} is stored as {memory:?}"));
            }
            Stmt::Rand4 { var, first, seed, index } => {
                let own = self.lanes(*var, first, 4);
                let types = [first, seed, index].map(|e| self.expr(e));
                let ok = own == Some(DType::F32) && types[1..] == [DType::I64; 2];
                self.expect(ok, || format!("random numbers of {types:?} into {own:?}"));
            }
            Stmt::For { var, from, to, step, unroll, body } => {
                let types = [from, to, step].map(|e| self.expr(e));
                self.declare(*var, false);
                let own = self.k.dtype(&Expr::Var(*var));
                self.expect(is_index(own) && types == [own; 3], || format!("a counter of {own} over {types:?}"));
                let bounds = (from.as_int(), to.as_int(), step.as_int());
                if let (Some(from), Some(to), Some(step)) = bounds {
                    self.expect(step > 0, || "a loop that never ends".into());
                    self.ranges.insert(*var, (from, from.max(to - 1)));
                }
                let constant = matches!(bounds, (Some(_), Some(_), Some(_)));
                self.expect(!unroll || constant, || "a loop without constant bounds cannot be unrolled".into());
                self.counters.push(*var);
                let same = [from, to, step].into_iter().all(|e| self.uniform.holds(e));
                self.block(body, parted || !same);
                self.counters.pop();
                self.scope.remove(var);
            }
            Stmt::If(c, then, otherwise) => {
                let dtype = self.expr(c);
                self.expect(dtype == DType::Bool, || format!("a condition of type {dtype}"));
                let parted = parted || !self.uniform.holds(c);
                self.block(then, parted);
                self.block(otherwise, parted);
            }
            Stmt::Barrier | Stmt::Arrive | Stmt::Await => {}
            Stmt::Note(text) => self.expect(!text.contains(['\n', '\\']), || "a remark of several lines".into()),
        }
    }

    fn expr(&mut self, e: &Expr) -> DType {
        let shuffles = |e: &Expr| e.any(&|e| matches!(e, Expr::Shuffle(..)));
        match e {
            Expr::Float(d, _) => self.expect(matches!(d, DType::F32 | DType::F64), || format!("a float of type {d}")),
            Expr::Int(d, v) => self.expect(!d.is_float() && d.wrap(*v) == *v, || format!("{v} is no {d}")),
            Expr::Var(v) => drop(self.var(*v, false)),
            Expr::Lane(v, i) => {
                self.expr(i);
                self.lanes(*v, i, 1);
            }
            Expr::Field(k) => self.expect((*k as usize) < self.k.fields.len(), || format!("field {k} is not there")),
            Expr::Special(_) => {}
            Expr::Shared(k, i) => {
                self.index(i);
                self.expect((*k as usize) < self.k.shared.len(), || format!("shared array {k} is not there"));
            }
            Expr::Remote(k, at) => {
                self.index(&at.0);
                let rank = self.expr(&at.1);
                self.expect(rank == DType::I32, || format!("a rank of type {rank}"));
                self.expect((*k as usize) < self.k.shared.len(), || format!("shared array {k} is not there"));
            }
            Expr::Load(k, i) => {
                self.index(i);
                self.buffer(*k, false);
            }
            Expr::Op(op, args) => self.op(*op, args),
            Expr::Arith(op, ab) => {
                let (a, b) = (self.expr(&ab.0), self.expr(&ab.1));
                let of = |d: DType| match op {
                    Arith::And => d == DType::Bool,
                    Arith::Min | Arith::Max => is_index(d) || matches!(d, DType::F32 | DType::F64),
                    _ => is_index(d),
                };
                let ok = a == b && of(a);
                self.expect(ok, || format!("{op:?} of {a} and {b}"));
                // the second operand of `and` is not evaluated where the first fails
                self.expect(*op != Arith::And || !shuffles(e), || "a shuffle that may not be evaluated".into());
            }
            Expr::Pick(cab) => {
                let types = [&cab.0, &cab.1, &cab.2].map(|e| self.expr(e));
                let ok = types[0] == DType::Bool && types[1] == types[2];
                self.expect(ok, || format!("a choice of types {types:?}"));
                self.expect(!shuffles(e), || "a shuffle that may not be evaluated".into());
            }
            Expr::Fresh(e) => self.index(e),
            Expr::Order(e) => {
                let dtype = self.expr(e);
                self.expect(matches!(dtype, DType::F32 | DType::F64), || format!("the order of a {dtype}"));
            }
            Expr::Unorder(e) => self.index(e),
            Expr::Shuffle(by, width, e) => {
                self.expr(e);
                let (Shuffle::Xor(n) | Shuffle::Up(n) | Shuffle::Down(n) | Shuffle::Lane(n)) = by;
                let ok = width.is_power_of_two() && *width <= WARP && *n < *width;
                self.expect(ok, || format!("a shuffle by {n} among {width} lanes"));
            }
            Expr::Rand(ab) => {
                let types = [self.expr(&ab.0), self.expr(&ab.1)];
                self.expect(types == [DType::I64; 2], || format!("random numbers of {types:?}"));
            }
        }
        self.k.dtype(e)
    }

    fn op(&mut self, op: Op, args: &[Expr]) {
        let types: Vec<DType> = args.iter().map(|a| self.expr(a)).collect();
        let same = |t: &[DType]| t.windows(2).all(|w| w[0] == w[1]);
        let ok = types.len() == op.arity()
            && match op.row().class {
                Class::Cast => true,
                Class::Float | Class::Test => same(&types) && types[0].is_float(),
                Class::Number => same(&types) && types[0] != DType::Bool,
                Class::Bits => same(&types) && !types[0].is_float(),
                Class::Logic => types[0] == DType::Bool,
                Class::Compare => same(&types),
                Class::Select => types[0] == DType::Bool && same(&types[1..]),
            };
        self.expect(ok, || format!("{} of {types:?}", op.name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sum of 32 lanes of x into out
    fn sum() -> Kernel {
        let int = |v| Expr::Int(DType::I32, v);
        let thread = Expr::Special(Special::Thread);
        let s = VarId(0);
        Kernel {
            name: "sum".into(),
            buffers: ["x", "out"].map(|n| Buffer { name: n.into(), dtype: DType::BF16, write: n == "out" }).to_vec(),
            vars: vec![Var { name: "s".into(), dtype: DType::F32, lanes: 0, aside: false }],
            threads: 32,
            body: vec![
                Stmt::Let(s, Expr::Load(0, Box::new(thread.clone()))),
                Stmt::Set(
                    Place::Var(s),
                    Expr::Op(Op::Add, vec![Expr::Var(s), Expr::Shuffle(Shuffle::Xor(1), 32, Box::new(Expr::Var(s)))]),
                ),
                Stmt::If(
                    Expr::Arith(Arith::Eq, Box::new((thread, int(0)))),
                    vec![Stmt::Store(1, int(0), Expr::Var(s))],
                    vec![],
                ),
            ],
            ..Kernel::default()
        }
    }

    fn faults(change: impl FnOnce(&mut Kernel)) -> String {
        let mut k = sum();
        change(&mut k);
        k.verify().expect_err("a fault").join("; ")
    }

    #[test]
    fn a_sound_kernel_verifies() {
        assert_eq!(sum().verify(), Ok(()));
    }

    #[test]
    fn threads_that_part_may_not_meet() {
        let meets = |s: Stmt| {
            faults(|k| {
                if let Stmt::If(_, then, _) = &mut k.body[2] {
                    then.push(s)
                }
            })
        };
        assert!(meets(Stmt::Barrier).contains("not all of them come"));
        let shuffle = sum().body[1].clone();
        assert!(meets(shuffle).contains("not all of them come"));
    }

    #[test]
    fn faults_of_types_names_scopes_and_memory_are_found() {
        assert!(faults(|k| k.vars[0].dtype = DType::I32).contains("starts with a f32"));
        assert!(faults(|k| k.vars[0].name = "x".into()).contains("`x` names two things"));
        assert!(faults(|k| k.body.rotate_left(1)).contains("before its declaration"));
        assert!(faults(|k| k.buffers[1].write = false).contains("read and written"));
        assert!(faults(|k| k.threads = 40).contains("40 threads"));
        let big = Shared { name: "part".into(), dtype: DType::F64, len: 4097 };
        assert!(faults(|k| k.shared.push(big)).contains("bytes of shared memory"));
        let lane = Stmt::Set(Place::Lane(VarId(1), Expr::Int(DType::I32, 4)), Expr::Var(VarId(0)));
        let past = faults(|k| {
            k.vars.push(Var { name: "r".into(), dtype: DType::F32, lanes: 4, aside: false });
            k.body.extend([Stmt::Array(VarId(1)), lane]);
        });
        assert!(past.contains("r has 4 elements"), "{past}");
        let aside = Var { name: "r".into(), dtype: DType::F64, lanes: 1000, aside: true };
        assert!(faults(|k| k.vars.push(aside)).contains("256000 bytes of arrays aside"));
        let odd = Var { name: "r".into(), dtype: DType::BF16, lanes: 3, aside: false };
        assert!(faults(|k| k.vars.push(odd)).contains("storage type bf16"));
    }
}
