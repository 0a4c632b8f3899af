//! Which values are the same in all threads of a block. Where a condition is not, threads part ways, and a barrier or a
//! shuffle would wait for threads that never come.

use super::*;

/// Which variables are the same in all threads of a block.
pub(super) struct Uniformity {
    varies: Vec<bool>,
}

impl Uniformity {
    pub(super) fn of(kernel: &Kernel) -> Uniformity {
        let mut u = Uniformity { varies: vec![false; kernel.vars.len()] };
        // what a loop assigns late its head reads early: repeat until nothing changes
        loop {
            let before = u.varies.iter().filter(|v| **v).count();
            u.walk(&kernel.body, false);
            if u.varies.iter().filter(|v| **v).count() == before {
                return u;
            }
        }
    }

    /// Is it the same in all threads of a block?
    pub(super) fn holds(&self, e: &Expr) -> bool {
        match e {
            Expr::Var(v) | Expr::Lane(v, _) if self.varies.get(v.0 as usize).copied().unwrap_or(true) => false,
            Expr::Special(Special::Thread) | Expr::Shuffle(..) | Expr::Shared(..) => false,
            e => e.parts().into_iter().all(|e| self.holds(e)),
        }
    }

    fn mark(&mut self, v: VarId, varies: bool) {
        if let Some(slot) = self.varies.get_mut(v.0 as usize) {
            *slot |= varies;
        }
    }

    fn walk(&mut self, body: &[Stmt], parted: bool) {
        for s in body {
            let varies = parted || !s.exprs().into_iter().all(|e| self.holds(e));
            match s {
                Stmt::Let(v, _)
                | Stmt::Set(Place::Var(v) | Place::Lane(v, _), _)
                | Stmt::LoadVector { var: v, .. }
                | Stmt::Rand4 { var: v, .. }
                | Stmt::For { var: v, .. } => self.mark(*v, varies),
                _ => {}
            }
            s.inner().into_iter().for_each(|b| self.walk(b, varies));
        }
    }
}
