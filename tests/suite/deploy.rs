//! What installs and releases the exporter elsewhere: the image, the compose file, the Helm chart, the kustomize base, the
//! units of systemd, the workflows and the crate. Each check of `tests/deploy/` is a Python script that uses the tools of their
//! ecosystems; the databases of the compose file are set up and scraped here.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::exporter::Setup;
use crate::judges::judge;
use crate::process::{folder, variable};
use crate::servers::own::{OwnMariaDb, OwnPostgres};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example(path: &str) -> PathBuf {
    root().join("examples").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(example(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a script of `tests/deploy/`. One whose tool cannot be had says so, and passes.
fn check(script: &str) {
    let done = Command::new(variable("TEST_PYTHON"))
        .arg(root().join("tests/deploy").join(script))
        .env("TEST_EXPORTER_BINARY", env!("CARGO_BIN_EXE_sql-exporter"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python runs");
    match done.status.code() {
        Some(0) => assert!(said(&done).contains("good: "), "{}", said(&done)),
        // Not eprintln: libtest hides what a test that passes prints.
        Some(77) => std::io::stderr().write_all(&done.stdout).expect("stderr"),
        _ => panic!("{}", said(&done)),
    }
}

#[test]
fn the_chart_renders_what_its_values_say() {
    check("chart.py");
}

#[test]
fn the_kustomize_base_builds_what_the_api_takes() {
    check("kustomize.py");
}

#[test]
fn the_image_and_the_compose_file_are_sound() {
    check("container.py");
}

#[test]
fn the_image_s_program_runs_on_what_its_base_has() {
    check("image.py");
}

#[test]
fn the_pods_of_the_chart_answer_what_their_probes_ask() {
    check("pod.py");
}

#[test]
fn the_units_of_systemd_are_sound() {
    check("systemd.py");
}

#[test]
fn the_exporter_works_confined_as_its_unit_says() {
    check("confined.py");
}

#[test]
fn the_workflows_are_sound() {
    check("workflows.py");
}

#[test]
fn the_compose_file_s_configuration_has_no_finding() {
    let output = Setup::empty()
        .file("sql-exporter.yaml", &read("docker/sql-exporter.yaml"))
        .args(&["check", "--strict", "-c", "sql-exporter.yaml"])
        .output();
    assert_eq!((output.code(), output.errors()), (0, ""), "{}", output.text());
}

/// Runs a script that a database's image runs once, as that image does, with the exporter's password as a secret.
fn set_up(script: &str, environment: &[(&str, &str)]) {
    let secrets = folder();
    let file = secrets.path().join("exporter-password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    let mut command = Command::new(example(script));
    command.envs(environment.iter().copied()).env("EXPORTER_PASSWORD_FILE", &file);
    let done = command.output().expect("it runs");
    assert!(done.status.success(), "{script}: {}", said(&done));
}

/// A password that has what shells and databases quote.
const PASSWORD: &str = r#"it's a \ c4nary-"$HOME""#;

fn shop_on_postgres() -> OwnPostgres {
    let server = OwnPostgres::start(&[]);
    let access = server.access();
    access.run(&read("business/init-postgres.sql"));
    access.run(&read("grants/postgres.sql"));
    let port = access.port.to_string();
    let login = [("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGPASSWORD", &access.password)];
    set_up(
        "docker/postgres-access.sh",
        &[login.as_slice(), &[("POSTGRES_DB", access.database.as_str())]].concat(),
    );
    server
}

fn shop_on_mariadb() -> OwnMariaDb {
    let server = OwnMariaDb::start(&[]);
    let access = server.access();
    let script = read("business/init-mysql.sql");
    access.run(&format!("CREATE DATABASE shop;\nUSE shop;\n{}", statements(&script)));
    access.run(&statements(&read("grants/mariadb.sql")));
    let port = access.port.to_string();
    let login =
        [("MYSQL_HOST", "127.0.0.1"), ("MYSQL_TCP_PORT", &port), ("MYSQL_ROOT_PASSWORD", &access.password)];
    set_up("docker/mysql-access.sh", &[login.as_slice(), &[("MYSQL_DATABASE", "shop")]].concat());
    server
}

/// A script without its lines of comments.
fn statements(script: &str) -> String {
    script.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_compose_file_s_databases_are_scraped_with_the_rights_that_its_scripts_give() {
    let (postgres, mariadb) = (shop_on_postgres(), shop_on_mariadb());
    let setup = || {
        Setup::new(&read("docker/sql-exporter.yaml"))
            .file("password", &format!("{PASSWORD}\n"))
            .env("PASSWORD_FILE", "password")
            .env("POSTGRES_HOST", "127.0.0.1")
            .env("POSTGRES_PORT", &postgres.access().port.to_string())
            .env("POSTGRES_DB", &postgres.access().database)
            .env("MYSQL_HOST", "127.0.0.1")
            .env("MYSQL_PORT", &mariadb.access().port.to_string())
    };
    let output = setup().once();
    assert_eq!(output.code(), 0, "{}\n{}", output.errors(), output.text());
    let page = judge(output.text());
    for target in ["postgres", "mysql"] {
        let paid = [("target", target), ("status", "paid"), ("payment_method", "card")];
        assert_eq!(page.value("shop_orders", &paid), Some(2.0), "{target}");
        assert_eq!(page.value("shop_revenue_euros_total", &paid), Some(149.75), "{target}");
    }
    for prefix in ["pg_", "mysql_"] {
        let series = page.samples.iter().filter(|sample| sample.name.starts_with(prefix)).count();
        assert!(series > 100, "{series} series of {prefix}");
    }
    // The roles have no more than that: neither another table nor what `test` calls an excess.
    for target in ["postgres", "mysql"] {
        let users =
            setup().args(&["try", "--target", target, "--sql", "SELECT count(*) AS n FROM users"]).output();
        assert_eq!(users.code(), 1, "{}", users.text());
        assert!(users.text().contains("denied"), "{}{}", users.text(), users.errors());
    }
    let test = setup().args(&["test"]).output();
    assert_eq!(test.code(), 0, "{}{}", test.text(), test.errors());
    let passed = test.text().lines().filter(|line| line.starts_with("PASS ")).count();
    assert!(passed == 2 && !test.text().contains("WARN"), "{}", test.text());
}

#[test]
fn the_crate_packs_without_the_tests_and_with_what_it_is_built_from() {
    let target = folder();
    let done = Command::new(env!("CARGO"))
        .args(["package", "--no-verify", "--offline", "--allow-dirty", "--target-dir"])
        .arg(target.path())
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let said = said(&done);
    assert!(done.status.success(), "{said}");
    // The tests are not published, on purpose; Cargo has no way to say so.
    let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("warning:")).collect();
    let left_out =
        "warning: ignoring test `suite` as `tests/suite/main.rs` is not included in the published package";
    assert_eq!(warnings, [left_out], "{said}");
    let list = Command::new("tar").arg("tzf").args(crates(target.path())).output().expect("tar runs");
    let list = String::from_utf8(list.stdout).expect("text");
    let files: BTreeSet<&str> = list.lines().filter_map(|line| Some(line.split_once('/')?.1)).collect();
    for file in
        ["src/main.rs", "src/config/keys.txt", "queries/postgres/essential.yaml", "examples/demo/shop.sql"]
    {
        assert!(files.contains(file), "{file} is not in the crate");
    }
    let other = files.iter().find(|file| file.starts_with("tests/") || file.starts_with('.'));
    assert_eq!(other, Some(&".cargo_vcs_info.json"), "in the crate");
}

/// Procedural macros run in the compiler, and so does what only they need.
#[test]
fn the_sbom_lists_what_is_in_the_binary() {
    let list = "from crates import compiled; _, packages, graph = compiled(); print(*(packages[key]['name'] for key in graph))";
    let mut python = Command::new("python3");
    python.args(["-B", "-c", list]).env("PYTHONPATH", root().join("packaging")).current_dir(root());
    let done = python.output().expect("python3 runs");
    let names = String::from_utf8(done.stdout).expect("text");
    let names: BTreeSet<&str> = names.split_whitespace().collect();
    assert!(
        names.contains("serde") && names.contains("libsqlite3-sys"),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(["serde_derive", "syn", "quote"].iter().all(|name| !names.contains(name)), "{names:?}");
}

/// The packed crates below a target folder.
fn crates(target: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(target.join("package")).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "crate")).collect()
}
