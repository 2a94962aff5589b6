//! Texts as trees: what is taken as typed, what is refused, and what it costs.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{environment, taken};
use crate::yaml::document::{Document, NodeValue};
use crate::yaml::keys::{Keys, Reader};

/// What is wrong with the text, whatever its keys mean.
fn refused(text: &str) -> String {
    let document = match Document::parse("a.yaml", Path::new("."), text.into()) {
        Ok(document) => document,
        Err(error) => return error.to_string(),
    };
    let reader = Reader::new(&environment);
    Keys::root(&document, &reader);
    reader.finish().faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn scalars_keep_the_text_typed() {
    for (typed, expected) in [
        ("1.10", "1.10"),
        ("007", "007"),
        ("0x10", "0x10"),
        ("1e3", "1e3"),
        ("1_000", "1_000"),
        ("+1", "+1"),
        (".inf", ".inf"),
        ("yes", "yes"),
        ("True", "True"),
        ("2024-01-02", "2024-01-02"),
        ("99999999999999999999999999", "99999999999999999999999999"),
        ("'it''s'", "it's"),
        ("\"0x10\"", "0x10"),
        ("\"a\\tb\\u00e9\"", "a\tbé"),
        ("'null'", "null"),
        ("a # comment", "a"),
        ("a#b", "a#b"),
        ("two\n  lines", "two lines"),
        ("|\n  SELECT 1\n    + 1\n", "SELECT 1\n  + 1\n"),
        (">-\n  a\n  b\n", "a b"),
        ("|+\n  a\n", "a\n\n"),
        ("\"\"", ""),
    ] {
        let text = taken(&format!("key: {typed}\n"), |keys| keys.literal("key"));
        assert_eq!(text.as_deref(), Some(expected), "{typed}");
    }
}

#[test]
fn nothing_counts_as_absent() {
    for typed in ["~", "null", "NULL", "", "# only a comment"] {
        let text = format!("key: {typed}\nother: 1\n");
        let (value, other) = taken(&text, |keys| (keys.text("key"), keys.number::<u8>("other", "a number")));
        assert_eq!((value, other), (None, Some(1)), "{typed}");
    }
}

#[test]
fn keys_are_texts_whatever_they_look_like() {
    let pairs = taken("map: {1: a, null: b, true: c, 'x y': d, 1.10: e}", |keys| keys.pairs("map")).unwrap();
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["1", "null", "true", "x y", "1.10"]);
}

#[test]
fn line_ends_and_byte_order_marks_change_nothing() {
    for text in [
        "a: 1\nb: |\n  x\n  y\n",
        "a: 1\r\nb: |\r\n  x\r\n  y\r\n",
        "\u{feff}a: 1\nb: |\n  x\n  y\n",
        "a: \t1 \t\nb: \"x\\ny\\n\"",
    ] {
        let (a, b) = taken(text, |keys| (keys.text("a"), keys.text("b")));
        assert_eq!((a.as_deref(), b.as_deref()), (Some("1"), Some("x\ny\n")), "{text:?}");
    }
}

#[test]
fn anchors_and_aliases_work() {
    let text = "base: &base {host: db, port: 1}\nlist: [&x one, *x, *x]\ncopy: *base\n";
    taken(text, |keys| {
        assert_eq!(keys.texts("list").unwrap(), ["one", "one", "one"]);
        for key in ["base", "copy"] {
            let mut inner = keys.inner(key).unwrap();
            assert_eq!(inner.text("host").as_deref(), Some("db"));
            assert_eq!(inner.number("port", "a port"), Some(1_u16));
            assert_eq!(inner.place("").path, key);
            inner.finish();
        }
    });
}

#[test]
fn what_yaml_allows_and_a_configuration_should_not_have_is_refused() {
    for (text, expected) in [
        ("a: {b: 1, b: 2}", "a.yaml:1:11: a.b: repeated key; the first one is in line 1"),
        ("a: 1\n'a': 2", "a.yaml:2:2: a: repeated key"),
        ("a: [{b: 1, b: 2}]", "a.yaml:1:12: a[0].b: repeated key"),
        ("a: 1\n--- # next\nb: 1", "a.yaml:2:1: a second document"),
        ("--- 1\n---\n", "a.yaml:2:1: a second document"),
        ("a: |\n ---\n--- |\n x", "a.yaml:3:1: a second document"),
        ("a: !x {b: 1}", "a.yaml:1:4: a tag"),
        ("a: [!x 1]", "a.yaml:1:5: a tag"),
        ("a: !!int 1", "a.yaml:1:1: a: a tag"),
        ("a: !!binary |\n  aGk=\n", "a.yaml:1:1: a: a tag"),
        ("a: &x !!map {b: 1}", "a.yaml:1:1: a: a tag"),
        ("a: [x, !!str 1, '!!y']", "a.yaml:1:14: a[1]: a tag"),
        (
            "<<: &x {a: 1}",
            "a.yaml:1:1: <<: merge keys are not supported; put what entries share under `defaults`",
        ),
        ("a: &x {b: 1}\nc: {<<: *x}", "a.yaml:2:5: c.<<: merge keys"),
        ("", "a.yaml: the file is empty"),
        ("# nothing\n\n", "a.yaml: the file is empty"),
        ("just text", "a.yaml:1:1: expected a mapping (`key: value`), found text"),
        ("- a\n- b", "a.yaml:1:3: expected a mapping (`key: value`), found a list"),
        (
            "a: {port: ${PORT}}",
            "a.yaml:1:11: inside braces or brackets `${…}` needs quotes; write {port: \"${PORT}\"}",
        ),
        ("a: {\n  port: ${PORT},\n  x: 1}", "a.yaml:2:9: inside braces or brackets `${…}` needs quotes"),
        ("a: [x,\n ${PORT:-1}]", "a.yaml:2:2: inside braces or brackets `${…}` needs quotes"),
        ("a: {x: \"${PORT}\", y: ${PORT}}", "a.yaml:1:22: inside braces or brackets `${…}` needs quotes"),
        ("a:\n\tb: 1", "a.yaml:2:1: a tab cannot indent; use spaces"),
        ("a:\n  b: 1\n\tc: 1", "a.yaml:3:1: a tab cannot indent; use spaces"),
        ("a: *", "a.yaml:1:5: `*` begins an alias, and `&` an anchor, of which the name is missing"),
        ("a: [*, &]", "a.yaml:1:6: `*` begins an alias"),
        ("a: {{ x }}", "a.yaml:1:5: a key must be text; a text that begins with `{` or `[` needs quotes"),
        ("a:\n  b: 1\n\u{a0}\u{a0}c: 1\n  d: 1", "a.yaml:3:1: a blank that is not a space stands here"),
        ("a: 'é\u{a0}x'\nb:\u{a0}1\nc: 1", "a.yaml:2:3: a blank that is not a space stands here"),
        ("a: 'é\u{a0}x'\nb: @", "a.yaml:2:4: a value cannot start with this character"),
        ("a: b\u{0}c", "a.yaml:1:5: the character U+0000 is not allowed in YAML"),
        ("a: \u{1b}[31m", "a.yaml:1:4: the character U+001B is not allowed"),
    ] {
        let faults = refused(text);
        assert!(faults.starts_with(expected), "{text:?}: {faults}");
    }
}

#[test]
fn sql_with_exclamation_marks_has_no_tags() {
    taken("a: ['x !!y', \"!!z\", a != b]\nsql: SELECT 5 !! AS x # !!no\nb: {c: x !!y, d: 1}", |keys| {
        keys.texts("a").unwrap();
        keys.literal("sql").unwrap();
        keys.pairs("b").unwrap();
    });
}

/// How long this thread has run: other work of the machine does not count.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

#[test]
fn limits_hold_and_cost_little() {
    let million = "x".repeat(1 << 20);
    let nodes = format!("a: [{}]", "1,".repeat(100_001));
    let long = "y".repeat(20_000);
    let bomb = format!("a: &a {long}\nb: [{}]", "*a,".repeat(30_000));
    let digits = format!("a: &a 0.{}1\nb: [{}]", "0".repeat(20_000), "*a,".repeat(30_000));
    let mut laughs = String::from("l0: &l0 [lol,lol,lol,lol,lol,lol,lol,lol,lol,lol]\n");
    for level in 1..12 {
        let below = level - 1;
        laughs += &format!("l{level}: &l{level} [{}]\n", format!("*l{below},").repeat(10));
    }
    for (text, expected) in [
        (format!("a: {million}"), "the file is larger than 1 MiB"),
        (nodes, "more than 100000 nodes"),
        (bomb, "more than 100000 nodes or 4 MiB of text"),
        (digits, "more than 100000 nodes or 4 MiB of text"),
        (laughs, "more than 100000 nodes"),
        ("a: &a [*a]".to_owned(), "nested deeper than 128 levels"),
        (format!("a: {}{}", "[".repeat(200), "]".repeat(200)), "nested deeper than 128 levels"),
        (format!("{}x: 1", "? ".repeat(300_000)), "a key must be text"),
        ("- ".repeat(500_000), "nested deeper"),
        (
            format!(
                "a:\n{}",
                (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>()
            ),
            "nested deeper",
        ),
        ("[".repeat(1 << 20), "too many brackets are open"),
        ("[".repeat(19_000), "nested deeper than 128 levels"),
        ("{a: ".repeat(200_000), "too many brackets are open"),
        (format!("{}{}", "[".repeat(1000), "a,".repeat(500_000)), "too many brackets are open"),
        ("a: 1\n".repeat(40_000), "repeated key"),
        (format!("? {}\n: {{{}}}", "k".repeat(500_000), "a: 1,".repeat(45_000)), "repeated key"),
        (format!("? {}\n: [{}]", "k".repeat(500_000), "!!str 1,".repeat(45_000)), "a tag"),
    ] {
        let before = cpu_time();
        let faults = refused(&text);
        assert!(faults.contains(expected), "{}", &faults[..faults.len().min(300)]);
        assert!(faults.lines().all(|line| line.len() < 1000), "a line of a message is too long");
        let took = cpu_time() - before;
        assert!(took < Duration::from_secs(10), "{expected}: {took:?}");
    }
}

#[test]
fn brackets_in_comments_and_texts_need_no_partner() {
    let open = "[{".repeat(1_500);
    let text = format!("# {open}\na: \"{open}\"\nb: '{open}'\nsql: |\n  {open}\n  -- done\nc: x{open}\n");
    let document = Document::parse("f.yaml", Path::new("."), text).expect("valid");
    let NodeValue::Map(entries) = &document.tree.value else { panic!("a mapping") };
    let values: Vec<_> = entries.iter().map(|entry| &entry.node.value).collect();
    assert_eq!(values[0], &NodeValue::Scalar(open.clone()));
    assert_eq!(values[2], &NodeValue::Scalar(format!("{open}\n-- done\n")));
}

#[test]
fn a_file_is_read_within_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let open = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        Document::open("conf/a.yaml", &path).map_err(|error| error.to_string())
    };
    assert_eq!(open(b"a: 1").unwrap().folder, folder.path());
    assert_eq!(
        open(b"a: 1\nb: \xff").unwrap_err(),
        "conf/a.yaml:2:4: the file is not UTF-8 text\n  | b: \u{fffd}\n  |    ^"
    );
    assert_eq!(open(b"\xff\xfea\0").unwrap_err(), "conf/a.yaml: the file is UTF-16 text: save it as UTF-8");
    assert!(open(&vec![b'#'; (1 << 20) + 1]).unwrap_err().contains("larger than 1 MiB"));
    assert!(open(&vec![b'#'; 1 << 20]).unwrap_err().contains("the file is empty"));
    let missing = Document::open("b.yaml", &folder.path().join("b.yaml")).unwrap_err().to_string();
    assert_eq!(missing, "b.yaml: cannot read the file: No such file or directory (os error 2)");
    assert!(Document::open("c", folder.path()).unwrap_err().to_string().contains("Is a directory"));
    assert!(
        Document::open("z", Path::new("/dev/zero"))
            .unwrap_err()
            .to_string()
            .contains("is a character device")
    );
}

proptest! {
    #[test]
    fn any_text_is_a_tree_or_an_error(text in "([a-c]{1,2}|: |:|- |\n|\n  |\\{|\\}|\\[|\\]|,|\"|'|\\||>|&a |\\*a|!t |!!s |\\? |#|---\n|\\.\\.\\.\n|\t|%|@|\\$\\{|é|\r\n){0,30}") {
        let _ = Document::parse("a.yaml", Path::new("."), text);
    }
}
