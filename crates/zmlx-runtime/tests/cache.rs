//! The cache on disk, shared by processes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use zmlx_runtime::cache::{Cache, Key, LIMIT_BYTES};

/// Tells a process that it is one of the writers, and where it writes.
const WRITER: &str = "ZMLX_TEST_WRITER";
const KEYS: usize = 8;
const ROUNDS: usize = 60;

fn key(i: usize) -> Key {
    Key::new(&format!("text {i}"), "target", &[])
}

/// Code by which one sees who wrote it, of a length of its own.
fn code(writer: u8) -> Vec<u8> {
    vec![writer; 20_000 + 7_000 * usize::from(writer)]
}

fn write(folder: &Path, writer: u8) {
    let cache = Cache::at(folder, LIMIT_BYTES);
    for round in 0..ROUNDS {
        cache.put(&key(round % KEYS), &code(writer));
    }
}

#[test]
fn two_processes_that_write_at_once_leave_whole_files() {
    if let Some(folder) = env::var_os(WRITER) {
        let (writer, folder) = folder.to_str().and_then(|f| f.split_once(':')).expect("number:folder");
        return write(Path::new(folder), writer.parse().expect("number"));
    }
    let folder: PathBuf = env::temp_dir().join(format!("zmlx-cache-processes-{}", std::process::id()));
    let start = |writer: u8| -> Child {
        Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "two_processes_that_write_at_once_leave_whole_files"])
            .env(WRITER, format!("{writer}:{}", folder.display()))
            .stdout(Stdio::null())
            .spawn()
            .expect("a second process")
    };
    let mut writers = [start(1), start(2)];
    let cache = Cache::at(&folder, LIMIT_BYTES);
    let mut seen = 0;
    while writers.iter_mut().any(|w| w.try_wait().expect("a writer").is_none()) {
        for i in 0..KEYS {
            // Once there, a key is always there, and always the whole of what one of the two wrote.
            let found = cache.get(&key(i));
            assert!(found.is_some() || seen < KEYS, "a key that was there is gone");
            if let Some(found) = found {
                assert!(found == code(1) || found == code(2), "mixed code");
            }
        }
        seen = cache.describe().files;
    }
    assert!(writers.iter_mut().all(|w| w.wait().expect("a writer").success()));
    assert!((0..KEYS).all(|i| cache.get(&key(i)).is_some()));
    let names: Vec<PathBuf> = fs::read_dir(&folder).expect("the folder").map(|e| e.expect("a file").path()).collect();
    assert!(names.iter().all(|n| n.extension().is_some_and(|e| e == "kernel")), "left behind: {names:?}");
    assert_eq!(names.len(), KEYS);
    fs::remove_dir_all(&folder).expect("the folder");
}
