//! `target_files`: targets that come, change and go with files, whatever state these are in.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::Value;

use crate::checker::checked;
use crate::command::setup;
use crate::exporter::{Exporter, Setup};
use crate::process::poll;

const SQLITE: &str = "driver: sqlite, database: /proc/self/cwd/lite.db";

/// A change counts after this.
const WITHIN: Duration = Duration::from_secs(10);

fn main_file(patterns: &str) -> Setup {
    let text = format!(
        "databases:\n  main: {{{SQLITE}}}\ntarget_files: {patterns}\nqueries:\n  - {{name: dice, databases: ['**'], \
         sql: SELECT abs(random() / 2) AS value, interval: 1h, metrics: [{{name: dice}}]}}\n"
    );
    setup(&text).file("lite.db", "")
}

fn entries(names: &[&str]) -> String {
    let entries = names.iter().map(|name| format!("  {name}: {{{SQLITE}, labels: {{env: x}}}}\n"));
    if names.is_empty() {
        "databases: {}\n".to_owned()
    } else {
        format!("databases:\n{}", entries.collect::<String>())
    }
}

/// The names that `/sd` lists.
fn listed(exporter: &Exporter) -> BTreeSet<String> {
    let entries: Value = serde_json::from_str(exporter.get("/sd").text()).expect("JSON");
    let entries = entries.as_array().expect("a list");
    entries.iter().map(|entry| entry["labels"]["instance"].as_str().expect("a name").to_owned()).collect()
}

fn wait_for(exporter: &Exporter, names: &[&str]) {
    let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    poll(&format!("{names:?} in /sd\n{}", exporter.log()), WITHIN, || {
        std::thread::sleep(Duration::from_millis(50));
        (listed(exporter) == wanted).then_some(())
    });
}

fn write(exporter: &Exporter, path: &str, text: &str) {
    std::fs::write(exporter.file(path), text).expect("written");
}

/// The row of a file.
fn success(exporter: &Exporter, path: &str) -> Option<f64> {
    let page = checked(exporter.get("/-/metrics").text());
    let rows = page.series("sql_exporter_target_file_success");
    rows.iter().find(|row| row.labels["file"].ends_with(path)).map(|row| row.value)
}

fn times(exporter: &Exporter, text: &str) -> usize {
    exporter.log().matches(text).count()
}

#[test]
fn targets_come_change_and_go_with_files_and_the_others_stay_as_they_are() {
    let exporter = main_file("[targets/*.yaml]").file("targets/a.yaml", &entries(&["one", "two"])).serve();
    let dice = |target: &str| checked(&exporter.metrics()).value("dice", &[("target", target), ("env", "x")]);
    assert_eq!(listed(&exporter), ["main", "one", "two"].map(str::to_owned).into());
    let (one, two) = (dice("one"), dice("two"));
    assert!(one.is_some() && two.is_some());

    write(&exporter, "targets/b.yaml", &entries(&["three"]));
    wait_for(&exporter, &["main", "one", "two", "three"]);
    assert_eq!((dice("one"), dice("two")), (one, two), "what did not change keeps its results");
    assert!(dice("three").is_some());

    let changed = entries(&["one"]) + &format!("  two: {{{SQLITE}, labels: {{env: y}}}}\n");
    write(&exporter, "targets/a.yaml", &changed);
    poll("the other label", WITHIN, || {
        checked(&exporter.metrics()).value("dice", &[("target", "two"), ("env", "y")])
    });
    assert_eq!(dice("one"), one);
    assert_eq!(dice("two"), None, "the old label is gone");

    std::fs::remove_file(exporter.file("targets/a.yaml")).expect("removed");
    wait_for(&exporter, &["main", "three"]);
    assert_eq!(exporter.get("/probe?target=one").status, 400);
    write(&exporter, "targets/b.yaml", &entries(&[]));
    wait_for(&exporter, &["main"]);
    assert_eq!(success(&exporter, "targets/a.yaml"), None, "a file that is gone has no row");
    assert_eq!(success(&exporter, "targets/b.yaml"), Some(1.0));
    let text = exporter.metrics();
    assert!(!text.contains("target=\"three\""), "{text}");
}

#[test]
fn a_broken_file_keeps_its_last_good_targets_and_says_once_why() {
    let exporter = main_file("targets/*.yaml")
        .file("targets/a.yaml", &entries(&["one"]))
        .file("targets/b.yaml", &entries(&["two"]))
        .serve();
    for (broken, why) in [
        (
            "databases:\n  one: {driver: sqlite, database: x, labls: {}}\n",
            "a.yaml:2:38: databases.one.labls: unknown key",
        ),
        ("databases: {one: {driver: sql", "targets/a.yaml:1:"),
        ("", "targets/a.yaml: the file is empty"),
        ("# nothing\nqueries: []\n", "a.yaml:1:1: has no `databases`"),
    ] {
        write(&exporter, "targets/a.yaml", broken);
        poll("the fault to be seen", WITHIN, || {
            (success(&exporter, "targets/a.yaml") == Some(0.0)).then_some(())
        });
        exporter.wait_for_log(why);
        assert_eq!(listed(&exporter), ["main", "one", "two"].map(str::to_owned).into(), "{broken:?}");
        assert_eq!(success(&exporter, "targets/b.yaml"), Some(1.0));
        // Others still change.
        for name in ["three", "two"] {
            write(&exporter, "targets/b.yaml", &entries(&[name]));
            wait_for(&exporter, &["main", "one", name]);
        }
        assert_eq!(times(&exporter, why), 1, "{}", exporter.log());
        // A reload knows it as well.
        assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
        assert_eq!(listed(&exporter), ["main", "one", "two"].map(str::to_owned).into(), "{broken:?}");
        write(&exporter, "targets/a.yaml", &entries(&["one"]));
        poll("the file to be good", WITHIN, || {
            (success(&exporter, "targets/a.yaml") == Some(1.0)).then_some(())
        });
    }
    exporter.wait_for_log("targets/a.yaml is used again");
}

/// A prefix of a file is often a whole file for YAML.
#[test]
fn a_file_that_is_being_written_is_not_read() {
    let exporter = main_file("targets/*.yaml").file("targets/a.yaml", &entries(&["one"])).serve();
    let text = entries(&["one", "two", "three", "four"]);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for end in 1..=lines.len() {
        write(&exporter, "targets/a.yaml", &lines[..end].concat());
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(600) {
            let names = listed(&exporter);
            assert_eq!(names.len(), 2, "half a file: {names:?}");
        }
    }
    wait_for(&exporter, &["main", "one", "two", "three", "four"]);
}

#[test]
fn of_two_files_with_one_name_the_later_one_is_at_fault() {
    let exporter = main_file("targets/*.yaml").file("targets/b.yaml", &entries(&["one", "two"])).serve();
    // Later in time, though first by name.
    write(&exporter, "targets/a.yaml", &entries(&["three", "two"]));
    poll("the fault to be seen", WITHIN, || {
        (success(&exporter, "targets/a.yaml") == Some(0.0)).then_some(())
    });
    exporter.wait_for_log("another target is called \"two\", at ");
    assert_eq!(listed(&exporter), ["main", "one", "two"].map(str::to_owned).into());
    assert_eq!(success(&exporter, "targets/b.yaml"), Some(1.0));
    // With the main file, too.
    write(&exporter, "targets/c.yaml", &entries(&["main"]));
    poll("the fault to be seen", WITHIN, || {
        (success(&exporter, "targets/c.yaml") == Some(0.0)).then_some(())
    });
    // What was refused is good once the other one has gone.
    std::fs::remove_file(exporter.file("targets/b.yaml")).expect("removed");
    wait_for(&exporter, &["main", "two", "three"]);
    assert_eq!(success(&exporter, "targets/a.yaml"), Some(1.0));
}

/// As the kubelet does it: files are links into a folder behind a link that is replaced.
#[test]
fn a_config_map_that_is_swapped_counts() {
    let setup = main_file("/proc/self/cwd/map/*.yaml")
        .file("map/..v1/a.yaml", &entries(&["one"]))
        .file("map/..v2/a.yaml", &entries(&["two"]))
        .file("map/..v2/b.yaml", &entries(&["three"]));
    symlink("..v1", setup.path().join("map/..data")).expect("linked");
    symlink("..data/a.yaml", setup.path().join("map/a.yaml")).expect("linked");
    let exporter = setup.serve();
    assert_eq!(listed(&exporter), ["main", "one"].map(str::to_owned).into());
    symlink("..v2", exporter.file("map/..data_tmp")).expect("linked");
    std::fs::rename(exporter.file("map/..data_tmp"), exporter.file("map/..data")).expect("swapped");
    wait_for(&exporter, &["main", "two"]);
    symlink("..data/b.yaml", exporter.file("map/b.yaml")).expect("linked");
    wait_for(&exporter, &["main", "two", "three"]);
    assert_eq!(checked(&exporter.metrics()).series("dice").len(), 3);
}

#[test]
fn commands_and_pages_know_targets_of_files() {
    let files = || main_file("[targets/*.yaml]").file("targets/a.yaml", &entries(&["one"]));
    let once = files().once();
    assert_eq!(once.code(), 0, "{}", once.errors());
    assert!(checked(once.text()).value("dice", &[("target", "one")]).is_some());
    for arguments in [&["check"][..], &["test"], &["try", "--target", "one", "--query", "dice"]] {
        let output = files().args(arguments).output();
        assert_eq!(output.code(), 0, "{arguments:?}: {}{}", output.text(), output.errors());
        assert!(arguments[0] == "check" || output.text().contains("one"), "{}", output.text());
    }
    let broken = || files().file("targets/b.yaml", "databases: {two: {driver: sqlit, database: x}}\n");
    let checked_file = broken().args(&["check"]).output();
    assert_eq!(checked_file.code(), 2);
    assert!(
        checked_file.text().contains("b.yaml:1:27: databases.two.driver: there is no driver"),
        "{}",
        checked_file.text()
    );
    for (arguments, code) in [
        (&["collect"][..], 1),
        (&["test"], 1),
        (&["collect", "--target", "one"], 0),
        (&["test", "--target", "one"], 0),
    ] {
        let output = broken().args(arguments).output();
        assert_eq!(output.code(), code, "{arguments:?}: {}", output.errors());
        assert!(output.errors().contains("a target file is not used as it is now"), "{}", output.errors());
    }
    let exporter = files().serve();
    for path in ["/", "/config"] {
        assert!(exporter.get(path).text().contains("one"), "{path}");
    }
}

#[test]
fn a_file_that_is_missing_or_too_many_files_are_told() {
    let exporter = main_file("[targets/*.yaml, more.yaml]").serve();
    assert_eq!(success(&exporter, "more.yaml"), Some(0.0));
    exporter.wait_for_log("more.yaml: there is no such file");
    write(&exporter, "more.yaml", &entries(&["one"]));
    wait_for(&exporter, &["main", "one"]);
    assert_eq!(success(&exporter, "more.yaml"), Some(1.0));
    std::fs::create_dir(exporter.file("targets")).expect("made");
    for number in 0..1001 {
        write(&exporter, &format!("targets/{number}.yaml"), &entries(&[&format!("t{number}")]));
    }
    poll("the number to be told", WITHIN, || {
        listed(&exporter);
        exporter
            .get("/-/metrics")
            .text()
            .contains("sql_exporter_target_file_success{file=\".\"} 0")
            .then_some(())
    });
    assert_eq!(listed(&exporter), ["main", "one"].map(str::to_owned).into());
    for number in [0, 1] {
        std::fs::remove_file(exporter.file(&format!("targets/{number}.yaml"))).expect("removed");
    }
    poll("a thousand files", WITHIN * 3, || (listed(&exporter).len() == 1001).then_some(()));
}

#[test]
fn a_link_that_leads_nowhere_is_told_until_it_leads_somewhere_or_goes() {
    let setup = main_file("[targets/*.yaml]").file("targets/a.yaml", &entries(&["one"]));
    let link = |name: &str| symlink("../elsewhere.yaml", setup.path().join(name)).expect("linked");
    link("targets/b.yaml");
    link("targets/c.yaml");
    let exporter = setup.serve();
    exporter.wait_for_log("targets/b.yaml: there is no such file");
    assert_eq!(success(&exporter, "b.yaml"), Some(0.0));
    std::fs::remove_file(exporter.file("targets/c.yaml")).expect("removed");
    let told = || {
        listed(&exporter);
        success(&exporter, "c.yaml").is_none().then_some(())
    };
    poll("the link that is gone is not told of", WITHIN, told);
    write(&exporter, "elsewhere.yaml", &entries(&["two"]));
    wait_for(&exporter, &["main", "one", "two"]);
    assert_eq!(success(&exporter, "b.yaml"), Some(1.0));
}

#[test]
fn without_a_place_to_run_a_query_is_refused_where_targets_may_come() {
    let text = "target_files: [targets/*.yaml]\nqueries:\n  - {name: q, sql: SELECT 1 AS value, metrics: [{name: m}]}\n";
    let output = setup(text).file("targets/a.yaml", &entries(&["one"])).args(&["check"]).output();
    assert_eq!(output.code(), 2);
    assert!(output.text().contains("query q does not say where it runs"), "{}", output.text());
    let alone = setup(&text.replace("name: q,", "name: q, databases: ['**'],"));
    let once = alone.file("lite.db", "").file("targets/a.yaml", &entries(&["one"])).once();
    assert_eq!(once.code(), 0, "{}", once.errors());
    let none = setup("target_files: [targets/*.yaml]\n").args(&["--once"]).output();
    assert_eq!(none.code(), 0, "{}", none.errors());
}

/// An empty folder is not a mistake: the targets come later. Once there are some, a name that none of them has is worth a warning.
#[test]
fn an_empty_folder_passes_a_strict_check() {
    for name in ["app-*", "app-1"] {
        let text = format!(
            "databases:\n  main: {{{SQLITE}}}\ntarget_files: [targets/*.yaml]\nqueries:\n  - {{name: q, databases: [{name}], \
             sql: SELECT 1 AS value, metrics: [{{name: m, help: M.}}]}}\n"
        );
        let check = |setup: Setup| setup.args(&["check", "--strict"]).output();
        let empty = check(setup(&text));
        assert_eq!((empty.code(), empty.text()), (0, "0 errors, 0 warnings in 1 file: 1 target, 1 query\n"));
        let others = check(setup(&text).file("targets/a.yaml", &entries(&["other"])));
        assert_eq!(others.code(), 1, "{}", others.text());
        let there = check(setup(&text).file("targets/a.yaml", &entries(&["app-1"])));
        assert_eq!(there.code(), 0, "{}", there.text());
    }
}

#[test]
fn defaults_are_for_targets_that_are_all_still_to_come() {
    let text = format!(
        "defaults: {{database: {{{SQLITE}, labels: {{team: x}}, max_connections: 2, overrides: {{q: {{timeout: 1s}}}}}}}}\n\
         target_files: [targets/*.yaml]\nqueries:\n  - {{name: q, databases: ['*'], sql: SELECT 1 AS value, metrics: [{{name: m}}]}}\n"
    );
    let exporter = setup(&text).file("lite.db", "").file("targets/a.yaml", &entries(&[])).serve();
    wait_for(&exporter, &[]);
    write(&exporter, "targets/a.yaml", "databases: {app: {}}\n");
    wait_for(&exporter, &["app"]);
    let page = checked(&exporter.metrics());
    assert_eq!(page.value("m", &[("target", "app"), ("team", "x")]), Some(1.0));
    write(&exporter, "targets/a.yaml", &entries(&[]));
    wait_for(&exporter, &[]);
    let slip = setup(&text.replace("labels:", "label:")).args(&["check"]).output();
    assert!(
        slip.text().contains("defaults.database.label: unknown key; did you mean `labels`?"),
        "{}",
        slip.text()
    );
}

/// The queries of a main file without targets go together or not only where a target runs them.
#[test]
fn a_reload_whose_fault_only_targets_of_files_show_changes_nothing() {
    let query = |name: &str, labels: &str| {
        format!(
            "  - {{name: {name}, databases: ['*'], sql: SELECT 1 AS value, metrics: [{{name: m, labels: [{labels}]}}]}}\n"
        )
    };
    let good = format!("target_files: [targets/*.yaml]\nqueries:\n{}", query("q", ""));
    let setup = setup(&good).file("lite.db", "").file("targets/a.yaml", &entries(&["app"]));
    let exporter = setup.file("targets/b.yaml", &entries(&["other"])).serve();
    wait_for(&exporter, &["app", "other"]);
    write(&exporter, "sql-exporter.yaml", &(good.clone() + &query("r", "b")));
    let reply = exporter.request("POST", "/-/reload", &[]);
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert!(
        reply.text().contains("sql-exporter.yaml:4:")
            && reply.text().contains("one name has one set of labels")
    );
    wait_for(&exporter, &["app", "other"]);
    let page = checked(&exporter.metrics());
    assert_eq!(page.series("m").len(), 2);
    assert_eq!(page.value("sql_exporter_config_last_reload_successful", &[]), Some(0.0));
    assert_eq!((success(&exporter, "a.yaml"), success(&exporter, "b.yaml")), (Some(1.0), Some(1.0)));
    // A target that the main file and a file have is a fault of the file, and the others stay.
    let main = format!("databases: {{app: {{{SQLITE}, labels: {{of: main}}}}}}\n{good}");
    write(&exporter, "sql-exporter.yaml", &main);
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    wait_for(&exporter, &["app", "other"]);
    assert_eq!(checked(&exporter.metrics()).value("m", &[("target", "app"), ("of", "main")]), Some(1.0));
    assert_eq!((success(&exporter, "a.yaml"), success(&exporter, "b.yaml")), (Some(0.0), Some(1.0)));
}

/// What is wrong with the databases of a server is a fault of the file that brings the server, before it is asked.
#[test]
fn a_file_whose_databases_cannot_be_targets_is_refused() {
    let text = "target_files: [targets/*.yaml]\nqueries:\n  - {name: q, databases: ['**'], sql: \"SELECT 1 AS value, 'x' AS owner\", metrics: [{name: m, labels: [owner]}]}\n";
    let server = |labels: &str| {
        format!(
            "databases:\n  srv: {{url: 'postgres://u@127.0.0.1:1/x', tls: {{mode: disable}}, discover: {{sql: SELECT 1 AS database, labels: {labels}}}}}\n"
        )
    };
    let exporter = setup(text).file("targets/a.yaml", &server("[]")).serve();
    assert_eq!(listed(&exporter), ["srv".to_owned()].into());
    write(&exporter, "targets/a.yaml", &server("[owner]"));
    poll("the fault to be seen", WITHIN, || {
        (success(&exporter, "targets/a.yaml") == Some(0.0)).then_some(())
    });
    exporter.wait_for_log("targets/a.yaml: metric m: target srv/<database> has the label owner too");
    assert_eq!(listed(&exporter), ["srv".to_owned()].into());
    write(&exporter, "targets/a.yaml", &server("[owned_by]"));
    poll("the file to be good", WITHIN, || (success(&exporter, "targets/a.yaml") == Some(1.0)).then_some(()));
}

#[test]
fn targets_of_files_count_for_the_defaults_that_depend_on_how_many_there_are() {
    let many = |names: std::ops::Range<usize>| {
        let entry = |n| format!("  d{n}: {{driver: postgres, host: db.invalid, database: d{n}}}\n");
        format!("databases:\n{}", names.map(entry).collect::<String>())
    };
    let exporter = main_file("[targets/*.yaml]").file("targets/a.yaml", &many(0..300)).serve();
    let shown = exporter.get("/config").text().to_owned();
    for part in ["max_workers: 75", "max_connections: 602"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let own = |name: &str, labels: &[(&str, &str)]| {
        checked(exporter.get("/-/metrics").text()).value(&format!("sql_exporter_{name}"), labels)
    };
    assert_eq!(own("sessions_limit", &[("target", "d7")]), Some(1.0));
    assert_eq!(own("sessions_limit", &[("target", "main")]), Some(3.0));
    assert_eq!(own("workers_limit", &[]), Some(75.0));
    write(&exporter, "targets/b.yaml", &many(300..400));
    poll("more workers", WITHIN, || {
        std::thread::sleep(Duration::from_millis(50));
        (own("workers_limit", &[]) == Some(100.0)).then_some(())
    });
}
