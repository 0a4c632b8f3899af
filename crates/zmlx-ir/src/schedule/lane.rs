//! The pointwise values of one element: of what they are made, computed once where several read them.

use super::{Source, emit::*, lower::Lower};
use crate::{
    DType, Op, Program,
    kernel::{Arith, Expr, Stmt},
    program::{Id, Kind},
};
use std::collections::HashMap;

/// Parts of an expression up to which it is written where it is read.
const INLINE: usize = 10;

/// Where an element is.
#[derive(Clone)]
pub(super) struct Site {
    /// Its column.
    pub col: Expr,
    /// Its place in arrays that hold a row.
    pub held: Expr,
}

impl Lower<'_> {
    /// Which nodes must be computed at an element, to have `roots`.
    pub fn needed(&self, roots: &[Id]) -> Vec<bool> {
        self.needed_beside(roots, &HashMap::new())
    }

    /// The same, without what `given` values are made of.
    fn needed_beside(&self, roots: &[Id], given: &HashMap<Id, Expr>) -> Vec<bool> {
        let mut needed = vec![false; self.p.nodes().len()];
        let mut open = roots.to_vec();
        while let Some(id) = open.pop() {
            if needed[id.index()] || self.known[id.index()].is_some() {
                continue;
            }
            needed[id.index()] = true;
            if self.held[id.index()].is_none() && !given.contains_key(&id) {
                open.extend(&self.p.node(id).args);
            }
        }
        needed
    }

    /// The values of `roots` at an element. `given` are values that are there: of inputs, for one.
    pub fn lane_values(&mut self, roots: &[Id], site: &Site, given: &HashMap<Id, Expr>) -> HashMap<Id, Expr> {
        let needed = self.needed_beside(roots, given);
        let mut uses: HashMap<Id, u32> = HashMap::new();
        for id in self.p.ids().filter(|i| needed[i.index()] && self.held[i.index()].is_none()) {
            for a in &self.p.node(id).args {
                *uses.entry(*a).or_default() += 1;
            }
        }
        for r in roots {
            *uses.entry(*r).or_default() += 1;
        }
        let mut values: HashMap<Id, Expr> = HashMap::new();
        for id in self.p.ids().filter(|i| needed[i.index()]) {
            let value = if let Some(var) = self.held[id.index()] {
                Expr::Lane(var, Box::new(site.held.clone()))
            } else if let Some(value) = given.get(&id) {
                value.clone()
            } else {
                let node = self.p.node(id);
                let args = node.args.iter().map(|a| values.get(a).cloned().unwrap_or_else(|| self.known_value(*a)));
                let args = args.collect();
                let value = self.value(id, args, Some(&site.col));
                let once = uses.get(&id).copied().unwrap_or(0) <= 1;
                if once && size(&value) <= INLINE { value } else { self.name(id, value) }
            };
            values.insert(id, value);
        }
        for r in roots.iter().filter(|r| self.known[r.index()].is_some()) {
            values.insert(*r, self.known_value(*r));
        }
        values
    }

    /// A pointwise node's value from its arguments'.
    pub fn value(&mut self, id: Id, mut args: Vec<Expr>, col: Option<&Expr>) -> Expr {
        let node = self.p.node(id);
        let first = |args: &mut Vec<Expr>| if args.is_empty() { int(0) } else { args.swap_remove(0) };
        match node.kind {
            Kind::Input(slot) => {
                let col = col.cloned().unwrap_or(self.e.at(0));
                self.load_one(slot as usize, col)
            }
            Kind::Uniform(slot) => self.uniform(slot),
            Kind::Const(bits) => Expr::Float(node.dtype, bits),
            Kind::Int(v) => Expr::Int(node.dtype, v),
            Kind::Index(i) => self.position(i, col.cloned()),
            // threads do not part for a side that costs more than the choice
            Kind::Op(Op::Select) => {
                let dear = |e: &Expr| matches!(e, Expr::Op(o, _) if o.row().cost > 2);
                let args = args.into_iter().zip(&node.args);
                let args = args.map(|(value, id)| if value.any(&dear) { self.name(*id, value) } else { value });
                Expr::Op(Op::Select, args.collect())
            }
            Kind::Op(o) => Expr::Op(o, args),
            Kind::Pick(slot) => {
                let t = first(&mut args);
                let t = self.e.named("index", t);
                let cols = self.cols();
                let cols = self.e.as_value(cols);
                let zero = Expr::Int(DType::I64, 0);
                let inside = and(arith(Arith::Le, zero, t.clone()), lt(t.clone(), cols));
                let inside = self.e.named("inside", inside);
                self.report_unless(inside.clone());
                let at = self.e.narrow(t);
                let value = self.load_one(slot as usize, at);
                // an index out of range gives NaN, or 0
                let wrong = constant(node.dtype, if node.dtype.is_float() { f64::NAN } else { 0.0 });
                pick(inside, value, wrong)
            }
            Kind::Rand => {
                let seed = first(&mut args);
                let index = self.rand_index(col.cloned().unwrap_or(self.e.at(0)));
                Expr::Rand(Box::new((seed, index)))
            }
            // a reduction's value is known before anyone asks for it
            Kind::Expand | Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_) | Kind::Stack | Kind::Weave => {
                first(&mut args)
            }
        }
    }

    /// Sets the flag that somebody reads later, where a condition does not hold. All write the same, so nobody waits.
    pub fn report_unless(&mut self, condition: Expr) {
        let flag = self.flag.unwrap_or_else(|| self.buffer("flag", Source::Flag, DType::U32, true));
        self.flag = Some(flag);
        let set = Stmt::Store(flag, self.e.at(0), Expr::Int(DType::U32, 1));
        self.e.push(Stmt::If(op(Op::Not, [condition]), vec![set], vec![]));
    }

    /// The place of a column's random number.
    pub fn rand_index(&mut self, col: Expr) -> Expr {
        let cols = self.cols();
        let [row, cols, col] = [self.row.clone(), cols, col].map(|e| self.e.as_value(e));
        add(mul(row, cols), col)
    }

    /// The result of a pointwise Program of one output.
    pub fn inline(&mut self, sub: &Program, inputs: &[Expr]) -> Expr {
        let mut values: Vec<Expr> = vec![];
        for id in sub.ids() {
            let node = sub.node(id);
            let args: Vec<Expr> = node.args.iter().map(|a| values[a.index()].clone()).collect();
            let value = match node.kind {
                Kind::Input(slot) => inputs.get(slot as usize).cloned().unwrap_or(constant(node.dtype, 0.0)),
                Kind::Const(bits) => Expr::Float(node.dtype, bits),
                Kind::Int(v) => Expr::Int(node.dtype, v),
                Kind::Op(o) => self.e.named(o.name(), Expr::Op(o, args)),
                _ => args.into_iter().next().unwrap_or(constant(node.dtype, 0.0)),
            };
            values.push(value);
        }
        sub.outputs.first().map_or(int(0), |o| values[o.node.index()].clone())
    }
}

/// Parts of an expression.
fn size(e: &Expr) -> usize {
    1 + e.parts().into_iter().map(size).sum::<usize>()
}

/// A choice that both sides of which are computed: the op table's.
pub(super) fn select(c: Expr, a: Expr, b: Expr) -> Expr {
    if is_true(&c) { a } else { op(Op::Select, [c, a, b]) }
}
