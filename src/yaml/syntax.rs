//! What is wrong with a text before there is a tree, in words for people: libyaml's messages and what to change.
//!
//! Messages here never quote the text: it may hold a secret, and which line it is on is all that is known.

/// Marks the error of a text that is too much once its aliases are followed.
pub(super) const OVER_BUDGET: &str = "over budget";
/// Marks the error of a tag.
pub(super) const TAG: &str = "tag ";

/// A fault of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) at: Option<usize>,
}

/// libyaml's words for a fault, ours, and what to change. The first match counts.
const WORDS: &[(&str, &str, &str)] = &[
    (
        OVER_BUDGET,
        "more than 100000 nodes or 4 MiB of text, each use of an alias counted",
        "split the file with `include`, or use fewer aliases",
    ),
    ("repetition limit exceeded", "aliases repeat too much of the file", "use fewer aliases"),
    ("recursion limit exceeded", "nested deeper than 128 levels", ""),
    (TAG, "a tag (`!…`) has no meaning here", "remove it, or quote the value"),
    (
        "unknown anchor",
        "an alias (`*…`) without its anchor (`&…`) above",
        "a value that starts with `*` needs quotes",
    ),
    ("a key that is text", "a key must be text", ""),
    ("found a tab character", "a tab cannot indent", "use spaces"),
    ("mapping values are not allowed", "a second `:` in one value, or wrong indentation", "quote the value"),
    ("found unexpected end of stream", "a quote is opened and never closed", ""),
    (
        "could not find expected ':'",
        "a key without its `:`",
        "write `key: value`; a long text needs quotes or `|`",
    ),
    ("did not find expected key", "no key where one must be", "check the indentation and the quotes"),
    ("did not find expected '-' indicator", "no `- ` where a list item must be", "check the indentation"),
    (
        "did not find expected ',' or '}'",
        "a `{` is not closed where it should be",
        "check commas, quotes and `}`",
    ),
    (
        "did not find expected ',' or ']'",
        "a `[` is not closed where it should be",
        "check commas, quotes and `]`",
    ),
];

/// Says in our words what `message` (serde_yaml's) at the byte `at` means.
pub(super) fn explain(message: &str, text: &str, at: Option<usize>) -> Explained {
    let explained = |message: &str, hint: &str, at| Explained {
        message: message.to_owned(),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
        at,
    };
    if message.contains("more than one document") {
        let hint = "one file is one document: remove the `---`";
        return explained("a second document starts here", hint, second_document(text));
    }
    if let Some(dollar) = at.and_then(|at| unquoted_variable(text, at)) {
        let hint = "write {port: \"${PORT}\"}";
        return explained("inside braces or brackets `${…}` needs quotes", hint, Some(dollar));
    }
    if message.contains("cannot start any token") {
        return match at.and_then(|at| text.get(at..)).and_then(|rest| rest.chars().next()) {
            Some('\t') => explained("a tab cannot indent", "use spaces", at),
            _ => explained("a value cannot start with this character", "put the value in quotes", at),
        };
    }
    match WORDS.iter().find(|(theirs, ..)| message.contains(theirs)) {
        Some((_, ours, hint)) => explained(ours, hint, at),
        None => explained(&format!("not YAML: {message}"), "", at),
    }
}

/// The offset of `${` when the fault at `at` comes from a variable without quotes in a flow collection: there
/// `{` begins a mapping, and libyaml stumbles at the brace or at one that follows on the same line.
fn unquoted_variable(text: &str, at: usize) -> Option<usize> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    let dollar = line.find("${")?;
    let before = line.get(..dollar)?;
    let inside = before.contains(['{', '[']) && before.matches(['"', '\'']).count() % 2 == 0;
    (inside && start + dollar <= at).then_some(start + dollar)
}

/// The line that starts the second document: the first `---` after any content, or else the `...` before it.
fn second_document(text: &str) -> Option<usize> {
    let mut offset = 0;
    let mut content = false;
    for line in text.split_inclusive('\n') {
        let marker = line.starts_with("---")
            && matches!(line.as_bytes().get(3), None | Some(b' ' | b'\t' | b'\r' | b'\n'));
        let end = line.trim_end() == "...";
        if content && (marker || end) {
            return Some(offset);
        }
        let trimmed = line.trim_start();
        content |= marker || !(trimmed.is_empty() || trimmed.starts_with('#') || line.starts_with('%'));
        offset += line.len();
    }
    None
}

/// Characters that YAML does not allow, with the first one's offset: libyaml reports these without a place.
pub(super) fn characters(text: &str) -> Result<(), (usize, String)> {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    match text.char_indices().find(|(_, c)| !allowed(*c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}'))
    {
        Some((at, c)) => Err((at, format!("the character U+{:04X} is not allowed in YAML", u32::from(c)))),
        None => Ok(()),
    }
}
