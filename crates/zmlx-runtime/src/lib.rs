//! How to run a Program on raw device buffers. Knows no tensor library: the caller brings views and takes buffers.
//!
//! `backend/` has one folder a target; `buffer.rs` the views and buffers they share, `pool.rs`
//! the threads. `tune/` finds by measuring what a GPU runs fastest.

pub mod backend;
pub mod buffer;
pub mod cache;
pub mod env;
mod error;
pub mod flags;
pub mod list;
pub mod pool;
pub mod tune;

pub use buffer::{Buffer, Buffers, Launch, Slice, View};
pub use error::Error;
pub use pool::Pool;
