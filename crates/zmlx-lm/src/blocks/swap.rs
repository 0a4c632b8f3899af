//! The place in a block where a kernel goes.

use std::{fmt, sync::Arc};

/// A kernel in the place of a block's plain path, or none. `F` is a `dyn Fn`; the function gets the block and its inputs, so one
/// serves all blocks of a kind.
pub struct Swap<F: ?Sized>(Option<(&'static str, Arc<F>)>);

impl<F: ?Sized> Swap<F> {
    /// Puts a kernel in, under the name that reports have for it; what was there before.
    pub fn put(&mut self, name: &'static str, kernel: Arc<F>) -> Swap<F> {
        Swap(self.0.replace((name, kernel)))
    }

    /// Takes the kernel out: the plain path is back. Whether there was one.
    pub fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// The kernel.
    pub fn get(&self) -> Option<&F> {
        self.0.as_ref().map(|(_, kernel)| &**kernel)
    }

    /// Its name.
    pub fn name(&self) -> Option<&'static str> {
        self.0.as_ref().map(|(name, _)| *name)
    }
}

impl<F: ?Sized> Default for Swap<F> {
    fn default() -> Swap<F> {
        Swap(None)
    }
}

impl<F: ?Sized> Clone for Swap<F> {
    fn clone(&self) -> Swap<F> {
        Swap(self.0.clone())
    }
}

impl<F: ?Sized> fmt::Debug for Swap<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("plain"))
    }
}
