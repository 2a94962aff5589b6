//! The dialects by name, and which one a source is in. A new dialect is a file here and a line in [`DIALECTS`].

use super::input::Input;
use super::model::Imported;
use super::report::Report;
use super::{foreign, pg_exporter, postgres_exporter};
use crate::commands::nearest_or_all;
use crate::error::Error;
use crate::yaml::document::{MapEntry, Node, NodeValue};

/// What the command line says about a conversion.
#[derive(Debug, Clone, Default)]
pub(super) struct ImportOptions {
    /// `--url`: the database, where the source names none.
    pub(super) url: Option<String>,
    /// `--keep-labels`: labels that the other exporter adds to every sample stay.
    pub(super) keep_labels: bool,
    /// `-o DIR/`: several files may be written.
    pub(super) is_folder: bool,
}

/// One source: all its inputs.
pub(super) struct ImportSource<'s> {
    /// At least one.
    pub(super) inputs: &'s [Input],
    pub(super) options: &'s ImportOptions,
    pub(super) report: &'s Report,
}

/// The configuration of another exporter.
pub(super) struct ImportDialect {
    /// The value of `--from`.
    pub(super) name: &'static str,
    /// What in a tree speaks for the dialect, in a few words each; nothing where it cannot be one. Looks at a few levels
    /// only: it is asked at every node of a Helm file.
    pub(super) signs: fn(&Node) -> Vec<String>,
    /// Converts what it can and reports the rest.
    pub(super) convert: fn(&ImportSource<'_>) -> Imported,
}

/// All dialects.
pub(super) static DIALECTS: &[ImportDialect] = &[
    super::burningalchemist::DIALECT,
    super::export_sql::DIALECT,
    super::justwatch::DIALECT,
    pg_exporter::DIALECT,
    postgres_exporter::DIALECT,
    super::psql_query_exporter::DIALECT,
    super::query_exporter::DIALECT,
];

/// The dialect of `--from`; `None` for `auto`.
///
/// # Errors
/// There is no such dialect.
pub(super) fn named(name: &str) -> Result<Option<&'static ImportDialect>, Error> {
    if name == "auto" {
        return Ok(None);
    }
    DIALECTS.iter().find(|dialect| dialect.name == name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).chain(["auto"]).collect();
        Error::config(format!("--from: there is no dialect {name:?}")).with_hint(nearest_or_all(name, &known))
    })
}

/// The dialect that the inputs speak.
///
/// # Errors
/// None is recognised, two are equally likely, or the inputs are of several.
pub(super) fn recognised(inputs: &[Input]) -> Result<&'static ImportDialect, Error> {
    let signs = |dialect: &ImportDialect| -> Vec<String> {
        inputs.iter().flat_map(|input| (dialect.signs)(&input.tree)).collect()
    };
    let mut found: Vec<(&ImportDialect, Vec<String>)> =
        DIALECTS.iter().map(|dialect| (dialect, signs(dialect))).collect();
    found.retain(|(_, signs)| !signs.is_empty());
    // Stable: equal ones stay in the order of the table.
    found.sort_by_key(|(_, signs)| std::cmp::Reverse(signs.len()));
    let place = || inputs.first().map(|input| input.document.place(None, "")).unwrap_or_default();
    let choose = "name the dialect with --from";
    match found.as_slice() {
        [] => {
            let known: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
            let unknown = || {
                let hint = format!("{choose}: {}", known.join(", "));
                Error::config("none of the dialects is recognised").with_hint(hint)
            };
            let texts: Vec<&str> = inputs.iter().map(|input| &*input.document.text).collect();
            let foreign = foreign::error(&texts);
            Err(foreign.unwrap_or_else(unknown).at(place()))
        }
        [(first, of_first), (second, of_second), ..] if of_first.len() == of_second.len() => {
            let why = |signs: &[String]| signs.first().cloned().unwrap_or_default();
            let message = format!(
                "this may be {} ({}) or {} ({})",
                first.name,
                why(of_first),
                second.name,
                why(of_second)
            );
            Err(Error::config(message).at(place()).with_hint(choose))
        }
        [(dialect, _), ..] => is_alone(dialect, inputs).map(|()| *dialect),
    }
}

/// A file of another dialect among those of one would lose what it says. To a file of pg_exporter without a key of its own,
/// postgres_exporter's signs are the only ones.
fn is_alone(dialect: &ImportDialect, inputs: &[Input]) -> Result<(), Error> {
    for input in inputs.iter().filter(|input| (dialect.signs)(&input.tree).is_empty()) {
        let others = DIALECTS.iter().filter(|other| {
            (dialect.name, other.name) != (pg_exporter::DIALECT.name, postgres_exporter::DIALECT.name)
        });
        let other = others
            .into_iter()
            .find_map(|other| Some((other.name, (other.signs)(&input.tree).into_iter().next()?)));
        if let Some((name, why)) = other {
            let message = format!("this is {name} ({why}), another file is {}", dialect.name);
            let place = input.document.place(input.at, &input.path);
            let hint = "convert the files of one dialect at a time, or name the dialect with --from";
            return Err(Error::config(message).at(place).with_hint(hint));
        }
    }
    Ok(())
}

/// Whether a tree is one of this dialect, or of any.
pub(super) fn is_recognised(dialect: Option<&ImportDialect>, tree: &Node) -> bool {
    match dialect {
        Some(dialect) => !(dialect.signs)(tree).is_empty(),
        None => DIALECTS.iter().any(|dialect| !(dialect.signs)(tree).is_empty()),
    }
}

/// The entries of a mapping; none for anything else.
pub(super) fn entries(node: &Node) -> &[MapEntry] {
    match &node.value {
        NodeValue::Map(entries) => entries,
        _ => &[],
    }
}

/// The items of a list; none for anything else.
pub(super) fn items(node: &Node) -> &[Node] {
    match &node.value {
        NodeValue::List(items) => items,
        _ => &[],
    }
}

/// The text of a scalar; none for anything else.
pub(super) fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        NodeValue::Scalar(text) => Some(text),
        _ => None,
    }
}

/// The value of a key of a mapping.
pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    entries(node).iter().find(|entry| entry.key == key).map(|entry| &entry.node)
}
