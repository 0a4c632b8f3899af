//! candle's tape over a finished computation of any number of inputs and results.
//!
//! candle's custom ops take three inputs and give one result. Here every tracked input hangs on a chain of links: the
//! first link gives the result, each other one a *token* of one element that the link before it takes as an input. Of
//! several results none can be the chain's own (a cotangent of zero that never came would not be told from one that
//! did), so there the chain gives a *hub*, of one element a result, from which each result is taken without a copy.
//!
//! In a backward pass candle adds gradients up, so a slot that ops share could mix two passes (on two threads, or after
//! one that failed halfway). Therefore tensors wait on a [`Desk`] under a ticket, and what travels through candle as the
//! gradient of hub and tokens is the number of the ticket, which f64 holds exactly.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Gradients of the tracked inputs from the cotangents of the results (None: nothing came back for it).
pub type Backward = Box<dyn Fn(&[Option<Tensor>]) -> crate::Result<Vec<Tensor>> + Send + Sync>;

/// A result: its memory and shape.
pub type Raw = (CpuStorage, Shape);

/// Passes that failed halfway leave tensors on the desk; no more than these wait.
const MAX_WAITING: usize = 256;

/// Tensors on their way from one op of a backward pass to another.
#[derive(Default)]
struct Desk(Mutex<Vec<(u64, Vec<Option<Tensor>>)>>);

/// A lock whose holder panicked holds nothing half done here: entries are replaced whole.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Leaves tensors, and gives the ticket to fetch them with.
    fn leave(&self, tensors: Vec<Option<Tensor>>) -> f64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ticket = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut waiting = lock(&self.0);
        if waiting.len() >= MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push((ticket, tensors));
        ticket as f64
    }

    /// Fetches one of them; the last one fetched clears the ticket.
    fn fetch(&self, ticket: f64, k: usize) -> Option<Tensor> {
        let mut waiting = lock(&self.0);
        let at = waiting.iter().position(|(t, _)| *t as f64 == ticket)?;
        let tensor = waiting[at].1.get_mut(k)?.take();
        if waiting[at].1.iter().all(Option::is_none) {
            waiting.swap_remove(at);
        }
        tensor
    }
}

struct Tape {
    name: Arc<str>,
    backward: Backward,
    /// Results waiting for the op that gives them.
    results: Mutex<Vec<Option<Raw>>>,
    /// The only result on the tape, or None where there is a hub.
    only: Option<usize>,
    count: usize,
    desk: Desk,
}

impl Tape {
    fn error(&self, what: &str) -> Error {
        Error::Msg(format!("{}: {what}", self.name))
    }

    fn result(&self, k: usize) -> Result<Raw> {
        let result = lock(&self.results).get_mut(k).and_then(Option::take);
        result.ok_or_else(|| self.error("a result was taken twice"))
    }

    /// The cotangents behind what came back to the first link.
    fn cotangents(&self, g: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut cotangents = vec![None; self.count];
        match self.only {
            Some(k) => cotangents[k] = Some(g.clone()),
            None => {
                for (k, ticket) in g.to_vec1::<f64>()?.into_iter().enumerate().filter(|(_, t)| *t != 0.0) {
                    let cotangent = self.desk.fetch(ticket, 0);
                    cotangents[k] = Some(cotangent.ok_or_else(|| self.error("a cotangent is missing"))?);
                }
            }
        }
        if cotangents.iter().flatten().any(Tensor::track_op) {
            return Err(self.error("gradients of gradients are not supported (CANDLE_GRAD_DO_NOT_DETACH is set)"));
        }
        Ok(cotangents)
    }
}

/// The link of tracked input `.1`: the first gives the result or the hub, the others a token.
struct Link(Arc<Tape>, usize);

impl Link {
    fn forward(&self) -> Result<Raw> {
        match (self.1, self.0.only) {
            (0, Some(k)) => self.0.result(k),
            (0, None) => Ok((CpuStorage::F64(vec![0.0; self.0.count]), self.0.count.into())),
            _ => Ok((CpuStorage::F64(vec![0.0]), 1.into())),
        }
    }

    /// The gradient of the input, and that of the token, if there is one: the ticket of the other gradients.
    fn back(&self, g: &Tensor) -> Result<(Tensor, Tensor)> {
        let tape = &*self.0;
        let missing = || tape.error("a gradient is missing");
        if self.1 > 0 {
            let ticket = g.to_vec1::<f64>()?[0];
            return Ok((tape.desk.fetch(ticket, self.1).ok_or_else(missing)?, g.clone()));
        }
        let mut gradients: Vec<Option<Tensor>> = (tape.backward)(&tape.cotangents(g)?)?.into_iter().map(Some).collect();
        let own = gradients.first_mut().and_then(Option::take).ok_or_else(missing)?;
        let ticket = if gradients.len() > 1 { tape.desk.leave(gradients) } else { 0.0 };
        Ok((own, Tensor::from_slice(&[ticket], 1, &candle_core::Device::Cpu)?))
    }
}

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        // candle wants a name that lives for ever; its errors carry ours
        "zmlx"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<Raw> {
        self.forward()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.back(g)?.0))
    }
}

impl CustomOp2 for Link {
    fn name(&self) -> &'static str {
        // candle wants a name that lives for ever; its errors carry ours
        "zmlx"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<Raw> {
        self.forward()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (own, ticket) = self.back(g)?;
        Ok((Some(own), Some(ticket)))
    }
}

/// Result `.1`, moved out of its place behind the hub.
struct Take(Arc<Tape>, usize);

impl CustomOp1 for Take {
    fn name(&self) -> &'static str {
        // candle wants a name that lives for ever; its errors carry ours
        "zmlx"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<Raw> {
        self.0.result(self.1)
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let mut tickets = vec![0.0; self.0.count];
        tickets[self.1] = self.0.desk.leave(vec![Some(g.clone())]);
        Ok(Some(Tensor::from_vec(tickets, self.0.count, &candle_core::Device::Cpu)?))
    }
}

fn is_float(storage: &CpuStorage) -> bool {
    matches!(storage, CpuStorage::F16(_) | CpuStorage::BF16(_) | CpuStorage::F32(_) | CpuStorage::F64(_))
}

/// Puts finished results on candle's tape as functions of `tracked`, of which there is at least one. Results of integer
/// types have no gradient, and no place there.
pub fn record(name: Arc<str>, results: Vec<Raw>, tracked: &[&Tensor], backward: Backward) -> Result<Vec<Tensor>> {
    let floats: Vec<usize> = (0..results.len()).filter(|k| is_float(&results[*k].0)).collect();
    let tape = Arc::new(Tape {
        name,
        backward,
        count: results.len(),
        only: if let [k] = floats[..] { Some(k) } else { None },
        results: Mutex::new(results.into_iter().map(Some).collect()),
        desk: Desk::default(),
    });
    let mut chain: Option<Tensor> = None;
    for (k, x) in tracked.iter().enumerate().rev().filter(|_| !floats.is_empty()) {
        let link = Link(tape.clone(), k);
        chain = Some(match chain {
            None => x.apply_op1(link)?,
            Some(token) => x.apply_op2(&token, link)?,
        });
    }
    let result = |k: usize| match &chain {
        Some(chain) if tape.only == Some(k) => Ok(chain.clone()),
        Some(hub) if floats.contains(&k) => hub.apply_op1(Take(tape.clone(), k)),
        _ => tape.result(k).map(|(storage, shape)| super::tensor(storage, shape)),
    };
    (0..tape.count).map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn vector(values: &[f32]) -> Raw {
        (CpuStorage::F32(values.to_vec()), values.len().into())
    }

    /// p = Σ xₖ, q = Π-free stand-in: only the bookkeeping is under test, so cotangents are handed on with factors.
    fn two_results(inputs: &[&Tensor]) -> Vec<Tensor> {
        let n = inputs.len();
        let backward = move |c: &[Option<Tensor>]| {
            let part = |k: usize, by: f64| -> crate::Result<Tensor> {
                Ok(match &c[k] {
                    Some(g) => (g * by)?,
                    None => Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu)?,
                })
            };
            (0..n).map(|k| Ok((part(0, 1.0 + k as f64)? + part(1, 10.0)?)?)).collect()
        };
        record("test".into(), vec![vector(&[1., 2.]), vector(&[3., 4.])], inputs, Box::new(backward)).expect("recorded")
    }

    fn gradients(loss: &Tensor, vars: &[Var]) -> Vec<Vec<f32>> {
        let store = loss.sum_all().expect("float").backward().expect("backward");
        vars.iter().map(|v| store.get(v).expect("a gradient").to_vec1().expect("rank 1")).collect()
    }

    fn vars(n: usize) -> Vec<Var> {
        (0..n).map(|_| Var::zeros(2, candle_core::DType::F32, &Device::Cpu).expect("small")).collect()
    }

    #[test]
    fn every_input_gets_its_gradient_from_the_results_that_were_used() {
        for n in 1..=7 {
            let vars = vars(n);
            let inputs: Vec<&Tensor> = vars.iter().map(|v| v.as_tensor()).collect();
            let out = two_results(&inputs);
            let first: Vec<_> = (0..n).map(|k| vec![1.0 + k as f32; 2]).collect();
            assert_eq!(gradients(&out[0], &vars), first, "{n} inputs, only the first result");
            assert_eq!(gradients(&out[1], &vars), vec![vec![10.0; 2]; n], "{n} inputs, only the second result");
            let both: Vec<_> = (0..n).map(|k| vec![11.0 + k as f32; 2]).collect();
            let loss = (&out[0] + &out[1]).expect("same shape");
            assert_eq!(gradients(&loss, &vars), both, "{n} inputs, both, after two other passes");
        }
    }

    #[test]
    fn a_pass_that_fails_leaves_nothing_to_the_next() {
        struct Fails;
        impl CustomOp1 for Fails {
            fn name(&self) -> &'static str {
                "fails"
            }
            fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<Raw> {
                Ok((s.clone(), l.shape().clone()))
            }
            fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
                Err(Error::Msg("on purpose".into()))
            }
        }
        let vars = vars(2);
        let out = two_results(&[vars[0].as_tensor(), vars[1].as_tensor()]);
        let bad = (out[1].sum_all().expect("float")
            + out[0].apply_op1(Fails).expect("applied").sum_all().expect("float"))
        .expect("scalars");
        assert!(bad.backward().is_err());
        assert_eq!(gradients(&out[0], &vars), [[1.0, 1.0], [2.0, 2.0]]);
    }

    #[test]
    fn a_ticket_is_cleared_by_its_last_tensor() {
        let desk = Desk::default();
        let t = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).expect("small");
        let ticket = desk.leave(vec![None, Some(t.clone()), Some(t)]);
        assert!(desk.fetch(ticket + 1.0, 1).is_none());
        assert!(desk.fetch(ticket, 1).is_some() && desk.fetch(ticket, 1).is_none());
        assert!(desk.fetch(ticket, 2).is_some());
        assert!(lock(&desk.0).is_empty());
    }
}
