//! What a client prefers: lists with weights as in `Accept` and `Accept-Encoding` (RFC 9110, section 12.4.2 and 12.5).
//!
//! Lenient: an entry that cannot be read is passed over, and nothing here fails.

/// One entry of a list, and how much the client wants it.
#[derive(Debug, PartialEq, Eq)]
pub struct Preference<'h> {
    /// A media range or a coding, as written.
    pub item: &'h str,
    /// In thousandths, at most 1000; 0 = not at all.
    pub weight: u16,
    version: Option<&'h str>,
}

/// The entries of a header in their order. Parameters other than `q` and `version` (`charset`, `escaping` …) say
/// nothing about which format is meant.
pub fn preferences(header: &str) -> impl Iterator<Item = Preference<'_>> {
    Pieces { rest: Some(header), separator: b',' }.filter_map(preference)
}

/// How much a client wants `media` in `version`: what the most specific of its ranges says, 0 where none fits.
#[must_use]
pub fn weight_of(header: &str, (media, version): (&str, &str)) -> u16 {
    let fits = |wanted: &Preference<'_>| {
        let precision = precision(wanted.item, media)?;
        match wanted.version {
            None => Some((precision, false)),
            Some(asked) => (asked == version).then_some((precision, true)),
        }
    };
    let fitting = preferences(header).filter_map(|wanted| Some((fits(&wanted)?, wanted.weight)));
    fitting.max().map_or(0, |(_, weight)| weight)
}

/// How exactly a range names a media type: `*/*` 0, `text/*` 1, `text/plain` 2; `None` where it does not.
fn precision(range: &str, media: &str) -> Option<u8> {
    let (wanted, kind) = (range.split_once('/')?, media.split_once('/')?);
    match wanted {
        ("*", "*") => Some(0),
        (class, "*") if class.eq_ignore_ascii_case(kind.0) => Some(1),
        _ if range.eq_ignore_ascii_case(media) => Some(2),
        _ => None,
    }
}

fn preference(entry: &str) -> Option<Preference<'_>> {
    let mut pieces = Pieces { rest: Some(entry), separator: b';' };
    let mut found = Preference { item: pieces.next()?.trim(), weight: 1000, version: None };
    for (name, value) in pieces.filter_map(|piece| piece.split_once('=')) {
        let value = unquoted(value.trim());
        match name.trim() {
            name if name.eq_ignore_ascii_case("q") => found.weight = weight(value)?,
            name if name.eq_ignore_ascii_case("version") => found.version = Some(value),
            _ => {}
        }
    }
    (!found.item.is_empty()).then_some(found)
}

/// `0`, `0.5`, `1.000`: a number from 0 to 1 in plain digits.
fn weight(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f32 = text.parse().ok().filter(|number| plain && (0.0..=1.0).contains(number))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
    let thousandths = (number * 1000.0).round() as u16;
    // However little it wants a thing, it does want it.
    Some(if number > 0.0 { thousandths.max(1) } else { 0 })
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// The pieces of a text between separators, those within double quotes left alone.
struct Pieces<'h> {
    rest: Option<&'h str>,
    separator: u8,
}

impl<'h> Iterator for Pieces<'h> {
    type Item = &'h str;

    fn next(&mut self) -> Option<&'h str> {
        let rest = self.rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let separates = byte == self.separator && !quoted;
            quoted ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && quoted && !escaped;
            separates
        });
        // Invariant: the separator is one ASCII byte, so both sides of it are borders of characters.
        let (piece, rest) = match end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 1..)?))) {
            Some((piece, rest)) => (piece, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: (&str, &str) = ("text/plain", "0.0.4");

    #[test]
    fn the_most_specific_range_decides() {
        assert_eq!(weight_of("*/*;q=0.1, text/*;q=0.2, text/plain;q=0.3", TEXT), 300);
        assert_eq!(weight_of("text/plain;q=0.3, text/plain;version=0.0.4;q=0.2", TEXT), 200);
        assert_eq!(weight_of("text/plain;version=1.0.0, */*;q=0.1", TEXT), 100);
        assert_eq!(weight_of("text/*;q=0, */*", TEXT), 0);
        assert_eq!(weight_of("image/png", TEXT), 0);
    }

    #[test]
    fn names_are_read_in_any_case_with_blanks_and_quotes() {
        assert_eq!(weight_of(" TEXT/Plain ; VERSION=\"0.0.4\" ; Q=0.25 ", TEXT), 250);
        assert_eq!(weight_of("text/plain;note=\"a,b;q=0;\\\"\";q=0.5", TEXT), 500);
    }

    #[test]
    fn unknown_parameters_change_nothing() {
        assert_eq!(
            weight_of("text/plain;version=0.0.4;escaping=allow-utf-8;charset=utf-8;x;q=0.3", TEXT),
            300
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_passed_over() {
        for entry in
            ["text/plain;q=2", "text/plain;q=-1", "text/plain;q=NaN", "text/plain;q=", ";q=1", ",,", "text"]
        {
            assert_eq!(weight_of(&format!("{entry}, */*;q=0.1"), TEXT), 100, "{entry}");
        }
        assert_eq!(weight("0.0001"), Some(1));
        assert_eq!(weight("0.000"), Some(0));
    }
}
