//! candle's tape over a finished computation of any number of inputs and results.
//!
//! candle's custom ops take three inputs and give one result. Here the tracked inputs hang on a chain of links, of up to
//! three inputs each: the first link gives the result, each other one a *token* of one element that takes the place of an
//! input in the link before it. Of several results none can be the chain's own (a cotangent of zero that never came would
//! not be told from one that did), so there the chain gives a *hub*, of one element a result, from which each result is
//! taken without a copy.
//!
//! A backward pass runs on one thread, and the first link comes before the others. So the gradients of those wait on a
//! [`Desk`] under the thread that made them; a pass that failed halfway leaves what the next one replaces. Cotangents
//! come before the first link, in any number: they wait under a ticket, whose number travels through candle as the
//! gradient of the hub: a whole number that f32 holds exactly. (On a GPU reading it waits for the device; one result needs no hub.)

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Storage, Tensor};
use smallvec::SmallVec;
use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
};

/// Gradients of the tracked inputs from the cotangents of the results (None: nothing came back for it).
pub type Backward = Box<dyn Fn(&[Option<Tensor>]) -> crate::Result<Vec<Tensor>> + Send + Sync>;

/// A result: its memory and shape.
pub type Raw = (Storage, Shape);

/// Passes that failed halfway leave tensors on the desk; no more than these wait.
const MAX_WAITING: usize = 256;
/// Tickets are whole numbers that f32 holds, up to this one: not all devices have f64.
const TICKETS: u64 = 1 << 24;
/// Inputs of one of candle's custom ops.
const INPUTS: usize = 3;

/// Tensors on their way from one op of a backward pass to another.
struct Desk<K>(Mutex<Vec<(K, Vec<Option<Tensor>>)>>);

impl<K> Default for Desk<K> {
    fn default() -> Desk<K> {
        Desk(Mutex::default())
    }
}

/// A lock whose holder panicked holds nothing half done here: entries are replaced whole.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: PartialEq> Desk<K> {
    /// Leaves tensors under a key, in place of what waits under it.
    fn leave(&self, key: K, tensors: Vec<Option<Tensor>>) {
        let mut waiting = lock(&self.0);
        waiting.retain(|(k, _)| *k != key);
        if waiting.len() >= MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push((key, tensors));
    }

    /// Fetches one of them; the last one fetched clears the key.
    fn fetch(&self, key: &K, k: usize) -> Option<Tensor> {
        let mut waiting = lock(&self.0);
        let at = waiting.iter().position(|(t, _)| t == key)?;
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
    cotangents: Desk<u64>,
    gradients: Desk<ThreadId>,
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
                for (k, ticket) in g.to_vec1::<f32>()?.into_iter().enumerate().filter(|(_, t)| *t != 0.0) {
                    let cotangent = self.cotangents.fetch(&(ticket as u64), 0);
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

/// The link of these of the tracked inputs: the first gives the result or the hub, the others a token.
struct Link(Arc<Tape>, Range<usize>);

impl Link {
    /// What it gives: a finished result, or so many zeros in f32.
    fn gives(&self) -> std::result::Result<Result<Raw>, usize> {
        match (self.1.start, self.0.only) {
            (0, Some(k)) => Ok(self.0.result(k)),
            (0, None) => Err(self.0.count),
            _ => Err(1),
        }
    }

    /// The gradients of its inputs, and then that of its token, if there is one.
    fn back(&self, inputs: usize, g: &Tensor) -> Result<SmallVec<[Tensor; INPUTS]>> {
        let tape = &*self.0;
        let missing = || tape.error("a gradient is missing");
        let thread = thread::current().id();
        let mut found: SmallVec<[Tensor; INPUTS]> = SmallVec::new();
        if self.1.start == 0 {
            let gradients = (tape.backward)(&tape.cotangents(g)?)?;
            let mut waiting: Vec<Option<Tensor>> = gradients.into_iter().map(Some).collect();
            for k in self.1.clone() {
                found.push(waiting.get_mut(k).and_then(Option::take).ok_or_else(missing)?);
            }
            if waiting.iter().any(Option::is_some) {
                tape.gradients.leave(thread, waiting);
            }
        } else {
            for k in self.1.clone() {
                found.push(tape.gradients.fetch(&thread, k).ok_or_else(missing)?);
            }
        }
        if found.len() < inputs {
            // of the token, whose gradient nobody reads
            found.push(match self.1.start {
                0 => Tensor::zeros(1, candle_core::DType::F32, g.device())?,
                _ => g.clone(),
            });
        }
        Ok(found)
    }
}

/// Result `.1`, moved out of its place behind the hub.
struct Take(Arc<Tape>, usize);

impl Take {
    fn gives(&self) -> std::result::Result<Result<Raw>, usize> {
        Ok(self.0.result(self.1))
    }

    fn back(&self, _: usize, g: &Tensor) -> Result<SmallVec<[Tensor; INPUTS]>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ticket = NEXT.fetch_add(1, Ordering::Relaxed) % TICKETS + 1;
        self.0.cotangents.leave(ticket, vec![Some(g.clone())]);
        let mut tickets = vec![0f32; self.0.count];
        tickets[self.1] = ticket as f32;
        Ok(SmallVec::from_elem(Tensor::from_vec(tickets, self.0.count, g.device())?, 1))
    }
}

fn misplaced() -> Error {
    Error::Msg("zmlx: a result lies on another device than its inputs".into())
}

/// What a custom op gives on the CPU.
fn on_cpu(gives: std::result::Result<Result<Raw>, usize>) -> Result<(CpuStorage, Shape)> {
    match gives {
        Ok(raw) => match raw? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => Err(misplaced()),
        },
        Err(count) => Ok((CpuStorage::F32(vec![0.0; count]), count.into())),
    }
}

/// The same beside a tensor on a CUDA device.
#[cfg(feature = "cuda")]
fn on_cuda(
    gives: std::result::Result<Result<Raw>, usize>,
    beside: &candle_core::CudaStorage,
) -> Result<(candle_core::CudaStorage, Shape)> {
    match gives {
        Ok(raw) => match raw? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => Err(misplaced()),
        },
        Err(count) => {
            let zeros = beside.device.alloc_zeros::<f32>(count)?;
            Ok((candle_core::CudaStorage::wrap_cuda_slice(zeros, beside.device.clone()), count.into()))
        }
    }
}

/// The same beside a tensor on a Metal device.
#[cfg(all(feature = "metal", target_os = "macos"))]
fn on_metal(
    gives: std::result::Result<Result<Raw>, usize>,
    beside: &candle_core::MetalStorage,
) -> Result<(candle_core::MetalStorage, Shape)> {
    use candle_core::backend::{BackendDevice, BackendStorage};
    match gives {
        Ok(raw) => match raw? {
            (Storage::Metal(storage), shape) => Ok((storage, shape)),
            _ => Err(misplaced()),
        },
        Err(count) => {
            let shape = Shape::from(count);
            Ok((beside.device().zeros_impl(&shape, candle_core::DType::F32)?, shape))
        }
    }
}

/// candle's traits differ in the number of inputs alone.
macro_rules! custom_op {
    ($trait:ident for $op:ident: $($s:ident $l:ident $t:ident),+ => $back:expr, $grads:ty) => {
        impl $trait for $op {
            fn name(&self) -> &'static str {
                // candle wants a name that lives for ever; its errors carry ours
                "zmlx"
            }
            fn cpu_fwd(&self, $($s: &CpuStorage, $l: &Layout),+) -> Result<(CpuStorage, Shape)> {
                $(let _ = ($s, $l);)+
                on_cpu(self.gives())
            }
            #[cfg(feature = "cuda")]
            fn cuda_fwd(
                &self,
                $($s: &candle_core::CudaStorage, $l: &Layout),+
            ) -> Result<(candle_core::CudaStorage, Shape)> {
                let beside = [$(($s, $l).0),+];
                on_cuda(self.gives(), beside[0])
            }
            #[cfg(all(feature = "metal", target_os = "macos"))]
            fn metal_fwd(
                &self,
                $($s: &candle_core::MetalStorage, $l: &Layout),+
            ) -> Result<(candle_core::MetalStorage, Shape)> {
                let beside = [$(($s, $l).0),+];
                on_metal(self.gives(), beside[0])
            }
            fn bwd(&self, $($t: &Tensor,)+ _: &Tensor, g: &Tensor) -> Result<$grads> {
                let inputs = [$($t),+].len();
                let mut found = self.back(inputs, g)?.into_iter();
                let mut next = || found.next();
                let back: fn(&mut dyn FnMut() -> Option<Tensor>) -> $grads = $back;
                Ok(back(&mut next))
            }
        }
    };
}
custom_op!(CustomOp1 for Take: s l t => |next| next(), Option<Tensor>);
custom_op!(CustomOp1 for Link: s l t => |next| next(), Option<Tensor>);
custom_op!(CustomOp2 for Link: s l t, s2 l2 t2 => |next| (next(), next()), (Option<Tensor>, Option<Tensor>));
custom_op!(CustomOp3 for Link: s l t, s2 l2 t2, s3 l3 t3 => |next| (next(), next(), next()),
    (Option<Tensor>, Option<Tensor>, Option<Tensor>));

fn is_float(storage: &Storage) -> bool {
    storage.dtype().is_float()
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
        cotangents: Desk::default(),
        gradients: Desk::default(),
    });
    // the last link has room for three inputs, the others for two and a token
    let mut chain: Option<Tensor> = None;
    let mut end = if floats.is_empty() { 0 } else { tracked.len() };
    while end > 0 {
        let room = INPUTS - usize::from(chain.is_some());
        let start = end.saturating_sub(room);
        let link = Link(tape.clone(), start..end);
        chain = Some(match (&tracked[start..end], &chain) {
            ([a], None) => a.apply_op1(link)?,
            ([a, b], None) => a.apply_op2(b, link)?,
            ([a, b, c], None) => a.apply_op3(b, c, link)?,
            ([a], Some(token)) => a.apply_op2(token, link)?,
            ([a, b], Some(token)) => a.apply_op3(b, token, link)?,
            _ => return Err(tape.error("a link of more inputs than there is room for")),
        });
        end = start;
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
        (Storage::Cpu(CpuStorage::F32(values.to_vec())), values.len().into())
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
            fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
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
    fn a_key_is_cleared_by_its_last_tensor_and_replaced_by_the_next_pass() {
        let desk = Desk::default();
        let t = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).expect("small");
        desk.leave(1, vec![None, Some(t.clone()), Some(t.clone())]);
        assert!(desk.fetch(&2, 1).is_none());
        assert!(desk.fetch(&1, 1).is_some() && desk.fetch(&1, 1).is_none());
        desk.leave(1, vec![None, Some(t)]);
        assert!(desk.fetch(&1, 2).is_none());
        assert!(desk.fetch(&1, 1).is_some());
        assert!(lock(&desk.0).is_empty());
    }
}
