//! The reader as its users see it: a text goes in, values or messages come out.

use std::path::Path;
use std::time::Duration;

use super::keys::{Keys, Reader};
use super::tree::Document;

fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("5432".into()),
        "HOST" => Some("db1".into()),
        _ => None,
    }
}

fn document(text: &str) -> Document {
    Document::parse("a.yaml", Path::new("/etc/x"), text.into()).unwrap()
}

/// The messages of reading `text` with `read`.
fn faults(text: &str, read: impl FnOnce(Keys<'_>)) -> Vec<String> {
    let document = match Document::parse("a.yaml", Path::new("/etc/x"), text.into()) {
        Ok(document) => document,
        Err(error) => return vec![error.to_string()],
    };
    let reader = Reader::new(&environment);
    if let Some(keys) = Keys::root(&document, &reader) {
        read(keys);
    }
    reader.finish().0.iter().map(ToString::to_string).collect()
}

fn syntax(text: &str) -> String {
    faults(text, |_| {}).join("\n---\n")
}

#[test]
fn print_all() {
    for text in [
        "",
        "# x\n",
        "---\n",
        "~",
        "[1]",
        "a: 1\na: 2\n",
        "a: 1\n---\nb: 2\n",
        "a: !Vault x\n",
        "a: !!str 5\n",
        "a: [!!int 5]\n",
        "a: {port: ${PORT}}\n",
        "a: [${PORT}]\n",
        "a: [x, ${PORT}, y]\n",
        "a:\n\tb: 1\n",
        "a: \tb\n",
        "a: @x\n",
        "a: `x\n",
        "a: %x\n",
        "help: a: b\n",
        "a: 'x\n",
        "a: [1, 2\nb: 3\n",
        "a: *x\n",
        "a: &x [*x]\n",
        "<<: {a: 1}\n",
        "? [a]\n: 1\n",
        "a\nb: 1\n",
        "a: 1\n b: 2\n",
        "a:\n- 1\nb\n",
        "a: \"\\q\"\n",
        "\u{feff}a: 1\nb: \u{1}\n",
        "a: 1\r\nb: 2\r\na: 3\r\n",
        "{a: 1}}\n",
        "a: {b: 1\n",
        "a: - b\n",
        "  a: 1\nb: 2\n",
        "a: 1\n...\nb: 2\n",
    ] {
        println!("=== {text:?}\n{}", syntax(text));
    }
}

#[test]
fn taking() {
    let d = document(
        "version: 1.10\npassword: 007\nh: 0x10\ne: 1e3\ny: yes\nq: \"0x1\"\nblock: |\n  a\n  b\nfold: >-\n  a\n  b\nn: ~\nd: 5m\ns: 1KiB\np: ${PORT}\n",
    );
    let reader = Reader::new(&environment);
    let mut k = Keys::root(&d, &reader).unwrap();
    assert_eq!(k.text("version").as_deref(), Some("1.10"));
    assert_eq!(k.secret("password").unwrap().expose(), "007");
    assert_eq!(k.text("h").as_deref(), Some("0x10"));
    assert_eq!(k.text("e").as_deref(), Some("1e3"));
    assert_eq!(k.flag("y"), Some(true));
    assert_eq!(k.text("q").as_deref(), Some("0x1"));
    assert_eq!(k.literal("block").as_deref(), Some("a\nb\n"));
    assert_eq!(k.text("fold").as_deref(), Some("a b"));
    assert_eq!(k.text("n"), None);
    assert_eq!(k.duration("d"), Some(Duration::from_secs(300)));
    assert_eq!(k.size("s"), Some(1024));
    assert_eq!(k.number::<u16>("p", "a port"), Some(5432));
    k.finish();
    assert_eq!(reader.finish().0, []);
}

#[test]
fn a_key_that_one_item_takes_is_unknown_in_another() {
    let messages = faults("list: [{kind: a, only_a: 1}, {kind: b, only_a: 1}]\n", |mut keys| {
        for mut item in keys.items("list").unwrap() {
            if item.text("kind").as_deref() == Some("a") {
                let _ = item.text("only_a");
            }
            item.finish();
        }
        keys.finish();
    });
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("list[1].only_a: unknown key"), "{messages:?}");
}
