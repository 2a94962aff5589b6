//! The targets that come and go while a configuration is in use: those of `target_files`, and databases that were
//! discovered. Makes the configuration again with other such targets, without reading its own files again.
//!
//! Knows no target at work. One broken target file, or one that does not go together with the rest, leaves the others.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::yaml::document::Document;
use crate::yaml::keys::{Environment, Reader};

use super::Config;
use super::discover::{DatabaseList, DatabaseLists};
use super::loaded_files::{Discovered, LoadedFiles};
use super::target_files::TargetFileWatch;

pub use super::target_files::TargetFileState;

/// What became of a configuration whose targets may have changed.
pub struct Refreshed {
    /// The configuration; `None` where nothing changed.
    pub config: Option<Config>,
    /// The faults that new databases make: those of before stay.
    pub refused: Vec<Error>,
}

/// What can change in a configuration while it is in use.
pub struct TargetSources {
    loaded: LoadedFiles,
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    watch: TargetFileWatch,
    /// Of the configuration in use.
    lists: DatabaseLists,
    /// Those that made faults when they were last tried.
    refused: Option<DatabaseLists>,
}

impl TargetSources {
    /// Of a configuration that was just read. Reads the target files: blocks until those that have just been written have
    /// not changed for a second.
    pub(super) fn new(loaded: LoadedFiles) -> TargetSources {
        let mut watch = TargetFileWatch::default();
        watch.look_settled(&loaded.patterns);
        let state = SourceState { watch, ..SourceState::default() };
        TargetSources { loaded, state: Mutex::new(state) }
    }

    /// True when it is time to look at the target files again.
    pub fn is_due(&self) -> bool {
        !self.loaded.patterns.is_empty() && self.state.try_lock().is_some_and(|state| state.watch.is_due())
    }

    /// The databases that the configuration in use was made with.
    pub fn lists(&self) -> DatabaseLists {
        self.state.lock().lists.clone()
    }

    /// True where this list of databases of a target made faults, and is not in use.
    pub fn is_refused(&self, target: &str, list: &DatabaseList) -> bool {
        let state = self.state.lock();
        let refused = state.refused.as_ref().and_then(|refused| refused.get(target));
        refused == Some(list) && state.lists.get(target) != Some(list)
    }

    /// The target files with their states, in order.
    pub fn files(&self) -> Vec<TargetFileState> {
        self.state.lock().watch.states(&self.loaded.patterns)
    }

    /// Looks at the target files, if it is time to. Makes the configuration with what changed in them and with these
    /// databases.
    pub fn refresh(self: &Arc<Self>, lists: &DatabaseLists, environment: &Environment) -> Refreshed {
        let mut state = self.state.lock();
        let has_changed = state.watch.is_due() && state.watch.look(&self.loaded.patterns);
        let is_known = state.lists == *lists || state.refused.as_ref() == Some(lists);
        if !has_changed && is_known {
            return Refreshed { config: None, refused: Vec::new() };
        }
        if has_changed {
            self.accept(&mut state.watch, environment);
        }
        let files = state.watch.good();
        let made = self.with(&files, Discovered::Lists(lists), environment);
        match made {
            Ok(config) => {
                (state.lists, state.refused) = (lists.clone(), None);
                Refreshed { config: Some(config), refused: Vec::new() }
            }
            Err(refused) => {
                state.refused = Some(lists.clone());
                let config = self.with(&files, Discovered::Lists(&state.lists), environment).ok();
                Refreshed { config: config.filter(|_| has_changed), refused }
            }
        }
    }

    /// The configuration with the target files as they are now, and with the targets of another one: its last good
    /// target files, as far as they go together with it, and these databases.
    ///
    /// # Errors
    /// The faults that it has with these targets, but for those of target files.
    pub fn inherit(
        self: &Arc<Self>,
        other: Option<&TargetSources>,
        lists: &DatabaseLists,
        environment: &Environment,
    ) -> Result<Config, Vec<Error>> {
        let mut state = self.state.lock();
        if let Some(other) = other {
            state.watch.inherit(&other.state.lock().watch);
        }
        self.accept(&mut state.watch, environment);
        state.lists.clone_from(lists);
        let with = |watch: &TargetFileWatch| self.with(&watch.good(), Discovered::Lists(lists), environment);
        with(&state.watch).or_else(|faults| match state.watch.forget_old(&faults) {
            true => with(&state.watch),
            false => Err(faults),
        })
    }

    /// Takes as many of the new contents of target files as go together; the others are refused.
    fn accept(self: &Arc<Self>, watch: &mut TargetFileWatch, environment: &Environment) {
        let with = |files: &[Arc<Document>]| self.with(files, Discovered::Sample, environment);
        let mut good: Vec<usize> = Vec::new();
        // Halves, and halves of these, until each file that does not go with the others is alone.
        let mut parts = vec![watch.changed()];
        while let Some(mut part) = parts.pop().filter(|part| !part.is_empty()) {
            let places = [good.as_slice(), &part].concat();
            match with(&watch.with_new(&places)) {
                Ok(_) => good = places,
                Err(_) if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(faults) => {
                    if let (Some(place), Some(fault)) = (part.first(), faults.into_iter().next()) {
                        watch.refuse(*place, fault);
                    }
                }
            }
        }
        watch.accept(&good);
    }

    fn with(
        self: &Arc<Self>,
        files: &[Arc<Document>],
        discovered: Discovered<'_>,
        environment: &Environment,
    ) -> Result<Config, Vec<Error>> {
        let reader = Reader::new(environment);
        let config = self.loaded.read(files, discovered, &reader);
        let config = super::finished(config, reader).map_err(|invalid| invalid.faults)?;
        Ok(Config { sources: Some(Arc::clone(self)), ..config })
    }
}
