//! The label sets of a result in the order first seen, each with what was gathered for it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::exposition::line::LabelBytes;

/// Label sets and their gatherings.
#[derive(Debug)]
pub(super) struct Sets<T> {
    entries: Vec<(LabelBytes, T)>,
    /// Positions in `entries`.
    known: HashTable<usize>,
    seed: RandomState,
}

impl<T> Default for Sets<T> {
    fn default() -> Self {
        Sets { entries: Vec::new(), known: HashTable::new(), seed: RandomState::default() }
    }
}

impl<T> Sets<T> {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The gathering of this label set, if it was seen.
    pub(super) fn position(&self, labels: &LabelBytes) -> Option<usize> {
        let hash = self.seed.hash_one(labels.as_bytes());
        let same = |at: &usize| self.entries.get(*at).is_some_and(|(known, _)| known == labels);
        self.known.find(hash, same).copied()
    }

    /// Takes up a label set that was not seen; its position.
    pub(super) fn insert(&mut self, labels: &LabelBytes, gathering: T) -> usize {
        let Sets { entries, known, seed } = self;
        let at = entries.len();
        let hash = seed.hash_one(labels.as_bytes());
        let rehash = |at: &usize| entries.get(*at).map_or(0, |(labels, _)| seed.hash_one(labels.as_bytes()));
        known.insert_unique(hash, at, rehash);
        entries.push((labels.clone(), gathering));
        at
    }

    /// What was gathered at a position.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.entries.get_mut(at).map(|(_, gathering)| gathering)
    }

    /// All of them, in the order first seen.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&LabelBytes, &mut T)> {
        self.entries.iter_mut().map(|(labels, gathering)| (&*labels, gathering))
    }
}
