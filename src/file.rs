//! Reads the files that a configuration names: regular ones, bounded in size and time, without the byte order mark that
//! editors on Windows add. Tells whether they changed.
//!
//! A read from a network file system may hang for ever, so each one has a thread of its own, which is abandoned when it is
//! late. Knows no file's content.

use std::fmt;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime};

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use parking_lot::Mutex;

use crate::deadline::Deadline;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How long one file may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Late reads of the process beyond which no other begins.
const MAX_LATE: usize = 64;
/// Between two reads of a pipe into which nothing was written.
const PIPE_INTERVAL: Duration = Duration::from_millis(5);

/// Why a file cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The system's error.
    System(io::Error),
    /// It is a device, a pipe or a socket: which, with an article.
    NotRegular(&'static str),
    /// It was not read in time.
    TooSlow,
    /// An earlier read of it has not returned.
    Hangs,
    /// It has more than so many bytes.
    TooLong(u64),
    /// It is not UTF-8; true where its mark says that it is UTF-16.
    NotText(bool),
}

/// The bytes of a regular file, at most `most`; or of `/dev/stdin` and `/dev/fd/N` until their end. Blocks for at most
/// [`READ_TIMEOUT`] and a moment.
///
/// # Errors
/// An error of the system; not a regular file; more bytes than `most`; not read in time.
pub fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let its = path.to_owned();
    read_with_timeout(path, move || read(&its, most))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let by = Deadline::within(READ_TIMEOUT);
    let may_be_a_pipe = is_descriptor(path);
    let refuse = |kind: FileType| {
        special_kind(kind).filter(|_| !may_be_a_pipe).map_or(Ok(()), |what| Err(ReadError::NotRegular(what)))
    };
    // Before it is opened, as opening affects some devices and pipes; and after, as it may have been replaced.
    refuse(std::fs::metadata(path).map_err(ReadError::System)?.file_type())?;
    let file = open(path).map_err(ReadError::System)?;
    refuse(file.metadata().map_err(ReadError::System)?.file_type())?;
    let mut bytes = Vec::new();
    // The byte order mark is not counted.
    let mut rest = file.take(most + BYTE_ORDER_MARK.len() as u64 + 1);
    loop {
        match rest.read_to_end(&mut bytes) {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock && by.passed() => {
                return Err(ReadError::TooSlow);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(PIPE_INTERVAL.min(by.left()));
            }
            Err(error) => return Err(ReadError::System(error)),
        }
    }
    drop_byte_order_mark(&mut bytes);
    if bytes.len() as u64 > most { Err(ReadError::TooLong(most)) } else { Ok(bytes) }
}

fn drop_byte_order_mark(bytes: &mut Vec<u8>) {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
}

/// The folder that a file lies in; the current one where its path has none.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where relative paths in a file begin: in its folder, and in the current one for stdin and other descriptors.
pub fn base_folder(path: &Path) -> &Path {
    if is_descriptor(path) { Path::new(".") } else { folder(path) }
}

/// Opens a file for reading without waiting for the other end of a pipe, and without taking a terminal over.
///
/// # Errors
/// As the system says.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)
}

/// The kind of a special file, with an article; `None` for one that can be read and replaced.
pub fn special_kind(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_fifo() => Some("a named pipe"),
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_char_device() => Some("a character device"),
        () if kind.is_block_device() => Some("a block device"),
        () => None,
    }
}

/// A path that names an open descriptor of this process: what a shell passes as `<(command)`, and stdin.
fn is_descriptor(path: &Path) -> bool {
    let number =
        ["/dev/fd/", "/proc/self/fd/"].into_iter().find_map(|folder| path.to_str()?.strip_prefix(folder));
    path == Path::new("/dev/stdin")
        || number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads whose thread has not returned in time, each with the flag that its thread sets at its end.
static LATE: Mutex<Vec<(PathBuf, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

/// Calls `read`, which reads the file at `path` and maybe others, with a timeout.
///
/// # Errors
/// As `read`; it did not return in time.
pub fn read_with_timeout<T: Send + 'static>(
    path: &Path,
    read: impl Fn() -> Result<T, ReadError> + Send + Sync + 'static,
) -> Result<T, ReadError> {
    // Reading a slow pipe has a timeout of its own.
    within(READ_TIMEOUT + PIPE_INTERVAL * 100, path, read)
}

/// Calls `read`, which looks at the file or folder at `path`, on a thread that is abandoned after `timeout`. A file whose read is late is not read again before that read
/// has returned: otherwise a file system that hangs would cost a thread at each attempt.
///
/// # Errors
/// As `read`; it did not return in time, or an earlier call has not returned.
pub fn within<T: Send + 'static>(
    timeout: Duration,
    path: &Path,
    read: impl Fn() -> Result<T, ReadError> + Send + Sync + 'static,
) -> Result<T, ReadError> {
    let is_late = |late: &[(PathBuf, Arc<AtomicBool>)]| {
        late.len() >= MAX_LATE || late.iter().any(|(known, _)| known == path)
    };
    if is_late(&LATE.lock()) {
        return Err(ReadError::Hangs);
    }
    let read = Arc::new(read);
    let (sender, receiver) = sync_channel(1);
    let ended = Arc::new(AtomicBool::new(false));
    let (theirs, mark) = (Arc::clone(&read), Arc::clone(&ended));
    let thread = std::thread::Builder::new().name("read".to_owned()).spawn(move || {
        let _ = sender.send(theirs());
        let mut late = LATE.lock();
        mark.store(true, Ordering::Relaxed);
        late.retain(|(_, other)| !Arc::ptr_eq(other, &mark));
    });
    if thread.is_err() {
        // Better without a timeout than not at all.
        return read();
    }
    match receiver.recv_timeout(timeout) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => {
            Err(ReadError::System(io::Error::other("the thread that reads it ended")))
        }
        Err(RecvTimeoutError::Timeout) => {
            let mut late = LATE.lock();
            if !ended.load(Ordering::Relaxed) {
                late.push((path.to_owned(), ended));
            }
            Err(ReadError::TooSlow)
        }
    }
}

/// The same as text.
///
/// # Errors
/// As [`read_bytes`]; bytes that are not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String, ReadError> {
    decode_text(read_bytes(path, most)?)
}

/// The text of a file that a person wrote: at most 1 MiB.
///
/// # Errors
/// A sentence that names the file and the reason.
pub fn small_text(path: &Path) -> Result<String, String> {
    read_text(path, 1 << 20).map_err(|unread| {
        let sentence = format!("{} {unread}", path.display());
        sentence.split(" (os error").next().unwrap_or_default().to_owned()
    })
}

/// Bytes from elsewhere as text, without a byte order mark.
///
/// # Errors
/// Bytes that are not UTF-8.
pub fn decode_text(mut bytes: Vec<u8>) -> Result<String, ReadError> {
    drop_byte_order_mark(&mut bytes);
    String::from_utf8(bytes).map_err(|error| ReadError::NotText(is_utf_16(error.as_bytes())))
}

/// Whether the mark at the start of a file says that it is UTF-16.
pub fn is_utf_16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}

/// What follows the file's name in a sentence.
impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::System(error) => write!(f, "cannot be read: {error}"),
            ReadError::NotRegular(what) => write!(f, "is {what}, not a regular file"),
            ReadError::TooSlow => write!(f, "was not read within {} s", READ_TIMEOUT.as_secs()),
            ReadError::Hangs => {
                f.write_str("is not read: an earlier read of it, or of many files, has not returned")
            }
            ReadError::TooLong(most) if most % (1 << 20) == 0 => {
                write!(f, "has more than {} MiB", most >> 20)
            }
            ReadError::TooLong(most) => write!(f, "has more than {} KiB", most >> 10),
            ReadError::NotText(true) => f.write_str("is UTF-16 text: save it as UTF-8"),
            ReadError::NotText(false) => f.write_str("is not UTF-8 text"),
        }
    }
}

/// Device, inode, length, and the times of the last change to content and inode, with nanoseconds. A link is followed:
/// Kubernetes swaps the folder behind one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp([u64; 3], [i64; 4]);

impl FileStamp {
    /// That of a file or a folder; `None` where it cannot be examined.
    pub fn of(path: &Path) -> Option<FileStamp> {
        let file = std::fs::metadata(path).ok()?;
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Some(FileStamp([file.dev(), file.ino(), file.len()], times))
    }

    /// How long ago it last changed, by the clock of its file system; `None` for a moment that is still to come.
    pub fn age(&self) -> Option<Duration> {
        let [_, _, seconds, nanoseconds] = self.1;
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
    }
}

/// What tells that files changed since they were read, without reading them again. A file that cannot be examined counts
/// as a state of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileFingerprint(Vec<(PathBuf, Option<FileStamp>)>);

impl FileFingerprint {
    /// Adds a file. Do so before you read it, so that a change in between is noticed.
    pub fn add(&mut self, path: &Path) {
        self.0.push((path.to_owned(), FileStamp::of(path)));
    }

    /// True when one of the files has changed.
    pub fn changed(&self) -> bool {
        self.0.iter().any(|(path, stamp)| FileStamp::of(path) != *stamp)
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
            assert_eq!(read_text(&path, most).unwrap(), expected, "{content:?}");
        }
    }

    #[test]
    fn what_does_not_serve_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let said = || read_text(&path, 1 << 10).unwrap_err().to_string();
        assert_eq!(said(), "cannot be read: No such file or directory (os error 2)");
        for (content, expected) in [
            (vec![b'x'; 1025], "has more than 1 KiB"),
            (b"\xff\xfea\0".to_vec(), "is UTF-16 text: save it as UTF-8"),
            (b"a\xff".to_vec(), "is not UTF-8 text"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(said(), expected);
        }
    }
    fn fifo(path: &Path) {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    }

    /// Read without waiting for a writer; and with one, nothing is taken from it.
    #[test]
    fn pipes_sockets_and_devices_are_refused_at_once_and_links_to_them_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fifo(&at("pipe"));
        std::os::unix::fs::symlink(at("pipe"), at("link")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, what) in [
            (at("pipe"), "is a named pipe, not a regular file"),
            (at("link"), "is a named pipe, not a regular file"),
            (at("socket"), "is a socket, not a regular file"),
            ("/dev/zero".into(), "is a character device, not a regular file"),
        ] {
            let began = std::time::Instant::now();
            assert_eq!(read_text(&path, 10).unwrap_err().to_string(), what, "{}", path.display());
            assert!(began.elapsed() < READ_TIMEOUT, "{}", path.display());
        }
        // The name of a descriptor is an order to read it, whatever it is.
        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader)));
        let written = std::thread::spawn(move || io::Write::write_all(&mut writer, b"from a pipe"));
        assert_eq!(read_text(&path, 20).unwrap(), "from a pipe");
        written.join().unwrap().unwrap();
    }

    #[test]
    fn a_read_that_hangs_is_left_alone_and_not_repeated_until_it_comes_back() {
        let path = Path::new("/a/file/of/this/test/only");
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let hang = move || {
            let _ = gate.lock().recv();
            Ok(())
        };
        let soon = Duration::from_millis(20);
        assert!(matches!(within(soon, path, hang), Err(ReadError::TooSlow)));
        assert!(matches!(within(soon, path, || Ok(())), Err(ReadError::Hangs)), "no second thread");
        assert!(within(READ_TIMEOUT, Path::new("/another"), || Ok(())).is_ok());
        drop(release);
        while matches!(within(READ_TIMEOUT, path, || Ok(())), Err(ReadError::Hangs)) {
            std::thread::sleep(PIPE_INTERVAL);
        }
        assert!(within(READ_TIMEOUT, path, || Ok(())).is_ok());
    }

    #[test]
    fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let fingerprint = || {
            let mut fingerprint = FileFingerprint::default();
            fingerprint.add(&path);
            fingerprint
        };
        std::fs::write(&path, "one").unwrap();
        let first = fingerprint();
        assert!(!first.changed());
        std::fs::write(&path, "three").unwrap();
        assert!(first.changed());
        let second = fingerprint();
        std::fs::write(folder.path().join("b"), "three").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert!(second.changed());
        let third = fingerprint();
        std::fs::remove_file(&path).unwrap();
        assert!(third.changed());
        assert!(!fingerprint().changed());
    }
}
