//! The reader as its users see it: a text goes in, values or messages come out.

mod canary;
mod defaults;
mod places;
mod recording;
mod texts;
mod writer;

use std::path::Path;

use super::document::Document;
use super::keys::{Keys, Reader};

fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("5432".into()),
        "HOST" => Some("db1".into()),
        "DB_PASS" => Some("hunter2".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn document(text: &str) -> Document {
    Document::parse("a.yaml", Path::new("/etc/x"), text.into()).unwrap()
}

/// The messages of reading `text` with `read`.
fn faults(text: &str, read: impl FnOnce(&mut Keys<'_>)) -> Vec<String> {
    let document = match Document::parse("a.yaml", Path::new("/etc/x"), text.into()) {
        Ok(document) => document,
        Err(error) => return vec![error.to_string()],
    };
    let reader = Reader::new(&environment);
    if let Some(mut keys) = Keys::root(&document, &reader) {
        read(&mut keys);
        keys.finish();
    }
    reader.finish().faults.iter().map(ToString::to_string).collect()
}

/// What `read` takes from `text`, which must be without fault.
fn taken<T>(text: &str, read: impl FnOnce(&mut Keys<'_>) -> T) -> T {
    let mut value = None;
    let faults = faults(text, |keys| value = Some(read(keys)));
    assert_eq!(faults, Vec::<String>::new(), "{text}");
    value.unwrap()
}
