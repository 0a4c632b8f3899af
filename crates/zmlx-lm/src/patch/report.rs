//! What was swapped, where, why not elsewhere, and what was measured.

use serde::Serialize;
use std::fmt::Write;

/// A block that has a pattern's kernel now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Swapped {
    /// The pattern.
    pub pattern: &'static str,
    /// The block's name in the checkpoint.
    pub block: String,
}

/// A block of a pattern's kind that has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The pattern.
    pub pattern: &'static str,
    /// The block's name in the checkpoint.
    pub block: String,
    /// Why not.
    pub why: String,
}

/// What [`smart_patch`](super::smart_patch) measured of a pattern.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Benchmark {
    /// The pattern.
    pub pattern: &'static str,
    /// Blocks that it fits.
    pub blocks: usize,
    /// The largest difference of an output from the unpatched model's, as a part of the largest of these; none if it could not run.
    pub error: Option<f64>,
    /// What the difference may be.
    pub bound: f64,
    /// Time without it by time with it, medians; above 1 it is faster. None where the output was wrong: that is not timed.
    pub ratio: Option<f64>,
    /// The 20th and 80th percentile of the ratio of a round.
    pub spread: Option<[f64; 2]>,
    /// Is it in the model now?
    pub kept: bool,
    /// Why not.
    pub why: Option<String>,
}

/// What came of [`patch`](super::patch) or [`smart_patch`](super::smart_patch).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PatchReport {
    /// The patterns that were asked for.
    pub patterns: Vec<&'static str>,
    /// Blocks with a kernel that they had not before.
    pub swapped: Vec<Swapped>,
    /// Places whose kernel was there before.
    pub already: usize,
    /// Blocks that a pattern is for and does not fit.
    pub skipped: Vec<Skipped>,
    /// Patterns for whose kind the model has no block.
    pub absent: Vec<&'static str>,
    /// Patterns that were measured slower somewhere.
    pub warnings: Vec<String>,
    /// One a pattern that was measured, in the order in which they were.
    pub benchmarks: Vec<Benchmark>,
}

impl PatchReport {
    pub(super) fn new(patterns: Vec<&'static str>) -> PatchReport {
        PatchReport { patterns, ..PatchReport::default() }
    }

    /// Blocks swapped by each pattern, in the order of the patterns.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        let of = |pattern| self.swapped.iter().filter(|s| s.pattern == pattern).count();
        self.patterns.iter().map(|p| (*p, of(*p))).collect()
    }

    /// A few lines for people; blocks of one kind and one reason are counted.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (pattern, count) in self.counts() {
            let mut reasons: Vec<(&str, usize)> = vec![];
            for skipped in self.skipped.iter().filter(|s| s.pattern == pattern) {
                match reasons.iter_mut().find(|(why, _)| *why == skipped.why) {
                    Some((_, n)) => *n += 1,
                    None => reasons.push((&skipped.why, 1)),
                }
            }
            let _ = write!(text, "{pattern}: {count} swapped");
            for (why, n) in reasons {
                let _ = write!(text, "; {n} not: {why}");
            }
            if self.absent.contains(&pattern) {
                text += "; the model has no such block";
            }
            text.push('\n');
        }
        if self.already > 0 {
            let _ = writeln!(text, "{} were there before", self.already);
        }
        for b in &self.benchmarks {
            let number = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
            let [low, high] = b.spread.map_or([None; 2], |s| s.map(Some));
            let _ = write!(
                text,
                "{}: {}× ({} to {}), off by {} of {:.0e}: {}",
                b.pattern,
                number(b.ratio),
                number(low),
                number(high),
                b.error.map_or("-".into(), |e| format!("{e:.1e}")),
                b.bound,
                if b.kept { "kept" } else { "reverted" },
            );
            let _ = b.why.iter().try_for_each(|why| write!(text, ", {why}"));
            text.push('\n');
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }
}
