//! What `session_sql` attaches. SQLite tells the name of each file before it opens it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::deadline::Deadline;
use crate::error::{Error, Reason};
use crate::file;

use super::database_file::DatabaseFile;
use super::open_database::{OTHERS_CLOSE, OpenDatabase, name};
use super::side_files::{SideFiles, owner_could_write};

/// SQLite does not tell the name before it opens the file.
pub(super) fn attached_by_expression() -> Error {
    Error::new(Reason::Connect, "session_sql attaches a database whose name is an expression")
        .with_hint("write the name as a text: ATTACH '/var/lib/shop/other.db' AS other")
}

/// The files of one session.
#[derive(Default)]
pub(super) struct AttachedFiles {
    pub(super) files: Vec<OpenDatabase>,
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

/// Why a database may not be attached, if so: SQLite would make files beside it that its owner could not write.
fn locks_out(database: &OpenDatabase) -> Option<Error> {
    let metadata = std::fs::metadata(&database.path).ok()?;
    match database.lacks_wal() {
        Ok(true) if !owner_could_write(&metadata) => {}
        Err(apart) => return Some(apart),
        Ok(_) => return None,
    }
    let message = format!(
        "session_sql attaches {}, which is in WAL mode and nobody has open: {}, which this user would make, its owner \
         (uid {}) could not write",
        database.path.display(),
        name(database.beside.wal()),
        metadata.uid()
    );
    let hint = "run the exporter as the owner of the file, or make it a target of its own";
    Some(Error::new(Reason::Connect, message).with_hint(hint))
}
