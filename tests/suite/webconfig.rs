//! Web-config files, one rule each: `tests/webconfig/NAME.yml`. With a `NAME.expected` beside it the file is refused by
//! that one message; without, it is good.
//!
//! A new one is a file or two; `TEST_BLESS=1 tests/run cargo test webconfig` writes the messages of files named
//! `bad-…`, to be read before they are committed.

use std::path::{Path, PathBuf};

use sql_exporter::server::check_web_config;

use crate::process::folder;
use crate::servers::tls_file;

/// The files that the fixtures name, as the tests' certificates.
const FILES: [(&str, &str); 5] = [
    ("cert.pem", "server.pem"),
    ("key.pem", "server.key"),
    ("other-key.pem", "other.key"),
    ("ca.pem", "ca.pem"),
    ("empty.pem", ""),
];

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webconfig");
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "yml"));
    paths.sort();
    paths
}

/// What is wrong with a fixture, places relative to its folder.
fn faults(fixture: &Path) -> String {
    let folder = folder();
    for (name, source) in FILES {
        let text = if source.is_empty() {
            String::new()
        } else {
            std::fs::read_to_string(tls_file(source)).expect("made")
        };
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let path = folder.path().join("web.yml");
    std::fs::copy(fixture, &path).expect("copied");
    let faults = check_web_config(&path).err().unwrap_or_default();
    let shown = format!("{}/", folder.path().display());
    faults.iter().map(|fault| fault.to_string().replace(&shown, "") + "\n").collect()
}

#[test]
fn each_file_is_good_or_gives_its_message() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 25, "{} files", fixtures.len());
    let mut wrong = String::new();
    for fixture in fixtures {
        let name = fixture.file_stem().expect("a name").to_string_lossy().into_owned();
        let (file, found) = (fixture.with_extension("expected"), faults(&fixture));
        if std::env::var_os("TEST_BLESS").is_some() && name.starts_with("bad-") && !file.exists() {
            std::fs::write(&file, &found).expect("written");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if found != expected || name.starts_with("bad-") == found.is_empty() {
            wrong += &format!("--- {name}\n{found}--- expected\n{expected}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
