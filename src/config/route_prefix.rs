//! `exporter.route_prefix`: the path below which all others lie, for a reverse proxy that passes paths on as they are.

/// Empty, or `/sql`, `/a/b`: a slash at the start, none at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutePrefix(String);

impl RoutePrefix {
    /// Reads it as users write it: `sql`, `/sql` and `/sql/` are the same, `/` means no prefix.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<RoutePrefix, String> {
        if text.contains("://") {
            return Err(format!("{text:?} is not a path: leave scheme and host out, write /sql"));
        }
        if text.is_empty() || text == "/" {
            return Ok(RoutePrefix::default());
        }
        let inner = text.strip_prefix('/').unwrap_or(text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        for segment in inner.split('/') {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            if segment.is_empty() || matches!(segment, "." | "..") || !segment.chars().all(plain) {
                return Err(format!(
                    "{text:?} is not a path of letters, digits and -._~ between single slashes: write /sql or /metrics/sql"
                ));
            }
        }
        Ok(RoutePrefix(format!("/{inner}")))
    }

    /// A path of ours as clients ask for it.
    pub fn path(&self, ours: &str) -> String {
        format!("{}{ours}", self.0)
    }

    /// The path of ours that a client asks for: empty for the prefix itself; `None` for what does not lie below it.
    pub fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&self.0).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        RoutePrefix::parse(text).ok().map(|prefix| prefix.0)
    }

    #[test]
    fn a_prefix_is_one_however_it_is_written() {
        for text in ["sql", "/sql", "/sql/", "sql/"] {
            assert_eq!(read(text).as_deref(), Some("/sql"), "{text}");
        }
        assert_eq!(read("/a/b-1/~c.d_/").as_deref(), Some("/a/b-1/~c.d_"));
        for text in ["", "/"] {
            assert_eq!(read(text).as_deref(), Some(""), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for text in
            ["http://a/sql", "//sql", "/a//b", "/a/../b", "/.", "/a b", "/a?b", "/a#b", "/%41", "/é", "//"]
        {
            assert!(RoutePrefix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_whole_segments_are_stripped() {
        let prefix = RoutePrefix::parse("/sql").unwrap();
        assert_eq!(prefix.strip("/sql/metrics"), Some("/metrics"));
        assert_eq!(prefix.strip("/sql/"), Some("/"));
        assert_eq!(prefix.strip("/sql"), Some(""));
        for path in ["/", "/sqlx", "/metrics", "/SQL/metrics", "//sql/metrics"] {
            assert_eq!(prefix.strip(path), None, "{path}");
        }
        assert_eq!(RoutePrefix::default().strip("/metrics"), Some("/metrics"));
        assert_eq!(prefix.path("/probe"), "/sql/probe");
    }
}
