//! What tuners found, kept: a file of this machine, and behind it the table that ships with the crate.
//!
//! The file is text, a line for each Program, device and bucket, so that people can read it and share it. Its first line
//! has a checksum of the rest: a file that is damaged, foreign or of another format counts as empty. A line is used where
//! device, driver, crate version, Program (with its dtypes) and bucket are the same; in the table that ships device,
//! Program and bucket decide. A Config that a file brings is checked like any other: it can cost time, never a result.

use super::{Bucket, Measured, Outcome};
use crate::{
    cache::{self, digest},
    env,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};
use zmlx_ir::{Program, schedule::Config};

/// Tuned on an H100 by `zmlx tune`, written by `zmlx tune --export FILE --winners`.
const SHIPPED: &str = include_str!("../../assets/tuned.txt");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAGIC: &str = "zmlx tuned 1 ";
const FILE: &str = "tuned.txt";
/// More lines than this, and those of other crate versions go.
const LIMIT: usize = 20_000;

/// A device as a tuner sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Where {
    /// Its name.
    pub device: String,
    /// The version of its driver.
    pub driver: String,
}

/// What a line is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    program: String,
    place: Where,
    version: String,
    bucket: Bucket,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    /// The operation, for people.
    name: String,
    found: Found,
}

/// What was found for a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// None: the heuristic's choice is best.
    pub config: Option<Config>,
    /// Times of the heuristic's choice and of the best, in µs.
    pub micros: (f64, f64),
}

impl From<&Outcome> for Found {
    fn from(o: &Outcome) -> Found {
        let micros = |m: &Measured| m.seconds * 1e6;
        Found { config: o.winner.map(|w| w.config), micros: (micros(&o.heuristic), micros(o.best())) }
    }
}

/// What a Program is known by: all of it but its name, dtypes and extents of its inputs included.
fn program_key(p: &Program) -> String {
    let mut p = p.compact();
    p.name = String::new();
    digest(p.to_string().as_bytes())
}

/// Lines of a file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Table(BTreeMap<Key, Line>);

impl Table {
    fn to_text(&self) -> String {
        let lines: String = self.0.iter().map(|(k, l)| line(k, l)).collect();
        format!("{MAGIC}{}\n{lines}", digest(lines.as_bytes()))
    }

    /// None: not a whole file of ours.
    fn from_text(text: &str) -> Option<Table> {
        let (sum, lines) = text.strip_prefix(MAGIC)?.split_once('\n')?;
        if sum != digest(lines.as_bytes()) {
            return None;
        }
        lines.lines().map(read).collect::<Option<_>>().map(Table)
    }

    /// What is there for a Program on a device; any driver and version if `shipped`.
    fn of(&self, program: &str, place: &Where, shipped: bool) -> impl Iterator<Item = (Bucket, Found)> {
        let first = Key {
            program: program.into(),
            place: Where { device: place.device.clone(), driver: String::new() },
            version: String::new(),
            bucket: Bucket { rows: 0, cols: 0, even: false },
        };
        let (program, device) = (first.program.clone(), place.device.clone());
        let same = move |k: &Key| k.program == program && k.place.device == device;
        let driver = place.driver.clone();
        let lines = self.0.range(first..).take_while(move |(k, _)| same(k));
        let lines = lines.filter(move |(k, _)| shipped || (k.place.driver == driver && k.version == VERSION));
        lines.map(|(k, l)| (k.bucket, l.found))
    }

    fn trim(&mut self) {
        if self.0.len() > LIMIT {
            self.0.retain(|k, _| k.version == VERSION);
        }
    }
}

/// One line: fields between tabs.
fn line(k: &Key, l: &Line) -> String {
    let plain = |text: &str| text.replace(char::is_control, " ");
    let Bucket { rows, cols, even } = k.bucket;
    let config = l.found.config.map_or("heuristic".into(), |c| c.to_string());
    let (heuristic, best) = l.found.micros;
    format!(
        "{}\t{}\t{}\t{}\t{}\t{rows}x{cols}{}\t{config}\t{heuristic:.2}\t{best:.2}\n",
        plain(&k.place.device),
        plain(&k.place.driver),
        plain(&k.version),
        plain(&l.name),
        k.program,
        if even { "" } else { " odd" },
    )
}

fn read(line: &str) -> Option<(Key, Line)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [device, driver, version, name, program, bucket, config, heuristic, best] = fields[..] else { return None };
    let (size, even) = bucket.strip_suffix(" odd").map_or((bucket, true), |size| (size, false));
    let (rows, cols) = size.split_once('x')?;
    let bucket = Bucket { rows: rows.parse().ok()?, cols: cols.parse().ok()?, even };
    let config = if config == "heuristic" { None } else { Some(Config::from_text(config)?) };
    let place = Where { device: device.into(), driver: driver.into() };
    let key = Key { program: program.into(), place, version: version.into(), bucket };
    let micros = (heuristic.parse().ok()?, best.parse().ok()?);
    Some((key, Line { name: name.into(), found: Found { config, micros } }))
}

/// What was tuned on this machine, and what ships.
#[derive(Debug)]
pub struct Tuned {
    folder: Option<PathBuf>,
    /// The file, as it was last read or written.
    table: Mutex<Table>,
    shipped: Table,
}

impl Tuned {
    /// That of this process, in the folder that the environment names (see `env.rs`).
    pub fn shared() -> &'static Tuned {
        static SHARED: OnceLock<Tuned> = OnceLock::new();
        SHARED.get_or_init(|| Tuned::at(env::cache_folder().ok()))
    }

    /// In this folder; None: in memory.
    pub fn at(folder: Option<PathBuf>) -> Tuned {
        let table = Mutex::new(folder.as_deref().map(on_disk).unwrap_or_default());
        Tuned { folder, table, shipped: Table::from_text(SHIPPED).unwrap_or_default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // a table is whole at any time
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a Program on a device: what ships first, so that of two for a bucket the later counts.
    pub fn known(&self, program: &Program, place: &Where) -> Vec<(Bucket, Found)> {
        let table = self.lock();
        if table.0.is_empty() && self.shipped.0.is_empty() {
            return vec![];
        }
        let key = program_key(program);
        self.shipped.of(&key, place, true).chain(table.of(&key, place, false)).collect()
    }

    /// Keeps what was found for a bucket, in place of what was there.
    ///
    /// # Errors
    /// The file cannot be written; this process knows it all the same.
    pub fn keep(&self, program: &Program, place: &Where, bucket: Bucket, found: Found) -> io::Result<()> {
        let key = Key { program: program_key(program), place: place.clone(), version: VERSION.into(), bucket };
        self.add(Table([(key, Line { name: program.name.clone(), found })].into()))
    }

    /// This machine's lines, as a file to share, and their number: all, or those alone where something is faster than the
    /// heuristic's choice.
    pub fn export(&self, winners: bool) -> (String, usize) {
        let mut table = self.lock().clone();
        table.0.retain(|_, l| !winners || l.found.config.is_some());
        (table.to_text(), table.0.len())
    }

    /// Takes in the lines of a file that was exported, in place of those for the same; gives their number. None: the text
    /// is no such file, or damaged.
    ///
    /// # Errors
    /// As `keep`.
    pub fn import(&self, text: &str) -> io::Result<Option<usize>> {
        let Some(table) = Table::from_text(text) else { return Ok(None) };
        let lines = table.0.len();
        self.add(table).map(|()| Some(lines))
    }

    /// Number of lines of this machine's file, and of the table that ships.
    pub fn len(&self) -> (usize, usize) {
        (self.lock().0.len(), self.shipped.0.len())
    }

    /// Where the file is, if the environment names a place.
    pub fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(FILE))
    }

    fn add(&self, new: Table) -> io::Result<()> {
        let mut table = self.lock();
        let Some(folder) = &self.folder else {
            table.0.extend(new.0);
            return Ok(());
        };
        // others may tune at the same time: what they wrote stays
        let lock = fs::create_dir_all(folder).and_then(|()| fs::File::create(folder.join("tuned.lock")));
        if let Ok(file) = &lock {
            // where a disk knows no locks, the last one to write wins
            let _ = file.lock();
        }
        let there = on_disk(folder);
        table.0.extend(there.0);
        table.0.extend(new.0);
        table.trim();
        cache::write(folder, &folder.join(FILE), table.to_text().as_bytes())
    }
}

/// The file of a folder; one that is not there, not whole or not ours is an empty one.
fn on_disk(folder: &Path) -> Table {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    Table::from_text(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmlx_ir::{DType, Extent, Formula, Signature};

    fn program(name: &str, formula: &str, dtype: DType) -> Program {
        let signature = Signature { inputs: vec![(dtype, Extent::ELEM)] };
        Formula::parse(formula).expect("a formula").bind(name, &signature).expect("a Program")
    }

    fn place(driver: &str) -> Where {
        Where { device: "NVIDIA H100 80GB HBM3".into(), driver: driver.into() }
    }

    fn found(text: &str) -> Found {
        Found { config: Config::from_text(text), micros: (20.5, 10.25) }
    }

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            Folder(std::env::temp_dir().join(format!("zmlx-tuned-{test}-{}", std::process::id())))
        }
        fn open(&self) -> Tuned {
            Tuned::at(Some(self.0.clone()))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const RESIDENT: &str = "resident 128/32 4x2";

    #[test]
    fn what_is_found_is_there_in_the_next_process_for_the_same_program_device_and_driver() {
        let folder = Folder::new("kept");
        let (p, bucket) = (program("softmax", "softmax(x)", DType::F32), Bucket::of(64, 4096));
        folder.open().keep(&p, &place("13.0"), bucket, found(RESIDENT)).expect("a file");
        folder.open().keep(&p, &place("13.0"), Bucket::of(9, 33), found("heuristic")).expect("a file");
        let next = folder.open();
        let known = next.known(&p, &place("13.0"));
        assert_eq!(known, [(Bucket::of(9, 33), found("heuristic")), (bucket, found(RESIDENT))]);
        assert_eq!(known[0].1.config, None);
        // its name is no part of it, its types are
        assert_eq!(next.known(&program("other", "softmax(x)", DType::F32), &place("13.0")).len(), 2);
        assert_eq!(next.known(&program("softmax", "softmax(x)", DType::BF16), &place("13.0")), []);
        assert_eq!(next.known(&program("softmax", "2 * softmax(x)", DType::F32), &place("13.0")), []);
        assert_eq!(next.known(&p, &place("12.8")), []);
        let other = Where { device: "NVIDIA A100".into(), driver: "13.0".into() };
        assert_eq!(next.known(&p, &other), []);
    }

    #[test]
    fn what_is_found_later_replaces_what_was_there() {
        let folder = Folder::new("later");
        let (tuned, p, bucket) = (folder.open(), program("f", "exp(x)", DType::F32), Bucket::of(1, 4096));
        for text in [RESIDENT, "elementwise 256/1 4x2"] {
            tuned.keep(&p, &place("13.0"), bucket, found(text)).expect("a file");
        }
        assert_eq!(folder.open().known(&p, &place("13.0")), [(bucket, found("elementwise 256/1 4x2"))]);
    }

    #[test]
    fn processes_that_tune_at_the_same_time_lose_nothing() {
        let folder = Folder::new("together");
        let programs: Vec<Program> = (0..4).map(|k| program("f", &format!("x + {k}"), DType::F32)).collect();
        std::thread::scope(|s| {
            for p in &programs {
                let tuned = folder.open();
                s.spawn(move || {
                    for n in 0..10 {
                        tuned.keep(p, &place("13.0"), Bucket::of(1 << n, 8), found(RESIDENT)).expect("a file");
                    }
                });
            }
        });
        let all = folder.open();
        assert!(programs.iter().all(|p| all.known(p, &place("13.0")).len() == 10), "{:?}", all.len());
    }

    #[test]
    fn a_damaged_or_foreign_file_counts_as_empty_and_is_written_again() {
        let folder = Folder::new("damaged");
        let (p, bucket) = (program("f", "exp(x)", DType::F32), Bucket::of(1, 4096));
        folder.open().keep(&p, &place("13.0"), bucket, found(RESIDENT)).expect("a file");
        let path = folder.open().path().expect("a path");
        let whole = fs::read(&path).expect("the file");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 2;
            fs::write(&path, &damaged).expect("the file");
            assert_eq!(folder.open().known(&p, &place("13.0")), [], "byte {at}");
            fs::write(&path, &whole[..at]).expect("the file");
            assert_eq!(folder.open().known(&p, &place("13.0")), [], "cut at {at}");
        }
        fs::write(&path, "something else\n").expect("the file");
        folder.open().keep(&p, &place("13.0"), bucket, found(RESIDENT)).expect("a file");
        assert_eq!(fs::read(&path).expect("the file"), whole);
    }

    #[test]
    fn what_one_machine_exports_another_imports() {
        let (here, there) = (Tuned::at(None), Tuned::at(None));
        let (p, bucket) = (program("a\tb\nc", "exp(x)", DType::F32), Bucket::of(7, 4099));
        here.keep(&p, &place("13.0"), bucket, found(RESIDENT)).expect("memory");
        assert_eq!(there.import(&here.export(false).0).expect("memory"), Some(1));
        assert_eq!(there.known(&p, &place("13.0")), [(bucket, found(RESIDENT))]);
        assert_eq!(there.import("no table").expect("memory"), None);
        assert_eq!(there.import(&here.export(false).0.replace("128/32", "128/64")).expect("memory"), None);
        assert_eq!(there.len().0, 1);
        here.keep(&p, &place("13.0"), Bucket::of(9, 9), found("heuristic")).expect("memory");
        assert_eq!([here.export(true), here.export(false)].map(|e| e.1), [1, 2]);
        assert_eq!(there.import(&here.export(true).0).expect("memory"), Some(1));
    }

    #[test]
    fn the_table_that_ships_is_whole_and_serves_any_driver() {
        assert!(Table::from_text(SHIPPED).is_some(), "{SHIPPED}");
        let (p, bucket) = (program("f", "exp(x)", DType::F32), Bucket::of(1, 4096));
        let machine = Tuned::at(None);
        machine.keep(&p, &place("13.0"), bucket, found(RESIDENT)).expect("memory");
        let shipped = Tuned { shipped: machine.lock().clone(), ..Tuned::at(None) };
        assert_eq!(shipped.known(&p, &place("12.8")), [(bucket, found(RESIDENT))]);
        // this machine's own comes last, and so counts
        shipped.keep(&p, &place("12.8"), bucket, found("heuristic")).expect("memory");
        assert_eq!(shipped.known(&p, &place("12.8"))[1], (bucket, found("heuristic")));
    }
}
