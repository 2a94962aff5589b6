//! What tells that a file changed since it was read, without reading it again. Knows no format.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Device, inode, length, and the times of the last change to content and entry, with nanoseconds. A link is followed:
/// Kubernetes swaps the folder that one points through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([u64; 3], [i64; 4]);

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Some(Stamp([file.dev(), file.ino(), file.len()], times))
    }
}

/// The stamps of some files; of one that cannot be looked at there is none, which is a stamp too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileFingerprint(Vec<(PathBuf, Option<Stamp>)>);

impl FileFingerprint {
    /// Looks at a file. Do so before you read it: what changes meanwhile is then read once more.
    pub fn add(&mut self, path: &Path) {
        self.0.push((path.to_owned(), Stamp::of(path)));
    }

    /// True when one of the files is another than it was.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.0.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let stamps = || {
            let mut stamps = FileFingerprint::default();
            stamps.add(&path);
            stamps
        };
        std::fs::write(&path, "one").unwrap();
        let first = stamps();
        assert!(!first.changed());
        std::fs::write(&path, "three").unwrap();
        assert!(first.changed());
        let second = stamps();
        std::fs::write(folder.path().join("b"), "three").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert!(second.changed());
        let third = stamps();
        std::fs::remove_file(&path).unwrap();
        assert!(third.changed());
        assert!(!stamps().changed());
    }
}
