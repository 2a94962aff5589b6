//! What cannot be read, what is not known, and where the result goes.

use crate::exporter::Setup;

const QUERIES: &str =
    "shop:\n  query: SELECT 1 AS up\n  metrics:\n    - up: {usage: GAUGE, description: Up}\n";
const MORE: &str =
    "stock:\n  query: SELECT 2 AS n\n  metrics:\n    - n: {usage: GAUGE, description: Units}\n";

fn run(files: &[(&str, &str)], args: &[&str]) -> (i32, String, String) {
    let setup = files.iter().fold(Setup::empty(), |setup, (name, text)| setup.file(name, text));
    let output = setup.args(&["import"]).args(args).output();
    (output.code(), output.text().to_owned(), output.errors().to_owned())
}

#[test]
fn what_cannot_be_read_is_exit_2_with_a_caret() {
    let broken = "shop:\n  query: SELECT 1\n  metrics: [\n";
    let (code, text, errors) = run(&[("broken.yaml", broken)], &["broken.yaml"]);
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(errors.starts_with("error: broken.yaml:4:1: "), "{errors}");
    let repeated = format!("{QUERIES}  query: SELECT 2 AS up\n");
    let (code, _, errors) = run(&[("a.yaml", &repeated)], &["a.yaml"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("left out: a.yaml:5:3: shop.query: repeated key"), "{errors}");
    for (file, text, expected) in [
        ("tab.yaml", "shop:\n\tquery: x\n", "error: tab.yaml:2:1: "),
        ("empty.yaml", "# nothing\n", "error: empty.yaml: the file is empty"),
    ] {
        let (code, _, errors) = run(&[(file, text)], &[file]);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.starts_with(expected), "{errors}");
    }
    let caret = run(&[("tab.yaml", "shop:\n\tquery: x\n")], &["tab.yaml"]).2;
    assert!(caret.contains("\n  | ") && caret.trim_end().ends_with('^'), "{caret}");
    let (code, _, errors) = run(&[], &["none.yaml"]);
    assert_eq!(code, 2);
    assert!(errors.contains("none.yaml: cannot read the file"), "{errors}");
}

#[test]
fn a_dialect_that_is_not_known_is_named_with_the_nearest() {
    let (code, _, errors) = run(&[("q.yaml", QUERIES)], &["--from", "postgres-exporter", "q.yaml"]);
    assert_eq!(code, 2);
    assert!(errors.contains("did you mean `postgres_exporter`?"), "{errors}");
    let (code, _, errors) = run(&[("q.yaml", "a: 1\n")], &["q.yaml"]);
    assert_eq!(code, 2);
    assert!(errors.contains("none of the dialects is recognised; name the dialect with --from"), "{errors}");
    assert_eq!(run(&[], &[]).0, 2);
}

/// What the file is, and what to convert in its place: a dialect that is named with --from would not read it either.
#[test]
fn a_format_that_no_dialect_reads_is_named() {
    for (text, expected) in [
        (
            "// Metrics.\nprometheus.exporter.postgres \"shop\" {\n  data_source_names = [\"postgres://u:swordfish@h/d\"]\n}\n",
            "a configuration of Grafana Alloy",
        ),
        (
            "integrations:\n  postgres_exporter:\n    data_source_names: ['postgres://u:swordfish@h/d']\n",
            "a configuration of Grafana Agent",
        ),
        ("[client]\npassword = swordfish\n[client.shop]\nuser = shop\n", "an option file of MySQL"),
        ("[[metric]]\ncontext = \"a\"\n", "a file of metrics of oracledb_exporter"),
        (
            "- sql: SELECT 1 AS n\n  metrics:\n  - metric_name: n\n    value_column: n\n",
            "a list of queries for the OpenTelemetry Collector",
        ),
        (
            "kind: A\napiVersion: v1\n---\nkind: ConfigMap\napiVersion: v1\ndata:\n  q.yaml: |\n    - sql: SELECT 1 AS n\n      \
             metrics:\n      - metric_name: n\n        value_column: n\n",
            "a list of queries for the OpenTelemetry Collector",
        ),
        ("services:\n  db:\n    image: postgres\n", "a Compose file"),
        ("{name: shop, services: {db: {image: postgres}}}\n", "a Compose file"),
        ("scrape_configs: []\n", "a configuration of Prometheus"),
        (
            "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nspec:\n  monitoring: {customQueriesConfigMap: [{name: q}]}\n",
            "a file of Kubernetes objects",
        ),
    ] {
        let (code, page, errors) = run(&[("f.yaml", text)], &["f.yaml"]);
        assert_eq!((code, page.as_str()), (2, ""), "{errors}");
        assert!(errors.starts_with(&format!("error: f.yaml: this is {expected}")), "{errors}");
        assert!(
            errors.contains(", which import does not read; ") && !errors.contains("swordfish"),
            "{errors}"
        );
    }
}

#[test]
fn a_template_is_to_be_filled_in_first() {
    for template in [
        "{{- if .Values.enabled }}\na: 1\n{{- end }}\n",
        "collector_name: {{ name }}\n{% for metric in metrics %}\n{{ metric }}\n{% endfor %}\n",
    ] {
        let (code, _, errors) = run(&[("t.yaml", template)], &["t.yaml"]);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains("; the file is a template: fill it in first"), "{errors}");
    }
    // A fault in another line is its own, and so is one of a file whose words another format has as well.
    let values = "services: {}\nimage: a\nkey_labels: [client, b]\n\tc: x\n";
    let (_, _, errors) = run(&[("t.yaml", values)], &["t.yaml"]);
    assert!(errors.contains("t.yaml:4:1: a tab cannot indent"), "{errors}");
    let (_, _, errors) = run(&[("t.yaml", "a: '{{b}}'\n\tc: x\n")], &["t.yaml"]);
    assert!(errors.contains("a tab cannot indent") && !errors.contains("template"), "{errors}");
}

#[test]
fn what_wavers_between_two_dialects_names_both() {
    let both = "databases: {a: {driver: sqlite, database: a.db}}\n\
                queries: [{name: a, sql: SELECT 1 AS value, metric_name: a}]\n\
                auth_modules: {b: {}}\n\
                shop: {master: true, query: SELECT 1 AS up, metrics: [{up: {usage: GAUGE}}]}\n";
    let (code, _, errors) = run(&[("q.yaml", both)], &["q.yaml"]);
    assert_eq!(code, 2, "{errors}");
    let expected =
        "this may be export-sql (`databases` have a `driver`) or postgres_exporter (it has `auth_modules`)";
    assert!(errors.contains(expected), "{errors}");
}

#[test]
fn files_of_two_dialects_are_converted_one_by_one() {
    let justwatch = "jobs:\n- name: j\n  connections: ['postgres://u@h/d']\n  queries: [{name: n, help: N, values: [n], \
                     query: SELECT 1 AS n}]\n";
    let (code, text, errors) = run(&[("a.yaml", QUERIES), ("j.yaml", justwatch)], &["a.yaml", "j.yaml"]);
    assert_eq!((code, text.as_str()), (2, ""), "{errors}");
    let expected = "error: a.yaml: this is postgres_exporter (`shop` has a `query`, and `metrics` with `usage`), another file is \
                    justwatch; convert";
    assert!(errors.contains(expected), "{errors}");
}

/// A file of Helm values holds both: its faults are its own, and each is said once.
#[test]
fn a_fault_of_a_file_with_two_configurations_is_told_once() {
    let indented = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let values = format!("one:\n{}two:\n{}image: a\nimage: b\n", indented(QUERIES), indented(MORE));
    let (code, text, errors) = run(&[("values.yaml", &values)], &["values.yaml"]);
    assert_eq!(code, 1, "{errors}");
    assert!(text.contains("name: shop_up") && text.contains("name: stock_n"), "{text}");
    assert_eq!(errors.matches("left out: values.yaml:12:1: image: repeated key").count(), 1, "{errors}");
}

#[test]
fn several_files_become_one_or_a_folder() {
    let files = [("a.yaml", QUERIES), ("b.yaml", MORE)];
    let (code, text, _) = run(&files, &["a.yaml", "b.yaml"]);
    assert_eq!(code, 0);
    assert!(text.contains("name: shop_up") && text.contains("name: stock_n"), "{text}");

    let setup = files.iter().fold(Setup::empty(), |setup, (name, text)| setup.file(name, text));
    let url = "postgres://exporter@localhost/shop";
    let setup = setup.args(&["import", "a.yaml", "b.yaml", "--url", url, "-o", "out/"]);
    let output = setup.output();
    assert_eq!((output.code(), output.text()), (0, ""), "{}", output.errors());
    let read = |name: &str| std::fs::read_to_string(setup.path().join("out").join(name)).unwrap();
    assert_eq!(
        read("sql-exporter.yaml"),
        "databases:\n  shop: {url: postgres://exporter@localhost/shop}\n\ninclude: [a.yaml, b.yaml]\n"
    );
    assert!(read("a.yaml").starts_with("driver: postgres\n"), "{}", read("a.yaml"));
    assert!(read("b.yaml").contains("stock_n"));
    // Again: the files are replaced.
    assert_eq!(setup.output().code(), 0);
}

#[test]
fn a_source_is_never_overwritten() {
    let setup = Setup::empty().file("q.yaml", QUERIES).args(&["import", "q.yaml", "-o", "q.yaml"]);
    let output = setup.output();
    assert_eq!(output.code(), 2);
    assert!(
        output.errors().contains("--output q.yaml: it is one of the files to convert"),
        "{}",
        output.errors()
    );
    assert_eq!(std::fs::read_to_string(setup.path().join("q.yaml")).unwrap(), QUERIES);
}

#[test]
fn a_key_repeated_with_an_equal_value_loses_nothing() {
    let repeated = format!("{QUERIES}  query: SELECT 1 AS up\n");
    let (code, _, errors) = run(&[("a.yaml", &repeated)], &["a.yaml"]);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("note: a.yaml:5:3: shop.query: repeated key, with an equal value"), "{errors}");
}

#[test]
fn a_result_without_queries_and_targets_is_not_written() {
    let collector = "collector_name: mssql\n\
                     metrics:\n  - {metric_name: a, type: gauge, help: A, values: [n], query: SELECT n FROM sys.dm_x}\n";
    for destination in ["out.yaml", "out/"] {
        let setup = Setup::empty().file("c.yaml", collector).args(&["import", "c.yaml", "-o", destination]);
        let output = setup.output();
        assert_eq!((output.code(), output.text()), (1, ""), "{}", output.errors());
        let said = "\nnothing is written: the result has no query and no target\n";
        assert!(output.errors().contains(said), "{}", output.errors());
        assert!(!setup.path().join(destination).exists());
    }
}

#[test]
fn a_variable_stands_for_an_address_that_does_not_load() {
    let source = "jobs:\n\
                  - name: shop\n  connections: ['postgres://u:swordfish@a:PORT/x', 'postgres://u@b/stock']\n  \
                    queries:\n  - {name: n, help: N, values: [n], query: SELECT 1 AS n}\n\
                  - name: other\n  connections: ['mysql://u:swordfish@tcp(d b:PORT)/why', 'pg://u@a:PORT/x_password']\n  \
                    queries:\n  - {name: m, help: M, values: [m], query: SELECT 1 AS m}\n";
    let (code, text, errors) = run(&[("j.yaml", source)], &["j.yaml"]);
    assert_eq!(code, 1, "{errors}");
    for part in
        ["x: {url: \"${X_URL}\"}", "databases: [x, stock]", "why: {url: \"${WHY_URL}\"}", "name: sql_m"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(errors.contains("; a variable stands for the address"), "{errors}");
    let listed = |line: &str| errors.lines().any(|known| known.split_whitespace().eq(line.split(' ')));
    assert!(listed("WHY_URL the URL of why, such as mysql://user@localhost/db"), "{errors}");
    // No variable that the result has no more.
    assert!(errors.contains("  X_PASSWORD_URL ") && !errors.contains("PASSWORD "), "{errors}");
    assert!(!text.contains("swordfish") && !errors.contains("swordfish"), "{text}{errors}");
}

#[test]
fn a_target_that_does_not_load_costs_its_own_queries_only() {
    let source = "jobs:\n\
                  - job_name: a\n  collectors: [lost, both]\n  static_configs:\n  \
                    - {targets: {one: 'pg://u@a/x'}, labels: {9: x}}\n\
                  - job_name: b\n  collectors: [both]\n  static_configs:\n  - {targets: {two: 'pg://u@b/x'}}\n\
                  collectors:\n\
                  - collector_name: lost\n  metrics:\n  - {metric_name: m, type: gauge, help: M, values: [m], query: SELECT 1 AS m}\n\
                  - collector_name: both\n  metrics:\n  - {metric_name: n, type: gauge, help: N, values: [n], query: SELECT 1 AS n}\n";
    let (code, text, errors) = run(&[("j.yaml", source)], &["j.yaml"]);
    assert_eq!(code, 1, "{errors}");
    assert!(text.contains("AS n") && !text.contains("AS m") && !text.contains("one:"), "{text}");
    assert!(
        errors.contains("j.yaml:13:6: collectors[0].metrics[0]: the query m: its target is left out"),
        "{errors}"
    );
}

#[test]
fn a_setting_that_does_not_load_costs_nothing_else() {
    let source = "databases: {shop: {driver: sqlite, database: shop.db}}\n\
                  queries: [{name: n, database: shop, sql: SELECT 1 AS value, metrics: [{name: m, help: M}]}]\n\
                  exporter: {host: 127.0.0.1, port: many}\n";
    let (code, text, errors) = run(&[("s.yaml", source)], &["--from", "export-sql", "s.yaml"]);
    assert_eq!(code, 1, "{errors}");
    assert!(text.contains("name: m") && text.contains("127.0.0.1") && !text.contains("many"), "{text}");
    assert!(errors.contains("left out: `exporter.port`: \"many\""), "{errors}");
}

#[test]
fn a_file_whose_queries_are_all_left_out_is_not_included() {
    let source = "jobs:\n\
                  - {job_name: j, collectors: [a, b], static_configs: [{targets: {x: 'postgres://u@h/d'}}]}\n\
                  collectors:\n\
                  - collector_name: a\n  metrics: [{metric_name: a b, type: gauge, help: A, values: [n], query: SELECT 1 AS n}]\n\
                  - collector_name: b\n  metrics: [{metric_name: b, type: gauge, help: B, values: [n], query: SELECT 1 AS n}]\n";
    let setup = Setup::empty().file("c.yaml", source).args(&["import", "c.yaml", "-o", "out/"]);
    let output = setup.output();
    assert_eq!(output.code(), 1, "{}", output.errors());
    let main = std::fs::read_to_string(setup.path().join("out/sql-exporter.yaml")).unwrap();
    assert!(main.contains("include: [collectors/b.yaml]"), "{main}");
    assert!(!setup.path().join("out/collectors/a.yaml").exists());
}

/// Of an address, what only the client of the other exporter knows goes, and the rest stays.
#[test]
fn a_parameter_of_another_client_costs_neither_the_target_nor_its_queries() {
    let source = "databases: {shop: {dsn: 'postgresql+asyncpg://u@db.example/shop?prepared_statement_cache_size=0&sslmode=disable'}}\n\
                  metrics: {orders: {type: gauge, description: Orders.}}\n\
                  queries: {orders: {databases: [shop], metrics: [orders], sql: SELECT 1 AS orders}}\n";
    let (code, text, errors) = run(&[("s.yaml", source)], &["s.yaml"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("unknown parameter \"prepared_statement_cache_size\""), "{errors}");
    assert!(text.contains("postgres://u@db.example/shop?sslmode=disable\""), "{text}");
    assert!(text.contains("name: orders"), "{text}");
}

/// Each costs a round of the check, if the load tells of one target at a time.
#[test]
fn a_parameter_of_another_client_may_stand_at_many_targets() {
    let several = |piece: fn(usize) -> String| (0..25).map(piece).collect::<Vec<_>>();
    let databases = several(|index| {
        format!("  d{index}: {{dsn: 'postgresql://u@h{index}/d?pool_size=5&sslmode=disable'}}\n")
    });
    let names = several(|index| format!("d{index}"));
    let source = format!(
        "databases:\n{}metrics: {{orders: {{type: gauge, description: Orders.}}}}\n\
         queries: {{orders: {{databases: [{}], metrics: [orders], sql: SELECT 1 AS orders}}}}\n",
        databases.concat(),
        names.join(", ")
    );
    let (code, text, errors) = run(&[("s.yaml", &source)], &["s.yaml"]);
    assert_eq!(code, 1, "{errors}");
    assert_eq!(text.matches("/d?sslmode=disable").count(), 25, "{text}");
    assert_eq!(errors.matches("unknown parameter \"pool_size\"").count(), 25, "{errors}");
}

/// Without it the result would connect with less security than the source asks for, and a value in a variable is not known here.
#[test]
fn a_parameter_that_may_ask_for_security_is_not_left_out() {
    for parameter in [
        "sslmode=${MODE}",
        "ssl-mode=verfy-full",
        "channel_binding=requir",
        "target_session_attrs=${ROLE}",
        "target_session_attrs=primry",
        "ssl=verify",
        "require_auth=scram",
        "gssencmode=require",
        "sslnegotiation=drect",
        "port=5433x",
        "service=shop",
    ] {
        let source = format!(
            "databases: {{shop: {{dsn: 'postgresql://u@db.example/shop?{parameter}'}}}}\n\
             metrics: {{orders: {{type: gauge, description: Orders.}}}}\n\
             queries: {{orders: {{databases: [shop], metrics: [orders], sql: SELECT 1 AS orders}}}}\n"
        );
        let (code, text, errors) = run(&[("s.yaml", &source)], &["s.yaml"]);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains("; a variable stands for the address"), "{parameter}: {errors}");
        assert!(!text.contains("db.example") && text.contains("name: orders"), "{parameter}: {text}");
    }
}

#[test]
fn a_tls_mode_that_is_not_known_becomes_the_strictest() {
    for (from, source) in [
        (
            "psql-query-exporter",
            "defaults: {sslmode: disable}\n\
             sources: {s: {host: h, user: u, sslmode: verify_ca, databases: [{dbname: d, queries: [{metric_name: m, description: M, \
             query: SELECT 1 AS n, values: {single: {field: n}}}]}]}}\n",
        ),
        (
            "burningalchemist",
            "target: {data_source_name: 'mysql://u@h/d?tls=mine', collectors: [c]}\n\
             collectors: [{collector_name: c, metrics: [{metric_name: m, type: gauge, help: M, values: [n], query: SELECT 1 AS n}]}]\n",
        ),
    ] {
        let (code, text, errors) = run(&[("s.yaml", source)], &["--from", from, "s.yaml"]);
        assert_eq!(code, 1, "{errors}");
        assert!(text.contains("mode: verify-full"), "{from}: {text}");
        assert!(errors.contains(": `verify-full` stands for it"), "{from}: {errors}");
    }
}

#[test]
fn no_password_reaches_the_result_nor_what_is_said() {
    let hidden = "swordfish";
    for (from, source) in [
        (
            "justwatch",
            "connections: ['postgres://u:pre{{X}}swordfish@h/d', 'u:swordfish://h', 'swordfish@://h/d']",
        ),
        (
            "justwatch",
            "connections: ['mysql://u:{{X}}swordfish@tcp(h)/d', 'postgres://u@h/d?password=swordfish']",
        ),
    ] {
        let queries = "  queries: [{name: n, help: N, values: [n], query: SELECT 1 AS n}]\n";
        let source = format!("jobs:\n- name: j\n  {source}\n{queries}");
        let (_, text, errors) = run(&[("j.yaml", &source)], &["--from", from, "j.yaml"]);
        assert!(
            text.contains("sql_n") && !text.contains(hidden) && !errors.contains(hidden),
            "{text}{errors}"
        );
    }
    for (from, source) in [
        (
            "query-exporter",
            "databases: {a: {dsn: 'postgresql://u:x/swordfish@h/d'}, b: {dsn: 'swordfish:x://h/d'}}\nqueries: {}\n",
        ),
        ("export-sql", "databases: {a: {connection_string: 'host=h user=u password = swordfish'}}\n"),
        ("export-sql", "databases: {a: {connection_string: 'postgres://u:${P:-swordfish}@h/d'}}\n"),
        (
            "psql-query-exporter",
            "sources: {s: {host: h, user: u, password: 'x${P}swordfish', databases: [{dbname: d, queries: [{metric_name: m, \
             description: M, query: SELECT 1, values: {single: {}}}]}]}}\n",
        ),
        (
            "burningalchemist",
            "target: {data_source_name: 'postgres://u:x${P}swordfish@h/d?sslpassword=swordfish'}\n",
        ),
    ] {
        let (code, text, errors) = run(&[("s.yaml", source)], &["--from", from, "s.yaml"]);
        assert!(code <= 1 && !errors.is_empty(), "{errors}");
        assert!(!text.contains(hidden) && !errors.contains(hidden), "{from}: {text}{errors}");
    }
}

/// What the metrics of a query or the targets of a job share is written for each of them: a source of some KiB could become a
/// result of some GiB.
#[test]
fn what_would_become_too_large_is_left_out() {
    let several = |count: usize, piece: fn(usize) -> String| (0..count).map(piece).collect::<String>();
    let labels = several(3000, |index| format!("  - l{index}: {{usage: LABEL}}\n"));
    let values = several(3000, |index| format!("  - v{index}: {{usage: GAUGE}}\n"));
    let histograms = several(2000, |index| format!("  - h{index}: {{usage: HISTOGRAM}}\n"));
    let statement = format!("SELECT '{}'", "x".repeat(100_000));
    let pairs = several(3000, |index| format!("l{index}: x, "));
    let targets = several(3000, |index| format!("t{index}: 'postgres://u@h/d', "));
    let metrics = several(3000, |index| {
        format!(
            "  - {{metric_name: m{index}, type: gauge, help: h, values: [n], query: SELECT {index} AS n}}\n"
        )
    });
    let queries = several(3000, |index| {
        format!("  - {{name: n{index}, values: [n], query: \"SELECT '{{{{p}}}}' AS n\"}}\n")
    });
    for (from, source) in [
        ("postgres_exporter", format!("q:\n  query: SELECT 1\n  metrics:\n{labels}{values}")),
        ("postgres_exporter", format!("q:\n  query: {statement}\n  metrics:\n{histograms}")),
        (
            "postgres_exporter",
            format!(
                "q:\n  query: SELECT 1\n  master: true  # {}\n  metrics:\n{histograms}",
                "x".repeat(100_000)
            ),
        ),
        (
            "pg_exporter",
            format!("q:\n  name: {}\n  query: SELECT 1\n  ttl: 1\n  metrics:\n{values}", "x".repeat(100_000)),
        ),
        (
            "burningalchemist",
            format!(
                "jobs: [{{job_name: j, collectors: [c], static_configs: [{{labels: {{{pairs}}}, targets: {{{targets}}}}}]}}]\n"
            ),
        ),
        (
            "burningalchemist",
            format!(
                "jobs:\n- {{job_name: i, collectors: [c], static_configs: [{{targets: {{{targets}}}}}]}}\n\
                 - {{job_name: j, collectors: [d], static_configs: [{{targets: {{z: 'postgres://u@z/d'}}}}]}}\n\
                 collectors:\n- collector_name: c\n  metrics:\n{metrics}- {{collector_name: d, metrics: []}}\n"
            ),
        ),
        (
            "justwatch",
            format!(
                "jobs:\n- name: j\n  connections: ['postgres://u@h/d']\n  iterator: {{sql: \"{statement}\", placeholder: p, label: l}}\n  \
                 queries:\n{queries}"
            ),
        ),
        (
            "psql-query-exporter",
            format!(
                "sources: {{s: {{host: h, databases: [{{dbname: d, queries: [{{metric_name: m, description: {}, query: SELECT 1, \
                 values: {{multi_suffixes: [{}]}}}}]}}]}}}}\n",
                "x".repeat(100_000),
                several(2000, |index| format!("{{field: f{index}, suffix: s{index}}}, "))
            ),
        ),
    ] {
        let (code, text, errors) = run(&[("s.yaml", &source)], &["--from", from, "s.yaml"]);
        assert_eq!(code, 1, "{from}: {errors}");
        assert!(errors.contains("the result is larger than 1 MiB: this is left out"), "{from}: {errors}");
        assert!(text.len() <= 2 << 20, "{from}: {}", text.len());
    }
}
