//! Kernels of the catalog in the places that a model's blocks have for them, and out of them again.
//!
//! A [`Pattern`] looks at one block at a time: it puts its kernel in where the kernel computes what the block computes, with the
//! block's own weights and settings, and else says why not. [`patch`] never replaces a kernel that somebody else put in.
//! [`unpatch`] takes the kernels out: the plain paths are back, bit for bit, since no weight was touched.

pub mod pattern;
mod report;
mod smart;

pub use pattern::{PATTERNS, Pattern};
pub use report::{Benchmark, PatchReport, Skipped, Swapped};
pub use smart::{Forward, SmartOptions, bound_of, logits_of, smart_patch};

use crate::{Error, Model, Result, blocks::Block};
use pattern::{Fit, Place};
use std::collections::HashSet;
use zmlx::Tune;

/// What runs between the matrix products of feed-forward blocks.
pub const FUSED_ACTIVATIONS: &[&str] = &["swiglu_mlp", "geglu_mlp", "moe_mlp"];

/// Patterns whose kernels have a fused gradient, by inputs and weights.
pub const TRAINING_RECOMMENDED: &[&str] = &["swiglu_mlp", "geglu_mlp", "rms_norm", "layer_norm", "residual_norm"];

/// Every pattern. Where two want one place (`attention`, `softmax`) the first has it.
pub const ALL_PATTERNS: &[&str] = &[
    "swiglu_mlp",
    "geglu_mlp",
    "moe_mlp",
    "rms_norm",
    "layer_norm",
    "residual_norm",
    "attention",
    "softmax",
    "rope_qk",
];

/// What the model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// [`FUSED_ACTIVATIONS`]
    Inference,
    /// [`TRAINING_RECOMMENDED`]
    Training,
}

/// Which patterns, and how their kernels run.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Names of patterns.
    pub patterns: Vec<String>,
    /// Names of patterns that are left out nevertheless.
    pub exclude: Vec<String>,
    /// `Auto`: kernels are tuned when they first run. It holds for all of this process's operations that were not told otherwise, as
    /// [`zmlx::tune::by_default`] does; other values change nothing.
    pub threadgroup: Tune,
}

impl From<&[&str]> for Options {
    fn from(patterns: &[&str]) -> Options {
        let patterns = patterns.iter().map(|p| p.to_string()).collect();
        Options { patterns, exclude: vec![], threadgroup: Tune::default() }
    }
}

impl<const N: usize> From<[&str; N]> for Options {
    fn from(patterns: [&str; N]) -> Options {
        Options::from(&patterns[..])
    }
}

impl From<Mode> for Options {
    fn from(mode: Mode) -> Options {
        Options::from(match mode {
            Mode::Inference => FUSED_ACTIVATIONS,
            Mode::Training => TRAINING_RECOMMENDED,
        })
    }
}

impl Options {
    /// The same without these patterns.
    #[must_use]
    pub fn exclude(mut self, patterns: &[&str]) -> Options {
        self.exclude.extend(patterns.iter().map(|p| p.to_string()));
        self
    }

    /// The patterns that are meant, each once.
    fn found(&self) -> Result<Vec<&'static Pattern>> {
        let left_out = self.exclude.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<&'static Pattern> = vec![];
        for name in &self.patterns {
            let pattern = find(name)?;
            let known = all.iter().chain(&left_out).any(|p| p.name == pattern.name);
            if !known {
                all.push(pattern);
            }
        }
        Ok(all)
    }
}

/// The pattern of this name.
///
/// # Errors
/// A name that is not known; those that are, are listed.
pub fn find(name: &str) -> Result<&'static Pattern> {
    PATTERNS
        .iter()
        .copied()
        .find(|p| p.name == name)
        .ok_or_else(|| Error::argument("patch", "pattern", format!("one of {}", ALL_PATTERNS.join(", ")), name))
}

/// Puts kernels into the places of the patterns: of a [`Mode`], a preset as [`ALL_PATTERNS`], or names. What is in place stays there,
/// so doing it twice is doing it once.
///
/// # Errors
/// A pattern that is not known; the model is as it was then.
pub fn patch(model: &mut Model, options: impl Into<Options>) -> Result<PatchReport> {
    let options = options.into();
    let patterns = options.found()?;
    if options.threadgroup == Tune::Auto {
        zmlx::tune::by_default(Tune::Auto);
    }
    let behind_sums: HashSet<String> = model.layers.iter().map(|l| l.feed_forward_norm.name.clone()).collect();
    let (dtype, gpu) = (model.facts.dtype, !model.facts.device.is_cpu());
    let mut report = PatchReport::new(patterns.iter().map(|p| p.name).collect());
    for pattern in patterns {
        let mut seen = false;
        model.visit(&mut |mut block| {
            let place = Place { dtype, gpu, behind_sum: behind_sums.contains(block.name()) };
            let fit = (pattern.swap)(&mut block, &place);
            seen |= fit != Fit::OtherKind;
            let (pattern, block) = (pattern.name, block.name().to_string());
            match fit {
                Fit::Swapped => report.swapped.push(Swapped { pattern, block }),
                Fit::Already => report.already += 1,
                Fit::Not(why) => report.skipped.push(Skipped { pattern, block, why }),
                Fit::OtherKind => {}
            }
        });
        if !seen {
            report.absent.push(pattern.name);
        } else if let Some(measured) = pattern.slower {
            report.warnings.push(format!("{}: {measured}", pattern.name));
        }
    }
    Ok(report)
}

/// Takes out every kernel that [`patch`] put in, and no other; how many there were. What the model says is then bit for bit what it
/// said before.
pub fn unpatch(model: &mut Model) -> usize {
    let mut count = 0;
    model.visit(&mut |block| {
        count += match block {
            Block::Norm(b) => pattern::clear(&mut b.kernel) + pattern::clear(&mut b.residual),
            Block::Rope(b) => pattern::clear(&mut b.kernel),
            Block::Sdpa(b) => pattern::clear(&mut b.kernel),
            Block::Mlp(b) => pattern::clear(&mut b.kernel),
            Block::Router(b) => pattern::clear(&mut b.kernel),
            Block::Experts(b) => pattern::clear(&mut b.kernel),
            Block::Embedding(_) | Block::Linear(_) | Block::ExpertLinear(_) | Block::Taps(_) => 0,
        };
    });
    count
}
