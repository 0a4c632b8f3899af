//! The allocator. Fresh memory from the system is faulted in page by page, which for large outputs costs more than the
//! arithmetic; mimalloc keeps what was freed (of large results for 10 ms; for good where MIMALLOC_PURGE_DELAY is
//! -1, as .cargo/config.toml says to what cargo runs). Without the feature it is the system's, as in most programs that use candle.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What it is, for people.
#[cfg(feature = "mimalloc")]
pub const NAME: &str = "mimalloc, which keeps freed memory";
/// What it is, for people.
#[cfg(not(feature = "mimalloc"))]
pub const NAME: &str = "the system's, which gives freed memory back";
