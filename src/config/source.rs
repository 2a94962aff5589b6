//! How a `databases:` entry is written, beside what it says: places, and where its secrets stand. Only the lints look
//! at it; no secret is kept.

use std::path::PathBuf;

use crate::driver::connection::AddressSyntax;
use crate::driver::statement::{Dialect, swallowing_comment};
use crate::driver::{AllowedStatements, Endpoint};
use crate::error::SourcePosition;
use crate::metric::lint_off::{LintSubject, SilencedLints};
use crate::yaml::folds::Folded;
use crate::yaml::keys::Keys;

/// One entry as it stands in its file.
#[derive(Debug, Clone, Default)]
pub struct EntrySource {
    /// The entry.
    pub place: SourcePosition,
    /// The key `labels`; the entry where it has none.
    pub labels: SourcePosition,
    /// The lints that it silences.
    pub lint_off: SilencedLints,
    /// Where its secrets stand.
    pub secrets: Vec<StoredSecret>,
    /// The key `session_sql`, where a comment swallows the rest of one of its statements: lines of the file are joined.
    pub swallowing: Option<SourcePosition>,
}

/// A place where a secret is stored in clear text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// `password`, `url`, `password_file`, …
    pub key: &'static str,
    /// The key's value; never shows its line.
    pub place: SourcePosition,
    /// The file that holds the secret.
    pub file: PathBuf,
    /// True when that is the configuration itself, false for a file that it names.
    pub in_configuration: bool,
}

impl EntrySource {
    /// Takes the key `lint_off` and notes places.
    pub(super) fn read(keys: &mut Keys<'_>) -> EntrySource {
        let lint_off = SilencedLints::read(keys, LintSubject::Target);
        let (place, labels) = (keys.place(""), keys.place("labels"));
        EntrySource { place, labels, lint_off, ..EntrySource::default() }
    }

    /// Looks for secrets, and for comments in `session_sql`, once the driver took its keys. Asks no key, and keeps nothing
    /// of a text.
    pub(super) fn note_values(&mut self, keys: &Keys<'_>, endpoint: Option<&dyn Endpoint>) {
        self.secrets = secrets(keys);
        let dialect =
            endpoint.and_then(Endpoint::allows).map_or(Dialect::Postgres, AllowedStatements::dialect);
        let swallows = |folded: &Folded| swallowing_comment(&folded.text, &folded.folds, dialect).is_some();
        if keys.folded("session_sql").iter().any(swallows) {
            self.swallowing = Some(SourcePosition { source: None, ..keys.place("session_sql") });
        }
    }
}

/// Where the secrets of an entry stand. Asks no key.
fn secrets(keys: &Keys<'_>) -> Vec<StoredSecret> {
    let written = |key: &'static str, is_secret: fn(&str) -> bool| {
        let there = keys.written(key).is_some_and(|text| is_secret(text.expose()));
        let place = SourcePosition { source: None, ..keys.place(key) };
        there.then(|| StoredSecret { key, file: PathBuf::from(&place.file), place, in_configuration: true })
    };
    let named = |key: &'static str| {
        let place = SourcePosition { source: None, ..keys.place(key) };
        let file = keys.folder(key).join(keys.peek(key)?.expose());
        Some(StoredSecret { key, place, file, in_configuration: false })
    };
    let password = written("password", |text| !text.is_empty());
    let urls = ["url", "connection_string"].map(|key| written(key, has_password));
    let files = ["password_file", "url_file"].map(named);
    password.into_iter().chain(urls.into_iter().flatten()).chain(files.into_iter().flatten()).collect()
}

/// True when a URL holds a password: `user:password@`, or a parameter. Its variables are left out already, so that it
/// may be half a URL.
fn has_password(url: &str) -> bool {
    if AddressSyntax::of(url) == AddressSyntax::Keywords {
        let values = url.split("password").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('='));
        // Where a variable stood, the next keyword follows.
        let is_keyword = |word: &str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_word));
        return values.into_iter().any(|value| match value.split_whitespace().next() {
            None | Some("''") => false,
            Some(word) => !(value.starts_with(char::is_whitespace) && is_keyword(word)),
        });
    }
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = before.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let in_user = user.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    let given = |pair: &str| pair.strip_prefix("password=").is_some_and(|password| !password.is_empty());
    in_user || query.split('&').any(given)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::has_password;

    #[test]
    fn a_password_in_a_url_is_found_and_a_port_is_none() {
        for url in [
            "host=h password=p",
            "password = 'p' host=h",
            "password=a=b host=h",
            "password= 'p=x'",
            "postgres://u:p@h/d",
            "mysql://:p@[::1]:1/d?x=1",
            "postgres://h/d?password=p",
            "://u:p@h",
        ] {
            assert!(has_password(url), "{url}");
        }
        let without = [
            "host=h user=password",
            "host=h password='' user=x",
            "host=h password= dbname=d user=x",
            "postgres://u@h:5432/d",
            "postgres://u:@h/d",
            "postgres://h:1/d",
            "sqlite:a.db",
            "",
            "postgres://h/a:b@c",
        ];
        for url in without {
            assert!(!has_password(url), "{url}");
        }
    }
}
