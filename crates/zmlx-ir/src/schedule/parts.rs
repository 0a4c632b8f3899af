//! A Program cut into those that run one after the other: what no row changes runs once, on one row (`program/once.rs`);
//! row statistics run before sums over rows that are too long to hold; sums end in kernels of their own.

use super::{
    Config, Length, Schedule, Source, Strategy, Unsupported,
    columns::{self, Sums},
    config::vector,
    elementwise,
    lower::{Lower, Part},
    rows,
};
use crate::{
    Extent, Program,
    kernel::WARP,
    program::{Id, Kind, Scan, Split},
};

/// The schedule under construction.
#[derive(Default)]
pub(super) struct Parts {
    schedule: Schedule,
    name: String,
}

impl Parts {
    pub fn finish(self) -> Schedule {
        self.schedule
    }

    /// Schedules all of a Program.
    pub fn whole(&mut self, p: &Program, cfg: &Config) -> Result<(), Unsupported> {
        self.name = p.name.clone();
        let half = p.is_half();
        let mut inputs: Vec<Source> = (0..p.inputs.len() as u32).map(Source::Input).collect();
        let outputs: Vec<Source> = p.columns().iter().map(|c| Source::Output(c.tensor as u32)).collect();
        let Some(Split { once, slots, reads_rows, rest }) = p.split() else {
            return self.part(&Part { program: p, inputs, outputs, rows_uniform: None, one_row: false, half }, cfg);
        };
        let made: Vec<Source> = once
            .outputs
            .iter()
            .map(|o| {
                let length = if o.extent.has_cols() { Length::Cols } else { Length::One };
                Source::Scratch(self.schedule.add(o.dtype, length))
            })
            .collect();
        let first = Part {
            program: &once,
            inputs: slots.iter().map(|s| inputs[*s]).collect(),
            outputs: made.clone(),
            rows_uniform: reads_rows.then(|| once.uniforms.len() as u32 - 1),
            one_row: true,
            half,
        };
        let along = Config {
            strategy: Strategy::Looped,
            threads: 512,
            row_threads: 512,
            chunks: 1,
            cluster: 1,
            aside: false,
            dims: 1,
            ..*cfg
        };
        self.part(&first, &Config { vector: vector(&once), ..along })?;
        inputs.extend(made);
        self.part(&Part { program: &rest, inputs, outputs, rows_uniform: None, one_row: false, half }, cfg)
    }

    fn part(&mut self, part: &Part<'_>, cfg: &Config) -> Result<(), Unsupported> {
        let scan = all_scans(part.program).first().map(|s| s.0);
        let along = matches!(cfg.strategy, Strategy::Resident | Strategy::Looped) && cfg.threads == cfg.row_threads;
        let ranks = part.program.ranks() > 0;
        if cfg.cluster > 1 && (!along || ranks || scan.is_some()) {
            let probe = Lower::new(part, cfg, "probe");
            let id = scan.or(part.program.outputs.first().map(|o| o.node)).unwrap_or(Id(0));
            return probe.unsupported("a cluster of blocks for other than a row without scans and ranks,", id);
        }
        match cfg.strategy {
            Strategy::Elementwise if part.program.outputs.iter().all(|o| o.extent == Extent::ELEM) => {
                let name = self.step_name();
                let step = elementwise::lower(part, cfg, &name);
                self.schedule.steps.push(step);
                Ok(())
            }
            Strategy::Tiled if has_scans(part.program) => {
                let scans = scans_of_one_direction(part.program);
                self.scans_first(part, cfg, &scans)
            }
            Strategy::Tiled if rows::reduces_along(part.program) => self.statistics_first(part, cfg),
            Strategy::Tiled | Strategy::Resident => self.rows(part, cfg),
            // sums of columns need columns that stay with their thread
            Strategy::Looped | Strategy::Elementwise => {
                // a walk goes one way
                let scans = scans_of_one_direction(part.program);
                if scans.len() < all_scans(part.program).len() {
                    return self.scans_first(part, cfg, &scans);
                }
                self.rows(part, cfg)
            }
        }
    }

    fn step_name(&self) -> String {
        match self.schedule.steps.len() {
            0 => self.name.clone(),
            n => format!("{}_{n}", self.name),
        }
    }

    /// The rows, then the sums over them.
    fn rows(&mut self, part: &Part<'_>, cfg: &Config) -> Result<(), Unsupported> {
        let has = |e: Extent| part.program.outputs.iter().any(|o| o.extent == e);
        let probe = Lower::new(part, cfg, "probe");
        let down = probe.sums();
        let to_columns = down.iter().find(|id| part.program.node(**id).extent.has_cols());
        if let (Strategy::Looped | Strategy::Elementwise, Some(id)) = (cfg.strategy, to_columns) {
            return probe.unsupported(&format!("a sum of columns under the strategy {:?}", cfg.strategy), *id);
        }
        let mut sums = Sums::default();
        if !down.is_empty() || part.program.outputs.iter().any(|o| o.extent.has_rows()) {
            let name = self.step_name();
            let (step, left) = rows::lower(part, cfg, &name, &mut self.schedule)?;
            self.schedule.steps.push(step);
            sums = left;
        }
        let mut totals = vec![];
        if has(Extent::UNIFORM) || !sums.all().is_empty() {
            let name = self.step_name();
            let (step, left) = columns::finish_all(part, cfg, &name, &sums, &mut self.schedule);
            self.schedule.steps.push(step);
            totals = left;
        }
        if has(Extent::COL) {
            let name = self.step_name();
            self.schedule.steps.push(columns::finish_cols(part, cfg, &name, &sums, &totals));
        }
        Ok(())
    }

    /// These scans by a first Program, into memory; the rest reads them there.
    fn scans_first(&mut self, part: &Part<'_>, cfg: &Config, scans: &[Id]) -> Result<(), Unsupported> {
        let (first, second) = part.program.cut(scans);
        let mut inputs = part.inputs.clone();
        let mut made = vec![];
        for id in scans {
            let length = if part.one_row { Length::Cols } else { Length::Elems };
            let scratch = Source::Scratch(self.schedule.add(part.program.node(*id).dtype, length));
            made.push(scratch);
            inputs.push(scratch);
        }
        let first = Part { program: &first, inputs: part.inputs.clone(), outputs: made, ..*part };
        let chunks = u64::from(cfg.row_threads.max(WARP)) * 2;
        self.rows(&first, &Config { vector: vector(first.program), ..cfg.looped(chunks) })?;
        self.part(&Part { program: &second, inputs, outputs: part.outputs.clone(), ..*part }, cfg)
    }

    /// Row statistics by a first Program; the sums over the rows by a second one that reads them.
    fn statistics_first(&mut self, part: &Part<'_>, cfg: &Config) -> Result<(), Unsupported> {
        let p = part.program;
        let probe = Lower::new(part, cfg, "probe");
        let outputs =
            |late: bool| p.outputs.iter().zip(&part.outputs).filter(move |(o, _)| o.extent.has_rows() != late);
        // values of a row that a reduction along it feeds, and that values of another extent or a sum read
        let mut read = vec![false; p.nodes().len()];
        let late: Vec<Id> = outputs(true).map(|o| o.0.node).collect();
        let mut open = late.clone();
        let mut seen = vec![false; p.nodes().len()];
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            if probe.stage[id.index()] > 0 && p.node(id).extent == Extent::ROW {
                read[id.index()] = true;
                continue;
            }
            open.extend(&p.node(id).args);
        }
        let shared: Vec<Id> = p.ids().filter(|i| read[i.index()]).collect();
        let (first, second) = p.split_at(&shared);
        let mut stores: Vec<Source> = outputs(false).map(|o| *o.1).collect();
        let mut inputs = part.inputs.clone();
        for id in &shared {
            let scratch = self.schedule.add(p.node(*id).dtype, Length::Rows);
            stores.push(Source::Scratch(scratch));
            inputs.push(Source::Scratch(scratch));
        }
        let first = Part { program: &first, inputs: part.inputs.clone(), outputs: stores, ..*part };
        let chunks = 1024;
        self.rows(&first, &Config { vector: vector(first.program), ..cfg.looped(chunks) })?;
        let outputs = outputs(true).map(|o| *o.1).collect();
        self.part(&Part { program: &second, inputs, outputs, ..*part }, cfg)
    }
}

fn all_scans(p: &Program) -> Vec<(Id, Scan)> {
    let live = p.live();
    let scan = |id: Id| match p.node(id).kind {
        Kind::Scan(scan) if live[id.index()] => Some((id, scan)),
        _ => None,
    };
    p.ids().filter_map(scan).collect()
}

fn has_scans(p: &Program) -> bool {
    !all_scans(p).is_empty()
}

/// The scans that one walk can make: those that go the way of the first, and are made of none that goes the other way.
fn scans_of_one_direction(p: &Program) -> Vec<Id> {
    let all = all_scans(p);
    let Some((_, first)) = all.first() else { return vec![] };
    let mut blocked = vec![false; p.nodes().len()];
    let mut walked = vec![];
    for id in p.ids() {
        blocked[id.index()] = p.node(id).args.iter().any(|a| blocked[a.index()]);
        if let Some((_, scan)) = all.iter().find(|a| a.0 == id) {
            blocked[id.index()] |= scan.reverse != first.reverse;
            if !blocked[id.index()] {
                walked.push(id);
            }
        }
    }
    walked
}
