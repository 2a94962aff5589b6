//! Pipes and devices where the exporter reads or writes a file: it waits for nobody, says what is wrong, and goes on once it
//! is repaired.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::command::setup;
use crate::exporter::{Exporter, Setup, program};
use crate::process::wait_for;
use crate::servers::Postgres;
use crate::web_client::Reply;

/// What is not waited for.
const AT_ONCE: Duration = Duration::from_secs(5);

const QUERY: &str = "queries: [{name: q, databases: ['*'], sql: SELECT 7 AS value, metrics: [{name: m}]}]\n";

fn pipe(path: &Path) {
    let _ = std::fs::remove_file(path);
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
}

fn lite(more: &str) -> String {
    format!("databases: {{shop: {{driver: sqlite, database: shop.db}}}}\n{QUERY}{more}")
}

/// A configuration that a pipe is a part of is refused, and says so.
fn refused(setup: Setup, file: &str) {
    pipe(&setup.path().join(file));
    let began = Instant::now();
    let output = setup.args(&["check"]).output();
    assert!(began.elapsed() < AT_ONCE, "{file}: {:?}", began.elapsed());
    assert_eq!(output.code(), 2, "{}", output.text());
    assert!(output.text().contains("is a named pipe, not a regular file"), "{file}: {}", output.text());
}

#[test]
fn a_pipe_as_any_file_of_a_configuration_is_an_error_that_names_it() {
    refused(Setup::new("databases: {}"), "sql-exporter.yaml");
    refused(setup(&lite("include: [more.yaml]")), "more.yaml");
    refused(
        setup(&lite("include: ['collectors/*.yaml']")).file("collectors/a.yaml", ""),
        "collectors/a.yaml",
    );
    refused(setup(&lite("exporter: {web_config_file: web.yaml}")), "web.yaml");
    let tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}";
    let with_tls = || setup(&lite("exporter: {web_config_file: web.yaml}")).file("web.yaml", tls);
    refused(with_tls().file("key.pem", ""), "cert.pem");
    refused(setup("databases: {shop: {driver: sqlite, url_file: where}}"), "where");
    refused(setup("databases: {shop: {url_file: where}}"), "where");
    refused(setup(&lite("").replace("sql: SELECT 7 AS value", "sql_file: q.sql")), "q.sql");
}

/// The reload that meets it fails at once, and the next one is as good as ever.
#[test]
fn a_pipe_in_the_place_of_the_configuration_fails_one_reload_and_no_other() {
    let exporter = setup(&lite("")).serve();
    let config = exporter.file("sql-exporter.yaml");
    let good = std::fs::read(&config).expect("the configuration");
    let reload = || exporter.request("POST", "/-/reload", &[]);
    for _ in 0..3 {
        pipe(&config);
        let began = Instant::now();
        let Reply { status, body, .. } = reload();
        let said = String::from_utf8_lossy(&body).into_owned();
        assert!(status == 500 && said.contains("the file is a named pipe"), "{status} {said}");
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        std::fs::remove_file(&config).expect("removed");
        std::fs::write(&config, &good).expect("repaired");
        assert_eq!(reload().status, 200);
    }
    assert!(exporter.metrics().contains("m{target=\"shop\"} 7\n"));
}

#[test]
fn a_pipe_as_the_password_file_fails_the_login_until_it_is_repaired() {
    let postgres = Postgres::fresh("files_password");
    let password = &postgres.password;
    let entry = postgres.entry().replace(&format!("password: '{password}'"), "password_file: secret");
    let setup = setup(&format!("databases:\n  pg: {entry}\n{QUERY}"));
    pipe(&setup.path().join("secret"));
    let exporter = setup.serve();
    let began = Instant::now();
    let page = exporter.metrics();
    assert!(page.contains("sql_exporter_target_up{target=\"pg\"} 0\n"), "{page}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    exporter.wait_for_log("is a named pipe, not a regular file");
    std::fs::remove_file(exporter.file("secret")).expect("removed");
    std::fs::write(exporter.file("secret"), password).expect("repaired");
    wait_for("the target to come back", || exporter.metrics().contains("m{target=\"pg\"} 7\n").then_some(()));
}

/// SQLite itself would wait for a writer for ever.
#[test]
fn a_pipe_as_a_database_or_beside_one_fails_its_target_alone() {
    for name in ["shop.db", "shop.db-journal", "shop.db-wal", "shop.db-shm"] {
        let two = "databases:\n  shop: {driver: sqlite, database: shop.db}\n  other: {driver: sqlite, database: other.db}\n";
        let setup = setup(&format!("{two}{QUERY}")).file("other.db", "");
        let path = setup.path().join(name);
        let good = std::fs::read(setup.path().join("shop.db")).expect("the database");
        pipe(&path);
        let exporter = setup.serve();
        let began = Instant::now();
        let page = exporter.metrics();
        assert!(began.elapsed() < AT_ONCE, "{name}: {:?}", began.elapsed());
        assert!(
            page.contains("m{target=\"other\"} 7\n") && !page.contains("m{target=\"shop\"}"),
            "{name}: {page}"
        );
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(exporter.file("shop.db"), good).expect("repaired");
        wait_for(name, || exporter.metrics().contains("m{target=\"shop\"} 7\n").then_some(()));
    }
    let attached =
        "databases: {shop: {driver: sqlite, database: shop.db, session_sql: \"ATTACH 'pipe' AS other\"}}\n";
    let setup = setup(&format!("{attached}{QUERY}"));
    pipe(&setup.path().join("pipe"));
    let began = Instant::now();
    let output = setup.once();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(output.errors().contains("of which pipe is a named pipe"), "{}", output.errors());
}

/// What a shell hands over by name is read to its end. Its relative paths start in the current folder.
#[test]
fn stdin_and_a_substituted_process_may_be_the_configuration() {
    let setup = setup("");
    let database = setup.path().join("shop.db").display().to_string();
    let setup = setup.file("kept", &lite("").replace("shop.db", &database)).file("relative", &lite(""));
    let exporter = program();
    for script in [
        "cat kept | \"$0\" -c /dev/stdin --once --no-self-metrics",
        "\"$0\" -c <(sleep 0.2; cat kept) --once --no-self-metrics",
        "\"$0\" -c /dev/fd/5 --once --no-self-metrics 5< kept",
        "cat relative | \"$0\" -c /dev/stdin --once --no-self-metrics",
        "cat relative | \"$0\" -c - --once --no-self-metrics",
        "\"$0\" -c <(cat relative) --once --no-self-metrics",
    ] {
        let run = Command::new("bash").args(["-c", script, &exporter]).current_dir(setup.path()).output();
        let output = run.expect("bash");
        let (page, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(page.contains("m{target=\"shop\"} 7\n"), "{script}: {page}{errors}");
    }
}

/// What `--output` is given as a name of its own descriptor is written on, never replaced, and keeps what stood there.
#[test]
fn output_to_a_descriptor_of_its_own_goes_on_where_it_stands() {
    let setup = setup(&lite(""));
    let exporter = program();
    for (script, file) in [
        (
            "(echo before; \"$0\" -c sql-exporter.yaml collect --output /dev/stdout; echo behind) > page",
            "page",
        ),
        (
            "(echo before; \"$0\" -c sql-exporter.yaml collect --output /dev/fd/1; echo behind) | cat > page",
            "page",
        ),
        (
            "(echo before >&2; \"$0\" -c sql-exporter.yaml collect --output /dev/stderr; echo behind >&2) 2> page",
            "page",
        ),
        (
            "echo before > page; \"$0\" -c sql-exporter.yaml collect --output /dev/fd/7 7>> page; echo behind >> page",
            "page",
        ),
        (
            "ln -s /dev/stdout link; (echo before; \"$0\" -c sql-exporter.yaml collect --output link; echo behind) > page",
            "page",
        ),
    ] {
        let run = Command::new("bash").args(["-c", script, &exporter]).current_dir(setup.path()).output();
        let output = run.expect("bash");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let page = std::fs::read_to_string(setup.path().join(file)).expect("the page");
        assert!(page.starts_with("before\n") && page.ends_with("behind\n"), "{script}: {page}");
        assert!(page.contains("m{target=\"shop\"} 7\n"), "{script}: {page}");
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_reader_of_the_output() {
    let setup = setup(&lite("")).args(&["collect", "--output", "pipe", "--timeout", "1h"]);
    pipe(&setup.path().join("pipe"));
    let mut command = Command::new(program());
    command.args(["-c", "sql-exporter.yaml", "collect", "--output", "pipe", "--timeout", "1h"]);
    let mut child = command.current_dir(setup.path()).stderr(Stdio::piped()).spawn().expect("it runs");
    // It has nothing to do but to wait, soon.
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    crate::process::signal("TERM", &[child.id()]);
    let status = wait_for("its end", || child.try_wait().ok()?);
    assert_eq!(status.code(), Some(143));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(std::fs::symlink_metadata(setup.path().join("pipe")).is_ok(), "it is not replaced");
}

/// A whole page leaves through a pipe that is slowly read.
#[test]
fn a_page_longer_than_a_pipe_arrives_whole() {
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) SELECT i AS n, i AS value FROM n";
    let config = lite("")
        .replace("sql: SELECT 7 AS value", &format!("sql: '{many}'"))
        .replace("{name: m}", "{name: m, labels: [n]}");
    let setup = setup(&config).args(&["collect", "--output", "pipe"]);
    let path = setup.path().join("pipe");
    pipe(&path);
    let reader = std::thread::spawn(move || std::fs::read_to_string(path).expect("a page"));
    assert_eq!(setup.output().code(), 0);
    let page = reader.join().expect("read");
    assert!(page.contains("m{target=\"shop\",n=\"9000\"} 9000\n"), "{} bytes", page.len());
}

/// Found by an attack: a link at the name of the temporary file, and devices as root.
#[test]
fn nothing_but_a_regular_file_is_ever_replaced() {
    let setup = setup(&lite("")).args(&["collect", "--output", "null"]);
    let null = setup.path().join("null");
    let device = Command::new("mknod").arg(&null).args(["c", "1", "3"]).stderr(Stdio::null()).status();
    if device.is_ok_and(|made| made.success()) {
        assert_eq!(setup.output().code(), 0);
        let kind = std::fs::metadata(&null).expect("it is there").file_type();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&kind), "{kind:?}");
    }
}

#[test]
fn a_served_page_outlives_a_pipe_in_the_place_of_the_web_configuration() {
    let setup = setup(&lite("exporter: {web_config_file: web.yaml}"))
        .file("web.yaml", "{http_server_config: {headers: {X-Frame-Options: DENY}}}");
    let exporter: Exporter = setup.serve();
    let web = exporter.file("web.yaml");
    let good = std::fs::read(&web).expect("the file");
    pipe(&web);
    exporter.wait_for_log_while("is a named pipe", || drop(exporter.get("/-/healthy")));
    assert_eq!(exporter.get("/metrics").status, 200, "the old settings serve");
    std::fs::remove_file(&web).expect("removed");
    std::fs::File::create(&web).and_then(|mut file| file.write_all(&good)).expect("repaired");
    exporter.wait_for_log_while("read again", || drop(exporter.get("/-/healthy")));
}
