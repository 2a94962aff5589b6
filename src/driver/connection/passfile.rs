//! libpq's password file (`PGPASSFILE`, `~/.pgpass`): lines of `host:port:database:user:password`, the first that fits.
//!
//! The format is that of PostgreSQL's documentation, "The Password File". Knows no server.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::file;
use crate::secret::Secret;

/// A longer file is an error.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the file is. It is read for every new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passfile {
    /// Its path.
    pub path: PathBuf,
    /// The configuration names it; else it is the one that libpq looks for by default, and may be absent.
    pub named: bool,
}

impl Passfile {
    /// The whole of it: which line counts depends on the server.
    ///
    /// # Errors
    /// Why it is ignored, as in libpq: a phrase that follows its name.
    pub fn read(&self) -> Result<Secret, String> {
        let metadata =
            std::fs::metadata(&self.path).map_err(|error| file::ReadError::System(error).to_string())?;
        if !metadata.is_file() {
            return Err("is not a plain file".to_owned());
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!(
                "is ignored, as in libpq: others may read it (mode {mode:04o}); chmod 600 helps"
            ));
        }
        file::read_text(&self.path, MAX_FILE_BYTES).map(Secret::new).map_err(|unread| unread.to_string())
    }
}

/// The password of the first line that matches host, port, database and user.
pub fn find(content: &Secret, wanted: [&str; 4]) -> Option<Secret> {
    let password_of = |line: &str| {
        if line.starts_with('#') {
            return None;
        }
        let mut rest = line;
        for wanted in wanted {
            let (raw, unescaped, after) = split_field(rest);
            let after = after?;
            if raw != "*" && unescaped != wanted {
                return None;
            }
            rest = after;
        }
        let (_, password, _) = split_field(rest);
        Some(Secret::new(password)).filter(|password| !password.is_empty())
    };
    content.expose().lines().find_map(password_of)
}

/// The field before the next `:` without a backslash, as written and without its backslashes, and what follows the `:`.
fn split_field(text: &str) -> (&str, String, Option<&str>) {
    let mut unescaped = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            ':' => {
                let (raw, rest) = text.split_at(at);
                return (raw, unescaped, rest.get(1..));
            }
            '\\' => unescaped.extend(characters.next().map_or(Some(c), |(_, next)| Some(next))),
            c => unescaped.push(c),
        }
    }
    (text, unescaped, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str, wanted: [&str; 4]) -> Option<String> {
        find(&Secret::new(content.to_owned()), wanted).map(|password| password.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = "# db:5432:shop:exporter:comment\n\
            db:5432:shop:other:not this\n\
            db:*:shop:exporter:by port\n\
            *:*:*:exporter:any\r\n\
            \\:\\:1:5432:shop:exporter:by address\n\
            *:*:*:odd\\:user:it\\:s \\\\ odd:rest\n\
            *:*:*:empty:\n\
            short:line\n";
        for (wanted, password) in [
            (["db", "5432", "shop", "exporter"], Some("by port")),
            (["db", "5432", "other", "exporter"], Some("any")),
            (["elsewhere", "1", "x", "exporter"], Some("any")),
            (["db", "5432", "shop", "odd:user"], Some("it:s \\ odd")),
            (["db", "5432", "shop", "nobody"], None),
            (["db", "5432", "shop", "empty"], None),
        ] {
            assert_eq!(found(file, wanted).as_deref(), password, "{wanted:?}");
        }
        let by_address = "\\:\\:1:5432:shop:exporter:by address";
        assert_eq!(found(by_address, ["::1", "5432", "shop", "exporter"]).as_deref(), Some("by address"));
        // An escaped star is a star.
        assert_eq!(found("\\*:1:d:u:p", ["db", "1", "d", "u"]), None);
        assert_eq!(found("\\*:1:d:u:p", ["*", "1", "d", "u"]).as_deref(), Some("p"));
    }

    #[test]
    fn a_file_that_others_may_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "\u{feff}db:1:d:u:hunter2\n").unwrap();
        let file = Passfile { path: path.clone(), named: true };
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o600);
        let password = find(&file.read().unwrap(), ["db", "1", "d", "u"]);
        assert_eq!(password.unwrap().expose(), "hunter2");
        for open in [0o640, 0o604, 0o666] {
            mode(open);
            let why = file.read().unwrap_err();
            assert!(why.contains(&format!("(mode {open:04o})")), "{why}");
        }
        let gone = Passfile { path: folder.path().join("gone"), named: true };
        assert_eq!(gone.read().unwrap_err(), "cannot be read: No such file or directory (os error 2)");
        let pipe = Passfile { path: folder.path().to_owned(), named: true };
        assert_eq!(pipe.read().unwrap_err(), "is not a plain file");
    }
}
