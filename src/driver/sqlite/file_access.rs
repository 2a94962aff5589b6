//! The files of one session, and whether what it reads of them is true.

use std::io;
use std::path::Path;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

use super::SqliteFile;
use super::attached::AttachedFiles;
use super::database_file::DatabaseFile;
use super::open_database::{FileContent, OpenDatabase, RETRY, ReadMode, content_of, lost, unopened};
use super::side_files::{SideFiles, exists};

/// The file of one session.
pub(super) struct FileAccess {
    main: OpenDatabase,
    mode: ReadMode,
    /// What `session_sql` attached.
    attached: Vec<OpenDatabase>,
    /// What all these files were at the last batch.
    content: Vec<FileContent>,
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
        let mode = if config.immutable {
            main.check_committed()?;
            ReadMode::Immutable(content_of(&metadata))
        } else if config.read_only {
            main.mode_to_read(&metadata, by)?
        } else {
            main.check_writing(&metadata)?;
            ReadMode::Writing
        };
        let mut access = FileAccess { main, mode, attached: Vec::new(), content: Vec::new() };
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

    /// Before a batch: whether the session may go on. True where a file was written since the batch before: SQLite notices
    /// what wrote it by its rules, and not that a backup was copied over it.
    ///
    /// # Errors
    /// `lost` when a path leads to another file than the one that is open, or the file is in another state than the
    /// session was opened for: a new session sees what is there now.
    pub(super) fn check_unchanged(&mut self) -> Result<bool> {
        let all = || std::iter::once(&self.main).chain(&self.attached);
        let found = all().map(OpenDatabase::content).collect::<Result<Vec<_>>>()?;
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
                self.main.check_committed()?;
                if std::fs::metadata(&self.main.path).is_ok_and(|metadata| content_of(&metadata) == known) {
                    return Ok(());
                }
                Err(lost(&self.main.path, "was written, although the configuration says `immutable: true`"))
            }
        }
    }
}
