//! SQLite's result codes as errors of ours. A new mapping is one line in [`CODES`].

use std::path::Path;

use nix::unistd::{AccessFlags, eaccess};
use rusqlite::ffi;

use crate::driver::bounded_text;
use crate::driver::sql_lexer::position_of;
use crate::error::{Error, Reason, SqlPosition};

use super::side_files::{SideFiles, exists};

/// What to do where there are no locks at all.
const NO_LOCKS: &str =
    "put the database on a file system with locks, which network and shared folders often lack";
/// What else to do, where the file alone is what was committed.
const OR_IMMUTABLE: &str = "; if nobody writes it while the exporter runs, set params: {immutable: true}";

/// One result code.
struct Code {
    code: i32,
    /// As in SQLite's documentation.
    name: &'static str,
    reason: Reason,
    /// What happened, where SQLite's own message says less; `{db}` is the file's name.
    what: &'static str,
    /// What to do; `{path}` is the file's path, `{open}` a command that opens the database as a writer.
    hint: &'static str,
}

macro_rules! codes {
    ($($name:ident $reason:ident $what:literal $hint:expr;)*) => {
        &[$(Code { code: ffi::$name, name: stringify!($name), reason: Reason::$reason, what: $what, hint: $hint }),*]
    };
}

const OWNER_OPENS: &str = "open the database once as its owner, where its folder can be written: {open}";
const FOLDER_WRITES: &str = "let this user write the file and its folder, or leave `read_only: false` out";
const DISK: &str = "the disk or its file system failed: the kernel's log (dmesg) may say why";
const SHARED_MEMORY: &str =
    "WAL mode needs a local file system, mounted on one machine for the application and the exporter";
const ENCRYPTED: &str = "the file is encrypted, which the bundled SQLite cannot read: check the path";
const CHECK: &str = "sqlite3 {path} 'PRAGMA integrity_check' says what is broken: restore a backup, or save what can be read with .recover";

/// Extended codes and the primary ones for those that are not here. Others are `sql`.
/// Source: <https://sqlite.org/rescode.html>.
const CODES: &[Code] = codes! {
    SQLITE_BUSY Locked "" "";
    SQLITE_BUSY_RECOVERY Locked "another process recovers {db}-wal after a crash" "if that does not end, a process hangs that has the database open: fuser {path} names it";
    SQLITE_BUSY_SNAPSHOT Conflict "another connection wrote the database after this one had begun to read" "the next scrape tries again";
    SQLITE_BUSY_TIMEOUT Locked "another process did not release its lock in time" "give the query a longer timeout, or let the application hold its locks for a shorter time";
    SQLITE_LOCKED Locked "" "";
    SQLITE_LOCKED_SHAREDCACHE Locked "" "";
    SQLITE_LOCKED_VTAB Locked "" "";
    SQLITE_PROTOCOL Locked "other processes changed {db}-wal again and again while the query began" "the next scrape tries again";
    SQLITE_NOLFS Connect "the file system does not support files of this size" "move the database to another file system";
    SQLITE_INTERRUPT Cancelled "" "";
    SQLITE_AUTH ReadOnly "" "a query only reads its database; a pragma that sets something belongs in `session_sql` of the target";
    SQLITE_READONLY ReadOnly "" FOLDER_WRITES;
    SQLITE_READONLY_RECOVERY Connect "{db}-wal has to be recovered after a crash, which needs a user with write access" OWNER_OPENS;
    SQLITE_READONLY_CANTLOCK Connect "{db}-shm cannot be locked, as this user may not write it" "run the exporter as the owner of the database, or let its user write {db}-shm";
    SQLITE_READONLY_CANTINIT Connect "{db}-shm is not set up, as no process with write access has the database open" OWNER_OPENS;
    SQLITE_READONLY_ROLLBACK Connect "an interrupted write left {db}-journal: what was committed can be read once a user with write access has rolled it back" OWNER_OPENS;
    SQLITE_READONLY_DBMOVED Connect "the database file was moved or removed while it was open" "check the path: the next scrape opens what is there";
    SQLITE_READONLY_DIRECTORY Connect "this user may not make files in the folder of {db}" FOLDER_WRITES;
    SQLITE_PERM Permission "" "let this user read the file and search the folders that lead to it";
    SQLITE_CANTOPEN Connect "" "let this user read the file, search the folders that lead to it and, in WAL mode, read {db}-wal and {db}-shm";
    SQLITE_CANTOPEN_NOTEMPDIR Connect "there is no folder for temporary files" "make /tmp writable for this user, or name a folder in SQLITE_TMPDIR";
    SQLITE_CANTOPEN_ISDIR Connect "{db} is a folder" "name the database file in it";
    SQLITE_CANTOPEN_FULLPATH Connect "the path of {db} cannot be resolved" "look for symbolic links in a circle, folders that this user may not search, and a path of more than 500 bytes";
    SQLITE_CANTOPEN_CONVPATH Connect "the path of {db} cannot be converted for this system" "name the file by a shorter path of plain letters";
    SQLITE_CANTOPEN_DIRTYWAL Connect "{db}-wal has changes that are not in the database yet" OWNER_OPENS;
    SQLITE_CANTOPEN_SYMLINK Connect "{db}, or a file beside it, is a symbolic link" "name the file that the link leads to";
    SQLITE_NOTADB Server "" "check the path; a database that is encrypted (SQLCipher, SEE) looks like this too, and cannot be read";
    SQLITE_CORRUPT Server "" CHECK;
    SQLITE_CORRUPT_VTAB Server "a virtual table's data is malformed" "rebuild it; for full-text search: INSERT INTO t(t) VALUES ('rebuild')";
    SQLITE_CORRUPT_SEQUENCE Server "the table sqlite_sequence is malformed" CHECK;
    SQLITE_CORRUPT_INDEX Server "an index does not agree with its table" "rebuild it as the owner: sqlite3 {path} REINDEX";
    SQLITE_FULL Server "" "free space on the disk of the database and, for large sorts, in /tmp or SQLITE_TMPDIR";
    SQLITE_NOMEM Server "" "the machine or the container has no memory left";
    SQLITE_TOOBIG Limit "" "a value inside a statement has 16 MiB at most, or exporter.max_cell_bytes where that is more";
    SQLITE_CONSTRAINT Sql "" "";
    SQLITE_CONSTRAINT_CHECK Sql "" "";
    SQLITE_CONSTRAINT_FOREIGNKEY Sql "" "";
    SQLITE_CONSTRAINT_NOTNULL Sql "" "";
    SQLITE_CONSTRAINT_PRIMARYKEY Sql "" "";
    SQLITE_CONSTRAINT_ROWID Sql "" "";
    SQLITE_CONSTRAINT_TRIGGER Sql "" "";
    SQLITE_CONSTRAINT_UNIQUE Sql "" "";
    SQLITE_IOERR Server "" DISK;
    SQLITE_IOERR_READ Server "the file could not be read" DISK;
    SQLITE_IOERR_SHORT_READ Server "the file is shorter than its own header says" "it was cut, or is being copied right now: copy a database with sqlite3's .backup";
    SQLITE_IOERR_WRITE Server "a file could not be written" DISK;
    SQLITE_IOERR_FSYNC Server "a file could not be written to the disk" DISK;
    SQLITE_IOERR_DIR_FSYNC Server "the folder could not be written to the disk" DISK;
    SQLITE_IOERR_TRUNCATE Server "a file could not be cut" DISK;
    SQLITE_IOERR_FSTAT Server "the size of a file could not be read" DISK;
    SQLITE_IOERR_UNLOCK Server "a lock could not be released" NO_LOCKS;
    SQLITE_IOERR_RDLOCK Server "a lock for reading could not be taken" NO_LOCKS;
    SQLITE_IOERR_DELETE Server "a file beside the database could not be removed" FOLDER_WRITES;
    SQLITE_IOERR_NOMEM Server "there was no memory for a file operation" "the machine or the container has no memory left";
    SQLITE_IOERR_ACCESS Server "the files beside {db} could not be examined" DISK;
    SQLITE_IOERR_CHECKRESERVEDLOCK Server "the locks of other processes could not be read" NO_LOCKS;
    SQLITE_IOERR_LOCK Server "a lock could not be taken" NO_LOCKS;
    SQLITE_IOERR_CLOSE Server "a file could not be closed" DISK;
    SQLITE_IOERR_SHMOPEN Server "{db}-shm could not be opened as shared memory" SHARED_MEMORY;
    SQLITE_IOERR_SHMSIZE Server "{db}-shm could not be made larger" "free space on the disk of the database";
    SQLITE_IOERR_SHMLOCK Server "{db}-shm could not be locked" SHARED_MEMORY;
    SQLITE_IOERR_SHMMAP Server "{db}-shm could not be mapped as shared memory" SHARED_MEMORY;
    SQLITE_IOERR_SEEK Server "a position in the file could not be reached" DISK;
    SQLITE_IOERR_DELETE_NOENT Server "a file beside the database did not exist when it was to be removed" "";
    SQLITE_IOERR_MMAP Server "the file could not be mapped into memory" DISK;
    SQLITE_IOERR_GETTEMPPATH Server "there is no folder for temporary files" "make /tmp writable for this user, or name a folder in SQLITE_TMPDIR";
    SQLITE_IOERR_CONVPATH Server "the path of {db} cannot be converted for this system" "name the file by a shorter path of plain letters";
    SQLITE_IOERR_VNODE Server "the file was replaced while it was open" "the next scrape opens what is there";
    SQLITE_IOERR_AUTH Server "the file system refused this user" "let this user read the file and search the folders that lead to it";
    SQLITE_IOERR_DATA Server "a page of the file does not match its checksum" CHECK;
    SQLITE_IOERR_CORRUPTFS Server "the file system itself is damaged" DISK;
    SQLITE_IOERR_IN_PAGE Server "a mapped page of the file could not be read" DISK;
    SQLITE_IOERR_BADKEY Server "the key of the encryption is wrong" ENCRYPTED;
    SQLITE_IOERR_CODEC Server "the file could not be decrypted" ENCRYPTED;
};

/// The error for one of SQLite's: reason, message, the code's name, and what to change. `file` is the database's.
pub(super) fn error(cause: &rusqlite::Error, file: Option<&Path>) -> Error {
    match cause {
        // A trigger, a view or a document in the database may put any text into the message.
        rusqlite::Error::SqliteFailure(code, message) => {
            let message = message.as_deref().unwrap_or(ffi::code_to_str(code.extended_code));
            coded(code.extended_code, bounded_text::message(message), file)
        }
        rusqlite::Error::SqlInputError { error, msg, sql, offset } => {
            let byte = usize::try_from(*offset).ok().filter(|byte| sql.is_char_boundary(*byte));
            let Some(position) = byte.map(|byte| position_of(sql, byte)) else {
                return coded(error.extended_code, bounded_text::message(msg), file);
            };
            let SqlPosition { line, column } = position;
            let message = format!("{msg} (line {line}, column {column} of the statement)");
            coded(error.extended_code, bounded_text::message(&message), file).at_sql_position(position)
        }
        rusqlite::Error::MultipleStatement => Error::new(Reason::Sql, "more than one statement"),
        other => Error::new(Reason::Sql, bounded_text::message(&other.to_string())),
    }
}

/// What SQLite says where rusqlite panics in an authorizer, as none of ours refuses to read.
const NOT_UTF_8: &str = " is prohibited";

/// The error of a code; `message` is what SQLite says.
fn coded(code: i32, message: String, file: Option<&Path>) -> Error {
    if code == ffi::SQLITE_AUTH && message.ends_with(NOT_UTF_8) {
        return Error::new(Reason::Sql, format!("{message}: a table or a column has a name that is not UTF-8"))
            .with_sqlstate("SQLITE_AUTH")
            .with_hint("rename it with ALTER TABLE, or convert the database: sqlite3 OLD .dump | iconv -f latin1 -t utf-8 | sqlite3 NEW");
    }
    let find = |wanted: i32| CODES.iter().find(|known| known.code == wanted);
    let Some(known) = find(code).or_else(|| find(code & 0xff)) else {
        let number = if code == ffi::SQLITE_ERROR { String::new() } else { format!(" {code}") };
        let hint = (message == "integer overflow").then_some("write `total(x)` for a sum beyond 64 bits");
        return Error::new(Reason::Sql, message)
            .with_sqlstate(format!("SQLITE_ERROR{number}"))
            .with_hint_if_any(hint);
    };
    let is_exact = known.code == code;
    let message = if is_exact && !known.what.is_empty() { filled(known.what, file) } else { message };
    let name = if is_exact { known.name.to_owned() } else { format!("{} {code}", known.name) };
    let error = Error::new(known.reason, message).with_sqlstate(name);
    let unopened = file.filter(|_| code == ffi::SQLITE_CANTOPEN);
    match (unopened.and_then(unreadable).or_else(|| unopened.and_then(without_shm)), known.hint) {
        (Some(hint), _) => error.with_hint(hint),
        (None, "") => error,
        (None, NO_LOCKS) => error.with_hint(without_locks(file)),
        (None, hint) => error.with_hint(filled(hint, file)),
    }
}

/// What to do where the file system has no locks. `immutable` only where nothing beside the file belongs to it.
pub(super) fn without_locks(file: Option<&Path>) -> String {
    let path = file.and_then(|file| file.canonicalize().ok());
    let is_alone = path.is_some_and(|path| SideFiles::of(&path).none_there());
    format!("{NO_LOCKS}{}", if is_alone { OR_IMMUTABLE } else { "" })
}

/// The error for a journal that must be rolled back, where SQLite is not asked.
pub(super) fn hot_journal(file: &Path) -> Error {
    opening(&coded(ffi::SQLITE_READONLY_ROLLBACK, String::new(), Some(file)), file)
}

/// `cause` as the reason why `file` was not opened. What would write cannot be meant there.
pub(super) fn opening(cause: &Error, file: &Path) -> Error {
    let reason = if cause.reason() == Reason::ReadOnly { Reason::Connect } else { cause.reason() };
    let message = format!("cannot open {}: {}", file.display(), cause.message());
    cause.code_for(Error::new(reason, message)).with_hint_if_any(cause.hint())
}

/// A command that opens the database as a writer, which rolls back and merges what a crash has left.
pub(super) fn open_command(file: &Path) -> String {
    format!("sqlite3 {} .tables", quoted(file))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn filled(text: &str, file: Option<&Path>) -> String {
    let (name, path) = match file {
        Some(file) => (file.file_name().unwrap_or_default().to_string_lossy(), quoted(file)),
        None => ("the database".into(), "FILE".to_owned()),
    };
    text.replace("{open}", &format!("sqlite3 {path} .tables")).replace("{path}", &path).replace("{db}", &name)
}

/// Which of the files that a reader needs this user may not read. No file is opened for that: closing it would release the
/// locks of other sessions.
fn unreadable(file: &Path) -> Option<String> {
    let database = file.canonicalize().ok()?;
    let user = rustix::process::geteuid().as_raw();
    ["", "-wal", "-shm"].into_iter().find_map(|suffix| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        let refused = eaccess(path.as_os_str(), AccessFlags::R_OK) == Err(nix::errno::Errno::EACCES);
        refused.then(|| format!("let this user (uid {user}) read {}", Path::new(&path).display()))
    })
}

/// A `-wal` without its `-shm`, as on a read-only mount: SQLite reads no database so, and this user cannot make the `-shm`.
fn without_shm(file: &Path) -> Option<String> {
    let beside = SideFiles::of(&file.canonicalize().ok()?);
    let lacks_shm = exists(beside.wal()).ok()? && !exists(beside.shm()).ok()?;
    lacks_shm
        .then(|| filled(&format!("{{db}}-wal lies beside it without {{db}}-shm: {OWNER_OPENS}"), Some(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32) -> Error {
        let cause = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        error(&cause, Some(Path::new("/var/lib/my app/shop.db")))
    }

    #[test]
    fn each_code_of_reading_and_opening_has_a_message_and_an_advice_of_its_own() {
        let family = |name: &str| {
            name.starts_with("SQLITE_READONLY_")
                || name.starts_with("SQLITE_CANTOPEN_")
                || name.starts_with("SQLITE_BUSY_")
        };
        let ours: Vec<&Code> = CODES.iter().filter(|code| family(code.name)).collect();
        assert_eq!(ours.len(), 6 + 6 + 3);
        for code in ours {
            let error = told(code.code);
            assert_eq!(error.sqlstate(), Some(code.name));
            assert!(!error.message().is_empty() && error.hint().is_some(), "{error}");
            let same = |other: &&Code| family(other.name) && other.what == code.what;
            assert_eq!(
                CODES.iter().filter(|other| !code.what.is_empty() && same(other)).count(),
                1,
                "{}",
                code.name
            );
            assert!(!error.to_string().contains('{'), "{error}");
        }
    }

    #[test]
    fn immutable_is_advised_only_where_there_are_no_locks_and_nothing_lies_beside_the_file() {
        assert!(CODES.iter().all(|code| !code.hint.contains("immutable")));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db");
        std::fs::write(&file, "").expect("written");
        assert!(without_locks(Some(&file)).contains("immutable"));
        for beside in ["a.db-wal", "a.db-journal"] {
            let beside = folder.path().join(beside);
            std::fs::write(&beside, "").expect("written");
            assert!(!without_locks(Some(&file)).contains("immutable"));
            std::fs::remove_file(beside).expect("removed");
        }
    }

    #[test]
    fn a_message_names_the_files_and_a_command_that_a_shell_takes() {
        assert_eq!(
            told(ffi::SQLITE_READONLY_ROLLBACK).to_string(),
            "an interrupted write left shop.db-journal: what was committed can be read once a user with write access has rolled \
             it back [SQLITE_READONLY_ROLLBACK]; open the database once as its owner, where its folder can be written: \
             sqlite3 '/var/lib/my app/shop.db' .tables"
        );
    }

    #[test]
    fn a_code_that_is_not_known_has_its_family() {
        let error = told(ffi::SQLITE_IOERR | (99 << 8));
        assert_eq!((error.reason(), error.sqlstate()), (Reason::Server, Some("SQLITE_IOERR 25354")));
        assert_eq!(told(ffi::SQLITE_ERROR).sqlstate(), Some("SQLITE_ERROR"));
        assert_eq!(told(ffi::SQLITE_ERROR_SNAPSHOT).sqlstate(), Some("SQLITE_ERROR 769"));
    }
}
