//! An address as a person or another program wrote it: where its parts stand, and which of them are secrets. `init` and
//! `import` take the secrets out of the text and keep the rest of it as it is.
//!
//! More is read than `driver/connection` accepts: a password may hold what would end it by the rules of a URL, the host may be in
//! `tcp(…)`, and variables (`${NAME:-default}`) hold nothing that means anything here.

use std::ops::Range;

use percent_encoding::percent_decode_str;

use crate::driver::connection::{AddressSyntax, keywords};

/// Words in the name of a parameter, or of a setting in `options`, that make it a secret.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "pwd", "secret", "token"];

/// Where the parts of `scheme:[//][user[:password]@]place[?query]` stand.
pub(super) struct UrlRanges {
    pub(super) scheme: Range<usize>,
    pub(super) has_slashes: bool,
    pub(super) user: Range<usize>,
    pub(super) password: Range<usize>,
    /// The host with its port, and the database.
    pub(super) place: Range<usize>,
    pub(super) query: Range<usize>,
}

impl UrlRanges {
    /// `None` for a text without a colon.
    pub(super) fn of(text: &str) -> Option<UrlRanges> {
        let url = masked(text);
        let (scheme, has_slashes) = match url.find("://") {
            Some(colon) => (0..colon, true),
            None => (0..url.find(':')?, false),
        };
        let start = scheme.end + if has_slashes { "://".len() } else { ":".len() };
        let rest = url.get(start..)?;
        let login = login_end(rest, has_slashes).map(|end| start + end);
        let end = login.unwrap_or(start);
        let colon = url.get(start..end)?.find(':').map_or(end, |at| start + at);
        let place = login.map_or(start, |at| at + 1);
        let question = url.get(place..)?.find('?').map_or(url.len(), |at| place + at);
        Some(UrlRanges {
            scheme,
            has_slashes,
            user: start..colon,
            password: (colon + 1).min(end)..end,
            place: place..question,
            query: (question + 1).min(url.len())..url.len(),
        })
    }
}

/// Where the `@` behind the user and the password stands, from behind the scheme on.
fn login_end(rest: &str, has_slashes: bool) -> Option<usize> {
    // A password in the form of the Go driver may hold anything.
    if let Some(at) = ["@tcp(", "@unix("].into_iter().find_map(|form| rest.rfind(form)) {
        return Some(at);
    }
    let authority = rest.split(['/', '?']).next()?;
    // The last `@` before the path: a password may hold one. SQLAlchemy's may hold what ends a host, too.
    authority.rfind('@').or_else(|| {
        let is_number = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
        let is_host = |host: &str| {
            host.starts_with('[') || host.rsplit_once(':').is_none_or(|(_, port)| is_number(port))
        };
        let are_hosts = authority.split(',').all(is_host);
        let before = rest.split(|c: char| c.is_whitespace() || (are_hosts && c == '?')).next()?;
        before.rfind('@').filter(|_| has_slashes && authority.contains(':'))
    })
}

/// The same text, as long, with nothing in its variables that means anything.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find("${").and_then(|at| rest.split_at_checked(at)) {
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        out.push_str(before);
        out.extend(std::iter::repeat_n('x', end));
        rest = from.get(end..).unwrap_or_default();
    }
    out + rest
}

/// The inside of a text that is one variable: `NAME` or `NAME:-default`.
pub(super) fn only_variable(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${")?.strip_suffix('}')?;
    (!inside.contains(['$', '{', '}'])).then_some(inside)
}

/// A parameter of an address, in libpq's words: `password` is also what stands behind the user of a URL.
pub(super) struct AddressParameter {
    pub(super) name: String,
    pub(super) value: Range<usize>,
    /// What is removed with it: its name, and what separates it from the rest.
    pub(super) whole: Range<usize>,
}

/// Those parameters of an address that are secrets, in order; none is empty.
pub(super) fn secrets(text: &str) -> Vec<AddressParameter> {
    let mut found = parameters(text);
    found.retain(|AddressParameter { name, value, .. }| {
        is_secret(name, text.get(value.clone()).unwrap_or_default())
    });
    found
}

/// Whether the value of a parameter is a secret. An empty one is none.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    let words = if name == "options" { value } else { name }.to_ascii_lowercase();
    !value.is_empty() && SECRET_WORDS.iter().any(|word| words.contains(word))
}

/// The keywords; of a URL, the password before the host and the parameters behind `?`.
fn parameters(text: &str) -> Vec<AddressParameter> {
    let masked = masked(text);
    if AddressSyntax::of(text) == AddressSyntax::Keywords {
        let found = keywords(&masked).into_iter();
        return found
            .map(|keyword| AddressParameter {
                name: keyword.name.to_owned(),
                value: keyword.value,
                whole: keyword.whole,
            })
            .collect();
    }
    let Some(UrlRanges { password, query, .. }) = UrlRanges::of(text) else { return Vec::new() };
    let whole = password.start.saturating_sub(1)..password.end;
    let mut found = vec![AddressParameter { name: "password".to_owned(), value: password, whole }];
    let (start, mut from) = (query.start, query.start);
    for pair in masked.get(query).unwrap_or_default().split('&') {
        let end = from + pair.len();
        let name = pair.split('=').next().unwrap_or_default();
        let value = (from + name.len() + 1).min(end)..end;
        let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
        // A separator goes with it: the one behind the first, else the one before.
        let whole =
            if from == start && end < text.len() { from..end + 1 } else { from.saturating_sub(1)..end };
        found.push(AddressParameter { name, value, whole });
        from = end + 1;
    }
    found
}

/// The text with something else in each of the ranges, which are in order.
pub(super) fn replaced(text: &str, ranges: impl IntoIterator<Item = (Range<usize>, String)>) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for (range, by) in ranges {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        from = range.end;
        out.push_str(&by);
    }
    out + text.get(from..).unwrap_or_default()
}
