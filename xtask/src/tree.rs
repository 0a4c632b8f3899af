//! The project's files in memory, so that every rule is a pure function over them and can be tested on a few strings.

use std::{fmt, fs, io, path::Path};

/// Folders that hold no source of the project. In a second worktree `.git` is a file.
const SKIPPED: &[&str] = &[".git", "target", "artifacts", "corpus", "coverage", "node_modules", "__pycache__"];

/// One file.
pub struct File {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    /// Empty for a file that is not UTF-8.
    pub text: String,
    /// Size on disk.
    pub bytes: usize,
}

impl File {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn fault(&self, line: usize, message: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), line, message: message.into() }
    }
}

/// All files, sorted by path.
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut files = Vec::new();
        walk(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { files })
    }

    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.is_rust())
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let file = |&(path, text): &(&str, &str)| File { path: path.into(), text: text.into(), bytes: text.len() };
        Tree { files: files.iter().map(file).collect() }
    }
}

fn walk(root: &Path, under: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(under))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let path = if under.is_empty() { name.clone() } else { format!("{under}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            let content = fs::read(entry.path())?;
            let bytes = content.len();
            files.push(File { path, text: String::from_utf8(content).unwrap_or_default(), bytes });
        }
    }
    Ok(())
}

/// Something that is not as it should be.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub path: String,
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_keeps_is_no_source_whether_a_folder_or_a_file() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("xtask-tree-test-{}", std::process::id()));
        fs::create_dir_all(root.join("target"))?;
        fs::write(root.join("target/a.rs"), "")?;
        fs::write(root.join(".git"), "gitdir: elsewhere\n")?;
        fs::write(root.join("b.rs"), "")?;
        let tree = Tree::read(&root);
        fs::remove_dir_all(&root)?;
        assert_eq!(tree?.files.iter().map(|f| &f.path[..]).collect::<Vec<_>>(), ["b.rs"]);
        Ok(())
    }
}
