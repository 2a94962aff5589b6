//! A database file on the disk: read and locked beside SQLite.
//!
//! POSIX locks belong to a process and a file: when a process closes *any* descriptor of a file, it loses all its locks on
//! it, also those that SQLite took for other sessions (<https://sqlite.org/howtocorrupt.html>, section 2.2). So there is
//! one table for the whole process, as there is one inside SQLite: it keeps a descriptor of each file until the last
//! session on that file has closed its own.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use parking_lot::Mutex;

use crate::file;

/// The part of a file header that says what the file is: <https://sqlite.org/fileformat2.html>.
const HEADER: usize = 20;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The header's byte that a reader must understand, and its value in WAL mode.
const READ_VERSION: usize = 19;
const WAL: u8 = 2;
/// The bytes that SQLite locks to read: <https://sqlite.org/src/file/src/os.h>. We leave the last one out: whoever holds it is
/// SQLite.
const SHARED_FIRST: libc::off_t = 0x4000_0002;
const SHARED_SIZE: libc::off_t = 510;
const SHARED_LAST: libc::off_t = SHARED_FIRST + SHARED_SIZE - 1;

/// All database files that this process has open.
static OPEN: Mutex<BTreeMap<FileIdentity, OpenFile>> = Mutex::new(BTreeMap::new());

/// A file by what it is, not by its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileIdentity(u64, u64);

impl FileIdentity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        FileIdentity(metadata.dev(), metadata.ino())
    }
}

/// A `-wal` and its `-shm`.
pub(super) type WalIdentity = [FileIdentity; 2];

struct OpenFile {
    users: usize,
    /// Those that sessions of this process have open: SQLite maps one `-shm` for all of them, whatever lies there now.
    wal: Weak<WalIdentity>,
    /// The first one is in use; a further one was opened by two sessions at once, and may not be closed either.
    files: Vec<Arc<LockableFile>>,
}

struct LockableFile {
    file: File,
    /// Held while the lock is taken or released: it belongs to all sessions together.
    lock_guard: Mutex<()>,
}

/// The result of [`DatabaseFile::lock_in_wal_mode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalLock {
    /// It is in WAL mode and shared: nobody changes the mode, and nobody removes its `-wal`, until the last session of this
    /// process on the file has ended.
    Shared,
    /// It is not in WAL mode; no lock is held.
    NotWal,
    /// Another process has locked it exclusively.
    Busy,
    /// The system does not know such locks.
    Unknown,
}

/// One session's part in a database file that is open here.
pub(super) struct DatabaseFile {
    identity: FileIdentity,
    /// `None` only while it is dropped.
    inner: Option<Arc<LockableFile>>,
}

impl DatabaseFile {
    /// Opens the file, or shares the descriptor that is open already. `path` leads to a regular file.
    pub(super) fn open(path: &Path) -> io::Result<DatabaseFile> {
        let identity = FileIdentity::of(&std::fs::metadata(path)?);
        if let Some(entry) = OPEN.lock().get_mut(&identity) {
            return Ok(entry.share(identity));
        }
        // Outside of the lock: a file on a server that does not answer keeps nobody else waiting.
        let file = file::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let identity = FileIdentity::of(&metadata);
        let mut open = OPEN.lock();
        let entry = open.entry(identity).or_insert_with(|| OpenFile {
            users: 0,
            wal: Weak::new(),
            files: Vec::new(),
        });
        entry.files.push(Arc::new(LockableFile { file, lock_guard: Mutex::new(()) }));
        Ok(entry.share(identity))
    }

    pub(super) fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// The `-wal` and `-shm` that sessions of this process have open; where none has, those that were `found`.
    pub(super) fn share_wal(&self, found: Option<WalIdentity>) -> Option<Arc<WalIdentity>> {
        let mut open = OPEN.lock();
        let entry = open.get_mut(&self.identity)?;
        entry.wal.upgrade().or_else(|| {
            let new = Arc::new(found?);
            entry.wal = Arc::downgrade(&new);
            Some(new)
        })
    }

    /// Whether the header says that the database is in WAL mode.
    pub(super) fn is_wal(&self) -> io::Result<bool> {
        self.inner.as_ref().map_or(Ok(false), |inner| inner.is_wal())
    }

    /// Locks the file against processes that would change its journal mode or remove its `-wal`, as a reader's session of
    /// SQLite does, if it is in WAL mode. Does not wait. Takes what SQLite calls a SHARED lock; not the PENDING byte before it,
    /// which keeps writers in rollback mode from starving.
    pub(super) fn lock_in_wal_mode(&self) -> io::Result<WalLock> {
        let Some(inner) = &self.inner else { return Ok(WalLock::NotWal) };
        let _guard = inner.lock_guard.lock();
        // Before the lock too: in rollback mode it would be one more lock that a writer waits for.
        if !inner.is_wal()? {
            return Ok(WalLock::NotWal);
        }
        match inner.lock(libc::F_RDLCK) {
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(WalLock::Busy),
            done => done?,
        }
        if inner.is_wal()? {
            return Ok(WalLock::Shared);
        }
        inner.lock(libc::F_UNLCK)?;
        Ok(WalLock::NotWal)
    }

    /// Whether SQLite has the database open in another process. False where the system does not say.
    pub(super) fn is_open_elsewhere(&self) -> bool {
        let found = self.inner.as_ref().and_then(|inner| inner.holder(SHARED_LAST).ok()?);
        found.is_some_and(|process| process.unsigned_abs() != std::process::id())
    }
}

impl OpenFile {
    fn share(&mut self, identity: FileIdentity) -> DatabaseFile {
        self.users += 1;
        DatabaseFile { identity, inner: self.files.first().cloned() }
    }
}

impl LockableFile {
    fn is_wal(&self) -> io::Result<bool> {
        let mut header = [0; HEADER];
        match self.file.read_exact_at(&mut header, 0) {
            Ok(()) => Ok(header.starts_with(MAGIC) && header[READ_VERSION] == WAL),
            // Shorter than a header: an empty database.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes or releases a lock that belongs to this descriptor, not to the process: SQLite's own stay untouched.
    fn lock(&self, kind: libc::c_int) -> nix::Result<()> {
        let lock = lock_of(kind, SHARED_FIRST..SHARED_LAST)?;
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }

    /// The process that holds a lock on a byte; 0 where it is in another container.
    fn holder(&self, byte: libc::off_t) -> nix::Result<Option<libc::pid_t>> {
        let mut lock = lock_of(libc::F_WRLCK, byte..byte + 1)?;
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok((libc::c_int::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
    }
}

fn lock_of(kind: libc::c_int, bytes: Range<libc::off_t>) -> nix::Result<libc::flock> {
    Ok(libc::flock {
        l_type: i16::try_from(kind).map_err(|_| Errno::EINVAL)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(|_| Errno::EINVAL)?,
        l_start: bytes.start,
        l_len: bytes.end - bytes.start,
        l_pid: 0,
    })
}

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        let mut open = OPEN.lock();
        // Before the entry, so that the descriptor is closed while no other session can open the file.
        drop(self.inner.take());
        if let Some(entry) = open.get_mut(&self.identity) {
            entry.users -= 1;
            if entry.users == 0 {
                open.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn database(mode: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let sql = format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (a)");
        Connection::open(&path).and_then(|made| made.execute_batch(&sql)).expect("a database");
        (folder, path)
    }

    #[test]
    fn one_descriptor_serves_all_and_goes_with_the_last() {
        let (_folder, path) = database("DELETE");
        let (first, second) = (DatabaseFile::open(&path).unwrap(), DatabaseFile::open(&path).unwrap());
        let identity = first.identity();
        let state = || OPEN.lock().get(&identity).map(|entry| (entry.users, entry.files.len()));
        assert_eq!(state(), Some((2, 1)));
        drop(first);
        assert_eq!(state(), Some((1, 1)));
        drop(second);
        assert_eq!(state(), None);
    }

    #[test]
    fn a_lock_of_sqlite_outlives_a_session_on_the_same_file() {
        let (_folder, path) = database("DELETE");
        let held = DatabaseFile::open(&path).unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        drop(DatabaseFile::open(&path).unwrap());
        // Another process, as SQLite knows the locks of this one.
        let writer = std::process::Command::new("python3")
            .args(["-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('INSERT INTO t VALUES (1)').connection.commit()"])
            .arg(&path)
            .output();
        let said = String::from_utf8(writer.expect("python3 runs").stderr).unwrap();
        assert!(said.contains("locked"), "{said}");
        drop(held);
    }

    #[test]
    fn only_a_database_in_wal_mode_is_locked() {
        let (_folder, path) = database("DELETE");
        let file = DatabaseFile::open(&path).unwrap();
        assert_eq!((file.is_wal().unwrap(), file.lock_in_wal_mode().unwrap()), (false, WalLock::NotWal));
        let change = |mode: &str| {
            let asked = Connection::open(&path).unwrap();
            asked.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get::<_, String>(0))
        };
        assert_eq!(change("WAL").unwrap(), "wal");
        assert_eq!((file.is_wal().unwrap(), file.lock_in_wal_mode().unwrap()), (true, WalLock::Shared));
        assert!(change("DELETE").is_err(), "the lock does not hold");
        drop(file);
        assert_eq!(change("DELETE").unwrap(), "delete");
    }

    #[test]
    fn what_is_no_database_is_not_in_wal_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in ["", "short", "a letter that is longer than the header of a database"] {
            let path = folder.path().join("x");
            std::fs::write(&path, text).unwrap();
            assert!(!DatabaseFile::open(&path).unwrap().is_wal().unwrap(), "{text}");
        }
    }
}
