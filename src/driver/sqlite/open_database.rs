//! A database with the files beside it, and how it may be read.
//!
//! SQLite reads a database in WAL mode with two files beside it, `-wal` and `-shm`, and makes them where they do not exist,
//! also for a reader. Made by the exporter's user they may lock the application out of its own database. So a
//! session that only reads never lets SQLite make them:
//!
//! - The database is locked as any reader locks it. From then on nobody removes a `-wal`, as that takes an exclusive lock.
//! - Where there is a `-wal`, SQLite finds both files and makes none.
//! - Where there is none, nobody has the database open and all of it is in the main file, which is read alone. It is
//!   written only through a `-wal`, which cannot go unnoticed: while there is none, it has not changed.
//!
//! Whoever restores a backup removes both files. SQLite would read on in those that it has open, and share them with each
//! new session of this process: a session ends where others lie there, and a new one waits until the old ones have ended.

use std::fmt::Display;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::geteuid;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

use super::database_file::{DatabaseFile, FileIdentity, WalIdentity, WalLock};
use super::errors;
use super::side_files::{SideFiles, all_could_write, exists, owner_could_write};

/// Between two looks at a lock that another process holds, or at files that it is making.
pub(super) const RETRY: Duration = Duration::from_millis(10);
/// An application that opens a database locks it, then makes `-wal`, then `-shm`.
const LOOKS: usize = 10;

/// How long a session waits for others of this process that have a removed `-wal` open.
pub(super) const OTHERS_CLOSE: Duration = Duration::from_secs(1);

/// What a session relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadMode {
    /// SQLite's locks, in rollback mode.
    Rollback,
    /// SQLite's locks, in WAL mode, and a lock of our own that keeps the mode.
    Wal,
    /// The main file alone, in WAL mode: there is no `-wal`, and a lock of our own keeps one from coming and going.
    MainFile,
    /// That nobody writes, as the configuration says: the file has this size and this time of change.
    Immutable(FileContent),
    /// SQLite, in a session that may write.
    Writing,
}

/// A file's size, and the time of its last change: whatever writes it changes one of them.
pub(super) type FileContent = (u64, Option<SystemTime>);

pub(super) fn content_of(metadata: &Metadata) -> FileContent {
    (metadata.len(), metadata.modified().ok())
}

/// A database that a session has open.
pub(super) struct OpenDatabase {
    pub(super) path: PathBuf,
    pub(super) file: DatabaseFile,
    pub(super) beside: SideFiles,
    /// The `-wal` and `-shm` that SQLite has open. Where somebody removes them, as to restore a backup, it reads on in those.
    pub(super) wal: Option<Arc<WalIdentity>>,
}

impl OpenDatabase {
    /// Before SQLite opens the `-wal`, and once it has: waits a moment until sessions of this process have closed one that
    /// is no longer there.
    pub(super) fn share_wal(&mut self, by: Deadline) -> Result<()> {
        if self.wal.is_some() {
            return self.check_wal();
        }
        let by = by.or_within(OTHERS_CLOSE);
        loop {
            let found = self.beside.wal_identity();
            self.wal = self.file.share_wal(found);
            if self.has_its_wal() {
                return Ok(());
            }
            self.wal = None;
            if by.passed() {
                let (path, wal) = (self.path.display(), name(self.beside.wal()));
                let message = format!(
                    "cannot open {path}: other sessions of the exporter have a {wal} open that was removed since"
                );
                return Err(Error::new(Reason::Connect, message).with_hint("the next scrapes close them"));
            }
            std::thread::sleep(RETRY);
        }
    }

    /// In WAL mode: whether the `-wal` of an application that has the file open is beside it. With one elsewhere, what is read is
    /// not what was committed, and what is written damages the database. Waits a moment for one that is being made.
    fn check_together(&self) -> Result<()> {
        for _ in 0..LOOKS {
            if exists(self.beside.wal()).unwrap_or(true) || !self.file.is_open_elsewhere() {
                return Ok(());
            }
            std::thread::sleep(RETRY);
        }
        let (path, wal) = (self.path.display(), name(self.beside.wal()));
        let message =
            format!("cannot open {path}: another process has it open, and its {wal} is not beside it");
        Err(Error::new(Reason::Connect, message).with_hint(
            "mount the folder of the database, not the file alone; a hard link of the file is no better",
        ))
    }

    pub(super) fn has_its_wal(&self) -> bool {
        self.wal.as_ref().is_none_or(|open| self.beside.wal_identity() == Some(**open))
    }

    pub(super) fn check_wal(&self) -> Result<()> {
        if self.has_its_wal() {
            return Ok(());
        }
        let wal = name(self.beside.wal());
        Err(lost(&self.path, format!("has another {wal} than the one that is open, or none")))
    }

    /// The file as it is now.
    ///
    /// # Errors
    /// `lost` when the path leads to another file than the one that is open, or to none.
    pub(super) fn content(&self) -> Result<FileContent> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if FileIdentity::of(&metadata) == self.file.identity() => Ok(content_of(&metadata)),
            Ok(_) => Err(lost(&self.path, "was replaced by another file")),
            Err(cause) => Err(lost(&self.path, format!("is gone: {cause}"))),
        }
    }

    /// How a session that only reads may read it. Waits for a lock until `by` at most.
    ///
    /// # Errors
    /// What could be read only with changes that are not committed, or by making files that lock the owner out.
    pub(super) fn mode_to_read(&self, metadata: &Metadata, by: Deadline) -> Result<ReadMode> {
        let failed = |cause: io::Error| unopened(&self.path, &cause);
        match self.lock(metadata, by)? {
            WalLock::NotWal => return Ok(ReadMode::Rollback),
            WalLock::Unknown => return Ok(ReadMode::Wal),
            WalLock::Shared | WalLock::Busy => {}
        }
        if self.beside.hot_journal().is_some() {
            return Err(errors::hot_journal(&self.path));
        }
        self.check_together()?;
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(RETRY);
            }
            if !exists(self.beside.wal()).map_err(failed)? {
                return Ok(ReadMode::MainFile);
            }
            if exists(self.beside.shm()).map_err(failed)? || owner_could_write(metadata) {
                return Ok(ReadMode::Wal);
            }
        }
        let (wal, shm) = (name(self.beside.wal()), name(self.beside.shm()));
        let command = errors::open_command(&self.path);
        Err(self
            .locking_out(metadata, &format!("{wal} exists beside it without {shm}, which"))
            .with_hint(format!("open it once as its owner: {command}; or run the exporter as that user")))
    }

    /// Locks a database in WAL mode; waits for another process until `by`.
    fn lock(&self, metadata: &Metadata, by: Deadline) -> Result<WalLock> {
        let path = self.path.display();
        loop {
            match self.file.lock_in_wal_mode() {
                Ok(WalLock::Busy) if by.passed() => {
                    let message = format!("{path} is locked exclusively by another process");
                    return Err(Error::new(Reason::Locked, message).with_hint(
                        "an application with `PRAGMA locking_mode = exclusive` lets nobody else read",
                    ));
                }
                Ok(WalLock::Busy) => std::thread::sleep(RETRY.min(by.left())),
                Ok(lock) => return Ok(lock),
                Err(cause) if cause.raw_os_error() == Some(nix::libc::ENOLCK) => {
                    let message = format!("the file system of {path} has no locks");
                    let hint = errors::without_locks(Some(&self.path));
                    return Err(Error::new(Reason::Connect, message).with_hint(hint));
                }
                // A sandbox that does not know locks of open files (gVisor). The owner needs none.
                Err(cause)
                    if cause.raw_os_error() == Some(nix::libc::EINVAL) && owner_could_write(metadata) =>
                {
                    return Ok(WalLock::Unknown);
                }
                Err(cause) => return Err(unopened(&self.path, &cause)),
            }
        }
    }

    /// True where SQLite would make the `-wal` of a session that may write, or of an attached file.
    ///
    /// # Errors
    /// `connect` where an application has the `-wal` elsewhere.
    pub(super) fn lacks_wal(&self) -> Result<bool> {
        let failed = |cause: io::Error| unopened(&self.path, &cause);
        let lacks = self.file.is_wal().map_err(failed)? && !exists(self.beside.wal()).map_err(failed)?;
        if lacks { self.check_together().map(|()| true) } else { Ok(false) }
    }

    /// A session that may write makes the files beside a database, and removes them when it ends.
    ///
    /// # Errors
    /// `connect` where others who write the database could not write these.
    pub(super) fn check_writing(&self, metadata: &Metadata) -> Result<()> {
        let wal = self.beside.wal();
        let folder = std::fs::metadata(wal.parent().unwrap_or(Path::new("/")));
        let folder = folder.map_err(|cause| unopened(&self.path, &cause))?;
        if !self.lacks_wal()? || all_could_write(metadata, &folder) {
            return Ok(());
        }
        let what = format!("it is in WAL mode and nobody has it open: {}, which", name(wal));
        Err(self
            .locking_out(metadata, &what)
            .with_hint("run the exporter as the owner of the file, or leave `read_only: false` out"))
    }

    fn locking_out(&self, metadata: &Metadata, what: &str) -> Error {
        let (path, owner, user) = (self.path.display(), metadata.uid(), geteuid().as_raw());
        let message = format!(
            "cannot open {path}: {what} this user (uid {user}) would make, the owner of the database (uid {owner}) could \
             not write"
        );
        Error::new(Reason::Connect, message)
    }

    /// Whether the main file alone is what was committed.
    pub(super) fn check_committed(&self) -> Result<()> {
        let Some(left) = self.beside.uncommitted() else { return Ok(()) };
        let content = if left == self.beside.wal() {
            "committed changes that are not in it yet"
        } else {
            "what an interrupted write has changed in it"
        };
        let (path, left) = (self.path.display(), name(left));
        let message = format!("{path} alone is not what was committed: {left} holds {content}");
        let command = errors::open_command(&self.path);
        Err(Error::new(Reason::Connect, message).with_hint(format!(
            "open the database once as its owner: {command}; where an application writes it, leave `immutable: true` out"
        )))
    }
}

pub(super) fn lost(path: &Path, what: impl Display) -> Error {
    Error::new(Reason::Lost, format!("{} {what}", path.display()))
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn unopened(path: &Path, cause: &io::Error) -> Error {
    let error = Error::new(Reason::Connect, format!("cannot open {}: {cause}", path.display()));
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let user = geteuid().as_raw();
    error
        .with_hint(format!("let this user (uid {user}) read the file and search the folders that lead to it"))
}
