//! What a Kernel of clusters satisfies. All threads of a cluster come to each [`Stmt::Arrive`] and [`Stmt::Await`], which
//! take turns; what another block reads was written before the last of these pairs, and is written again, or given up by
//! the block's end, only behind a pair after the read.
//!
//! The body of a loop is followed twice, so that what a turn leaves meets the next one; where two ways meet, the worse
//! state of each goes on.

use super::{
    uniform::{Among, Uniformity},
    *,
};

/// How far something has come on its way through a pair: not begun (or long through), waiting for an `Arrive`, or for an
/// `Await`. The later, the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    #[default]
    Through,
    Arrived,
    Before,
}

impl Way {
    fn arrive(&mut self) {
        if *self == Way::Before {
            *self = Way::Arrived;
        }
    }

    fn pass(&mut self) {
        if *self == Way::Arrived {
            *self = Way::Through;
        }
    }
}

/// What is known of a shared array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Array {
    /// Its last write: on its way to the other blocks.
    written: Way,
    /// Its last read by another block.
    read: Way,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    arrived: bool,
    arrays: Vec<Array>,
}

struct Walk<'a> {
    k: &'a Kernel,
    uniform: Uniformity,
    state: State,
    faults: Vec<String>,
}

impl Kernel {
    /// The faults of its clusters.
    pub(super) fn cluster_faults(&self) -> Vec<String> {
        // what was never written is seen by nobody
        let array = Array { written: Way::Before, read: Way::Through };
        let mut w = Walk {
            k: self,
            uniform: Uniformity::of(self, Among::Cluster),
            state: State { arrived: false, arrays: vec![array; self.shared.len()] },
            faults: vec![],
        };
        if self.cluster > CLUSTER || (self.cluster > 1 && !self.cluster.is_power_of_two()) {
            w.fault(format!("{} blocks a cluster, expected a power of two up to {CLUSTER}", self.cluster));
        }
        w.block(&self.body, false);
        if w.state.arrived {
            w.fault("a thread arrives and ends".into());
        }
        for (k, array) in w.state.arrays.clone().into_iter().enumerate() {
            if array.read != Way::Through {
                w.fault(format!("{} may be read after its block has ended", self.shared[k].name));
            }
        }
        w.faults
    }
}

impl Walk<'_> {
    fn fault(&mut self, what: String) {
        // a loop is followed twice
        if !self.faults.contains(&what) {
            self.faults.push(what);
        }
    }

    fn block(&mut self, body: &[Stmt], parted: bool) {
        for s in body {
            self.stmt(s, parted);
        }
    }

    fn stmt(&mut self, s: &Stmt, parted: bool) {
        s.exprs().into_iter().for_each(|e| self.reads(e));
        if matches!(s, Stmt::Arrive | Stmt::Await) {
            if self.k.cluster <= 1 {
                self.fault("a block without a cluster waits for one".into());
            }
            if parted {
                self.fault("blocks meet where not all of them come".into());
            }
            if (*s == Stmt::Arrive) == self.state.arrived {
                self.fault("arrive and await do not take turns".into());
            }
            self.state.arrived = *s == Stmt::Arrive;
        }
        match s {
            Stmt::Arrive => self.state.arrays.iter_mut().for_each(|a| {
                a.written.arrive();
                a.read.arrive();
            }),
            Stmt::Await => self.state.arrays.iter_mut().for_each(|a| {
                a.written.pass();
                a.read.pass();
            }),
            Stmt::Set(Place::Shared(k, _), _) => {
                let Some(array) = self.state.arrays.get_mut(*k as usize) else { return };
                array.written = Way::Before;
                if array.read != Way::Through {
                    self.fault(format!(
                        "{} is written while other blocks may read it",
                        self.k.shared[*k as usize].name
                    ));
                }
            }
            Stmt::For { from, to, step, body, .. } => {
                let parted = parted || ![from, to, step].into_iter().all(|e| self.uniform.holds(e));
                let before = self.state.clone();
                self.block(body, parted);
                self.block(body, parted);
                self.meet(&before);
            }
            Stmt::If(c, then, otherwise) => {
                let parted = parted || !self.uniform.holds(c);
                let before = self.state.clone();
                self.block(then, parted);
                let after = std::mem::replace(&mut self.state, before);
                self.block(otherwise, parted);
                self.meet(&after);
            }
            _ => {}
        }
    }

    fn reads(&mut self, e: &Expr) {
        if matches!(e, Expr::Special(Special::Rank | Special::Cluster)) && self.k.cluster <= 1 {
            self.fault("a block without a cluster asks for its place in it".into());
        }
        if let Expr::Remote(k, _) = e
            && let Some(array) = self.state.arrays.get_mut(*k as usize)
        {
            let seen = array.written == Way::Through;
            array.read = Way::Before;
            if !seen || self.k.cluster <= 1 {
                self.fault(format!(
                    "{} is read before its block is known to have written it",
                    self.k.shared[*k as usize].name
                ));
            }
        }
        e.parts().into_iter().for_each(|e| self.reads(e));
    }

    /// Another way comes to the same place.
    fn meet(&mut self, other: &State) {
        if self.state.arrived != other.arrived {
            self.fault("arrive and await do not take turns".into());
        }
        for (a, b) in self.state.arrays.iter_mut().zip(&other.arrays) {
            *a = Array { written: a.written.max(b.written), read: a.read.max(b.read) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(v: i64) -> Expr {
        Expr::Int(DType::I32, v)
    }

    /// Rows given to clusters of two: each block writes its slot and stores that of the other.
    fn exchange() -> Kernel {
        let read = Expr::Remote(0, Box::new((int(0), int(1))));
        let (row, v) = (VarId(0), VarId(1));
        let var = |name: &str, dtype| Var { name: name.into(), dtype, lanes: 0, aside: false };
        let first = Expr::Arith(Arith::Eq, Box::new((Expr::Special(Special::Thread), int(0))));
        Kernel {
            name: "exchange".into(),
            buffers: vec![Buffer { name: "out".into(), dtype: DType::F32, write: true }],
            shared: vec![Shared { name: "slot".into(), dtype: DType::F32, len: 1 }],
            vars: vec![var("row", DType::I32), var("v", DType::F32)],
            threads: 32,
            cluster: 2,
            body: vec![Stmt::For {
                var: row,
                from: Expr::Special(Special::Cluster),
                to: int(8),
                step: Expr::Arith(Arith::Div, Box::new((Expr::Special(Special::Grid), int(2)))),
                unroll: false,
                body: vec![
                    Stmt::If(first, vec![Stmt::Set(Place::Shared(0, int(0)), Expr::Float(DType::F32, 0))], vec![]),
                    Stmt::Arrive,
                    Stmt::Await,
                    Stmt::Let(v, read),
                    Stmt::Arrive,
                    Stmt::Store(0, Expr::Special(Special::Block), Expr::Var(v)),
                    Stmt::Await,
                ],
            }],
            ..Kernel::default()
        }
    }

    fn faults(change: impl FnOnce(&mut Kernel, &mut Vec<Stmt>)) -> String {
        let mut k = exchange();
        let Stmt::For { body, .. } = &mut k.body[0] else { unreachable!("the loop over the rows") };
        let mut inner = std::mem::take(body);
        change(&mut k, &mut inner);
        if let Stmt::For { body, .. } = &mut k.body[0] {
            *body = inner;
        }
        k.verify().expect_err("a fault").join("; ")
    }

    #[test]
    fn blocks_that_wait_before_they_read_and_before_they_write_again_verify() {
        assert_eq!(exchange().verify(), Ok(()));
    }

    #[test]
    fn a_read_before_the_blocks_have_met_is_found() {
        let early = faults(|_, b| drop(b.drain(1..3)));
        assert!(early.contains("slot is read before"), "{early}");
        // arrived is not met
        let early = faults(|_, b| b.swap(2, 3));
        assert!(early.contains("slot is read before"), "{early}");
    }

    #[test]
    fn a_write_or_an_end_before_the_others_have_read_is_found() {
        let late = faults(|_, b| {
            b.remove(6);
            b.remove(4);
        });
        assert!(late.contains("slot is written while") && late.contains("after its block has ended"), "{late}");
    }

    #[test]
    fn waits_that_do_not_take_turns_are_found() {
        assert!(faults(|_, b| drop(b.remove(6))).contains("take turns"));
        assert!(faults(|_, b| b.push(Stmt::Await)).contains("take turns"));
    }

    #[test]
    fn blocks_that_part_may_not_meet() {
        let parted = |e: Expr| {
            faults(|k, _| {
                if let Stmt::For { from, .. } = &mut k.body[0] {
                    *from = e;
                }
            })
        };
        assert!(parted(Expr::Special(Special::Block)).contains("blocks meet where"));
        assert!(parted(Expr::Special(Special::Rank)).contains("blocks meet where"));
    }

    #[test]
    fn a_block_alone_has_no_cluster_and_a_cluster_no_odd_size() {
        let alone = faults(|k, _| k.cluster = 1);
        assert!(alone.contains("waits for one") && alone.contains("its place in it"), "{alone}");
        assert!(faults(|k, _| k.cluster = 3).contains("3 blocks a cluster"));
        assert!(faults(|k, _| k.cluster = 32).contains("32 blocks a cluster"));
    }
}
