//! `docs/migrating.md`: each `yaml import DIALECT` becomes the `yaml result` below it.

use std::path::Path;

use super::{assert_strict, import};
use crate::documents::blocks_of;

#[test]
fn what_the_page_shows_before_becomes_what_it_shows_after() {
    let blocks = blocks_of("docs/migrating.md");
    let mut count = 0;
    for (index, (info, text)) in blocks.iter().enumerate() {
        let Some(arguments) = info.strip_prefix("yaml import ") else { continue };
        count += 1;
        let (dialect, more) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input.yaml");
        std::fs::write(&input, text).unwrap();
        let output = import(dialect, &[Path::new(&input)], &more.split_whitespace().collect::<Vec<_>>());
        let (after, expected) = blocks.get(index + 1).expect("a result");
        assert_eq!(after, "yaml result");
        assert_eq!(output.text(), expected, "{}", output.errors());
        assert_strict(&output, "postgres", dialect);
    }
    assert!(count >= 8, "{count}");
}
