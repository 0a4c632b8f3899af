//! A file's bytes as memory, paged in when they are read and let go of afterwards: so loading needs the memory of the weights, and
//! not twice of it.

use crate::{Error, Result};
use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

/// Bytes that are read before those before them are let go of.
const CHUNK: usize = 8 << 20;

/// A mapped file.
pub struct Map {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl Map {
    /// Maps a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> Result<Map> {
        let told = |e| Error::file(path, e);
        let file = File::open(path).map_err(told)?;
        if file.metadata().map_err(told)?.is_dir() {
            return Err(Error::format(path, "a folder, expected a file"));
        }
        // SAFETY: nothing here writes to it. Who makes the file shorter while it is mapped ends the process, as of any map.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(told)?;
        Ok(Map { path: path.into(), map })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Some of it.
    ///
    /// # Errors
    /// A range beyond its end.
    pub fn range(&self, range: Range<usize>) -> Result<&[u8]> {
        let all = self.map.len();
        self.map.get(range.clone()).ok_or_else(|| {
            Error::format(&self.path, format!("{all} bytes, expected {} or more: it is cut off", range.end))
        })
    }

    /// Reads a range chunk by chunk and lets go of what was read. Chunks but the last are multiples of 8 MiB.
    ///
    /// # Errors
    /// A range beyond its end.
    pub fn read(&self, range: Range<usize>, mut f: impl FnMut(&[u8])) -> Result<()> {
        let mut at = range.start;
        for chunk in self.range(range)?.chunks(CHUNK) {
            f(chunk);
            self.let_go(at, chunk.len());
            at += chunk.len();
        }
        Ok(())
    }

    /// The pages that lie in this range are no longer in memory; they would be read again.
    #[cfg(unix)]
    pub fn let_go(&self, at: usize, len: usize) {
        // SAFETY: the pages of a file that is mapped and not written are read again where they are needed. Advice that is
        // not taken changes nothing.
        let _ = unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, at, len) };
    }

    #[cfg(not(unix))]
    /// As above.
    pub fn let_go(&self, _: usize, _: usize) {}
}
