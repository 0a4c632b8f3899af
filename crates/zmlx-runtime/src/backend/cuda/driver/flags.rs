//! The words that kernels set where an index is out of range: made with the first kernel that has one, and read by whoever
//! asks. They stay as long as the process, as a captured graph may hold their address.

use super::{Context, check, failed};
use crate::{
    Error,
    flags::{Names, WORDS},
};
use cudarc::driver::sys;
use std::{
    ptr,
    sync::{Mutex, PoisonError},
};

/// The words of a device, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Flags(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Address of the first word, once there are any.
    words: Option<u64>,
    names: Names,
}

impl Context {
    /// Address of the word of an operation.
    pub(super) fn flag(&self, op: &str) -> Result<u64, Error> {
        let mut state = self.flags.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.cuda().bind_to_thread().map_err(|e| failed(op, "cuCtxSetCurrent", e))?;
        let first = match state.words {
            Some(first) => first,
            None => *state.words.insert(zeros(op)?),
        };
        Ok(first + 4 * state.names.word(op) as u64)
    }

    /// Waits for the device, and tells the operations whose indices `x[t]` were out of range since the last time.
    pub fn out_of_range(&self) -> Result<Vec<String>, Error> {
        let state = self.flags.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = state.words else { return Ok(vec![]) };
        self.cuda().bind_to_thread().map_err(|e| failed("cuda", "cuCtxSetCurrent", e))?;
        let mut words = [0u32; WORDS];
        // SAFETY: both places have this many words, and nothing runs that writes one of them.
        unsafe {
            check("cuda", "cuCtxSynchronize", sys::cuCtxSynchronize())?;
            let to = words.as_mut_ptr().cast();
            check("cuda", "cuMemcpyDtoH", sys::cuMemcpyDtoH_v2(to, first, size_of_val(&words)))?;
        }
        let names = state.names.set(&words);
        if !names.is_empty() {
            clear("cuda", first)?;
        }
        Ok(names)
    }
}

/// Words of the current context, all 0.
fn zeros(op: &str) -> Result<u64, Error> {
    let mut first = 0;
    // SAFETY: the place is ours.
    check(op, "cuMemAlloc", unsafe { sys::cuMemAlloc_v2(&mut first, 4 * WORDS) })?;
    clear(op, first)?;
    Ok(first)
}

/// Sets all words to 0, and waits: streams that do not wait for the default one may be next.
fn clear(op: &str, first: u64) -> Result<(), Error> {
    // SAFETY: there are so many words.
    unsafe {
        check(op, "cuMemsetD32", sys::cuMemsetD32_v2(first, 0, WORDS))?;
        check(op, "cuStreamSynchronize", sys::cuStreamSynchronize(ptr::null_mut()))
    }
}
