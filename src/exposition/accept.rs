//! What a client accepts: lists with weights as in `Accept` and `Accept-Encoding` (RFC 9110, sections 12.4.2 and 12.5).
//!
//! Lenient: an entry that cannot be parsed is ignored, and nothing here fails.

/// One entry of a list, and how much the client wants it.
struct Preference<'h> {
    /// A media range or a coding, as written.
    item: &'h str,
    /// In thousandths, at most 1000; 0 = not at all.
    weight: u16,
    version: Option<&'h str>,
}

/// How much a client wants `media` in `version`: what the most specific of its ranges says, 0 where none fits.
pub fn weight_of(accept: &str, (media, version): (&str, &str)) -> u16 {
    let fits = |preference: &Preference<'_>| {
        let precision = precision(preference.item, media)?;
        match preference.version {
            None => Some((precision, false)),
            Some(wanted) => (wanted == version).then_some((precision, true)),
        }
    };
    let fitting = preferences(accept).filter_map(|preference| Some((fits(&preference)?, preference.weight)));
    fitting.max().map_or(0, |(_, weight)| weight)
}

/// True where the client lists gzip, and wants no compression no more than that. A coding that is not listed counts as `*`.
pub fn prefers_gzip(accept_encoding: &str) -> bool {
    let listed = |names: &[&str]| {
        let is_named = |item: &str| names.iter().any(|name| item.eq_ignore_ascii_case(name));
        preferences(accept_encoding).find(|entry| is_named(entry.item)).map(|entry| entry.weight)
    };
    let weight = |names: &[&str]| listed(names).or_else(|| listed(&["*"])).unwrap_or(0);
    let gzip = weight(&["gzip", "x-gzip"]);
    gzip > 0 && gzip >= weight(&["identity"])
}

/// How exactly a range names a media type: `*/*` 0, `text/*` 1, `text/plain` 2; `None` where it does not.
fn precision(range: &str, media: &str) -> Option<u8> {
    match (range.split_once('/')?, media.split_once('/')?) {
        (("*", "*"), _) => Some(0),
        ((class, "*"), (media_class, _)) if class.eq_ignore_ascii_case(media_class) => Some(1),
        _ => range.eq_ignore_ascii_case(media).then_some(2),
    }
}

/// The entries of a header in their order.
fn preferences(header: &str) -> impl Iterator<Item = Preference<'_>> {
    split_unquoted(header, ',').filter_map(preference)
}

/// Parameters other than `q` and `version` (`charset`, `escaping` …) do not affect which format is meant.
fn preference(entry: &str) -> Option<Preference<'_>> {
    let mut parts = split_unquoted(entry, ';');
    let mut found = Preference { item: parts.next()?.trim(), weight: 1000, version: None };
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
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
    // A weight above 0 stays above 0.
    Some(if number > 0.0 { thousandths.max(1) } else { 0 })
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// The parts of a text between separators that are not within double quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let separates = c == separator && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        separates
    })
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
