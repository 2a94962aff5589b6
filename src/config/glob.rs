//! Names by pattern: `shop`, `eu-*`, `{a,b}`, `shop/**`. One `*` stops at `/`, two do not.
//!
//! Owns the reading and matching of patterns; what a pattern that matches nothing means is its user's.

use globset::{GlobBuilder, GlobMatcher};

use crate::yaml::keys::nearest;

/// No path is longer, and no name that somebody writes a pattern for. The matcher of an endless pattern cannot be built: globset
/// panics.
const LONGEST_PATTERN: usize = 4096;

/// One pattern. A text without `*`, `?`, `[` and `{` is a plain name and matches itself alone.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// `None` for a plain name, and for `*`, which most patterns are: no reason to build one for each query.
    matcher: Option<GlobMatcher>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let has_matcher = !is_plain(text) && text != "*";
        let matcher = has_matcher.then(|| matcher(text)).transpose()?;
        Ok(Pattern { text: text.to_owned(), matcher })
    }

    /// Reads a pattern for paths as a search finds them: without `./` and `//`, which a variable may well leave.
    ///
    /// # Errors
    /// As [`Pattern::new`], and for an empty text.
    pub(super) fn of_files(text: &str) -> Result<Pattern, String> {
        if text.trim().is_empty() {
            return Err("the path is empty".to_owned());
        }
        let root = if text.starts_with('/') { "/" } else { "" };
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        Pattern::new(&format!("{root}{}", parts.join("/")))
    }

    /// The pattern as it is matched.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True for a plain name: whoever writes it means one thing that exists.
    pub(super) fn is_plain(&self) -> bool {
        is_plain(&self.text)
    }

    /// True when `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Some(matcher) => matcher.is_match(name),
            None => self.text == name || (self.text == "*" && !name.contains('/')),
        }
    }
}

/// Reads a pattern in which one `*` stops at `/`.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn matcher(text: &str) -> Result<GlobMatcher, String> {
    if text.len() > LONGEST_PATTERN {
        return Err(format!("a pattern has at most {LONGEST_PATTERN} bytes, this one has {}", text.len()));
    }
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
    let glob = glob.map_err(|error| format!("{text:?} is not a pattern: {}", error.kind()))?;
    Ok(glob.compile_matcher())
}

/// True for a text that no character makes a pattern.
pub(super) fn is_plain(text: &str) -> bool {
    !text.contains(['*', '?', '[', '{'])
}

/// `did you mean "shop"?`, or what there is instead: the hint for a plain name that names nothing.
pub(super) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    /// More names than this do not fit on a line that somebody reads.
    const SHOWN: usize = 8;
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean {near:?}?");
    }
    let mut names: Vec<&str> = known.collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "there is none".to_owned(),
        (false, 0) => format!("known: {}", names.join(", ")),
        (false, more) => format!("known: {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn one_star_stops_at_a_slash_and_two_do_not() {
        assert!(matches("shop*", "shop-eu"));
        assert!(!matches("*", "shop/orders"));
        assert!(matches("shop/*", "shop/orders"));
        assert!(!matches("shop/*", "shop/a/b"));
        assert!(matches("shop/**", "shop/a/b"));
        assert!(matches("**", "shop/a/b"));
        assert!(matches("{a,b}", "b"));
    }

    #[test]
    fn a_plain_name_matches_itself_alone() {
        assert!(matches("a.b", "a.b"));
        assert!(!matches("a.b", "axb"));
        assert!(!matches("shop", "Shop"));
    }

    #[test]
    fn a_pattern_of_files_has_no_empty_parts() {
        for (text, expected) in [
            ("./a/*.yaml", "a/*.yaml"),
            (".//a/./b//*.yaml", "a/b/*.yaml"),
            ("//etc/x//*.yaml", "/etc/x/*.yaml"),
            ("../a/.hidden/**", "../a/.hidden/**"),
        ] {
            assert_eq!(Pattern::of_files(text).unwrap().text(), expected, "{text}");
        }
    }

    #[test]
    fn a_broken_pattern_says_so() {
        assert!(Pattern::new("eu-[").unwrap_err().contains("\"eu-[\" is not a pattern"));
        for part in ["?", "*a", "[!a]", "{a,b}"] {
            assert!(Pattern::new(&part.repeat(4096 / part.len())).is_ok(), "{part}");
            assert!(
                Pattern::new(&part.repeat(200_000)).unwrap_err().contains("at most 4096 bytes"),
                "{part}"
            );
        }
    }
}
