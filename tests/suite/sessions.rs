//! What a target does with the sessions that it has, over a scripted database: what is prepared, what runs together,
//! what runs again.

use sql_exporter::error::Reason;
use sql_exporter::scrape::Verdict;

use crate::fault::{Act, Call, Fault};
use crate::scrape::{LONG, fails, fleet_with, scraped, success};

/// Queries `q1`, `q2` … of different SQL on target `a`.
fn queries(count: usize) -> String {
    let query = |n| {
        format!(
            "  - {{name: q{n}, database: a, sql: SELECT {n}, metrics: [{{name: q{n}_value, duplicates: first}}]}}\n"
        )
    };
    (1..=count).map(query).collect()
}

fn statements(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("SELECT {n}")).collect()
}

fn sorted(mut statements: Vec<String>) -> Vec<String> {
    statements.sort();
    statements
}

#[test]
fn first_runs_are_prepared_together_run_alone_and_are_a_group_when_they_were_quick() {
    let fault = Fault::none();
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &format!("queries:\n{}", queries(4)));
    assert_eq!(scraped(&fleet, LONG).1, Verdict::Complete);
    assert_eq!(fault.prepared().into_iter().map(sorted).collect::<Vec<_>>(), [statements(1..=4)]);
    assert_eq!(fault.batches(), [1, 1, 1, 1]);
    assert_eq!(scraped(&fleet, LONG).1, Verdict::Complete);
    assert_eq!(fault.batches(), [1, 1, 1, 1, 4]);
    assert_eq!(fault.prepared().len(), 1, "the session is not a fresh one any more");
}

#[test]
fn a_session_that_dies_while_it_prepares_costs_no_query() {
    let fault = Fault::new(|call| match call {
        Call::Prepare(_) => Act::Lose,
        _ => Act::Rows(1),
    });
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &format!("queries:\n{}", queries(4)));
    assert_eq!(scraped(&fleet, LONG).1, Verdict::Complete, "{:?}", fault.log());
    assert_eq!(fault.prepared().len(), 1, "not tried again on the next session");
}

#[test]
fn a_statement_that_fails_or_does_not_apply_is_not_prepared() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Fail(Reason::Sql),
        Call::Run(6) => Act::Lose,
        _ => Act::Rows(1),
    });
    let other = "  - {name: other, database: a, sql: SELECT 9, when: {version: '>=2'}, metrics: [{name: other_value}]}\n\
                 \x20 - {name: asked, database: a, sql: SELECT 8, when: {sql: SELECT 7}, metrics: [{name: asked_value}]}\n";
    let rest = format!("queries:\n{}{other}", queries(3));
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &rest);
    let (page, _) = scraped(&fleet, LONG);
    let failed: Vec<usize> = (1..=3).filter(|n| fails(&page, "a", &format!("q{n}"), Reason::Sql)).collect();
    let prepared = sorted(fault.prepared().remove(0));
    assert_eq!(prepared, statements(1..=3));
    let [failed] = failed[..] else { panic!("one fails: {failed:?}") };
    // The session dies under the next scrape; what is known to fail is not tried twice on the new one.
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", &format!("q{failed}")), Some(1.0));
    let again = sorted(fault.prepared().pop().expect("a second preparation"));
    assert_eq!(again, statements((1..=3).filter(|n| *n != failed)), "{:?}", fault.log());
}
