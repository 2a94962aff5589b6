//! Messages: their place, their source line, their order, and what they never show.

use std::path::Path;

use super::{document, environment, faults};
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, LoadFindings, Reader};

fn ignore<T>(_: T) {}

fn one(text: &str, read: impl FnOnce(&mut Keys<'_>)) -> String {
    let faults = faults(text, read);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.concat()
}

#[test]
fn a_fault_stands_at_its_value_with_the_line_and_a_caret() {
    let text = "exporter:\n  é: {x: 1}\n  port: 70000\n";
    let message = one(text, |keys| {
        let mut keys = keys.inner("exporter").unwrap();
        keys.pairs("é");
        assert_eq!(keys.number::<u16>("port", "a port from 1 to 65535"), None);
        keys.finish();
    });
    let expected = "a.yaml:3:9: exporter.port: \"70000\" is not a port from 1 to 65535\n  |   port: 70000\n  |         ^";
    assert_eq!(message, expected);
}

#[test]
fn columns_count_characters() {
    let message = one("é: {ü: 1, x: y}", |keys| {
        let mut keys = keys.inner("é").unwrap();
        keys.text("ü");
        keys.flag("x");
        keys.finish();
    });
    assert_eq!(
        message,
        "a.yaml:1:14: é.x: \"y\" is neither true nor false\n  | é: {ü: 1, x: y}\n  |              ^"
    );
}

#[test]
fn an_unknown_key_names_the_nearest_one_that_was_asked_for() {
    let message = one("tiemout: 1\nretries: 1\n", |keys| {
        keys.duration("timeout");
        keys.number::<u8>("retries", "a number");
    });
    assert_eq!(message, "a.yaml:1:1: tiemout: unknown key; did you mean `timeout`?\n  | tiemout: 1\n  | ^");
    let message = one("colour: red\n", |keys| {
        keys.duration("timeout");
        keys.forbid("when", "`when` belongs elsewhere");
    });
    assert!(message.contains("unknown key; known here: timeout\n"), "{message}");
}

#[test]
fn a_key_that_was_hardly_meant_as_one_is_not_shown_whole() {
    for (text, expected) in [
        ("{password:hunter2}", "a.yaml:1:2: password…: unknown key; a key is one word"),
        ("{password hunter2}", "a.yaml:1:2: password…: unknown key"),
        ("{password: a,hunter2}", "a.yaml:1:14: …: unknown key"),
        ("{\"pass word\": 1}", "a.yaml:1:3: pass…: unknown key"),
    ] {
        let message = one(text, |keys| ignore(keys.secret("password")));
        assert!(message.starts_with(expected) && !message.contains("hunter"), "{message}");
    }
}

#[test]
fn a_forbidden_key_is_refused_whatever_its_value() {
    for value in ["~", "1", "[a]", "{a: 1}"] {
        let message = one(&format!("when: {value}\n"), |keys| keys.forbid("when", "is not for here"));
        assert!(message.starts_with("a.yaml:1:1: when: is not for here\n"), "{message}");
    }
}

type Case = (&'static str, fn(&mut Keys<'_>), &'static str);

/// Each text, read so, gives this one message.
fn check(cases: &[Case]) {
    for (text, read, expected) in cases {
        let message = one(text, read);
        assert!(message.starts_with(expected), "{text}: {message}");
    }
}

#[test]
fn a_wrong_scalar_says_what_was_expected_and_found() {
    check(&[
        ("k: [a]", |k| ignore(k.text("k")), "a.yaml:1:1: k: expected text, found a list"),
        ("k: {a: 1}", |k| ignore(k.literal("k")), "a.yaml:1:1: k: expected text, found a mapping"),
        ("k: maybe", |k| ignore(k.flag("k")), "a.yaml:1:4: k: \"maybe\" is neither true nor false"),
        ("k: 5x", |k| ignore(k.number::<u8>("k", "a number")), "a.yaml:1:4: k: \"5x\" is not a number"),
        (
            "k: 5 min",
            |k| ignore(k.duration("k")),
            "a.yaml:1:4: k: \"5 min\" is not a duration: write 500ms, 10s",
        ),
        ("k: -1s", |k| ignore(k.duration("k")), "a.yaml:1:4: k: \"-1s\" is not a duration"),
        ("k: 5M", |k| ignore(k.size("k")), "a.yaml:1:4: k: \"5M\" is not a size: write 64MiB"),
        (
            "k: gren",
            |k| ignore(k.choice("k", &[("red", 1), ("green", 2)])),
            "a.yaml:1:4: k: \"gren\" is not one of red, green; did you mean `green`?",
        ),
        ("k: ''", |k| ignore(k.file("k")), "a.yaml:1:5: k: the path is empty"),
    ]);
}

#[test]
fn a_wrong_collection_says_what_was_expected_and_found() {
    check(&[
        (
            "k: {a: 1}",
            |k| ignore(k.texts("k")),
            "a.yaml:1:1: k: expected a list of texts (`[A, B]`), found a mapping",
        ),
        ("k: [a, [b]]", |k| ignore(k.texts("k")), "a.yaml:1:9: k[1]: expected text, found a list"),
        (
            "k: [a, ~]",
            |k| ignore(k.texts("k")),
            "a.yaml:1:8: k[1]: expected text, found nothing; an empty text is written \"\"",
        ),
        (
            "k: x",
            |k| ignore(k.pairs("k")),
            "a.yaml:1:4: k: expected a mapping of names to texts (`NAME: TEXT`), found text",
        ),
        ("k: {a: [1]}", |k| ignore(k.pairs("k")), "a.yaml:1:5: k.a: expected text, found a list"),
        ("k: {a: }", |k| ignore(k.pairs("k")), "a.yaml:1:5: k.a: expected text, found nothing"),
        ("k: x", |k| ignore(k.inner("k")), "a.yaml:1:4: k: expected a mapping (`key: value`), found text"),
        (
            "k: [1]",
            |k| ignore(k.inner("k")),
            "a.yaml:1:1: k: expected a mapping (`key: value`), found a list",
        ),
        (
            "k: {a: 1}",
            |k| ignore(k.items("k")),
            "a.yaml:1:1: k: expected a list of mappings (`- key: value`), found a mapping",
        ),
        (
            "k: [{}, x]",
            |k| ignore(k.items("k")),
            "a.yaml:1:9: k[1]: expected a mapping (`key: value`), found text",
        ),
        (
            "k:\n-\n- {}",
            |k| ignore(k.items("k")),
            "a.yaml:2:2: k[0]: expected a mapping (`key: value`), found nothing",
        ),
        (
            "k: [a]",
            |k| ignore(k.entries("k")),
            "a.yaml:1:1: k: expected a mapping of names to mappings (`NAME: {key: value}`), found a list",
        ),
        (
            "k: {a: {}, b: x}",
            |k| ignore(k.entries("k")),
            "a.yaml:1:15: k.b: expected a mapping (`key: value`), found text",
        ),
    ]);
}

#[test]
fn a_variable_that_cannot_be_expanded_is_named() {
    check(&[
        (
            "k: ${NONE}",
            |k| ignore(k.text("k")),
            "a.yaml:1:4: k: the environment variable NONE is not set; set it, or write `${NONE:-default}`",
        ),
        (
            "k: [a, '${NONE}']",
            |k| ignore(k.texts("k")),
            "a.yaml:1:9: k[1]: the environment variable NONE is not set",
        ),
        (
            "k: {a: \"${NONE}\"}",
            |k| ignore(k.pairs("k")),
            "a.yaml:1:9: k.a: the environment variable NONE is not set",
        ),
        (
            "k: |\n  ${NONE}\n",
            |k| ignore(k.text("k")),
            "a.yaml:1:1: k: the environment variable NONE is not set",
        ),
        (
            "k: a${",
            |k| ignore(k.text("k")),
            "a.yaml:1:4: k: `${` has no closing `}`; for a literal `${` write `$${`",
        ),
        ("k: ${EMPTY}", |k| ignore(k.number::<u8>("k", "a number")), "a.yaml:1:4: k: \"\" is not a number"),
    ]);
}

#[test]
fn names_without_anything_are_empty_mappings() {
    let text = "databases:\n  shop:\n  eu: {}\n";
    let message = faults(text, |keys| {
        let names: Vec<_> = keys
            .entries("databases")
            .unwrap()
            .into_iter()
            .map(|(name, keys)| {
                keys.fault("", "has no driver");
                name
            })
            .collect();
        assert_eq!(names, ["shop", "eu"]);
    });
    let places: Vec<_> = message.iter().map(|message| message.lines().next().unwrap()).collect();
    assert_eq!(
        places,
        ["a.yaml:2:3: databases.shop: has no driver", "a.yaml:3:3: databases.eu: has no driver"]
    );
}

#[test]
fn a_fault_of_one_entry_is_not_one_of_the_next() {
    let document = document("a: {b: {c: x}, d: {c: true}}\n");
    let reader = Reader::new(&environment);
    let mut keys = Keys::root(&document, &reader).unwrap();
    let faulted: Vec<bool> = keys
        .entries("a")
        .unwrap()
        .into_iter()
        .map(|(_, mut entry)| {
            entry.flag("c");
            entry.faulted()
        })
        .collect();
    assert_eq!(faulted, [true, false]);
}

#[test]
fn faults_come_once_and_in_the_order_of_files_and_lines() {
    let main = document("b: x\na: y\na: 1\n");
    let more = Document::parse("more.yaml", Path::new("."), "c: z\n".into()).unwrap();
    let reader = Reader::new(&environment);
    reader.fault(crate::error::Error::config("no place"));
    let mut keys = Keys::root(&main, &reader).unwrap();
    let mut included = Keys::root(&more, &reader).unwrap();
    included.flag("c");
    keys.flag("a");
    keys.flag("b");
    keys.flag("a");
    keys.warn("b", "odd");
    assert!(keys.faulted() && included.faulted());
    let LoadFindings { faults, warnings, .. } = reader.finish();
    let first: Vec<String> =
        faults.iter().map(|fault| fault.to_string().lines().next().unwrap().to_owned()).collect();
    let expected = [
        "a.yaml:1:4: b: \"x\" is neither true nor false",
        "a.yaml:2:4: a: \"y\" is neither true nor false",
        "a.yaml:3:1: a: repeated key; the first one is in line 2",
        "more.yaml:1:4: c: \"z\" is neither true nor false",
        "no place",
    ];
    assert_eq!(first, expected);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn paths_start_at_the_file_that_names_them() {
    let document = document("relative: x/y\nabsolute: /z\n");
    let reader = Reader::new(&environment);
    let mut keys = Keys::root(&document, &reader).unwrap();
    assert_eq!(keys.file("relative").unwrap(), Path::new("/etc/x/x/y"));
    assert_eq!(keys.file("absolute").unwrap(), Path::new("/z"));
}

/// Reads with every kind of question, as a driver would.
fn driver(keys: &mut Keys<'_>) {
    keys.secret("password");
    keys.secret("url");
    keys.text("host");
    keys.number::<u16>("port", "a port");
    keys.pairs("params");
    keys.texts("session_sql");
    keys.duration("timeout");
    keys.entries("databases");
}

#[test]
fn a_line_that_may_hold_a_secret_is_never_shown() {
    for text in [
        "pasword: hunter2",
        "passwrd: hunter2",
        "passwort: hunter2",
        "pwd: hunter2",
        "urll: hunter2",
        "parms: {x: hunter2}",
        "param: {x: hunter2}",
        "conection_string: hunter2",
        "token: hunter2",
        "x: postgres://u:hunter2@h",
        "host: [x] # password hunter2",
        "password: 'hunter2${NONE}'",
        "password: [hunter2]",
        "password: {x: hunter2}",
        "password:\n  - hunter2",
        "password: hunter2\npassword: hunter3",
        "password: !x hunter2",
        "password: @hunter2",
        "password: a: hunter2",
        "password: \"hunter2",
        "password: 'hunter2\nport: 1",
        "password: \"x\nhunter2: y: z\nport: 1",
        "password:\nhunter2\nport: x",
        "password: |\nhunter2",
        "password: >\n hunter2\nx: [",
        "password: [x,\nhunter2",
        "password: *hunter2",
        "password: {x: ${hunter2}}",
        "{password: hunter2, prot: 1}",
        "{prot: 1, password: hunter2}",
        "params:\n  x: {y: hunter2}",
        "params:\n  - hunter2",
        "params: {x: 'hunter2${NONE}'}",
        "params:\n  x: ${NONE} hunter2",
        "session_sql: [[hunter2]]",
        "session_sql:\n- SELECT 'hunter2'\n- [x]",
        "port: ${DB_PASS}",
        "timeout: ${DB_PASS}",
        "host: &p hunter2\npassword: *p\nhots: *p",
        "host: [&p hunter2]\npassword: *p",
        "x:\n  key: |\n    a\n\thunter2",
        "x:\n  key: -----BEGIN PRIVATE KEY-----\nhunter2",
        "x:\n  key: \"a\nhunter2",
        "x:\n  other: |\n    -----BEGIN PRIVATE KEY-----\n\thunter2",
        "basic_auth_users:\n  alice: [hunter2",
        "basic_auth_users:\n  alice: $2y$10$hunter2: x",
        "basic_auth_user:\n  alice: hunter2: x",
    ] {
        let faults = faults(text, driver);
        assert!(!faults.is_empty(), "{text}");
        for fault in faults {
            assert!(!fault.replace("*hunter2", "").contains("hunter"), "{text:?}: {fault}");
        }
    }
}

#[test]
fn other_lines_are_shown() {
    for text in [
        "prot: 1",
        "password_file: x",
        "name: a\npassword: x\nprot: 1",
        "params:\n  a: b\nprot: 1",
        "params: {a: b}\nlist:\n  - prot: 1",
        "prot: {key: a.pem}",
        "prot: SELECT key FROM a",
    ] {
        let faults = faults(text, |keys| {
            keys.secret("password");
            keys.pairs("params");
        });
        assert!(faults.iter().any(|fault| fault.contains("  | ")), "{faults:?}");
    }
}

#[test]
fn a_message_cannot_move_the_cursor_or_fill_the_screen() {
    let message = one("\"a\\e[31m\\nb\": 1", |_| {});
    assert!(!message.contains('\u{1b}') && message.starts_with("a.yaml:1:1: a…: unknown key"), "{message}");
    let message = one("k: {\"a\\e[31m\": [1]}", |keys| ignore(keys.pairs("k")));
    assert!(
        !message.contains('\u{1b}') && message.starts_with("a.yaml:1:1: k.a\\u{1b}[31m: expected"),
        "{message}"
    );
    let message = one(&format!("prot: 1 # {}", "x".repeat(5000)), |_| {});
    assert!(message.len() < 600, "{message}");
    let message = one(&format!("{{{}prot: 1}}", " ".repeat(5000)), |_| {});
    assert!(message.len() < 200 && message.starts_with("a.yaml:1:5002: prot"), "{message}");
    let message =
        one(&format!("k: {}", "9".repeat(50_000)), |keys| ignore(keys.number::<u8>("k", "a number")));
    assert!(message.len() < 1000, "{} bytes", message.len());
}

#[test]
fn places_kept_for_later_point_at_the_key() {
    let document = document("a:\n  b: 1\n");
    let reader = Reader::new(&environment);
    let mut root = Keys::root(&document, &reader).unwrap();
    let keys = root.inner("a").unwrap();
    let shown = |place: crate::error::SourcePosition| place.to_string();
    assert_eq!(shown(keys.place("b")), "a.yaml:2:6: a.b");
    assert_eq!(shown(keys.place("missing")), "a.yaml:1:1: a.missing");
    assert_eq!(shown(keys.place("")), "a.yaml:1:1: a");
    assert_eq!(shown(root.place("")), "a.yaml:1:1");
}
