//! The name that was probably meant.

/// The name in `candidates` nearest to `text`, when it is near enough to be meant.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let asked = text.to_lowercase();
    let near = |candidate: &str| {
        let name = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&asked, &name);
        // A third of the letters may be wrong; one in a short word. `time` for `timeout`, `name` for `username` count too.
        let longest = asked.chars().count().max(name.chars().count());
        let part = asked.len() >= 4 && (name.starts_with(&asked) || name.ends_with(&asked));
        let part = part || (name.len() >= 4 && (asked.starts_with(&name) || asked.ends_with(&name)));
        (distance <= (longest / 3).max(1) && distance < longest || part).then_some(distance)
    };
    candidates
        .into_iter()
        .filter_map(|candidate| near(candidate).map(|distance| (distance, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The `count` names nearest to `text`, however far, the nearest first.
pub fn nearest_of<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut left: Vec<&str> = candidates.into_iter().collect();
    left.sort_unstable();
    left.dedup();
    let mut found = Vec::new();
    while found.len() < count {
        let far = || left.iter().copied().min_by_key(|name| strsim::damerau_levenshtein(text, name));
        let Some(name) = nearest(text, left.iter().copied()).or_else(far) else { break };
        left.retain(|other| *other != name);
        found.push(name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let keys = ["url", "host", "port", "password", "password_file", "timeout", "username"];
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
            assert_eq!(nearest(text, keys), expected, "{text}");
        }
    }
}
