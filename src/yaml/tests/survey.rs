//! What a survey tells of the questions that were asked.

use std::path::Path;

use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};
use crate::yaml::shape::{Kind, Shape};

fn surveyed(text: &str, ask: impl Fn(&mut Keys<'_>)) -> Shape {
    let environment = |_: &str| None;
    let reader = Reader::survey(&environment);
    let document = Document::parse("a.yaml", Path::new(""), text.to_owned()).unwrap();
    ask(&mut Keys::root(&document, &reader).unwrap());
    reader.shape()
}

fn names(shape: &Shape) -> Vec<&str> {
    shape.keys.iter().map(|key| key.name).collect()
}

fn kinds<'s>(shape: &'s Shape, name: &str) -> &'s [Kind] {
    &shape.keys.iter().find(|key| key.name == name).unwrap().kinds
}

#[test]
fn what_is_absent_is_asked_as_if_it_were_there() {
    let shape = surveyed("x: y", |keys| {
        let mut list = keys.items("list").unwrap();
        let _ = list[0].inner("deep").unwrap().number::<u16>("port", "a port");
        let _ = keys.entries("named").unwrap()[0].1.flag("on");
    });
    assert_eq!(names(&shape), ["list", "named"]);
    let [Kind::Items(item)] = kinds(&shape, "list") else { panic!("{shape:?}") };
    let [Kind::Mapping(deep)] = kinds(item, "deep") else { panic!("{shape:?}") };
    assert_eq!(kinds(deep, "port"), [Kind::Whole(65535)]);
    let [Kind::Entries(entry)] = kinds(&shape, "named") else { panic!("{shape:?}") };
    assert_eq!(kinds(entry, "on"), [Kind::Flag]);
}

#[test]
fn mappings_of_one_list_are_one_shape_that_needs_what_all_of_them_need() {
    let shape = surveyed("list: [{kind: a}, {kind: b}]", |keys| {
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
    let [Kind::Items(item)] = kinds(&shape, "list") else { panic!("{shape:?}") };
    assert_eq!(names(item), ["kind", "left", "right"]);
    assert_eq!(kinds(item, "kind"), [Kind::Words(vec!["a", "b"])]);
    assert_eq!(kinds(item, "right"), [Kind::Texts]);
    assert_eq!(item.one_of, [&["kind"]]);
}

#[test]
fn a_reader_that_is_no_survey_notes_nothing_and_opens_nothing() {
    let environment = |_: &str| None;
    let reader = Reader::new(&environment);
    let document = Document::parse("a.yaml", Path::new(""), "x: y".to_owned()).unwrap();
    let mut keys = Keys::root(&document, &reader).unwrap();
    assert!(keys.inner("a").is_none() && keys.items("b").is_none() && keys.entries("c").is_none());
    assert_eq!(reader.shape(), Shape::default());
}
