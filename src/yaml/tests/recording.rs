//! What is recorded for the schema.

use std::path::Path;
use std::rc::Rc;

use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};
use crate::yaml::recording::{MappingRecord, ValueKind};

fn recorded(text: &str, ask: impl Fn(&mut Keys<'_>)) -> Rc<MappingRecord> {
    let environment = |_: &str| None;
    let reader = Reader::for_schema(&environment);
    let document = Document::parse("a.yaml", Path::new(""), text.to_owned()).unwrap();
    ask(&mut Keys::root(&document, &reader).unwrap());
    reader.recorded()
}

fn names(record: &MappingRecord) -> Vec<&'static str> {
    record.keys().iter().map(|key| key.name).collect()
}

/// What the value of a key may be, and what the mappings under it may hold.
fn value(record: &MappingRecord, name: &str) -> (Vec<ValueKind>, Rc<MappingRecord>) {
    let key = record.keys().into_iter().find(|key| key.name == name).unwrap();
    (key.kinds, key.inner)
}

#[test]
fn what_is_absent_is_asked_as_if_it_were_there() {
    let shape = recorded("x: y", |keys| {
        let mut list = keys.items("list").unwrap();
        let _ = list[0].inner("deep").unwrap().number::<u16>("port", "a port");
        let _ = keys.entries("named").unwrap()[0].1.flag("on");
    });
    assert_eq!(names(&shape), ["list", "named"]);
    let (list, item) = value(&shape, "list");
    let (deep, port) = value(&item, "deep");
    assert_eq!((list, deep), (vec![ValueKind::Items], vec![ValueKind::Mapping]));
    assert_eq!(value(&port, "port").0, [ValueKind::Whole(65535)]);
    let (named, entry) = value(&shape, "named");
    assert_eq!((named, value(&entry, "on").0), (vec![ValueKind::Entries], vec![ValueKind::Flag]));
}

#[test]
fn mappings_of_one_list_are_one_shape_that_needs_what_all_of_them_need() {
    let shape = recorded("list: [{kind: a}, {kind: b}]", |keys| {
        for mut item in keys.items("list").unwrap() {
            item.words("kind", ["a", "b"]);
            item.one_of(&["kind"]);
            if item.text("kind").as_deref() == Some("a") {
                item.one_of(&["left"]);
                let _ = item.text("left");
                item.forbid("right", "is b's");
            } else {
                let _ = item.texts("right");
            }
        }
    });
    let (kinds, item) = value(&shape, "list");
    assert_eq!(kinds, [ValueKind::Items]);
    assert_eq!(names(&item), ["kind", "left", "right"]);
    assert_eq!(value(&item, "kind").0, [ValueKind::Words(vec!["a", "b"])]);
    assert_eq!(value(&item, "right").0, [ValueKind::Texts]);
    assert_eq!(item.required(), [&["kind"]]);
}

#[test]
fn a_reader_that_is_not_for_the_schema_records_no_kinds_and_adds_no_mappings() {
    let environment = |_: &str| None;
    let reader = Reader::new(&environment);
    let document = Document::parse("a.yaml", Path::new(""), "x: y".to_owned()).unwrap();
    let mut keys = Keys::root(&document, &reader).unwrap();
    assert!(keys.inner("a").is_none() && keys.items("b").is_none() && keys.entries("c").is_none());
    assert!(reader.recorded().keys().is_empty());
}
