//! What a reader wants to see, and in which order: `/?search=TEXT&sort=ORDER`. What is not known or not understood is the
//! whole list, the worst first.

use std::cmp::Reverse;

use crate::config::route_prefix::RoutePrefix;

use super::TargetView;

/// Characters that are searched for; more are cut off.
pub(super) const MAX_SEARCH: usize = 100;

/// The order of targets, and of the queries in each. Where two are alike, that of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// The worst first.
    #[default]
    Failure,
    /// The slowest first: by the last scrape of a target, and by the last run of a query.
    Duration,
    /// Those with the most series first.
    Series,
    /// By name.
    Name,
}

impl Sort {
    pub(super) const ALL: [Sort; 4] = [Sort::Failure, Sort::Duration, Sort::Series, Sort::Name];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Sort::Failure => "failure",
            Sort::Duration => "duration",
            Sort::Series => "series",
            Sort::Name => "name",
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// What is searched for, as typed.
    pub(super) search: String,
    pub(super) sort: Sort,
}

impl Listing {
    /// Of a request's query.
    pub(super) fn of(query: &[(String, String)]) -> Listing {
        let value = |key: &str| query.iter().find(|(known, _)| known == key).map(|(_, value)| value.trim());
        let search = value("search").unwrap_or_default().chars().take(MAX_SEARCH).collect();
        let sort =
            Sort::ALL.into_iter().find(|sort| Some(sort.as_str()) == value("sort")).unwrap_or_default();
        Listing { search, sort }
    }

    /// Keeps the targets whose text holds all words of the search, in any case, and puts these and their queries in order.
    pub(super) fn apply(&self, targets: &mut Vec<TargetView>) {
        let search = self.search.to_lowercase();
        let words: Vec<&str> = search.split_whitespace().collect();
        if !words.is_empty() {
            targets.retain(|target| {
                let text = target.text().to_lowercase();
                words.iter().all(|word| text.contains(word))
            });
        }
        let queries = targets.iter_mut().map(|target| &mut target.queries);
        match self.sort {
            Sort::Failure => queries.for_each(|queries| queries.sort_by_key(|query| query.failure.is_none())),
            Sort::Duration => queries.for_each(|queries| queries.sort_by_key(|query| Reverse(query.took))),
            Sort::Series => queries.for_each(|queries| queries.sort_by_key(|query| Reverse(query.series))),
            Sort::Name => queries.for_each(|queries| queries.sort_by(|one, other| one.name.cmp(&other.name))),
        }
        match self.sort {
            Sort::Failure => targets.sort_by_key(TargetView::rank),
            Sort::Duration => targets.sort_by_key(|target| Reverse(target.took())),
            Sort::Series => targets.sort_by_key(|target| Reverse(target.series())),
            Sort::Name => targets.sort_by(|one, other| one.name.cmp(&other.name)),
        }
    }

    /// The page with this search in another order.
    pub(super) fn link(&self, prefix: &RoutePrefix, sort: Sort) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("search", &self.search);
        }
        if sort != Sort::default() {
            query.append_pair("sort", sort.as_str());
        }
        let query = query.finish();
        prefix.path(&if query.is_empty() { "/".to_owned() } else { format!("/?{query}") })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{QueryView, TargetState};
    use super::*;
    use crate::engine::scrape_times::PastScrape;

    fn listing(pairs: &[(&str, &str)]) -> Listing {
        let pairs: Vec<_> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Listing::of(&pairs)
    }

    fn target(name: &str, state: TargetState, millis: Option<u64>, series: &[Option<u64>]) -> TargetView {
        let queries = series.iter().zip(["m", "z", "a"]).map(|(series, name)| QueryView {
            name: name.to_owned(),
            series: *series,
            took: series.map(Duration::from_secs),
            ..QueryView::default()
        });
        let mut target =
            TargetView { name: name.to_owned(), state, queries: queries.collect(), ..TargetView::default() };
        if let Some(millis) = millis {
            let took = Duration::from_millis(millis);
            target.scrapes.push(PastScrape { took, failed: false });
        }
        target
    }

    fn targets() -> Vec<TargetView> {
        vec![
            target("Shop", TargetState::Up, Some(5), &[Some(1), Some(7), None]),
            target("new", TargetState::New, None, &[]),
            target("slow", TargetState::Up, Some(900), &[Some(1)]),
            target("down", TargetState::Down, Some(100), &[Some(3), Some(4)]),
            target("alike", TargetState::Up, Some(5), &[Some(1)]),
        ]
    }

    fn shown(pairs: &[(&str, &str)]) -> String {
        let mut targets = targets();
        listing(pairs).apply(&mut targets);
        targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_order_is_stable_and_an_unknown_one_is_the_worst_first() {
        for (sort, expected) in [
            ("failure", "down Shop slow alike new"),
            ("duration", "slow down Shop alike new"),
            ("series", "Shop down slow alike new"),
            ("name", "Shop alike down new slow"),
            ("", "down Shop slow alike new"),
            ("age'; DROP", "down Shop slow alike new"),
            ("Duration", "down Shop slow alike new"),
        ] {
            assert_eq!(shown(&[("sort", sort)]), expected, "{sort}");
        }
        assert_eq!(shown(&[]), "down Shop slow alike new");
        assert_eq!(shown(&[("sort", "name"), ("sort", "series")]), "Shop alike down new slow", "the first");
    }

    #[test]
    fn the_queries_of_a_target_are_in_the_same_order() {
        for (sort, expected) in [("failure", "mza"), ("duration", "zma"), ("series", "zma"), ("name", "amz")]
        {
            let mut targets = targets();
            listing(&[("sort", sort)]).apply(&mut targets);
            let shop = targets.iter().find(|target| target.name == "Shop").expect("it is there");
            assert_eq!(shop.queries.iter().map(|query| query.name.as_str()).collect::<String>(), expected);
        }
    }

    #[test]
    fn a_search_is_for_all_words_in_any_case_and_has_an_end() {
        assert_eq!(shown(&[("search", " SHOP  up ")]), "Shop");
        assert_eq!(shown(&[("search", "shop down")]), "");
        assert_eq!(shown(&[("search", "  ")]), "down Shop slow alike new");
        let long = listing(&[("search", &"é".repeat(10_000))]).search;
        assert_eq!(long.chars().count(), MAX_SEARCH);
    }

    #[test]
    fn a_link_keeps_the_search() {
        let link = |pairs, sort| listing(pairs).link(&RoutePrefix::parse("sql").unwrap(), sort);
        assert_eq!(link(&[("sort", "name")], Sort::Failure), "/sql/");
        assert_eq!(link(&[("search", "a&b \"<")], Sort::Failure), "/sql/?search=a%26b+%22%3C");
        assert_eq!(link(&[("search", "a")], Sort::Series), "/sql/?search=a&sort=series");
    }
}
