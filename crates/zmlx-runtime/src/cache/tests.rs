//! What the cache promises, tried on a folder of each test's own.

use super::*;

/// A folder that is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("zmlx-cache-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn cache(&self, limit: u64) -> Cache {
        Cache::at(&self.0, limit)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key(i: usize) -> Key {
    Key::new(&format!("text {i}"), "target", &["option"])
}

fn age(cache: &Cache, key: &Key, seconds: u64) {
    let file = fs::File::options().append(true).open(cache.path(key).unwrap()).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn what_is_put_is_got_by_a_later_cache_in_the_same_folder() {
    let folder = Folder::new("kept");
    folder.cache(LIMIT_BYTES).put(&key(0), b"code");
    let later = folder.cache(LIMIT_BYTES);
    assert_eq!(later.get(&key(0)).as_deref(), Some(&b"code"[..]));
    assert_eq!(later.get(&key(1)), None);
    let found = later.describe();
    assert_eq!((found.files, found.off), (1, None));
    assert_eq!(found.bytes, fs::metadata(later.path(&key(0)).unwrap()).unwrap().len());
}

#[test]
fn damaged_truncated_and_foreign_files_are_ignored_and_rewritten() {
    let folder = Folder::new("damaged");
    let cache = folder.cache(LIMIT_BYTES);
    cache.put(&key(0), b"code");
    let path = cache.path(&key(0)).unwrap();
    let whole = fs::read(&path).unwrap();
    cache.put(&key(1), b"other");
    let of_another_key = fs::read(cache.path(&key(1)).unwrap()).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for bad in [&damaged[..], &whole[..whole.len() - 1], &whole[..3], b"", b"#!/bin/sh\necho hello\n", &of_another_key]
    {
        fs::write(&path, bad).unwrap();
        assert_eq!(cache.get(&key(0)), None, "{bad:?}");
        cache.put(&key(0), b"code");
        assert_eq!(cache.get(&key(0)).as_deref(), Some(&b"code"[..]));
    }
}

#[test]
fn the_oldest_go_when_the_limit_is_passed() {
    let folder = Folder::new("bound");
    let code = [1; 1000];
    let size = file::encode(&key(0), &code).len() as u64;
    let cache = folder.cache(3 * size);
    for i in 0..3 {
        cache.put(&key(i), &code);
        age(&cache, &key(i), 100 - i as u64);
    }
    assert_eq!(cache.describe().bytes, 3 * size);
    cache.put(&key(3), &code);
    let there: Vec<bool> = (0..4).map(|i| cache.get(&key(i)).is_some()).collect();
    assert_eq!(there, [false, true, true, true]);
    assert_eq!(cache.describe().bytes, 3 * size);
}

#[test]
fn what_is_used_is_not_the_oldest() {
    let folder = Folder::new("used");
    let code = [1; 1000];
    let cache = folder.cache(2 * file::encode(&key(0), &code).len() as u64);
    for i in 0..2 {
        cache.put(&key(i), &code);
        age(&cache, &key(i), 2 * REFRESH.as_secs() - i as u64);
    }
    assert!(cache.get(&key(0)).is_some());
    cache.put(&key(2), &code);
    assert!(cache.get(&key(0)).is_some());
    assert_eq!(cache.get(&key(1)), None);
}

#[test]
fn code_that_is_larger_than_the_cache_removes_nothing() {
    let folder = Folder::new("large");
    let cache = folder.cache(1000);
    cache.put(&key(0), &[1; 100]);
    cache.put(&key(1), &[1; 1000]);
    assert!(cache.get(&key(0)).is_some());
    assert_eq!(cache.get(&key(1)), None);
}

#[test]
fn clear_removes_kernels_and_leaves_files_of_others() {
    let folder = Folder::new("clear");
    let cache = folder.cache(LIMIT_BYTES);
    assert_eq!(cache.clear().unwrap(), 0);
    for i in 0..3 {
        cache.put(&key(i), b"code");
    }
    let others = [folder.0.join("notes.txt"), folder.0.join("mine.kernel")];
    for other in &others {
        fs::write(other, b"keep").unwrap();
    }
    assert_eq!(cache.clear().unwrap(), 3);
    assert_eq!(cache.describe().files, 0);
    assert!(others.iter().all(|other| other.exists()));
}

#[test]
fn what_dead_processes_left_behind_is_removed_and_what_lives_is_not() {
    let folder = Folder::new("abandoned");
    let cache = folder.cache(LIMIT_BYTES);
    cache.put(&key(0), b"code");
    let (old, young) = (folder.0.join("old-1-2-3.part"), folder.0.join("young-1-2-3.part"));
    for part in [&old, &young] {
        fs::write(part, b"half").unwrap();
    }
    let file = fs::File::options().append(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
    cache.put(&key(1), b"code");
    assert!(!old.exists() && young.exists());
}

#[test]
fn a_folder_that_cannot_be_made_turns_the_cache_off_and_says_so() {
    let folder = Folder::new("off");
    fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("a file");
    fs::write(&file, b"").unwrap();
    let cache = Cache::at(file.join("below"), LIMIT_BYTES);
    cache.put(&key(0), b"code");
    assert_eq!(cache.get(&key(0)), None);
    assert_eq!(cache.clear().unwrap(), 0);
    let found = cache.describe();
    assert!(found.off.is_some());
    assert!(found.to_string().contains("nothing can be added"), "{found}");
}
