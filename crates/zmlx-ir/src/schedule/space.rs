//! What a tuner tries: the Configs beside the heuristic's that a launch may run with, and their text form.

use super::{Chooser, Config, Geometry, Strategy};
use crate::kernel::{ASIDE_BYTES, CLUSTER, SHARED_BYTES, WARP};
use std::fmt;

/// Registers of a processor, and of a thread at most.
const REGISTERS: (u32, u32) = (65536, 255);
/// Registers of a thread beside its arrays.
const BESIDE: u32 = 32;
/// Most elements of a tensor that a thread holds: beyond, texts grow long and registers run out.
const MOST: u64 = 64;
/// Columns of a row that blocks share, at least: shorter ones are read faster than a cluster meets.
const SHARED_ROW: u64 = 8192;

impl Chooser {
    /// The heuristic's choice for this launch, then all others worth a trial, those nearest to it first. Each holds the
    /// launch; whether a device takes it (registers, shared memory) is seen when it is compiled.
    pub fn candidates(&self, g: &Geometry<'_>) -> Vec<Config> {
        let first = self.choose(g);
        let cols = self.cols(g);
        let mut all = vec![];
        if self.facts.elems {
            for vector in [self.vector, self.vector / 2].into_iter().filter(|v| *v > 0) {
                self.near(Config { vector, ..first }, Chooser::chunks(cols, vector), g, &mut all);
            }
        } else {
            // one value a row, one thread a row
            all.extend(BLOCKS.map(|threads| Config { threads, ..first }));
        }
        all.retain(|c| *c != first);
        all.sort_by_key(|c| c.distance(&first));
        all.dedup();
        all.insert(0, first);
        all
    }

    fn near(&self, base: Config, chunks: u64, g: &Geometry<'_>, all: &mut Vec<Config>) {
        let f = &self.facts;
        let base = Config { aside: false, cluster: 1, ..base };
        let whole = chunks.next_power_of_two();
        if f.elementwise {
            for (threads, chunks) in pairs(&BLOCKS[1..], &[1, 2, 4, 8]) {
                if u64::from(base.vector * chunks * f.inputs.max(1)) <= 2 * MOST {
                    all.push(Config { strategy: Strategy::Elementwise, threads, row_threads: 1, chunks, ..base });
                }
            }
        }
        let powers = |from: u32, to: u32| (from.ilog2()..=to.ilog2()).map(|n| 1u32 << n).collect::<Vec<_>>();
        let shared = f.stages && !f.scans && f.ranks == 0 && chunks * u64::from(base.vector) >= SHARED_ROW;
        let clusters = powers(1, if shared { g.device.cluster.clamp(1, CLUSTER) } else { 1 });
        let per_row = |from: u32| pairs(&powers(from, 1024), &BLOCKS);
        if f.stages {
            for (cluster, (row_threads, threads)) in pairs(&clusters, &per_row(1)) {
                let holders = u64::from(row_threads * cluster);
                let chunks = chunks.div_ceil(holders);
                // threads without a chunk of the row are idle
                let fits = shares(cluster, row_threads, threads) && holders <= whole;
                if !fits || chunks > 16 || chunks * u64::from(base.vector) > MOST {
                    continue;
                }
                let chunks = chunks as u32;
                let held = Config { strategy: Strategy::Resident, threads, row_threads, chunks, cluster, ..base };
                if holds(&held, f.bytes) {
                    all.push(held);
                }
                let aside = u64::from(threads * chunks * base.vector * f.sum_bytes);
                let most = u64::from(g.device.shared).saturating_sub(SHARED_BYTES as u64).min(ASIDE_BYTES as u64);
                if f.sum_bytes > 0 && aside <= most && holds(&held, f.bytes - f.sum_bytes - f.col_bytes) {
                    all.push(Config { aside: true, ..held });
                }
            }
        }
        // sums of columns need columns that stay with their thread
        if f.sum_bytes == 0 && chunks > 1 {
            for (cluster, (row_threads, threads)) in pairs(&clusters, &per_row(WARP)) {
                let holders = u64::from(row_threads * cluster);
                if !shares(cluster, row_threads, threads) || holders > whole.max(u64::from(WARP)) {
                    continue;
                }
                let most = if f.scans { 1 } else { (whole / holders).clamp(1, 4) as u32 };
                for chunks in powers(1, most) {
                    all.push(Config { strategy: Strategy::Looped, threads, row_threads, chunks, cluster, ..base });
                }
            }
        }
        if f.sums > 0 {
            for (row_threads, threads) in pairs(&powers(8, 256), &BLOCKS[1..]) {
                if threads < row_threads || u64::from(row_threads) > whole.max(8) {
                    continue;
                }
                for chunks in [1, 2] {
                    all.push(Config { strategy: Strategy::Tiled, threads, row_threads, chunks, ..base });
                }
            }
        }
    }
}

/// Threads of a block.
const BLOCKS: [u32; 5] = [64, 128, 256, 512, 1024];

fn pairs<A: Copy, B: Copy>(a: &[A], b: &[B]) -> Vec<(A, B)> {
    a.iter().flat_map(|x| b.iter().map(|y| (*x, *y))).collect()
}

/// May blocks of so many threads give so many to a row? A cluster gives all, and is not worth less than a few warps.
fn shares(cluster: u32, row_threads: u32, threads: u32) -> bool {
    if cluster > 1 { threads == row_threads && threads >= BLOCKS[1] } else { threads >= row_threads }
}

/// Have registers room for what a thread holds of a row, at so many bytes an element?
fn holds(c: &Config, bytes: u32) -> bool {
    let words = (c.chunks * c.vector * bytes).div_ceil(4) + BESIDE;
    words <= REGISTERS.1.min(REGISTERS.0 / c.threads)
}

const NAMES: [(Strategy, &str); 4] = [
    (Strategy::Elementwise, "elementwise"),
    (Strategy::Resident, "resident"),
    (Strategy::Looped, "looped"),
    (Strategy::Tiled, "tiled"),
];

/// `resident 128/32 4x2`: the strategy, threads of a block and of a row, elements of a chunk and chunks; `cluster 4` if so
/// many blocks share a row; `aside` if sums lie in shared memory. What follows from the launch, dimensions and the width of indices, is left out.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|n| n.0 == self.strategy).map_or("?", |n| n.1);
        let Config { threads, row_threads, vector, chunks, .. } = self;
        write!(f, "{name} {threads}/{row_threads} {vector}x{chunks}")?;
        if self.cluster > 1 {
            write!(f, " cluster {}", self.cluster)?;
        }
        f.write_str(if self.aside { " aside" } else { "" })
    }
}

impl Config {
    /// Reads the text form.
    pub fn from_text(text: &str) -> Option<Config> {
        let mut words = text.split(' ');
        let name = words.next()?;
        let strategy = NAMES.iter().find(|n| n.1 == name)?.0;
        let (threads, row_threads) = words.next()?.split_once('/')?;
        let (vector, chunks) = words.next()?.split_once('x')?;
        let number = |text: &str| text.parse::<u32>().ok();
        let mut words = words.peekable();
        let cluster = match words.next_if_eq(&"cluster") {
            Some(_) => number(words.next()?)?,
            None => 1,
        };
        let aside = words.next_if_eq(&"aside").is_some();
        if words.next().is_some() {
            return None;
        }
        Some(Config {
            strategy,
            threads: number(threads)?,
            row_threads: number(row_threads)?,
            vector: number(vector)?,
            chunks: number(chunks)?,
            aside,
            cluster,
            dims: 1,
            wide: false,
        })
    }

    /// In how many doublings two Configs differ; another strategy is two.
    pub fn distance(&self, other: &Config) -> u32 {
        let doublings = |of: fn(&Config) -> u32| of(self).max(1).ilog2().abs_diff(of(other).max(1).ilog2());
        let others = u32::from(self.strategy != other.strategy) + u32::from(self.aside != other.aside);
        2 * others
            + doublings(|c| c.threads)
            + doublings(|c| c.row_threads)
            + doublings(|c| c.vector)
            + doublings(|c| c.chunks)
            + doublings(|c| c.cluster)
    }

    /// This choice for a launch that the other one was made for.
    #[must_use]
    pub fn for_launch_of(self, other: Config) -> Config {
        Config { dims: other.dims, wide: other.wide, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DType, Extent, Formula, Program, Signature,
        grad::vjp,
        schedule::{Device, Strides, schedule},
    };

    fn programs() -> Vec<Program> {
        let mut all = vec![];
        for (formula, inputs) in [
            ("silu(x) * u", vec![Extent::ELEM, Extent::ELEM]),
            ("gelu(x + b)", vec![Extent::ELEM, Extent::COL]),
            ("softmax(x)", vec![Extent::ELEM]),
            ("x * rsqrt(mean(x * x) + 1e-6) * w", vec![Extent::ELEM, Extent::COL]),
            ("cumsum(x * w)", vec![Extent::ELEM, Extent::COL]),
            ("sum(x)", vec![Extent::ELEM]),
        ] {
            for dtype in [DType::F32, DType::BF16] {
                let signature = Signature { inputs: inputs.iter().map(|e| (dtype, *e)).collect() };
                let p = Formula::parse(formula).expect("a formula").bind("tuned", &signature).expect("a Program");
                let wrt: Vec<usize> = (0..inputs.len()).collect();
                all.push(vjp(&p, &wrt).expect("a gradient"));
                all.push(p);
            }
        }
        all
    }

    #[test]
    fn every_candidate_has_a_schedule_that_holds_the_launch() {
        for p in programs() {
            let sizes = [(64, 4096, 0), (1000, 37, 0), (3, 1024, 1), (4, 1, 0), (2, 70_001, 0), (9, 131_072, 0)];
            for (rows, cols, shift) in sizes {
                let strides = vec![Strides { rows: &[131_072], col: 1, shift, table: None }; p.inputs.len()];
                let row_dims = [rows];
                let device = Device { processors: 132, shared: 232_448, cluster: 8 };
                let g = Geometry { row_dims: &row_dims, cols, inputs: &strides, uniforms: &[], device };
                let all = Chooser::of(&p).candidates(&g);
                assert_eq!(all[0], Chooser::of(&p).choose(&g));
                let mut seen = std::collections::HashSet::new();
                for c in &all {
                    assert!(seen.insert(*c), "{c:?} twice");
                    let made = schedule(&p, c).unwrap_or_else(|e| panic!("{p}{rows}×{cols}: {c:?}: {e}"));
                    assert_eq!(made.admits(&g), Ok(()), "{p}{rows}×{cols}: {c:?}");
                }
                assert!(all.len() >= 4, "{p}{rows}×{cols}: {}", all.len());
                let (f, clusters) = (Chooser::of(&p).facts, all.iter().any(|c| c.cluster > 1));
                assert_eq!(clusters, cols > 65_536 && f.stages && !f.scans, "{p}{rows}×{cols}");
            }
        }
    }

    #[test]
    fn candidates_near_the_choice_of_the_heuristic_come_first() {
        let p = &programs()[9]; // softmax of f32
        let strides = [Strides { rows: &[4096], col: 1, shift: 0, table: None }];
        let g = Geometry { row_dims: &[4096], cols: 4096, inputs: &strides, uniforms: &[], device: Device::default() };
        let all = Chooser::of(p).candidates(&g);
        let distances: Vec<u32> = all.iter().map(|c| c.distance(&all[0])).collect();
        assert!(distances.is_sorted() && distances[1] == 1, "{distances:?}");
        for strategy in [Strategy::Resident, Strategy::Looped] {
            assert!(all.iter().filter(|c| c.strategy == strategy).count() > 3, "{strategy:?}");
        }
    }

    #[test]
    fn the_text_of_a_config_reads_back_and_no_other_text_does() {
        for p in programs() {
            let strides = vec![Strides { rows: &[512], col: 1, shift: 0, table: None }; p.inputs.len()];
            let device = Device { processors: 132, shared: 232_448, cluster: 8 };
            let g = Geometry { row_dims: &[512], cols: 512, inputs: &strides, uniforms: &[], device };
            for c in Chooser::of(&p).candidates(&g) {
                assert_eq!(Config::from_text(&c.to_string()), Some(c), "{c}");
            }
        }
        for text in ["", "resident", "resident 128/32", "resident 128/32 4x", "warped 128/32 4x2"] {
            assert_eq!(Config::from_text(text), None, "{text}");
        }
        for text in ["resident 128/32 4x2 aside aside", "resident 128/32 4x2 beside", "resident 128/-1 4x2"] {
            assert_eq!(Config::from_text(text), None, "{text}");
        }
    }
}
