//! `${VAR}`, `${VAR:-default}` and `$${` in a scalar's text.

use super::reader::Environment;

/// A text may become so long: variables are as large as the environment makes them, and a file may name one often.
const LONGEST: usize = 1 << 20;

/// Why a text cannot be expanded. Never holds a part of the text but a variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Refusal {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { message: message.into(), hint: hint.into() }
    }
}

/// Replaces every variable; all that is wrong comes together. A variable that is set and empty takes its default,
/// as in a shell.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<String, Vec<Refusal>> {
    let mut out = String::with_capacity(text.len());
    let mut refused = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, from) = rest.split_at(dollar);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = from.get(2..).unwrap_or("");
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = from.get(2..).and_then(|inner| inner.split_once('}')) else {
            refused.push(Refusal::new("`${` has no closing `}`", "for a literal `${` write `$${`"));
            return Err(refused);
        };
        match value(inside, environment) {
            Ok(value) if out.len() + value.len() > LONGEST => {
                refused.push(Refusal::new("its variables make more than 1 MiB of it", "shorten them"));
                return Err(refused);
            }
            Ok(value) => out.push_str(&value),
            Err(refusal) => refused.push(refusal),
        }
        rest = after;
    }
    out.push_str(rest);
    if refused.is_empty() { Ok(out) } else { Err(refused) }
}

fn value(inside: &str, environment: &Environment) -> Result<String, Refusal> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err(Refusal::new(
            "`${…}` does not hold a variable's name",
            "write `${NAME}` or `${NAME:-default}`; for a literal `${` write `$${`",
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Refusal::new(
            format!("the default of `{name}` holds another `${{`"),
            "a default is plain text up to the first `}`",
        ));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Refusal::new(
            format!("the environment variable {name} is not set"),
            format!("set it, or write `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_literals_are_replaced_once() {
        let cases = [
            ("plain", "plain"),
            ("${HOST}", "db1"),
            ("a-${HOST}-${PORT:-5432}.x", "a-db1-5432.x"),
            ("${EMPTY}", ""),
            ("${EMPTY:-full}", "full"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST $ $$ {HOST}", "$HOST $ $$ {HOST}"),
            ("${TRICKY}", "${HOST}"),
            ("é${HOST}é", "édb1é"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_unset_variable_is_named() {
        let refused = expand("${A}:${B}", &environment).unwrap_err();
        let messages: Vec<_> = refused.iter().map(|refusal| refusal.message.as_str()).collect();
        assert_eq!(
            messages,
            ["the environment variable A is not set", "the environment variable B is not set"]
        );
    }

    #[test]
    fn what_is_no_variable_is_refused_without_showing_it() {
        for text in [
            "hunter2${",
            "${hunter 2}",
            "${}",
            "${1A}",
            "${HOST-hunter2}",
            "${HOST:?hunter2}",
            "${A:-${HOST}}",
        ] {
            let refused = expand(text, &environment).unwrap_err();
            assert_eq!(refused.len(), 1, "{text}");
            assert!(!format!("{refused:?}").contains("hunter"), "{refused:?}");
        }
    }
}
