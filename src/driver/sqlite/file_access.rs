//! How a session reads its file, and whether what it read is true.
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

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use rustix::process::geteuid;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::file;

use super::SqliteFile;
use super::database_file::{DatabaseFile, FileIdentity, WalIdentity, WalLock};
use super::errors;
use super::side_files::{SideFiles, all_could_write, exists, owner_could_write};

/// Between two looks at a lock that another process holds, or at files that it is making.
const RETRY: Duration = Duration::from_millis(10);
/// An application that opens a database locks it, then makes `-wal`, then `-shm`.
const LOOKS: usize = 10;

/// How long a session waits for others of this process that have a removed `-wal` open.
const OTHERS_CLOSE: Duration = Duration::from_secs(1);

/// What a session relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadMode {
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

/// A database that a session has open.
struct OpenDatabase {
    path: PathBuf,
    file: DatabaseFile,
    beside: SideFiles,
    /// The `-wal` and `-shm` that SQLite has open. Where somebody removes them, as to restore a backup, it reads on in those.
    wal: Option<Arc<WalIdentity>>,
}

/// The file of one session.
pub(super) struct FileAccess {
    main: OpenDatabase,
    mode: ReadMode,
    /// What `session_sql` attached.
    attached: Vec<OpenDatabase>,
    /// What all these files were at the last batch.
    content: Vec<FileContent>,
}

/// A file's size, and the time of its last change: whatever writes it changes one of them.
type FileContent = (u64, Option<SystemTime>);

fn content_of(metadata: &Metadata) -> FileContent {
    (metadata.len(), metadata.modified().ok())
}

impl OpenDatabase {
    /// Before SQLite opens the `-wal`, and once it has: waits a moment until sessions of this process have closed one that
    /// is no longer there.
    fn share_wal(&mut self, by: Deadline) -> Result<()> {
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

    fn has_its_wal(&self) -> bool {
        self.wal.as_ref().is_none_or(|open| self.beside.wal_identity() == Some(**open))
    }

    fn check_wal(&self) -> Result<()> {
        if self.has_its_wal() {
            return Ok(());
        }
        let wal = name(self.beside.wal());
        Err(lost(&self.path, format!("has another {wal} than the one that is open, or none")))
    }
}

impl FileAccess {
    /// Looks at the file and decides. Waits for a lock until `by` at most.
    ///
    /// # Errors
    /// What cannot be opened; what could be read only with changes that are not committed, or by making files that lock the
    /// owner out.
    pub(super) fn open(config: &SqliteFile, by: Deadline) -> Result<FileAccess> {
        let path = config.path.clone();
        let failed = |cause: io::Error| unopened(&path, &cause);
        let metadata = std::fs::metadata(&path).map_err(|cause| {
            failed(cause).with_hint("the exporter reads databases and never makes one; a relative path starts at the file that names it")
        })?;
        if !metadata.is_file() {
            return Err(Error::new(Reason::Connect, format!("{} is not a regular file", path.display())));
        }
        let file = DatabaseFile::open(&path).map_err(failed)?;
        let beside = SideFiles::of(&path.canonicalize().map_err(failed)?);
        if let Some((path, what)) = beside.special() {
            return Err(Error::new(Reason::Connect, format!("{} is {what}", path.display()))
                .with_hint("SQLite keeps files of its own under this name: remove it"));
        }
        let main = OpenDatabase { path, file, beside, wal: None };
        let (mode, attached, content) = (ReadMode::Rollback, Vec::new(), Vec::new());
        let mut access = FileAccess { main, mode, attached, content };
        access.mode = if config.immutable {
            access.check_committed()?;
            ReadMode::Immutable(content_of(&metadata))
        } else if config.read_only {
            access.mode_to_read(&metadata, by)?
        } else {
            access.check_writing(&metadata)?;
            ReadMode::Writing
        };
        access.share_wal(by)?;
        Ok(access)
    }

    /// Before the first statement, after it, with which SQLite opens the `-wal`, and before each batch.
    ///
    /// # Errors
    /// `lost` where the one that is open is no longer there; `connect` while that is so for other sessions of this process.
    pub(super) fn share_wal(&mut self, by: Deadline) -> Result<()> {
        let main = matches!(self.mode, ReadMode::Wal | ReadMode::Writing).then_some(&mut self.main);
        main.into_iter().chain(&mut self.attached).try_for_each(|database| database.share_wal(by))
    }

    /// SQLite has not opened the one that was found: who holds the lock may remove it at that moment.
    pub(super) fn forget_wal(&mut self) {
        self.main.wal = None;
    }

    /// Whether a `-wal` that is open was removed: a new session waits until this one has ended.
    pub(super) fn is_outdated(&self) -> bool {
        std::iter::once(&self.main).chain(&self.attached).any(|database| !database.has_its_wal())
    }

    /// The file alone, without locks and without the files beside it.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.mode, ReadMode::MainFile | ReadMode::Immutable(_))
    }

    pub(super) fn path(&self) -> &Path {
        &self.main.path
    }

    /// Keeps the descriptors of attached files as long as the session: closed earlier, they would release its locks.
    pub(super) fn keep(&mut self, attached: &mut AttachedFiles) {
        self.attached.append(&mut attached.files);
    }

    fn mode_to_read(&self, metadata: &Metadata, by: Deadline) -> Result<ReadMode> {
        let failed = |cause: io::Error| unopened(&self.main.path, &cause);
        match self.lock(metadata, by)? {
            WalLock::NotWal => return Ok(ReadMode::Rollback),
            WalLock::Unknown => return Ok(ReadMode::Wal),
            WalLock::Shared | WalLock::Busy => {}
        }
        if self.main.beside.hot_journal().is_some() {
            return Err(errors::hot_journal(&self.main.path));
        }
        self.main.check_together()?;
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(RETRY);
            }
            if !exists(self.main.beside.wal()).map_err(failed)? {
                return Ok(ReadMode::MainFile);
            }
            if exists(self.main.beside.shm()).map_err(failed)? || owner_could_write(metadata) {
                return Ok(ReadMode::Wal);
            }
        }
        let (wal, shm) = (name(self.main.beside.wal()), name(self.main.beside.shm()));
        let command = errors::open_command(&self.main.path);
        Err(self
            .locking_out(metadata, &format!("{wal} exists beside it without {shm}, which"))
            .with_hint(format!("open it once as its owner: {command}; or run the exporter as that user")))
    }

    /// Locks a database in WAL mode; waits for another process until `by`.
    fn lock(&self, metadata: &Metadata, by: Deadline) -> Result<WalLock> {
        let path = self.main.path.display();
        loop {
            match self.main.file.lock_in_wal_mode() {
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
                    let hint = errors::without_locks(Some(&self.main.path));
                    return Err(Error::new(Reason::Connect, message).with_hint(hint));
                }
                // A sandbox that does not know locks of open files (gVisor). The owner needs none.
                Err(cause)
                    if cause.raw_os_error() == Some(nix::libc::EINVAL) && owner_could_write(metadata) =>
                {
                    return Ok(WalLock::Unknown);
                }
                Err(cause) => return Err(unopened(&self.main.path, &cause)),
            }
        }
    }

    /// A session that may write makes the files beside a database, and removes them when it ends.
    fn check_writing(&self, metadata: &Metadata) -> Result<()> {
        let failed = |cause: io::Error| unopened(&self.main.path, &cause);
        let wal = self.main.beside.wal();
        let folder = std::fs::metadata(wal.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        let makes_files = self.main.file.is_wal().map_err(failed)? && !exists(wal).map_err(failed)?;
        if !makes_files {
            return Ok(());
        }
        self.main.check_together()?;
        if all_could_write(metadata, &folder) {
            return Ok(());
        }
        let what = format!("it is in WAL mode and nobody has it open: {}, which", name(wal));
        Err(self
            .locking_out(metadata, &what)
            .with_hint("run the exporter as the owner of the file, or leave `read_only: false` out"))
    }

    fn locking_out(&self, metadata: &Metadata, what: &str) -> Error {
        let (path, owner, user) = (self.main.path.display(), metadata.uid(), geteuid().as_raw());
        let message = format!(
            "cannot open {path}: {what} this user (uid {user}) would make, the owner of the database (uid {owner}) could \
             not write"
        );
        Error::new(Reason::Connect, message)
    }

    /// Whether the main file alone is what was committed.
    fn check_committed(&self) -> Result<()> {
        let Some(left) = self.main.beside.uncommitted() else { return Ok(()) };
        let content = if left == self.main.beside.wal() {
            "committed changes that are not in it yet"
        } else {
            "what an interrupted write has changed in it"
        };
        let (path, left) = (self.main.path.display(), name(left));
        let message = format!("{path} alone is not what was committed: {left} holds {content}");
        let command = errors::open_command(&self.main.path);
        Err(Error::new(Reason::Connect, message).with_hint(format!(
            "open the database once as its owner: {command}; where an application writes it, leave `immutable: true` out"
        )))
    }

    /// Before a batch: whether the session may go on. True where a file was written since the batch before: SQLite notices
    /// what wrote it by its rules, and not that a backup was copied over it.
    ///
    /// # Errors
    /// `lost` when a path leads to another file than the one that is open, or the file is in another state than the
    /// session was opened for: a new session sees what is there now.
    pub(super) fn check_unchanged(&mut self) -> Result<bool> {
        let mut found = Vec::with_capacity(self.content.len());
        for database in std::iter::once(&self.main).chain(&self.attached) {
            let OpenDatabase { path, file, .. } = database;
            match std::fs::metadata(path) {
                Ok(metadata) if FileIdentity::of(&metadata) == file.identity() => {
                    found.push(content_of(&metadata));
                }
                Ok(_) => return Err(lost(path, "was replaced by another file")),
                Err(cause) => return Err(lost(path, format!("is gone: {cause}"))),
            }
        }
        // Also of a file that an application has put into WAL mode meanwhile. A session that opens it right now may have found
        // one that is removed since, and gives it up in a moment.
        self.share_wal(Deadline::within(RETRY * 10))?;
        let is_written = found != self.content;
        self.content = found;
        if self.mode != ReadMode::Rollback {
            return self.check_undisturbed().map(|()| is_written);
        }
        match self.main.file.is_wal() {
            Ok(false) => Ok(is_written),
            Ok(true) => Err(lost(&self.main.path, "is in WAL mode now")),
            Err(cause) => Err(lost(&self.main.path, format!("cannot be read: {cause}"))),
        }
    }

    /// After each query: whether nobody wrote the file while it was read without SQLite's locks.
    ///
    /// # Errors
    /// `lost`: what was read may be wrong, a new session reads it again.
    pub(super) fn check_undisturbed(&self) -> Result<()> {
        match self.mode {
            // What a statement wrote is not to be written again.
            ReadMode::Rollback | ReadMode::Writing => Ok(()),
            ReadMode::Wal => self.main.check_wal(),
            ReadMode::MainFile => {
                let is_made = exists(self.main.beside.wal()).unwrap_or(true);
                if !is_made && !self.main.file.is_open_elsewhere() {
                    return Ok(());
                }
                Err(lost(&self.main.path, "was opened by an application while it was read"))
            }
            ReadMode::Immutable(known) => {
                self.check_committed()?;
                if std::fs::metadata(&self.main.path).is_ok_and(|metadata| content_of(&metadata) == known) {
                    return Ok(());
                }
                Err(lost(&self.main.path, "was written, although the configuration says `immutable: true`"))
            }
        }
    }
}

fn lost(path: &Path, what: impl Display) -> Error {
    Error::new(Reason::Lost, format!("{} {what}", path.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unopened(path: &Path, cause: &io::Error) -> Error {
    let error = Error::new(Reason::Connect, format!("cannot open {}: {cause}", path.display()));
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let user = geteuid().as_raw();
    error
        .with_hint(format!("let this user (uid {user}) read the file and search the folders that lead to it"))
}

/// SQLite does not tell the name before it opens the file.
pub(super) fn attached_by_expression() -> Error {
    Error::new(Reason::Connect, "session_sql attaches a database whose name is an expression")
        .with_hint("write the name as a text: ATTACH '/var/lib/shop/other.db' AS other")
}

/// What `session_sql` attaches, as SQLite tells it before it opens a file.
#[derive(Default)]
pub(super) struct AttachedFiles {
    files: Vec<OpenDatabase>,
    /// Why a statement was refused.
    pub(super) refused: Option<Error>,
}

impl AttachedFiles {
    /// Whether `name`, the text after `ATTACH`, may be opened: not where SQLite would make files beside it that its
    /// owner cannot write.
    pub(super) fn admit(&mut self, name: &str) -> bool {
        let (path, query) = attached_file(name);
        let path = path.as_path();
        // SQLite follows a link of this name, too.
        let beside = SideFiles::of(&path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        let itself = || Some((path, file::special_kind(std::fs::metadata(path).ok()?.file_type())?));
        if let Some((path, what)) = itself().or_else(|| beside.special()) {
            let message = format!("session_sql attaches a database of which {} is {what}", path.display());
            self.refused = Some(Error::new(Reason::Connect, message));
            return false;
        }
        // A file that does not exist or cannot be read is for SQLite to report.
        let Ok(file) = DatabaseFile::open(path) else { return true };
        let mut database = OpenDatabase { path: path.to_owned(), file, beside, wal: None };
        let locked_out = locks_out(&database).filter(|_| !query.contains("immutable=1"));
        self.refused = locked_out.or_else(|| database.share_wal(Deadline::within(OTHERS_CLOSE)).err());
        self.files.push(database);
        self.refused.is_none()
    }
}

/// The file that SQLite opens for the text after `ATTACH`, and the query of a URI: <https://sqlite.org/uri.html>.
fn attached_file(name: &str) -> (PathBuf, &str) {
    let Some(uri) = name.strip_prefix("file:") else { return (name.into(), "") };
    let (uri, _) = uri.split_once('#').unwrap_or((uri, ""));
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let local = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//"));
    let path = local.filter(|path| path.starts_with('/')).unwrap_or(path);
    let bytes: Vec<u8> = percent_decode_str(path).collect();
    (PathBuf::from(OsString::from_vec(bytes)), query)
}

fn locks_out(database: &OpenDatabase) -> Option<Error> {
    let OpenDatabase { path, file, beside, .. } = database;
    let metadata = std::fs::metadata(path).ok()?;
    if exists(beside.wal()).ok()? || !file.is_wal().ok()? {
        return None;
    }
    if let Err(apart) = database.check_together() {
        return Some(apart);
    }
    if owner_could_write(&metadata) {
        return None;
    }
    let message = format!(
        "session_sql attaches {}, which is in WAL mode and nobody has open: {}, which this user would make, its owner \
         (uid {}) could not write",
        path.display(),
        name(beside.wal()),
        metadata.uid()
    );
    let hint = "run the exporter as the owner of the file, or make it a target of its own";
    Some(Error::new(Reason::Connect, message).with_hint(hint))
}
