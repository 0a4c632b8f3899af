//! The tuner: which Config runs a Program fastest on a device, at sizes of a bucket. Found once by measuring, kept on
//! disk, and used by every later launch.
//!
//! | file   | what                                                              |
//! |--------|-------------------------------------------------------------------|
//! | search | Configs measured against each other, within a time budget         |
//! | agree  | whether the outputs of two Configs are the same results           |
//! | table  | what was found: the file of this machine, and the table that ships |
//!
//! Nothing here knows a device: `search` drives a [`Trial`], which a driver gives.

mod agree;
mod search;
mod table;

pub use agree::Agreement;
pub use search::{Measured, Outcome, Trial, search};
pub use table::{Found, Tuned, Where};

use std::{fmt, time::Duration};

/// How long the search for a kernel may take unless told otherwise.
pub const BUDGET: Duration = Duration::from_secs(2);

/// What a driver tells of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The name of the Program.
    pub kernel: String,
    /// The size that was measured.
    pub rows: u64,
    /// As `rows`.
    pub cols: u64,
    /// The sizes that it stands for.
    pub bucket: Bucket,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it could not be kept on disk, if so.
    pub unsaved: Option<String>,
}

/// Sizes that share a Config: up to so many rows and columns, and more than those of the bucket below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Most rows: a power of two.
    pub rows: u64,
    /// Most columns: four buckets from one power of two to the next.
    pub cols: u64,
    /// Are the columns a multiple of 8, so that vectors of all types cover a row?
    pub even: bool,
}

impl Bucket {
    /// That of a launch.
    pub fn of(rows: u64, cols: u64) -> Bucket {
        let step = 1 << cols.max(8).ilog2().saturating_sub(2).saturating_sub(u32::from(cols.is_power_of_two()));
        Bucket {
            rows: rows.checked_next_power_of_two().unwrap_or(u64::MAX),
            cols: cols.checked_next_multiple_of(step).unwrap_or(u64::MAX),
            even: cols.is_multiple_of(8),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd = if self.even { "" } else { ", odd" };
        write!(f, "up to {}×{}{odd}", self.rows, self.cols)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_sizes_and_wastes_at_most_a_quarter_of_the_columns() {
        for cols in (0..5000).chain([65_536, 70_001, u64::MAX]) {
            let b = Bucket::of(100, cols);
            assert_eq!(b.rows, 128);
            assert!(b.cols >= cols && (cols < 8 || b.cols - cols <= cols / 4), "{cols}: {b}");
            assert_eq!(Bucket { even: b.even, ..Bucket::of(128, b.cols) }, b, "{cols}");
        }
        assert_eq!(Bucket::of(4096, 4096), Bucket { rows: 4096, cols: 4096, even: true });
        assert_eq!(Bucket::of(4097, 4097), Bucket { rows: 8192, cols: 5120, even: false });
        assert_eq!(Bucket::of(u64::MAX, 1).rows, u64::MAX);
    }
}
