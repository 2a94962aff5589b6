//! `discover` of a target: further targets, one for each database that a query on the target lists.
//!
//! Owns the key and what a row of the list is. Knows no session: who runs the query hands the list back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Endpoint, Sql};
use crate::error::SourcePosition;
use crate::name::LabelName;
use crate::yaml::keys::{Keys, Origin};
use crate::yaml::writer::{YamlValue, digest_of};

use super::query::Query;
use super::selection::CollectorSelection;
use super::settings::{above_zero, at_most};
use super::target::{TargetEntry, sessions};

/// The name of the query, in messages.
const QUERY_NAME: &str = "discover";
/// The column that names a database.
pub const DATABASE_COLUMN: &str = "database";
/// A list with more rows than this fails.
const MAX_ROWS: u16 = 10_000;
/// A name or a label with more bytes than this is not served.
pub const MAX_NAME_BYTES: usize = 1024;

/// How a target finds databases of its server.
#[derive(Clone)]
pub struct Discover {
    /// The query that lists them; its `interval` is how old the list may be.
    pub query: Arc<Query>,
    /// Columns that become labels.
    pub labels: Vec<LabelName>,
    /// The most databases; the first by name are served.
    pub max: usize,
    /// The most sessions of all of them together.
    pub max_connections: u32,
    /// The collectors that run there; those of the target itself where it selects none.
    pub(super) collectors: CollectorSelection,
    /// Where `labels` stands.
    pub labels_place: SourcePosition,
}

/// One database of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundDatabase {
    /// Its name on the server.
    pub name: String,
    /// The values of [`Discover::labels`], in their order.
    pub labels: Vec<String>,
}

/// The databases of one target, by name, each once.
pub type DatabaseList = Arc<[FoundDatabase]>;

/// The databases that were found, by the name of the target that lists them.
pub type DatabaseLists = BTreeMap<String, DatabaseList>;

/// Where a target comes from that was discovered.
#[derive(Debug, Clone)]
pub struct DiscoveredBy {
    /// The name of the target that lists it.
    pub target: String,
    /// The most sessions of all that were discovered by it.
    pub max_connections: u32,
}

/// True where a target, or one of the databases that it finds (`srv/db` of `srv`), is among `wanted`, or all are.
pub fn is_meant(wanted: &[String], target: &str) -> bool {
    let is_its = |name: &String| {
        name.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    wanted.is_empty() || wanted.iter().any(is_its)
}

impl FoundDatabase {
    /// False for a name or a label that cannot be shown on a page.
    fn can_be_served(&self) -> bool {
        let is_long = self.labels.iter().chain([&self.name]).any(|text| text.len() > MAX_NAME_BYTES);
        !is_long && !self.name.trim().is_empty() && !self.name.chars().any(char::is_control)
    }
}

impl Discover {
    /// Takes the key `discover` of an entry with this endpoint and these labels. Faults are recorded.
    pub(super) fn read(
        keys: &mut Keys<'_>,
        endpoint: Option<&dyn Endpoint>,
        own_labels: &[(LabelName, String)],
    ) -> Option<Arc<Discover>> {
        let origin = keys.origin("discover");
        let mut inner = keys.inner("discover")?;
        let (sql, place, labels_place) = (inner.literal("sql"), inner.place("sql"), inner.place("labels"));
        let labels = labels(&mut inner, own_labels);
        let interval = above_zero(&mut inner, "interval").unwrap_or(Duration::from_secs(300));
        let max =
            at_most(&mut inner, "max", MAX_ROWS.into(), "databases that a list can have").unwrap_or(200);
        let max_connections = sessions(&mut inner, "max_connections").unwrap_or(10);
        let collectors = CollectorSelection::read(&mut inner);
        let default = endpoint.and_then(Endpoint::databases_sql);
        if let (Some(origin), Some(endpoint)) = (origin, endpoint) {
            let refused = sql.as_deref().and_then(|sql| endpoint.allows()?.check(sql).err());
            if default.is_none() && origin == Origin::Own {
                let hint = "`discover` is for PostgreSQL, MySQL and MariaDB";
                keys.fault_with_hint("discover", "this driver has no databases to discover", hint);
            } else if let Some(error) = refused {
                let hint = error.hint().unwrap_or("write one SELECT");
                inner.fault_with_hint("sql", error.message(), hint);
            }
        }
        inner.finish();
        let sql = sql.as_deref().map(Sql::new).filter(|_| default.is_some()).or(default);
        let query = query(sql.filter(|_| origin.is_some())?, interval, &labels, max, place);
        Some(Arc::new(Discover { query, labels, max, max_connections, collectors, labels_place }))
    }

    /// The target of one database that `parent` lists; `None` where the driver opens no other database.
    pub(super) fn child(&self, parent: &TargetEntry, found: &FoundDatabase) -> Option<TargetEntry> {
        let endpoint = parent.endpoint.as_ref()?.with_database(&found.name)?;
        let mut config = parent.config.clone();
        config.name = format!("{}/{}", parent.name, found.name);
        config.labels.extend(self.labels.iter().cloned().zip(found.labels.iter().cloned()));
        config.labels.sort();
        if !self.labels.is_empty() {
            config.source.labels = self.labels_place.clone();
        }
        config.max_connections = config.max_connections.min(self.max_connections);
        config.discovered_by =
            Some(DiscoveredBy { target: parent.name.clone(), max_connections: self.max_connections });
        config.discover = None;
        config.redacted = redacted(&parent.redacted, &endpoint.redacted_url(), &parent.name, &found.name);
        config.endpoint = Some(endpoint);
        config.connection = digest_of(&[&config.connection, found.name.as_bytes()]);
        config.digest = digest_of(&[&config.digest, format!("{found:?}").as_bytes()]);
        let collectors = match self.collectors.is_empty() {
            true => parent.collectors.clone(),
            false => self.collectors.clone(),
        };
        Some(TargetEntry {
            config,
            collectors,
            overrides: parent.overrides.clone(),
            has_own_max_connections: parent.has_own_max_connections,
            driver_place: parent.driver_place.clone(),
        })
    }

    /// The databases that are served of those that the query returned, and how many are not: beyond `max`, or with a name
    /// or a label that cannot be shown.
    pub fn choose(&self, mut found: Vec<FoundDatabase>) -> (DatabaseList, usize) {
        found.sort_unstable();
        found.dedup_by(|one, other| one.name == other.name);
        let all = found.len();
        found.retain(FoundDatabase::can_be_served);
        found.truncate(self.max);
        let dropped = all - found.len();
        (found.into(), dropped)
    }
}

fn labels(keys: &mut Keys<'_>, own: &[(LabelName, String)]) -> Vec<LabelName> {
    let mut labels = Vec::new();
    for text in keys.texts("labels").unwrap_or_default() {
        match LabelName::new(&text) {
            Ok(label) if labels.contains(&label) => keys.fault("labels", format!("{text:?} is there twice")),
            Ok(label) if own.iter().any(|(known, _)| *known == label) => {
                let message = format!("the target's own `labels` have {text:?} too");
                keys.fault_with_hint("labels", message, "give one of them another name");
            }
            Ok(label) => labels.push(label),
            Err(message) => keys.fault("labels", message),
        }
    }
    labels
}

fn query(
    sql: Sql,
    interval: Duration,
    labels: &[LabelName],
    max: usize,
    place: SourcePosition,
) -> Arc<Query> {
    let place = Arc::new(place);
    let digest = digest_of(&[sql.text().as_bytes(), format!("{labels:?} {max}").as_bytes()]);
    Arc::new(Query {
        name: QUERY_NAME.into(),
        sql: Arc::new(sql),
        interval,
        max_rows: MAX_ROWS.into(),
        place: Arc::clone(&place),
        sql_place: place,
        digest,
        ..Query::default()
    })
}

/// The entry of the target that lists it, with its own address.
fn redacted(of_parent: &YamlValue, url: &str, parent: &str, name: &str) -> YamlValue {
    let mut redacted = of_parent.clone();
    let mut has_url = false;
    redacted.retain(|key, _| key != "discover" && key != "url_file");
    for key in ["url", "connection_string"] {
        has_url |= redacted.set(key, YamlValue::text(url), false);
    }
    redacted.set("database", YamlValue::text(name), !has_url);
    redacted.set("discovered_by", YamlValue::text(parent), true);
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover(max: usize) -> Discover {
        Discover {
            query: Arc::default(),
            labels: Vec::new(),
            max,
            max_connections: 1,
            collectors: CollectorSelection::default(),
            labels_place: SourcePosition::default(),
        }
    }

    fn found(names: &[&str]) -> Vec<FoundDatabase> {
        names.iter().map(|name| FoundDatabase { name: (*name).to_owned(), labels: Vec::new() }).collect()
    }

    #[test]
    fn the_first_by_name_are_served_each_once_and_the_others_are_counted() {
        let (list, dropped) = discover(3).choose(found(&["d", "b", "a", "b", "c", "e"]));
        assert_eq!((&*list, dropped), (&*found(&["a", "b", "c"]), 2));
        assert_eq!(discover(3).choose(Vec::new()).1, 0);
    }

    #[test]
    fn names_that_cannot_be_shown_are_counted_and_any_others_are_served() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        let names = ["*", "a/b", "ü", "a\nb", "a\u{7f}", " ", "", &long, "{\"'\\"];
        let (list, dropped) = discover(9).choose(found(&names));
        assert_eq!((list.len(), dropped), (4, 5), "{list:?}");
        let labelled = FoundDatabase { name: "a".to_owned(), labels: vec![long.clone()] };
        assert_eq!(discover(9).choose(vec![labelled]).1, 1);
    }
}
