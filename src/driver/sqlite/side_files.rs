//! The files that SQLite keeps beside a database: <https://sqlite.org/tempfiles.html>.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::file;

use super::database_file::{FileIdentity, WalIdentity};

/// A `-wal` that is not longer than its header has no changes.
const WAL_HEADER: u64 = 32;
/// A `-shm` that is in use is as long as this, or a multiple of it.
const SHM_REGION: u64 = 32 << 10;
/// Bits of a mode: a group's and others' right to write, and a folder whose files get its own group.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const GIVES_ITS_GROUP: u32 = 0o2000;

/// Their paths, whether they exist or not.
#[derive(Debug, Clone)]
pub(super) struct SideFiles {
    wal: PathBuf,
    shm: PathBuf,
    journal: PathBuf,
}

impl SideFiles {
    /// Those of `database`, which is not a symbolic link: SQLite puts them beside the file that a link leads to.
    pub(super) fn of(database: &Path) -> Self {
        let with = |suffix: &str| {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        SideFiles { wal: with("-wal"), shm: with("-shm"), journal: with("-journal") }
    }

    pub(super) fn wal(&self) -> &Path {
        &self.wal
    }

    pub(super) fn shm(&self) -> &Path {
        &self.shm
    }

    /// Which `-wal` and `-shm` are there; `None` where one is missing, or the `-shm` was cut. SQLite maps it into memory: a
    /// read of what is no longer in the file ends the process (SIGBUS).
    pub(super) fn wal_identity(&self) -> Option<WalIdentity> {
        let (wal, shm) =
            (std::fs::symlink_metadata(&self.wal).ok()?, std::fs::symlink_metadata(&self.shm).ok()?);
        (shm.len() >= SHM_REGION).then(|| [FileIdentity::of(&wal), FileIdentity::of(&shm)])
    }

    /// One that is a pipe, a device or a socket, and what it is: SQLite would wait for it forever.
    pub(super) fn special(&self) -> Option<(&Path, &'static str)> {
        [&self.wal, &self.shm, &self.journal].into_iter().find_map(|path| {
            Some((path.as_path(), file::special_kind(std::fs::symlink_metadata(path).ok()?.file_type())?))
        })
    }

    /// The journal of an interrupted write, which has to be rolled back before the database is what was committed.
    pub(super) fn hot_journal(&self) -> Option<&Path> {
        is_hot(&self.journal).then_some(self.journal.as_path())
    }

    /// True where there is neither a `-wal` nor a journal beside the database.
    pub(super) fn none_there(&self) -> bool {
        [&self.wal, &self.journal].into_iter().all(|path| exists(path).is_ok_and(|there| !there))
    }

    /// A file without which the database file is not what was committed.
    pub(super) fn uncommitted(&self) -> Option<&Path> {
        let wal = std::fs::metadata(&self.wal).is_ok_and(|metadata| metadata.len() > WAL_HEADER);
        if wal { Some(&self.wal) } else { self.hot_journal() }
    }
}

/// True for a link too: SQLite does not follow it, and makes no other file in its place.
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// As SQLite decides: a journal whose first byte is zero is over. One that cannot be read counts.
fn is_hot(journal: &Path) -> bool {
    let mut first = [0];
    match file::open(journal).and_then(|mut file| file.read(&mut first)) {
        Ok(_) => first != [0],
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether the owner of a database can write the side files that this process would make for it. SQLite gives them the
/// mode of the database; as root it also gives them to its owner.
pub(super) fn owner_could_write(database: &Metadata) -> bool {
    let user = geteuid();
    if !user.is_root() {
        return user.as_raw() == database.uid();
    }
    let may_give = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN));
    database.uid() == 0 || may_give()
}

/// Whether everybody who can write the database can write such side files: then a group, or everybody, shares it.
pub(super) fn all_could_write(database: &Metadata, folder: &Metadata) -> bool {
    let group = if folder.mode() & GIVES_ITS_GROUP == 0 { getegid().as_raw() } else { folder.gid() };
    let by_group = database.mode() & GROUP_WRITES != 0 && group == database.gid();
    owner_could_write(database) || by_group || database.mode() & OTHERS_WRITE != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_hot_and_a_wal_counts_by_what_is_in_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = SideFiles::of(&folder.path().join("a.db"));
        assert_eq!(files.uncommitted(), None);
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
        write("a.db-journal", b"");
        write("a.db-wal", &[0; 32]);
        assert_eq!(files.uncommitted(), None);
        write("a.db-journal", b"\0\0 a header that was zeroed: journal_mode = PERSIST");
        assert_eq!(files.uncommitted(), None);
        write("a.db-journal", &[0xd9, 0xd5, 0x05, 0xf9]);
        assert_eq!(files.uncommitted(), Some(folder.path().join("a.db-journal").as_path()));
        write("a.db-wal", &[0; 33]);
        assert_eq!(files.uncommitted(), Some(folder.path().join("a.db-wal").as_path()));
    }

    #[test]
    fn a_link_that_leads_nowhere_exists() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("a.db-shm");
        assert!(!exists(&link).unwrap());
        std::os::unix::fs::symlink("nowhere/at/all", &link).expect("a link");
        assert!(exists(&link).unwrap());
    }
}
