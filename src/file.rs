//! Reads a file that a configuration names: bounded, and without the byte order mark that Windows' editors put first.
//!
//! Knows nothing of what stands in it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file does not serve.
#[derive(Debug)]
pub enum Unread {
    /// What the system says.
    System(io::Error),
    /// It holds more than so many bytes.
    TooLong(u64),
    /// It is not UTF-8; true where its mark says that it is UTF-16.
    NotText(bool),
}

/// The bytes of a file, at most `most`: a device or a pipe must not fill the memory.
///
/// # Errors
/// What the system says; more bytes than `most`.
pub fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    // The mark is not counted.
    let room = most + MARK.len() as u64 + 1;
    File::open(path).and_then(|file| file.take(room).read_to_end(&mut bytes)).map_err(Unread::System)?;
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    if bytes.len() as u64 > most { Err(Unread::TooLong(most)) } else { Ok(bytes) }
}

/// The same as text.
///
/// # Errors
/// As [`bytes`]; bytes that are not UTF-8.
pub fn text(path: &Path, most: u64) -> Result<String, Unread> {
    into_text(bytes(path, most)?)
}

/// Bytes from elsewhere as text, without a byte order mark.
///
/// # Errors
/// Bytes that are not UTF-8.
pub fn into_text(mut bytes: Vec<u8>) -> Result<String, Unread> {
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    let is_utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    String::from_utf8(bytes).map_err(|_| Unread::NotText(is_utf_16))
}

/// What follows the file's name in a sentence.
impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::System(error) => write!(f, "cannot be read: {error}"),
            Unread::TooLong(most) if most % (1 << 20) == 0 => {
                write!(f, "holds more than {} MiB", most >> 20)
            }
            Unread::TooLong(most) => write!(f, "holds more than {} KiB", most >> 10),
            Unread::NotText(true) => f.write_str("is UTF-16 text: save it as UTF-8"),
            Unread::NotText(false) => f.write_str("is not UTF-8 text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_left_out_and_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (content, most, expected) in [
            (&b"\xef\xbb\xbfabc"[..], 3, "abc"),
            (b"abc", 3, "abc"),
            (b"a\xef\xbb\xbf", 4, "a\u{feff}"),
            (b"\xef\xbb\xbf", 0, ""),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(text(&path, most).unwrap(), expected, "{content:?}");
        }
    }

    #[test]
    fn what_does_not_serve_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let said = || text(&path, 1 << 10).unwrap_err().to_string();
        assert_eq!(said(), "cannot be read: No such file or directory (os error 2)");
        for (content, expected) in [
            (vec![b'x'; 1025], "holds more than 1 KiB"),
            (b"\xff\xfea\0".to_vec(), "is UTF-16 text: save it as UTF-8"),
            (b"a\xff".to_vec(), "is not UTF-8 text"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(said(), expected);
        }
    }
}
