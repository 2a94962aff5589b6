//! The floors test finds what it is there to find.

use super::source::paths;
use super::{File, faults};

fn found(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> = files.iter().map(|(name, text)| File::new(name, text)).collect();
    faults(&files)
}

#[track_caller]
fn finds(fault: &str, files: &[(&str, &str)]) {
    let found = found(files);
    assert!(found.iter().any(|line| line.contains(fault)), "{found:?}");
}

fn named(text: &str) -> Vec<String> {
    paths(text).iter().map(|named| named.segments.join("::")).collect()
}

#[test]
fn good_files_pass() {
    let files = [
        ("error.rs", "pub struct Error;"),
        ("cell.rs", "use crate::error::Error;"),
        ("driver/mod.rs", "pub mod net; pub mod tls; use crate::error::Error; static A: net::A = net::A;"),
        ("driver/net.rs", "use super::tls::X; use crate::driver::Seam;"),
        ("driver/tls.rs", "use super::Seam;"),
        ("driver/postgres/mod.rs", "use super::net::X; use crate::driver::tls;"),
        ("driver/postgres/wire.rs", "use super::Thing; use crate::cell::Cell;"),
        ("http/mod.rs", "fn f() { crate::driver::net::X; }"),
        ("main.rs", "fn main() { sql_exporter::cli::main() }"),
    ];
    assert_eq!(found(&files), Vec::<String>::new());
}

#[test]
fn an_import_from_a_higher_floor_is_found() {
    finds("yaml::keys:1: imports plan", &[("yaml/keys.rs", "use crate::plan::Plan;"), ("plan/mod.rs", "")]);
    finds("error:2: imports driver", &[("error.rs", "fn f() {\n let x = crate::driver::X; }")]);
    finds("error:1: imports cell", &[("error.rs", "use super::cell::Cell;"), ("cell.rs", "")]);
    finds("imports scrape", &[("target/memory.rs", "use crate::{error::Error, scrape::{self, X}};")]);
}

#[test]
fn an_import_from_a_later_room_of_the_same_floor_is_found() {
    finds("imports http", &[("driver/net.rs", "use crate::http::Peer;")]);
    finds("imports metric", &[("pool.rs", "use crate::metric::Metric;")]);
}

#[test]
fn a_cycle_of_siblings_is_found() {
    finds(
        "driver: a cycle net -> tls -> net",
        &[("driver/net.rs", "use super::tls::X;"), ("driver/tls.rs", "use crate::driver::net::Y;")],
    );
    finds(
        "plan: a cycle a -> b -> c -> a",
        &[
            ("plan/a.rs", "use super::b::X;"),
            ("plan/b.rs", "use super::c::X;"),
            ("plan/c/mod.rs", ""),
            ("plan/c/deep.rs", "use crate::plan::a::X;"),
        ],
    );
}

#[test]
fn super_super_is_found() {
    finds("super::super", &[("driver/postgres/wire.rs", "use super::super::net::X;")]);
    finds("super::super", &[("cell.rs", "mod tests { use super::super::error::Error; }")]);
}

#[test]
fn a_room_without_a_floor_is_found() {
    finds("no floor has this room", &[("utilities.rs", "")]);
}

#[test]
fn paths_are_read_wherever_they_stand() {
    assert_eq!(
        named("use crate::a::{b, c::{self, D as E}, f::*};"),
        ["crate::a::b", "crate::a::c::self", "crate::a::c::D", "crate::a::f",]
    );
    assert_eq!(
        named("fn f(x: &'a crate::a::B) -> Vec<super::C> { crate::d::e!(1) }"),
        ["crate::a::B", "super::C", "crate::d::e",]
    );
    assert_eq!(named("macro_rules! m { () => { $crate::a::b() } }"), ["crate::a::b"]);
}

#[test]
fn comments_strings_and_inline_modules_are_left_out() {
    assert!(named("// crate::a\n/* crate::b /* */ crate::c */ /// crate::d\n").is_empty());
    assert!(named("let x = \"crate::a \\\" crate::b\"; let y = r#\"crate::c \" crate::d\"#;").is_empty());
    assert_eq!(named("let c = '\"'; let d = '\\''; crate::a::b; fn f<'a>() {}"), ["crate::a::b"]);
    assert!(named("mod tests { use super::*; mod deep { use super::x; } }").is_empty());
    assert_eq!(named("mod tests { fn f() {} } use super::x;"), ["super::x"]);
    assert!(named("pub(crate) fn f() {} pub(super) fn g() {}").is_empty());
}

#[test]
fn the_line_of_a_path_is_told() {
    let lines: Vec<usize> =
        paths("\n\"a\nb\"\nuse crate::a;\n/*\n*/ crate::b;").iter().map(|p| p.line).collect();
    assert_eq!(lines, [4, 6]);
}
