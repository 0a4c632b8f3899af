//! Whether a Config, the Program and the launch that it is for go together: the one place where that is checked. The
//! heuristic's choice always does; one that a tuner made, or a file brought, may not.

use super::{
    Config, Geometry, ROW_DIMS, Schedule, Step, Strategy, Unsupported,
    config::{Chooser, WIDE},
    grid::{Grid, Size},
};
use crate::{
    DType, Program,
    kernel::{CLUSTER, THREADS, VECTOR_BYTES, WARP},
};

/// A row that is held in registers: so many chunks of so many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    vector: u32,
    chunks: u64,
}

impl Config {
    /// Is it a choice at all, and one for this Program?
    pub(super) fn suits(&self, p: &Program) -> Result<(), Unsupported> {
        let refused = |what: &str| {
            let dtype = p.outputs.first().map_or(DType::F32, |o| o.dtype);
            Err(Unsupported { what: what.into(), dtype })
        };
        let chunks = u64::from(self.chunks) * u64::from(self.vector);
        if self.threads == 0 || !self.threads.is_multiple_of(WARP) || self.threads > THREADS {
            return refused("a block of other than 32, 64 … 1024 threads");
        }
        if !self.row_threads.is_power_of_two() || !self.threads.is_multiple_of(self.row_threads) {
            return refused("a row by threads that do not divide a block into powers of two");
        }
        // 16 elements are 16 bytes of the narrowest type
        if !self.vector.is_power_of_two() || self.vector > VECTOR_BYTES || self.chunks == 0 || chunks > 1024 {
            return refused("a thread with chunks of other than 1, 2 … 16 elements, or with more than 1024 elements");
        }
        if self.dims == 0 || self.dims as usize > ROW_DIMS {
            return refused("rows over other than 1 to 5 dimensions");
        }
        let facts = Chooser::of(p).facts;
        if self.cluster > 1 {
            let rows = matches!(self.strategy, Strategy::Resident | Strategy::Looped);
            if !rows || self.threads != self.row_threads || !self.cluster.is_power_of_two() || self.cluster > CLUSTER {
                return refused("a cluster of other than 2, 4 … 16 blocks that give all their threads to a row");
            }
        }
        match self.strategy {
            Strategy::Elementwise if !facts.elementwise => refused("a reduction, or a value a row, element by element"),
            Strategy::Resident => Ok(()),
            _ if self.aside => refused("sums in shared memory where no row is held"),
            _ => Ok(()),
        }
    }

    /// What a schedule by it holds of a row; None: rows may be of any length.
    pub(super) fn held(&self, p: &Program) -> Option<Held> {
        let holds = self.strategy == Strategy::Resident && Chooser::of(p).facts.elems;
        holds.then(|| Held { vector: self.vector, chunks: u64::from(self.holders()) * u64::from(self.chunks) })
    }
}

impl Schedule {
    /// Can it run a launch of this geometry? A schedule has room for so many dimensions of the rows, for sizes below
    /// 2³⁰ elements if its indices have 32 bits, and for rows as long as its registers hold.
    ///
    /// # Errors
    /// What does not fit, how much fits, and what there is.
    pub fn admits(&self, g: &Geometry<'_>) -> Result<(), (&'static str, u64, u64)> {
        let (dims, most) = (g.row_dims.len() as u64, u64::from(self.dims));
        if dims > most {
            return Err(("dimensions of the rows", most, dims));
        }
        let cluster = self.steps.iter().map(|s| s.kernel.cluster).max().unwrap_or(1);
        if cluster > g.device.cluster.max(1) {
            return Err(("blocks of a cluster", g.device.cluster.into(), cluster.into()));
        }
        if !self.wide {
            let beside = g.rows().saturating_mul(g.cols as u64).saturating_mul(self.beside);
            let elements = g.elements().max(beside);
            if elements >= WIDE {
                return Err(("elements", WIDE - 1, elements));
            }
        }
        let Some(Held { vector, chunks }) = self.held else { return Ok(()) };
        let whole = |s: &&Step| !s.one_row && matches!(s.grid, Grid::Rows(_) | Grid::Parts { tile: 0, .. });
        let needed = self.steps.iter().filter(whole).map(|s| {
            let size = s.size(g);
            Size { shifted: s.shifted(vector, size.rows, g), ..size }.chunks(vector)
        });
        let needed = needed.max().unwrap_or(0);
        if needed > chunks {
            return Err(("chunks of a row", chunks, needed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent, Formula, Signature,
        schedule::{Device, Strides, launch::tests::doubled, schedule},
    };

    fn of_rows(formula: &str) -> Program {
        let formula = Formula::parse(formula).expect("a formula");
        formula.bind("of_rows", &Signature { inputs: vec![(DType::F32, Extent::ELEM)] }).expect("a Program")
    }

    fn geometry<'a>(row_dims: &'a [usize], cols: usize, inputs: &'a [Strides<'a>]) -> Geometry<'a> {
        Geometry { row_dims, cols, inputs, uniforms: &[], device: Device::default() }
    }

    #[test]
    fn what_does_not_fit_a_schedule_is_refused() {
        let strides = [Strides { rows: &[100, 10], col: 1, shift: 0, table: None }];
        let g = |row_dims| geometry(row_dims, 10, &strides);
        assert_eq!(doubled(2).admits(&g(&[3, 10])), Ok(()));
        assert_eq!(doubled(1).admits(&g(&[3, 10])), Err(("dimensions of the rows", 1, 2)));
        assert_eq!(doubled(1).admits(&g(&[usize::MAX])), Err(("elements", WIDE - 1, u64::MAX)));
    }

    #[test]
    fn a_cluster_larger_than_those_of_the_device_is_refused() {
        let p = of_rows("softmax(x)");
        let device = Device { cluster: 4, ..Device::default() };
        let strides = [Strides { rows: &[131_072], col: 1, shift: 0, table: None }];
        let g = Geometry { device, ..geometry(&[8], 131_072, &strides) };
        let four = Chooser::of(&p).choose(&g);
        assert_eq!(four.cluster, 4);
        let admits = |c: &Config| schedule(&p, c).expect("a schedule").admits(&g);
        assert_eq!(admits(&four), Ok(()));
        assert_eq!(admits(&Config { cluster: 8, ..four }), Err(("blocks of a cluster", 4, 8)));
    }

    #[test]
    fn a_row_that_registers_do_not_hold_is_refused() {
        let p = of_rows("softmax(x)");
        let held = Config::pick(&p, 8, 128, 1, 1024, Device::default());
        assert_eq!(held.strategy, Strategy::Resident);
        let schedule = schedule(&p, &held).expect("a schedule");
        let most = (held.row_threads * held.chunks * held.vector) as usize;
        let strides = [Strides { rows: &[4096], col: 1, shift: 0, table: None }];
        assert_eq!(schedule.admits(&geometry(&[8], most, &strides)), Ok(()));
        let (chunks, needed) = ((most / 4) as u64, (most / 4 + 1) as u64);
        assert_eq!(schedule.admits(&geometry(&[8], most + 4, &strides)), Err(("chunks of a row", chunks, needed)));
    }

    #[test]
    fn a_row_that_starts_off_a_boundary_has_room_for_a_chunk_more() {
        let p = of_rows("sum(x)");
        for (shift, pitch) in [(0, 4096), (3, 4096), (0, 4097)] {
            let strides = [Strides { rows: &[pitch], col: 1, shift, table: None }];
            let g = geometry(&[8], 4096, &strides);
            let config = Chooser::of(&p).choose(&g);
            assert_eq!(config.strategy, Strategy::Resident);
            assert_eq!(schedule(&p, &config).expect("a schedule").admits(&g), Ok(()), "{shift} {pitch} {config:?}");
            // what holds rows that start on boundaries
            let plain = Config::pick(&p, 8, 4096, 1, g.elements(), g.device);
            let admits = schedule(&p, &plain).expect("a schedule").admits(&g);
            assert_eq!(admits.is_ok(), (shift, pitch) == (0, 4096), "{shift} {pitch} {plain:?}");
        }
    }

    #[test]
    fn a_choice_that_is_none_or_of_another_program_has_no_schedule() {
        let p = of_rows("softmax(x)");
        let good = Config::pick(&p, 8, 128, 1, 1024, Device::default());
        assert!(schedule(&p, &good).is_ok());
        for bad in [
            Config { strategy: Strategy::Elementwise, ..good },
            Config { threads: 0, ..good },
            Config { threads: 48, ..good },
            Config { threads: 2048, ..good },
            Config { row_threads: 0, ..good },
            Config { row_threads: 256, threads: 128, ..good },
            Config { vector: 0, ..good },
            Config { vector: 3, ..good },
            Config { chunks: 0, ..good },
            Config { chunks: u32::MAX, ..good },
            Config { dims: 0, ..good },
            Config { dims: 6, ..good },
            Config { strategy: Strategy::Looped, aside: true, ..good },
            Config { cluster: 2, threads: 2 * good.row_threads, ..good },
            Config { cluster: 3, threads: good.row_threads, ..good },
            Config { cluster: 32, threads: good.row_threads, ..good },
            Config { cluster: 2, strategy: Strategy::Tiled, threads: good.row_threads, ..good },
        ] {
            assert!(schedule(&p, &bad).is_err(), "{bad:?}");
        }
    }
}
