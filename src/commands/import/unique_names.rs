//! Names that nothing else in the result has: of queries, targets, files and variables.

use std::collections::{HashMap, HashSet};

/// The names of one kind that are taken.
#[derive(Debug, Default)]
pub(super) struct UniqueNames {
    known: HashSet<String>,
    /// The next number of a name, so that many of one name take no longer than many names.
    next: HashMap<String, usize>,
}

impl UniqueNames {
    /// Takes the name, with a number behind it where it is taken already.
    pub(super) fn take(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        while !self.known.insert(unique.clone()) {
            let number = self.next.entry(name.to_owned()).or_insert(2);
            unique = format!("{name}_{number}");
            *number += 1;
        }
        unique
    }

    /// Whether nobody has the name.
    pub(super) fn is_free(&self, name: &str) -> bool {
        !self.known.contains(name)
    }

    /// Takes the first name that is free, else the last one with a number.
    pub(super) fn take_first(&mut self, names: &[String]) -> String {
        let free = names.iter().find(|name| self.is_free(name)).or(names.last());
        self.take(free.map_or("", String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::UniqueNames;

    #[test]
    fn a_second_name_is_numbered() {
        let mut names = UniqueNames::default();
        let taken = ["a", "a", "a_2", "a", "b"].map(|name| names.take(name));
        assert_eq!(taken, ["a", "a_2", "a_2_2", "a_3", "b"]);
        let list = ["b", "b_of_x"].map(str::to_owned);
        let taken = [0; 3].map(|_| names.take_first(&list));
        assert_eq!(taken, ["b_of_x", "b_of_x_2", "b_of_x_3"]);
        // Many of one name take no longer than many names.
        let last = (0..50_000).map(|_| names.take("c")).last();
        assert_eq!(last.as_deref(), Some("c_50000"));
    }
}
