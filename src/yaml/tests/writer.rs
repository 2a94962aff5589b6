use std::path::Path;

use proptest::prelude::*;

use crate::yaml::document::{Document, Node, NodeValue};
use crate::yaml::keys::{Keys, Reader};
use crate::yaml::writer::YamlValue;

fn document(text: &str) -> Document {
    Document::parse("a.yaml", Path::new("."), text.to_owned())
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn read_back(tree: &Node) -> YamlValue {
    match &tree.value {
        NodeValue::Null => panic!("nothing"),
        NodeValue::Scalar(text) => YamlValue::text(text),
        NodeValue::List(items) => YamlValue::List(items.iter().map(read_back).collect()),
        NodeValue::Map(entries) => {
            YamlValue::Map(entries.iter().map(|entry| (entry.key.clone(), read_back(&entry.tree))).collect())
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    let hard = prop::sample::select(vec![
        "null",
        "~",
        "true",
        "- a",
        "a: b",
        "a #b",
        "'",
        "\"",
        "|",
        ">",
        "{}",
        "[",
        "1.10",
        "",
        " a",
        "a ",
        "a\n",
        "a\nb",
        "a\n\nb\n\n",
        "\n",
        "\ta\nb",
        " a\nb",
        "a\r\nb",
        "\u{85}",
        "\u{feff}",
        "?",
        "!x",
        "&a",
        "*a",
        "%",
        "@",
        "a:",
        "---",
        "a: \nb",
    ]);
    prop_oneof![hard.prop_map(str::to_owned), "[ -~\n]{0,30}", any::<String>()]
}

fn shown() -> impl Strategy<Value = YamlValue> {
    text().prop_map(YamlValue::Text).prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(YamlValue::List),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| YamlValue::Map(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same(shown in shown()) {
        // A YAML text cannot hold every control character bare; ours are written as escapes, which serde_yaml reads.
        let whole = YamlValue::Map(vec![("top".to_owned(), shown)]);
        let yaml = whole.yaml();
        let document = document(&yaml);
        prop_assert_eq!(read_back(&document.tree), whole, "{}", yaml);
    }
}

/// A mapping over defaults, read as a target is.
fn effective(own: &str, defaults: &str) -> (String, [u8; 32]) {
    let (own, defaults) = (document(own), document(defaults));
    let reader = Reader::new(&|name| (name == "HOST").then(|| "db".to_owned()));
    let behind = Keys::root(&defaults, &reader).unwrap();
    let mut keys = Keys::root(&own, &reader).unwrap().over(Some(&behind));
    keys.conceal("params");
    let _ = (
        keys.text("host"),
        keys.secret("password"),
        keys.pairs("params"),
        keys.pairs("labels"),
        keys.literal("sql"),
    );
    let mut tls = keys.inner("tls").unwrap();
    let _ = (tls.text("mode"), tls.secret("key"));
    (keys.redacted().yaml(), keys.digest())
}

const OWN: &str = "host: ${HOST}\npassword: a\nparams: {a: b}\nlabels: {x: '1'}\ntls: {mode: require, key: k}\nsql: SELECT '${HOST}'\nunknown: u\n";

#[test]
fn defaults_are_merged_variables_replaced_and_secrets_hidden() {
    let (yaml, _) = effective(OWN, "host: other\nlabels: {x: '2', y: '3'}\ntls: {mode: disable}\n");
    let expected = "host: db\npassword: <hidden>\nparams:\n  a: <hidden>\nlabels:\n  x: 1\n  y: 3\n\
                    tls:\n  mode: require\n  key: <hidden>\nsql: SELECT '${HOST}'\nunknown: <hidden>\n";
    assert_eq!(yaml.replace('"', ""), expected);
}

#[test]
fn the_digest_knows_secrets_and_defaults_but_not_what_is_overridden() {
    let of = |own: &str, defaults: &str| effective(own, defaults).1;
    let first = of(OWN, "host: other\n");
    assert_eq!(first, of(&OWN.replace("labels", "# a\nlabels"), "host: another\n"));
    assert_ne!(first, of(&OWN.replace("password: a", "password: b"), "host: other\n"));
    assert_ne!(first, of(OWN, "labels: {y: '3'}\n"));
}
