//! The form of the documents: tables that GitHub shows as they are meant.

use std::path::{Path, PathBuf};

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Cells of a row: in a cell `\\|` stands for the character, also in backquotes.
fn cells(row: &str) -> usize {
    row.trim().replace(r"\|", "").trim_matches('|').split('|').count()
}

/// Rows with another number of cells than their table's first, by their line.
fn uneven(text: &str) -> Vec<String> {
    let (mut faults, mut columns, mut code) = (Vec::new(), None, false);
    for (line, row) in (1..).zip(text.lines()) {
        code ^= row.trim_start().starts_with("```");
        if code || !row.trim_start().starts_with('|') {
            columns = None;
        } else if cells(row) != *columns.get_or_insert(cells(row)) {
            faults.push(format!("{line}: {row}"));
        }
    }
    faults
}

#[test]
fn each_row_of_a_table_has_as_many_cells_as_its_head() {
    let mut found = Vec::new();
    documents(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for path in found {
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(uneven(&text), Vec::<String>::new(), "{}: write \\| in a cell", path.display());
    }
}

#[test]
fn a_row_with_a_bare_line_in_a_cell_is_found() {
    let table = "| a | b |\n|---|---|\n| `x\\|y` | 1 |\n| `x|y` | 1 |\n```\n| x | y | z |\n```\n";
    assert_eq!(uneven(table), ["4: | `x|y` | 1 |"]);
}
