//! Which values are the same in all threads of a block, or of a cluster. Where a condition is not, threads part ways, and a
//! barrier or a shuffle would wait for threads that never come.

use super::*;

/// Which threads are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    Block,
    Cluster,
}

/// Which variables are the same in all of these threads.
pub(super) struct Uniformity {
    among: Among,
    varies: Vec<bool>,
}

impl Uniformity {
    pub(super) fn of(kernel: &Kernel, among: Among) -> Uniformity {
        let mut u = Uniformity { among, varies: vec![false; kernel.vars.len()] };
        // what a loop assigns late its head reads early: repeat until nothing changes
        loop {
            let before = u.varies.iter().filter(|v| **v).count();
            u.walk(&kernel.body, false);
            if u.varies.iter().filter(|v| **v).count() == before {
                return u;
            }
        }
    }

    /// Is it the same in all of the threads?
    pub(super) fn holds(&self, e: &Expr) -> bool {
        match e {
            Expr::Var(v) | Expr::Lane(v, _) if self.varies.get(v.0 as usize).copied().unwrap_or(true) => false,
            Expr::Special(Special::Thread) | Expr::Shuffle(..) | Expr::Shared(..) | Expr::Remote(..) => false,
            Expr::Special(Special::Block | Special::Rank) => self.among == Among::Block,
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
