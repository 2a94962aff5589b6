//! docs/migrating.md: each block that is marked `yaml before` is a file of another exporter, and the `yaml` block after it is
//! what `import` makes of it. What follows `before` are arguments.

use std::path::Path;

use crate::exporter::Setup;

/// The blocks of the page: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (open.take(), line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.to_owned(), String::new())),
            (None, None) => {}
            (Some(block), Some(_)) => blocks.push(block),
            (Some((info, text)), None) => open = Some((info, text + line + "\n")),
        }
    }
    blocks
}

#[test]
fn the_page_shows_what_import_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating.md");
    let blocks = blocks(&super::read(&path));
    let mut count = 0;
    for pair in blocks.windows(2) {
        let [(info, before), (next, after)] = pair else { continue };
        let Some(args) = info.strip_prefix("yaml before") else { continue };
        count += 1;
        let setup = Setup::empty().file("before.yaml", before).args(&["import", "before.yaml"]);
        let output = setup.args(&args.split_whitespace().collect::<Vec<_>>()).output();
        assert_eq!((next.as_str(), output.code()), ("yaml", 0), "{before}\n{}", output.errors());
        assert_eq!(output.text(), after, "{before}");
    }
    assert!(count >= 2, "{count}");
}
