//! Compiled code on disk: one file a key, so that a kernel compiled once is loaded by every later process.
//!
//! Any number of processes may share a folder. A file is written under a name of its own and then renamed, so a reader
//! finds a whole file or none. What is not a whole file of ours under the right key (damaged, truncated, foreign, of
//! another format) counts as not there, and is replaced by the next `put`. No failure of the disk fails a launch: the
//! cache is then off, and `describe` says why.

mod file;
mod key;

pub use key::Key;
pub(crate) use key::digest;

use crate::env;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// How much a cache keeps unless told otherwise.
pub const LIMIT_BYTES: u64 = 256 << 20;

/// A file in the making of this age was left behind by a process that died.
const ABANDONED: Duration = Duration::from_secs(3600);
/// A hit makes its file new again if it is older than this: what is in use is not removed, and few hits write.
const REFRESH: Duration = Duration::from_secs(3600);

const EXTENSION: &str = "kernel";
const PART: &str = "part";

/// A folder of compiled code.
#[derive(Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    limit: u64,
    /// Why the last attempt to write failed, or why there is no folder.
    trouble: Mutex<Option<String>>,
}

/// What a cache holds, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Where, if the environment names a place.
    pub folder: Option<PathBuf>,
    /// Number of kernels.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// The size above which the oldest are removed.
    pub limit: u64,
    /// Why nothing can be kept, if so.
    pub off: Option<String>,
}

/// One file of the folder.
struct Entry {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Cache {
    /// The cache of this process, in the folder that the environment names (see `env.rs`).
    pub fn shared() -> &'static Cache {
        static SHARED: OnceLock<Cache> = OnceLock::new();
        SHARED.get_or_init(|| match env::cache_folder() {
            Ok(folder) => Cache::at(folder, LIMIT_BYTES),
            Err(why) => Cache { folder: None, limit: LIMIT_BYTES, trouble: Mutex::new(Some(why)) },
        })
    }

    /// A cache in this folder, which is made at the first `put`, of at most `limit` bytes.
    pub fn at(folder: impl Into<PathBuf>, limit: u64) -> Cache {
        Cache { folder: Some(folder.into()), limit, trouble: Mutex::new(None) }
    }

    /// What was put under this key, if it is there and whole.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let code = file::decode(&fs::read(&path).ok()?, key)?;
        refresh(&path);
        Some(code)
    }

    /// Keeps this code under this key, in place of what was there.
    pub fn put(&self, key: &Key, code: &[u8]) {
        let (Some(folder), Some(path)) = (&self.folder, self.path(key)) else { return };
        let bytes = file::encode(key, code);
        if bytes.len() as u64 > self.limit {
            return;
        }
        let written = write(folder, &path, &bytes);
        self.note(written.err());
        self.trim(folder);
    }

    /// Removes all that is kept, and says how many kernels that was. Files of others stay.
    pub fn clear(&self) -> io::Result<usize> {
        let Some(folder) = &self.folder else { return Ok(0) };
        for part in entries(folder, PART) {
            gone(fs::remove_file(part.path))?;
        }
        let kernels = entries(folder, EXTENSION);
        for kernel in &kernels {
            gone(fs::remove_file(&kernel.path))?;
        }
        Ok(kernels.len())
    }

    /// What it holds, and whether more can be kept: this writes a file and removes it.
    pub fn describe(&self) -> Description {
        let kernels = self.folder.as_deref().map_or_else(Vec::new, |folder| entries(folder, EXTENSION));
        if let Some(folder) = &self.folder {
            let probe = part_of(folder, "probe");
            let tried = fs::create_dir_all(folder).and_then(|()| fs::write(&probe, b"")).and(fs::remove_file(&probe));
            self.note(tried.err());
        }
        Description {
            folder: self.folder.clone(),
            files: kernels.len(),
            bytes: kernels.iter().map(|kernel| kernel.bytes).sum(),
            limit: self.limit,
            off: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{key}.{EXTENSION}")))
    }

    fn note(&self, error: Option<io::Error>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = error.map(|e| e.to_string());
    }

    /// Removes the oldest kernels until the rest is within the limit, and what dead processes left behind. Another
    /// process may do the same at this moment: a file that is gone already is no trouble.
    fn trim(&self, folder: &Path) {
        let now = SystemTime::now();
        for part in entries(folder, PART) {
            if now.duration_since(part.modified).is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(part.path);
            }
        }
        let mut kernels = entries(folder, EXTENSION);
        let mut total: u64 = kernels.iter().map(|kernel| kernel.bytes).sum();
        if total <= self.limit {
            return;
        }
        kernels.sort_by_key(|kernel| kernel.modified);
        for kernel in kernels {
            if total <= self.limit {
                break;
            }
            let _ = fs::remove_file(kernel.path);
            total -= kernel.bytes;
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = (1 << 20) as f64;
        if let Some(folder) = &self.folder {
            let (mib, limit) = (self.bytes as f64 / MIB, self.limit as f64 / MIB);
            write!(f, "{}: {} kernels, {mib:.1} MiB of {limit:.0}", folder.display(), self.files)?;
        }
        match (&self.folder, &self.off) {
            (_, None) => Ok(()),
            (None, Some(why)) => write!(f, "off: {why}"),
            (Some(_), Some(why)) => write!(f, "; nothing can be added: {why}"),
        }
    }
}

/// The bytes, under this name or not at all.
pub(crate) fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let part = part_of(folder, &name);
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// A name that no other thread and no other process writes to.
fn part_of(folder: &Path, name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The time tells apart processes of the same number on machines that share a home.
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos());
    folder.join(format!("{name}-{}-{time}-{}.{PART}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The files with this extension whose name is one that we give.
fn entries(folder: &Path, extension: &str) -> Vec<Entry> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let entry = |found: io::Result<fs::DirEntry>| {
        let found = found.ok()?;
        let path = found.path();
        let stem = path.file_stem()?.to_str()?;
        let ours = extension == PART || Key::is_name(stem);
        if !ours || path.extension()? != extension {
            return None;
        }
        let data = found.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Entry { bytes: data.len(), modified: data.modified().unwrap_or(SystemTime::UNIX_EPOCH), path })
    };
    listing.filter_map(entry).collect()
}

/// Makes a file that was read the newest, so that it is removed last. Where that is not allowed it ages.
fn refresh(path: &Path) {
    let touch = || {
        let file = fs::File::open(path)?;
        let now = SystemTime::now();
        let old = now.duration_since(file.metadata()?.modified()?).is_ok_and(|age| age > REFRESH);
        if old { file.set_modified(now) } else { Ok(()) }
    };
    let _: io::Result<()> = touch();
}

/// A file that another process removed first is removed all the same.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
