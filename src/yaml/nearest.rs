//! The name that was probably meant.
//!
//! Names come from requests too, so that a search has bounds whatever it is given: comparing two names takes time that
//! grows with the product of their lengths.

use std::collections::HashSet;

/// A longer name (in bytes) is not a slip of the pen, and gets no hint.
const LONGEST: usize = 128;
/// One search looks at no more candidates than this.
const CANDIDATES: usize = 10_000;
/// One search compares no more pairs of letters than this.
const WORK: usize = 1 << 19;

/// The name in `candidates` nearest to `text`, when it is near enough to be meant.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut search = NameSearch::new(text)?;
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().take(CANDIDATES) {
        if let Some((false, edits)) = search.distance(candidate, false)
            && best.is_none_or(|(least, _)| edits < least)
        {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, name)| name)
}

/// The `count` names nearest to `text`, however far, the nearest first. None for a text that is longer than any name
/// that somebody types.
pub fn nearest_of<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let Some(mut search) = NameSearch::new(text) else { return Vec::new() };
    let mut known = HashSet::new();
    let new = candidates.into_iter().take(CANDIDATES).filter(|candidate| known.insert(*candidate));
    let mut found: Vec<_> =
        new.filter_map(|candidate| Some((search.distance(candidate, true)?, candidate))).collect();
    found.sort_unstable();
    found.into_iter().take(count).map(|(_, name)| name).collect()
}

/// One search: the text in lower case, and how much work is left.
struct NameSearch {
    text: String,
    letters: usize,
    work: usize,
}

impl NameSearch {
    fn new(text: &str) -> Option<NameSearch> {
        let is_short = text.len() <= LONGEST;
        is_short.then(|| {
            let text = text.to_lowercase();
            NameSearch { letters: text.chars().count(), text, work: WORK }
        })
    }

    /// Whether `candidate` is too far to be meant, and the edits between the two; `None` once the work is done, and for
    /// one that is far unless `even_far`.
    fn distance(&mut self, candidate: &str, even_far: bool) -> Option<(bool, usize)> {
        if candidate.len() > LONGEST {
            return None;
        }
        let name = candidate.to_lowercase();
        let letters = name.chars().count();
        let longest = self.letters.max(letters);
        let allowed = (longest / 3).max(1);
        // `time` for `timeout`, `name` for `username` count too.
        let part =
            |whole: &str, part: &str| part.len() >= 4 && (whole.starts_with(part) || whole.ends_with(part));
        let is_part = part(&name, &self.text) || part(&self.text, &name);
        if !even_far && !is_part && self.letters.abs_diff(letters) > allowed {
            return None;
        }
        self.work = self.work.checked_sub((self.letters + 1) * (letters + 1))?;
        let edits = strsim::damerau_levenshtein(&self.text, &name);
        // A third of the letters may be wrong; one in a short word.
        let is_near = is_part || (edits <= allowed && edits < longest);
        Some((!is_near, edits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 7] = ["url", "host", "port", "password", "password_file", "timeout", "username"];

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let cases = [
            ("prt", Some("port")),
            ("pasword", Some("password")),
            ("passwordfile", Some("password_file")),
            ("time", Some("timeout")),
            ("user", Some("username")),
            ("HOST", Some("host")),
            ("hots", Some("host")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nearest(text, KEYS), expected, "{text}");
        }
    }

    #[test]
    fn the_nearest_come_first_and_each_once() {
        let twice = KEYS.into_iter().chain(KEYS);
        assert_eq!(nearest_of("prt", twice, 3), ["port", "url", "host"]);
        assert_eq!(nearest_of("user", KEYS, 1), ["username"], "a part is nearer than any stranger");
        assert_eq!(nearest_of("", ["b", "a"], 3), ["a", "b"]);
    }

    #[test]
    fn a_long_text_gets_no_hint_and_a_long_candidate_is_none() {
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(nearest(&long, KEYS.into_iter().chain([long.as_str()])), None);
        assert_eq!(nearest_of(&long, KEYS, 3), [""; 0]);
        let name = "x".repeat(LONGEST);
        assert_eq!(nearest(&name, [long.as_str(), &name]), Some(&*name));
    }

    /// Counted, not timed: whatever is asked, a search compares a bounded number of letters.
    #[test]
    fn the_work_of_a_search_is_bounded() {
        let names: Vec<String> = (0..CANDIDATES).map(|n| format!("{n:0>120}")).collect();
        for text in ["9".repeat(LONGEST), "9".to_owned(), "é".repeat(LONGEST / 2)] {
            let mut search = NameSearch::new(&text).unwrap();
            let compared = names.iter().filter(|name| search.distance(name, true).is_some()).count();
            let cost = (search.letters + 1) * 121;
            assert_eq!(compared, (WORK / cost).min(CANDIDATES), "{text}");
        }
        let endless = std::iter::repeat("name");
        assert_eq!(nearest("nmae", endless.clone()), Some("name"), "an end is put to endless candidates");
        assert_eq!(nearest_of("nmae", endless, 3), ["name"]);
    }
}
