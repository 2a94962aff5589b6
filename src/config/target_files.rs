//! `target_files`: files with further `databases:`, looked at again while the exporter runs.
//!
//! Owns which files there are, which of their contents are whole, and the last good content of each. A content counts
//! once its file has not changed for a second: half a file can be a whole one for YAML. What the entries mean is
//! `database`'s; whether they go together with the rest, `target_sources` finds out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, SourcePosition};
use crate::file::{self, FileStamp};
use crate::yaml::document::Document;
use crate::yaml::keys::Keys;

use super::glob::Pattern;
use super::include;

/// A file that changed is read when it has not changed for this long.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Between two looks: many targets are scraped at once.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a look that took long, the next one is this many times as long away.
const LOOK_PAUSE: u32 = 20;
/// How long a look may take. Files of a file system that does not answer stay as they are.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// The most files.
const MAX_FILES: usize = 1000;

/// The key.
#[derive(Debug, Clone, Default)]
pub(super) struct TargetFilePatterns {
    folder: PathBuf,
    patterns: Vec<Pattern>,
}

impl TargetFilePatterns {
    /// Takes the key `target_files`.
    pub(super) fn read(keys: &mut Keys<'_>) -> TargetFilePatterns {
        let folder = keys.folder("target_files");
        let patterns = keys.parsed("target_files", Pattern::of_files).unwrap_or_default();
        TargetFilePatterns { folder, patterns }
    }

    /// True where the key names no file.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The files that there are now, each with its stamp, in the order of the patterns and then by name. Blocks for
    /// [`LOOK_TIMEOUT`] at most.
    fn find(&self) -> Result<Vec<(PathBuf, Option<FileStamp>)>, Error> {
        let own = self.clone();
        let found = file::within(LOOK_TIMEOUT, &self.folder, move || Ok(own.find_now()));
        found.map_err(|error| Error::config(format!("the folder of the target files {error}")))?
    }

    fn find_now(&self) -> Result<Vec<(PathBuf, Option<FileStamp>)>, Error> {
        let mut found: Vec<(PathBuf, Option<FileStamp>)> = Vec::new();
        for pattern in &self.patterns {
            let (names, has_more) = match pattern.is_plain() {
                true => (vec![PathBuf::from(pattern.text())], false),
                false => include::files_matching(&self.folder, pattern),
            };
            let paths = names.iter().map(|name| self.folder.join(name));
            let new: Vec<PathBuf> =
                paths.filter(|path| found.iter().all(|(known, _)| known != path)).collect();
            if has_more || found.len() + new.len() > MAX_FILES {
                let message = format!("{:?} means more than {MAX_FILES} files", pattern.text());
                return Err(Error::config(message).with_hint("write a pattern for fewer files"));
            }
            found.extend(new.into_iter().map(|path| {
                let stamp = FileStamp::of(&path);
                (path, stamp)
            }));
        }
        Ok(found)
    }
}

/// A file, and what is known of it.
struct WatchedFile {
    path: PathBuf,
    /// The patterns meant it at the last look: one that is gone is not meant, unless it is named without a pattern.
    is_meant: bool,
    /// As of the last look; `None` where there is no file.
    stamp: Option<FileStamp>,
    /// When it was first seen so.
    since: Instant,
    /// That of the content that was read last.
    read: Option<FileStamp>,
    /// A content that was not used yet.
    new: Option<Arc<Document>>,
    /// The last content whose targets are used.
    good: Option<Arc<Document>>,
    /// Why its content is not used.
    error: Option<Error>,
}

impl WatchedFile {
    fn new(path: PathBuf) -> Self {
        let (stamp, read, new, good, error) = Default::default();
        WatchedFile { path, is_meant: true, stamp, since: Instant::now(), read, new, good, error }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// True when it is as it was a second ago: as it was seen then, or as its file system says.
    fn has_settled(&self) -> bool {
        let changed = match self.stamp {
            Some(stamp) => stamp.age(),
            // A file that is gone was there before its folder changed.
            None => self.path.parent().and_then(FileStamp::of).and_then(|folder| folder.age()),
        };
        self.since.elapsed() >= SETTLE_TIME || changed.is_some_and(|age| age >= SETTLE_TIME)
    }

    /// True when it is not as it was read last.
    fn has_changed(&self) -> bool {
        match self.stamp {
            Some(_) => self.read != self.stamp,
            None => self.read.is_some() || self.error.is_none() || !self.is_meant,
        }
    }

    /// Reads the content; one that is not YAML is not used. A file that is gone has no targets.
    fn read(&mut self) {
        self.read = self.stamp;
        if self.stamp.is_none() {
            (self.new, self.good, self.error) = (None, None, Some(missing(&self.name())));
            return;
        }
        match Document::open(&self.name(), &self.path) {
            Ok(document) => self.new = Some(Arc::new(document)),
            Err(error) => (self.new, self.error) = (None, Some(error)),
        }
    }
}

/// All target files, and what is known of them.
#[derive(Default)]
pub(super) struct TargetFileWatch {
    /// In the order of their targets.
    files: Vec<WatchedFile>,
    /// Why the files could not be looked at.
    error: Option<Error>,
    next_look: Option<Instant>,
}

/// One target file as the metric `target_file_success` and the log have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFileState {
    /// As the configuration names it, or the folder that cannot be looked at.
    pub name: String,
    /// Why its present content is not used.
    pub error: Option<Error>,
}

impl TargetFileWatch {
    /// True when it is time to look at the files again.
    pub(super) fn is_due(&self) -> bool {
        self.next_look.is_none_or(|moment| moment <= Instant::now())
    }

    /// Looks at the files and reads those that changed and are whole. True when there is something to use, or something
    /// no more to use.
    pub(super) fn look(&mut self, patterns: &TargetFilePatterns) -> bool {
        if patterns.is_empty() {
            return false;
        }
        let began = Instant::now();
        let found = patterns.find();
        let pause = (began.elapsed() * LOOK_PAUSE).max(LOOK_INTERVAL);
        self.next_look = Some(Instant::now() + pause);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.error = Some(error);
                return false;
            }
        };
        self.error = None;
        self.note(found);
        self.read_settled()
    }

    /// The same at a load: waits until files that have just been written have settled, for about a second at most, and
    /// reads them all.
    pub(super) fn look_settled(&mut self, patterns: &TargetFilePatterns) {
        let until = Instant::now() + SETTLE_TIME;
        self.look(patterns);
        while Instant::now() < until && self.files.iter().any(WatchedFile::has_changed) {
            std::thread::sleep(SETTLE_TIME / 20);
            self.look(patterns);
        }
        self.files.iter_mut().filter(|file| file.has_changed()).for_each(WatchedFile::read);
    }

    /// Takes what was found: new files, those that are there no more, and the order.
    fn note(&mut self, found: Vec<(PathBuf, Option<FileStamp>)>) {
        let mut known = std::mem::take(&mut self.files);
        let mut place = 0;
        for (path, stamp) in found {
            let mut file = match known.iter().position(|file| file.path == path) {
                Some(index) => known.remove(index),
                None => WatchedFile::new(path),
            };
            if file.stamp != stamp {
                (file.stamp, file.since) = (stamp, Instant::now());
            }
            file.is_meant = true;
            self.files.push(file);
        }
        // A file that is gone keeps its place until it is known to be gone for good.
        for mut file in known {
            file.is_meant = false;
            if file.stamp.take().is_some() {
                file.since = Instant::now();
            }
            while self.files.get(place).is_some_and(|other| other.path < file.path) {
                place += 1;
            }
            self.files.insert(place, file);
        }
    }

    fn read_settled(&mut self) -> bool {
        let mut changed = false;
        self.files.retain_mut(|file| {
            if !(file.has_changed() && file.has_settled()) {
                return true;
            }
            let had_targets = file.good.is_some();
            file.read();
            changed |= file.new.is_some() || (had_targets && file.good.is_none());
            file.is_meant
        });
        changed
    }

    /// Takes over the last good contents of another watch, where this one has none.
    pub(super) fn inherit(&mut self, other: &TargetFileWatch) {
        for file in self.files.iter_mut().filter(|file| file.good.is_none() && file.stamp.is_some()) {
            let known = other.files.iter().find(|known| known.path == file.path);
            file.good = known.and_then(|known| known.good.clone());
        }
    }

    /// Drops the old contents that were taken over, unless a fault is elsewhere than in target files. True where it did.
    pub(super) fn forget_old(&mut self, faults: &[Error]) -> bool {
        let is_file = |place: &SourcePosition| self.files.iter().any(|file| file.name() == place.file);
        let are_of_files = faults.iter().all(|fault| fault.place().is_none_or(is_file));
        if are_of_files {
            self.files.iter_mut().filter(|file| file.error.is_some()).for_each(|file| file.good = None);
        }
        are_of_files
    }

    /// The contents in use, in order.
    pub(super) fn good(&self) -> Vec<Arc<Document>> {
        self.files.iter().filter_map(|file| file.good.clone()).collect()
    }

    /// The places of files with a content that was not used yet.
    pub(super) fn changed(&self) -> Vec<usize> {
        let changed = self.files.iter().enumerate().filter(|(_, file)| file.new.is_some());
        changed.map(|(place, _)| place).collect()
    }

    /// The contents in use, with the new ones of the files at `places`.
    pub(super) fn with_new(&self, places: &[usize]) -> Vec<Arc<Document>> {
        let files = self.files.iter().enumerate();
        let content = |(place, file): (usize, &WatchedFile)| match places.contains(&place) {
            true => file.new.clone().or_else(|| file.good.clone()),
            false => file.good.clone(),
        };
        files.filter_map(content).collect()
    }

    /// The new contents of the files at `places` are good.
    pub(super) fn accept(&mut self, places: &[usize]) {
        for place in places {
            if let Some(file) = self.files.get_mut(*place)
                && let Some(new) = file.new.take()
            {
                (file.good, file.error) = (Some(new), None);
            }
        }
    }

    /// The new content of the file at `place` does not go together with the others. It may when one of them changes. An
    /// error at another file, such as one in a query that its targets would run, names it.
    pub(super) fn refuse(&mut self, place: usize, error: Error) {
        let Some(file) = self.files.get_mut(place) else { return };
        let name = file.name();
        file.error = Some(match error.place() {
            Some(place) if place.file != name => {
                let message = format!("with the target file {name}: {}", error.message());
                error.with_message(message)
            }
            _ => error,
        });
    }

    /// All files with their states, and what cannot be looked at.
    pub(super) fn states(&self, patterns: &TargetFilePatterns) -> Vec<TargetFileState> {
        let folder = self.error.iter().map(|error| TargetFileState {
            name: patterns.folder.display().to_string(),
            error: Some(error.clone()),
        });
        let state = |file: &WatchedFile| TargetFileState { name: file.name(), error: file.error.clone() };
        folder.chain(self.files.iter().map(state)).collect()
    }
}

fn missing(name: &str) -> Error {
    let place = SourcePosition { file: name.to_owned(), ..SourcePosition::default() };
    Error::config("there is no such file").at(place)
}
