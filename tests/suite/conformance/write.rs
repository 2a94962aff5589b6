//! Attempts to write, and to get rid of what stops them.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sql_exporter::error::Reason;

use super::bench::{Bench, Query};
use super::subject::Subject;

/// Each of `attempts` fails for `reason` and leaves the database as it was. `{file}` stands for the path of a file
/// that anybody could make.
pub(super) fn refused<S: Subject>(attempts: &[&str], reason: Reason) {
    let subject = S::fresh();
    subject.run(S::SHOP);
    let folder = crate::process::folder();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("open to all");
    let file = folder.path().join("written");
    let sql = |attempt: &&str| attempt.replace("{file}", &file.display().to_string());
    let name = |at: usize| format!("attempt{at}");
    let entry = subject.entry(&[("max_connections", "1")]);
    let attempts: Vec<String> = attempts.iter().map(sql).filter(|sql| !subject.lacks(sql)).collect();
    // What is refused when the configuration is loaded never gets to a session; there it is refused once more.
    let before = subject.ask(S::STATE);
    let (told, attempts): (Vec<String>, Vec<String>) =
        attempts.into_iter().partition(|sql| Bench::refuses(&entry, &Query::new("attempt", sql)));
    let bench = Bench::new(&entry, &[]);
    for sql in told {
        assert_eq!(bench.run_in_a_session(&sql).reason(), subject.refusal(&sql, reason), "{sql}");
        assert_eq!(subject.ask(S::STATE), before, "{sql}");
        assert!(!file.exists(), "{sql} wrote a file");
    }
    let queries =
        attempts.iter().enumerate().map(|(at, sql)| Query::new(&name(at), sql).metrics(&any_row(&name(at))));
    let bench = Bench::new(&entry, &queries.collect::<Vec<_>>());
    for (at, sql) in attempts.iter().enumerate() {
        bench.only(&name(at)).failed(&name(at), subject.refusal(sql, reason));
        assert_eq!(subject.ask(S::STATE), before, "{sql}");
        assert!(!file.exists(), "{sql} wrote a file");
    }
    // Nor together, in one session and as one batch.
    let seen = bench.scrape();
    for (at, sql) in attempts.iter().enumerate() {
        seen.failed(&name(at), subject.refusal(sql, reason));
    }
    assert_eq!(subject.ask(S::STATE), before);
    assert!(!file.exists());
}

/// A metric that any result makes, whatever its columns are called: only an error keeps it off the page.
fn any_row(name: &str) -> String {
    format!("{{name: {name}, value: 1, duplicates: first}}")
}

/// Whatever each of `changes` does to its session, where it is not refused for the reason beside it: the next query
/// there cannot write and has its deadline.
pub(super) fn session_change<S: Subject>(changes: &[(&str, Option<Reason>)]) {
    let subject = S::fresh();
    subject.run(S::SHOP);
    let before = subject.ask(S::STATE);
    for (change, refused) in changes {
        for (next, sql, reason) in
            [("write", S::WRITING, Reason::ReadOnly), ("endless", S::ENDLESS, Reason::Timeout)]
        {
            let queries = [
                Query::new("change", change).metrics(&any_row("change")),
                Query::new(next, sql).with("timeout: 300ms"),
            ];
            let bench = Bench::new(&subject.entry(&[("max_connections", "1")]), &queries);
            let seen = bench.only("change");
            match refused {
                Some(reason) => drop(seen.failed("change", *reason).to_string()),
                None => drop(seen.value("change")),
            }
            let seen = bench.only(next);
            seen.failed(next, reason);
            assert!(seen.took < Duration::from_secs(10), "after {change}: {:?}", seen.took);
            assert_eq!(subject.ask(S::STATE), before, "after {change}");
        }
    }
}
