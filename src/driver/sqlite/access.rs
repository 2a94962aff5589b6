//! How a session reads its file, and whether what it read is true.
//!
//! SQLite reads a database in WAL mode with two files beside it, `-wal` and `-shm`, and makes them where they are not
//! there, also for a reader. Made by the exporter's user they may lock the application out of its own database. So a
//! session that only reads never lets SQLite make them:
//!
//! - The database is locked as any reader locks it. From then on nobody removes a `-wal`, as that takes an exclusive lock.
//! - Where there is a `-wal`, SQLite finds both files and makes none.
//! - Where there is none, nobody has the database open and all of it is in the main file, which is read alone. It is
//!   written only through a `-wal`, which cannot go unnoticed: while there is none, it has not changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

use super::File;
use crate::file;

use super::database_file::{DatabaseFile, Identity, WalLock};
use super::fault;
use super::side_files;
use super::side_files::SideFiles;

/// Between two looks at a lock that somebody else holds, or at files that somebody else is making.
const NAP: Duration = Duration::from_millis(10);
/// An application that opens a database makes `-wal` just before `-shm`.
const LOOKS: usize = 10;

/// What a session relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// SQLite's locks, in rollback mode.
    Rollback,
    /// SQLite's locks, in WAL mode, and a lock of our own that keeps the mode.
    Wal,
    /// The main file alone, in WAL mode: there is no `-wal`, and a lock of our own keeps one from coming and going.
    MainFile,
    /// That nobody writes, as the configuration says: the file has this size and this time of change.
    Immutable(u64, Option<SystemTime>),
    /// SQLite, in a session that may write.
    Writing,
}

/// The file of one session.
pub(super) struct Access {
    path: PathBuf,
    file: DatabaseFile,
    beside: SideFiles,
    mode: Mode,
    /// What `session_sql` attached.
    attached: Vec<DatabaseFile>,
}

impl Access {
    /// Looks at the file and decides. Waits for a lock until `by` at most.
    ///
    /// # Errors
    /// What cannot be opened; what could be read only with changes that are not committed, or by making files that lock the
    /// owner out.
    pub(super) fn open(config: &File, by: Deadline) -> Result<Access> {
        let path = config.path.clone();
        let metadata = std::fs::metadata(&path).map_err(|cause| {
            unopened(&path, &cause).with_hint("the exporter reads databases and never makes one; a relative path starts at the file that names it")
        })?;
        if !metadata.is_file() {
            return Err(Error::new(Reason::Connect, format!("{} is not a regular file", path.display())));
        }
        let failed = |cause: io::Error| unopened(&path, &cause);
        let file = DatabaseFile::open(&path).map_err(failed)?;
        let beside = SideFiles::of(&path.canonicalize().map_err(failed)?);
        if let Some((path, what)) = beside.special() {
            return Err(Error::new(Reason::Connect, format!("{} is {what}", path.display()))
                .with_hint("SQLite keeps files of its own under this name: remove it"));
        }
        let mut access =
            Access { path: path.clone(), file, beside, mode: Mode::Rollback, attached: Vec::new() };
        access.mode = if config.immutable {
            access.committed()?;
            immutable(&metadata)
        } else if config.read_only {
            access.reading(&metadata, by)?
        } else {
            access.writing(&metadata)?
        };
        Ok(access)
    }

    /// The file alone, without locks and without the files beside it.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.mode, Mode::MainFile | Mode::Immutable(..))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn reading(&self, metadata: &Metadata, by: Deadline) -> Result<Mode> {
        let failed = |cause: io::Error| unopened(&self.path, &cause);
        loop {
            match self.file.lock_in_wal_mode() {
                Ok(WalLock::NotWal) => return Ok(Mode::Rollback),
                Ok(WalLock::Shared) => break,
                Ok(WalLock::Busy) if by.passed() => {
                    let message = format!("{} is locked exclusively by another process", self.path.display());
                    return Err(Error::new(Reason::Locked, message).with_hint(
                        "an application with `PRAGMA locking_mode = exclusive` lets nobody else read",
                    ));
                }
                Ok(WalLock::Busy) => std::thread::sleep(NAP.min(by.left())),
                Err(cause) if cause.raw_os_error() == Some(nix::libc::ENOLCK) => {
                    let message = format!("the file system of {} has no locks", self.path.display());
                    return Err(Error::new(Reason::Connect, message)
                        .with_hint(fault::without_locks(Some(&self.path))));
                }
                // A sandbox that does not know locks of open files (gVisor). The owner needs none.
                Err(cause)
                    if cause.raw_os_error() == Some(nix::libc::EINVAL)
                        && side_files::owner_could_write(metadata) =>
                {
                    return Ok(Mode::Wal);
                }
                Err(cause) => return Err(failed(cause)),
            }
        }
        if self.beside.hot_journal().is_some() {
            return Err(fault::hot_journal(&self.path));
        }
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(NAP);
            }
            if !side_files::exists(self.beside.wal()).map_err(failed)? {
                return Ok(Mode::MainFile);
            }
            if side_files::exists(self.beside.shm()).map_err(failed)?
                || side_files::owner_could_write(metadata)
            {
                return Ok(Mode::Wal);
            }
        }
        let (wal, shm) = (name(self.beside.wal()), name(self.beside.shm()));
        Err(self.locking_out(metadata, &format!("{wal} lies beside it without {shm}, which")).with_hint(
            format!(
                "open it once as its owner: {}; or run the exporter as that user",
                fault::shell(&self.path)
            ),
        ))
    }

    /// A session that may write makes the files beside a database, and removes them when it ends.
    fn writing(&self, metadata: &Metadata) -> Result<Mode> {
        let failed = |cause: io::Error| unopened(&self.path, &cause);
        let folder = self.beside.wal().parent().unwrap_or(Path::new("/"));
        let folder = std::fs::metadata(folder).map_err(failed)?;
        let makes =
            self.file.is_wal().map_err(failed)? && !side_files::exists(self.beside.wal()).map_err(failed)?;
        if makes && !side_files::all_could_write(metadata, &folder) {
            let wal = name(self.beside.wal());
            return Err(self
                .locking_out(metadata, &format!("it is in WAL mode and nobody has it open: {wal}, which"))
                .with_hint("run the exporter as the owner of the file, or leave `read_only: false` out"));
        }
        Ok(Mode::Writing)
    }

    fn locking_out(&self, metadata: &Metadata, what: &str) -> Error {
        let (path, owner, user) = (self.path.display(), metadata.uid(), rustix::process::geteuid().as_raw());
        let message = format!(
            "cannot open {path}: {what} this user (uid {user}) would make, the owner of the database (uid {owner}) could \
             not write"
        );
        Error::new(Reason::Connect, message)
    }

    /// Whether the main file alone is what was committed.
    fn committed(&self) -> Result<()> {
        let Some(left) = self.beside.uncommitted() else { return Ok(()) };
        let kind = if left == self.beside.wal() {
            "committed changes that are not in it yet"
        } else {
            "what an interrupted write has changed in it"
        };
        let message =
            format!("{} alone is not what was committed: {} holds {kind}", self.path.display(), name(left));
        Err(Error::new(Reason::Connect, message).with_hint(format!(
            "open the database once as its owner: {}; where an application writes it, leave `immutable: true` out",
            fault::shell(&self.path)
        )))
    }

    /// Keeps the descriptors of attached files as long as the session: closed earlier, they would take locks with them.
    pub(super) fn keep(&mut self, attached: &mut Attached) {
        self.attached.append(&mut attached.files);
    }

    /// Before a batch: whether the session may go on.
    ///
    /// # Errors
    /// `lost` when the path leads to another file than the one that is open, or the file is in another state than the
    /// session was opened for: a new session sees what is there now.
    pub(super) fn still(&self) -> Result<()> {
        let path = self.path.display();
        let lost = |what: String| Err(Error::new(Reason::Lost, format!("{path} {what}")));
        match std::fs::metadata(&self.path).map(|metadata| Identity::of(&metadata)) {
            Ok(found) if found == self.file.identity() => {}
            Ok(_) => return lost("was replaced by another file".to_owned()),
            Err(cause) => return lost(format!("is gone: {cause}")),
        }
        match self.mode {
            Mode::Rollback => match self.file.is_wal() {
                Ok(false) => Ok(()),
                Ok(true) => lost("is in WAL mode now".to_owned()),
                Err(cause) => lost(format!("cannot be read: {cause}")),
            },
            _ => self.undisturbed(),
        }
    }

    /// After each query: whether nobody wrote the file while it was read without SQLite's locks.
    ///
    /// # Errors
    /// `lost`: what was read may be wrong, a new session reads it again.
    pub(super) fn undisturbed(&self) -> Result<()> {
        let path = self.path.display();
        let lost = |what: &str| Err(Error::new(Reason::Lost, format!("{path} {what}")));
        match self.mode {
            Mode::Rollback | Mode::Wal | Mode::Writing => Ok(()),
            Mode::MainFile => match side_files::exists(self.beside.wal()) {
                Ok(false) => Ok(()),
                _ => lost("was opened by an application while it was read"),
            },
            Mode::Immutable(..) => {
                self.committed()?;
                let now = std::fs::metadata(&self.path).map(|metadata| immutable(&metadata));
                if now.is_ok_and(|now| now == self.mode) {
                    return Ok(());
                }
                lost("was written, though the configuration says `immutable: true`")
            }
        }
    }
}

fn immutable(metadata: &Metadata) -> Mode {
    Mode::Immutable(metadata.len(), metadata.modified().ok())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unopened(path: &Path, cause: &io::Error) -> Error {
    let error = Error::new(Reason::Connect, format!("cannot open {}: {cause}", path.display()));
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let user = rustix::process::geteuid().as_raw();
    error
        .with_hint(format!("let this user (uid {user}) read the file and search the folders that lead to it"))
}

/// What `session_sql` attaches, as SQLite tells it before it opens a file.
#[derive(Default)]
pub(super) struct Attached {
    files: Vec<DatabaseFile>,
    refused: Option<Error>,
}

impl Attached {
    /// Whether `name`, as it stands behind `ATTACH`, may be opened: not where SQLite would make files beside it that its
    /// owner cannot write.
    pub(super) fn admit(&mut self, name: &str) -> bool {
        let (path, query) = match name.strip_prefix("file:") {
            Some(uri) => uri.split_once('?').unwrap_or((uri, "")),
            None => (name, ""),
        };
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        let beside = SideFiles::of(Path::new(path));
        let itself =
            || Some((Path::new(path), file::special_kind(std::fs::metadata(path).ok()?.file_type())?));
        if let Some((path, what)) = itself().or_else(|| beside.special()) {
            let message = format!("session_sql attaches a database of which {} is {what}", path.display());
            self.refused = Some(Error::new(Reason::Connect, message));
            return false;
        }
        // What is missing or cannot be read is for SQLite to say.
        let Ok(file) = DatabaseFile::open(Path::new(path)) else { return true };
        match locks_out(Path::new(path), &file) {
            Some(error) if !query.contains("immutable=1") => {
                self.refused = Some(error);
                false
            }
            _ => {
                self.files.push(file);
                true
            }
        }
    }

    /// Why a statement of `session_sql` was refused, if it was here.
    pub(super) fn refused(&mut self) -> Option<Error> {
        self.refused.take()
    }
}

fn locks_out(path: &Path, file: &DatabaseFile) -> Option<Error> {
    let metadata = std::fs::metadata(path).ok()?;
    let wal = SideFiles::of(&path.canonicalize().ok()?).wal().to_owned();
    let harmless =
        side_files::owner_could_write(&metadata) || side_files::exists(&wal).ok()? || !file.is_wal().ok()?;
    (!harmless).then(|| {
        let message = format!(
            "session_sql attaches {}, which is in WAL mode and nobody has open: {}, which this user would make, its owner \
             (uid {}) could not write",
            path.display(),
            name(&wal),
            metadata.uid()
        );
        Error::new(Reason::Connect, message).with_hint("run the exporter as the owner of the file, or make it a target of its own")
    })
}
