//! `collect --output FILE`: writes a page as a whole.
//!
//! A regular file is replaced by a new one, so that a reader sees the old page or the new one and never half of one. A
//! device, a pipe and stdout are written into. A symbolic link is followed to its end, and stays.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::{ENXIO, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};

use super::write_all;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::file;

/// More links than this lead in a circle, as for the system itself.
const MOST_LINKS: usize = 40;
/// Between two attempts on a pipe without a reader.
const PIPE_POLL: Duration = Duration::from_millis(1);
/// The permission bits of a mode; set-user-ID and its like are not carried over.
const PERMISSIONS: u32 = 0o777;

/// Writes the pieces to where `path` leads. A pipe without a reader is waited for until `by`, or until `stopped`.
///
/// # Errors
/// A machine error that names the path.
pub(super) fn write<B: AsRef<[u8]>>(
    path: &Path,
    pieces: &[B],
    by: Deadline,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let written = Destination::of(path).and_then(|destination| match destination {
        Destination::Stdout => write_all(&mut io::stdout().lock(), pieces),
        Destination::Stderr => write_all(&mut io::stderr().lock(), pieces),
        Destination::File(file, old) => replace(&file, old.as_ref(), pieces),
        Destination::Stream(stream, found) => {
            write_slowly(&mut connect(&stream, found.as_ref(), by, stopped)?, pieces, by)
        }
    });
    written.map_err(|error| Error::machine(format!("--output {}: {error}", path.display())))
}

/// Where a path leads.
enum Destination {
    /// This process's own stdout, named by its descriptor: what was written there stays.
    Stdout,
    Stderr,
    /// A regular file that is there, or is not yet.
    File(PathBuf, Option<Metadata>),
    /// A device or a pipe that is there, or an open descriptor of this process.
    Stream(PathBuf, Option<Metadata>),
}

impl Destination {
    fn of(path: &Path) -> io::Result<Destination> {
        if path.as_os_str() == "-" {
            return Ok(Destination::Stdout);
        }
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match path.to_str() {
                Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => return Ok(Destination::Stdout),
                Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => return Ok(Destination::Stderr),
                _ => {}
            }
            let found = match std::fs::symlink_metadata(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotFound && file::folder(&path).is_dir() => {
                    return Ok(Destination::File(path, None));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let message = format!("there is no folder {}", file::folder(&path).display());
                    return Err(io::Error::new(ErrorKind::NotFound, message));
                }
                Err(error) => return Err(error),
            };
            if !found.is_symlink() {
                return Destination::of_kind(path, found);
            }
            let folder = file::folder(&path);
            // A link to a descriptor leads to what was opened, whatever lies under its name now.
            if folder.canonicalize()?.starts_with("/proc") {
                return Ok(Destination::Stream(path, None));
            }
            trusted(&found, folder)?;
            path = folder.join(std::fs::read_link(&path)?);
        }
        Err(io::Error::other("its links lead in a circle"))
    }

    fn of_kind(path: PathBuf, found: Metadata) -> io::Result<Destination> {
        match file::special_kind(found.file_type()) {
            Some(what @ ("a socket" | "a block device")) => {
                Err(io::Error::other(format!("it is {what}, into which no page is written")))
            }
            Some(_) => Ok(Destination::Stream(path, Some(found))),
            None if found.is_file() => Ok(Destination::File(path, Some(found))),
            None => Err(ErrorKind::IsADirectory.into()),
        }
    }
}

/// In a folder where others write, anybody's link may lead to a file of ours. Links of root, of this user and of the
/// folder's owner are followed.
fn trusted(link: &Metadata, folder: &Path) -> io::Result<()> {
    let ours = rustix::process::geteuid().as_raw();
    if link.uid() == 0 || link.uid() == ours || link.uid() == std::fs::metadata(folder)?.uid() {
        return Ok(());
    }
    let message = format!("it is a link of another user (uid {}), which is not followed", link.uid());
    Err(io::Error::new(ErrorKind::PermissionDenied, message))
}

/// Writes a new file and gives it the place, the owner and the permissions of the old one.
fn replace<B: AsRef<[u8]>>(path: &Path, old: Option<&Metadata>, pieces: &[B]) -> io::Result<()> {
    // Nobody else may read it until it has the permissions of the old file.
    let mode = if old.is_some() { 0o600 } else { 0o666 };
    let mut new = tempfile::Builder::new()
        .prefix(".sql-exporter-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(file::folder(path))?;
    pieces.iter().try_for_each(|piece| new.write_all(piece.as_ref()))?;
    if let Some(old) = old {
        // A user who may not give files away keeps what is allowed: the group, or nothing.
        if fchown(new.as_file(), Some(old.uid()), Some(old.gid())).is_err() {
            drop(fchown(new.as_file(), None, Some(old.gid())));
        }
        new.as_file().set_permissions(Permissions::from_mode(old.mode() & PERMISSIONS))?;
    }
    new.as_file().sync_all()?;
    new.persist(path).map(drop).map_err(|failed| failed.error)
}

/// Opens a device, or a pipe as soon as it has a reader. It must be the one that was `found`: another user may have put
/// something else in its place meanwhile.
fn connect(
    path: &Path,
    found: Option<&Metadata>,
    by: Deadline,
    stopped: &dyn Fn() -> bool,
) -> io::Result<File> {
    let flags = O_NONBLOCK | O_NOCTTY | if found.is_some() { O_NOFOLLOW } else { 0 };
    let is_found = |file: &File| {
        let opened = file.metadata()?;
        let is_same = found.is_none_or(|found| (opened.dev(), opened.ino()) == (found.dev(), found.ino()));
        if is_same { Ok(()) } else { Err(io::Error::other("something else was put in its place")) }
    };
    loop {
        match OpenOptions::new().append(true).custom_flags(flags).open(path) {
            Ok(file) => return is_found(&file).map(|()| file),
            Err(error) if error.raw_os_error() == Some(ENXIO) => {
                if by.passed() || stopped() {
                    return Err(io::Error::new(ErrorKind::TimedOut, "no process reads it"));
                }
                std::thread::sleep(PIPE_POLL.min(by.left()));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes to a reader that may be slow, but not for ever.
fn write_slowly<B: AsRef<[u8]>>(out: &mut File, pieces: &[B], by: Deadline) -> io::Result<()> {
    for piece in pieces {
        let mut rest = piece.as_ref();
        while !rest.is_empty() {
            match out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !by.passed() => {
                    std::thread::sleep(PIPE_POLL.min(by.left()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "its reader is too slow"));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    fn output(path: &Path, text: &str) -> Result<(), String> {
        write(path, &[text.as_bytes()], Deadline::within(Duration::from_secs(20)), &|| false)
            .map_err(|error| error.to_string())
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_permissions_and_an_absent_one_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.prom");
        output(&path, "one").unwrap();
        let first = std::fs::metadata(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        output(&path, "two").unwrap();
        let second = std::fs::metadata(&path).unwrap();
        assert_eq!((read(&path).as_str(), second.mode() & PERMISSIONS), ("two", 0o640));
        assert_ne!(first.ino(), second.ino(), "a reader of the old file sees the old page");
        assert_eq!((first.uid(), first.gid()), (second.uid(), second.gid()));
        assert_eq!(names(folder.path()), ["x.prom"]);
    }

    /// While a pipe is waited for, another user may put a link in its place.
    #[test]
    fn what_replaces_a_pipe_that_is_waited_for_is_not_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, victim) = (folder.path().join("x.prom"), folder.path().join("victim"));
        std::fs::write(&victim, "mine").unwrap();
        let by = || Deadline::within(Duration::from_secs(20));
        for is_symbolic in [true, false] {
            nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            let found = std::fs::symlink_metadata(&pipe).unwrap();
            std::fs::remove_file(&pipe).unwrap();
            let put = if is_symbolic { symlink(&victim, &pipe) } else { std::fs::hard_link(&victim, &pipe) };
            put.unwrap();
            assert!(connect(&pipe, Some(&found), by(), &|| false).is_err());
            assert_eq!(read(&victim), "mine");
            std::fs::remove_file(&pipe).unwrap();
        }
    }

    #[test]
    fn an_owner_stays_where_this_user_may_give_files_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.prom");
        output(&path, "one").unwrap();
        let given = std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).is_ok();
        output(&path, "two").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()) == (12_345, 54_321), given);
        assert_eq!(found.mode() & 0o022, 0, "no more than the umask allows");
    }

    #[test]
    fn a_link_stays_and_the_file_that_it_leads_to_is_replaced_in_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("data")).unwrap();
        std::fs::write(at("data/file"), "old").unwrap();
        symlink("data/file", at("one")).unwrap();
        symlink("one", at("two")).unwrap();
        symlink("data/later", at("dangling")).unwrap();
        output(&at("two"), "new").unwrap();
        output(&at("dangling"), "made").unwrap();
        assert_eq!((read(&at("data/file")).as_str(), read(&at("data/later")).as_str()), ("new", "made"));
        assert!(["one", "two", "dangling"].iter().all(|name| at(name).is_symlink()));
        assert_eq!(names(folder.path()), ["dangling", "data", "one", "two"]);
        symlink("round", at("round")).unwrap();
        assert!(output(&at("round"), "x").unwrap_err().ends_with("its links lead in a circle"));
    }

    #[test]
    fn a_link_of_a_stranger_in_a_folder_of_ours_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("x.prom"));
        std::fs::write(&victim, "foreign").unwrap();
        symlink(&victim, &link).unwrap();
        if std::os::unix::fs::lchown(&link, Some(12_345), None).is_err() {
            return;
        }
        let refused = output(&link, "x").unwrap_err();
        assert!(refused.contains("a link of another user (uid 12345)"), "{refused}");
        assert_eq!(read(&victim), "foreign");
    }

    #[test]
    fn a_device_is_written_into_and_stays_and_so_does_a_pipe_and_links_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("/dev/null", at("null")).unwrap();
        output(&at("null"), "gone").unwrap();
        symlink("/dev/full", at("full")).unwrap();
        assert!(output(&at("full"), "x").unwrap_err().contains("No space left"));
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        symlink("pipe", at("to-pipe")).unwrap();
        let page = "a page that no pipe holds at once\n".repeat(10_000);
        for name in ["pipe", "to-pipe"] {
            let pipe = at(name);
            let reader = std::thread::spawn(move || read(&pipe));
            output(&at(name), &page).unwrap();
            assert!(reader.join().unwrap() == page, "{name}");
        }
        assert_eq!(names(folder.path()), ["full", "null", "pipe", "to-pipe"]);
        for path in ["/dev/null", "/dev/full"] {
            let kind = std::fs::metadata(path).unwrap().file_type();
            assert_eq!(file::special_kind(kind), Some("a character device"));
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_waited_for_until_the_deadline_or_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let soon = Deadline::within(Duration::from_millis(30));
        let late = Deadline::within(Duration::from_secs(3600));
        for (by, stopped) in [(soon, false), (late, true)] {
            let error = write(&pipe, &["x"], by, &|| stopped).unwrap_err().to_string();
            assert!(error.ends_with("pipe: no process reads it"), "{error}");
        }
        // Somebody who opened it and does not read.
        let mut idle = file::open(&pipe).unwrap();
        let page = "x".repeat(1 << 20);
        let error =
            write(&pipe, &[&page], Deadline::within(Duration::from_millis(30)), &|| false).unwrap_err();
        assert!(error.to_string().ends_with("its reader is too slow"), "{error}");
        assert!(idle.read(&mut [0; 10]).unwrap() > 0);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, why) in [
            ("folder", "is a directory"),
            ("socket", "it is a socket, into which no page is written"),
            ("absent/x.prom", "there is no folder "),
        ] {
            let error = output(&at(name), "x").unwrap_err();
            assert!(error.starts_with("--output ") && error.contains(why), "{error}");
        }
        // What takes the place while the page is written.
        let failed = replace(&at("folder"), None, &["x"]);
        assert!(failed.is_err());
        assert_eq!(names(folder.path()), ["folder", "socket"]);
    }
}
