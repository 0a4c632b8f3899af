//! The environment: every variable that zmlx reads is read here, and listed in the README. None changes a result.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where compiled kernels are kept on disk, or why nowhere.
pub fn cache_folder() -> Result<PathBuf, String> {
    cache_folder_of(&|name| env::var_os(name), cfg!(target_os = "macos"))
}

fn cache_folder_of(variable: &dyn Fn(&str) -> Option<OsString>, macos: bool) -> Result<PathBuf, String> {
    if let Some(folder) = variable("ZMLX_CACHE_DIR") {
        return if folder.is_empty() { Err("ZMLX_CACHE_DIR is empty".into()) } else { Ok(folder.into()) };
    }
    // A relative path would mean another folder in each working directory.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = if macos {
        absolute("HOME").map(|home| home.join(Path::new("Library/Caches")))
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
    };
    let caches = caches.ok_or("no home folder: HOME is not set, and neither is ZMLX_CACHE_DIR")?;
    Ok(caches.join("zmlx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(variables: &[(&str, &str)], macos: bool) -> Result<String, String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(*value));
        cache_folder_of(&variable, macos).map(|path| path.display().to_string())
    }

    #[test]
    fn the_cache_is_in_the_first_folder_that_the_environment_names() {
        let all = [("HOME", "/h/a"), ("XDG_CACHE_HOME", "/x"), ("ZMLX_CACHE_DIR", "there")];
        assert_eq!(folder(&all, false).unwrap(), "there");
        assert_eq!(folder(&all, true).unwrap(), "there");
        assert_eq!(folder(&all[..2], false).unwrap(), "/x/zmlx");
        assert_eq!(folder(&all[..1], false).unwrap(), "/h/a/.cache/zmlx");
        assert_eq!(folder(&all[..2], true).unwrap(), "/h/a/Library/Caches/zmlx");
        assert_eq!(folder(&[("HOME", "/h/a"), ("XDG_CACHE_HOME", "x")], false).unwrap(), "/h/a/.cache/zmlx");
    }

    #[test]
    fn without_a_home_there_is_a_reason_in_place_of_a_folder() {
        assert!(folder(&[], false).unwrap_err().contains("HOME is not set"));
        assert!(folder(&[("HOME", "")], true).unwrap_err().contains("HOME is not set"));
        assert!(folder(&[("HOME", "/a"), ("ZMLX_CACHE_DIR", "")], false).unwrap_err().contains("is empty"));
    }
}
