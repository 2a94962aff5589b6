//! What `examples/` shows works: each configuration runs against real databases, as its reader would run it.

use std::path::{Path, PathBuf};

use sql_exporter::commands::demo::write;

use crate::checker::Page;
use crate::exporter::Setup;
use crate::judges::judge;
use crate::process::wait_for;
use crate::servers::{MariaDb, Postgres};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The demo's configuration and database in a folder of their own.
fn demo() -> Setup {
    let setup = Setup::empty();
    write(setup.path()).expect("the demo is written");
    setup
}

/// The families of a page whose names begin with one of `prefixes`, heads included, in order.
fn only(page: &str, prefixes: &[&str]) -> String {
    let named = |line: &&str| {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    page.split_inclusive('\n').filter(named).collect()
}

/// A page under `tests/golden/`, which a change of the output must change too.
fn golden(name: &str) -> String {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name))
}

/// Runs one scrape that must succeed and passes its page through the judges.
fn once(setup: Setup) -> (String, Page) {
    let output = setup.once();
    assert_eq!(output.code(), 0, "{}\n{}", output.errors(), output.text());
    let page = judge(output.text());
    (output.text().to_owned(), page)
}

#[test]
fn the_demo_prints_the_golden_page() {
    let (text, page) = once(demo());
    assert_eq!(only(&text, &["shop_"]), golden("demo.prom"));
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "shop"), ("env", "demo")]), Some(1.0));
    assert!(
        page.samples.iter().any(|sample| sample.name.starts_with("sqlite_")),
        "builtin:sqlite/* gave nothing"
    );
}

#[test]
fn the_demo_answers_under_the_printed_urls() {
    let exporter = demo().serve();
    let page = judge(&exporter.metrics());
    assert_eq!(page.value("shop_orders", &[("status", "open"), ("payment_method", "card")]), Some(12.0));
    let metrics = exporter.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let status = exporter.get("/");
    assert_eq!((status.status, status.text().contains("shop")), (200, true));
    assert_eq!(exporter.get("/-/healthy").status, 200);
    let own = judge(exporter.get("/-/metrics").text());
    assert!(own.series("sql_exporter_build_info").len() == 1 && own.series("shop_orders").is_empty());
    let (code, log) = exporter.stop("TERM");
    assert_eq!(code, Some(0), "{log}");
}

/// The folders of demos in `folder`.
fn demo_folders(folder: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("sql-exporter-demo-")).collect()
}

#[test]
fn the_command_demo_serves_the_shop_and_leaves_no_folder() {
    for signal in ["TERM", "INT"] {
        let temporary = crate::process::folder();
        let exporter =
            Setup::empty().env("TMPDIR", &temporary.path().display().to_string()).args(&["demo"]).serve();
        let page = exporter.metrics();
        assert_eq!(only(&page, &["shop_"]), golden("demo.prom"));
        assert_eq!(exporter.get("/-/healthy").status, 200);
        // The port that the system chose, not the 0 that asks for one.
        wait_for("the introduction", || {
            let log = exporter.log();
            let (_, address) = log.split_once("listening on http://")?;
            let address = address.lines().next()?;
            log.contains(&format!("  curl http://{address}/metrics  ")).then_some(())
        });
        assert_eq!(demo_folders(temporary.path()).len(), 1);
        let (code, log) = exporter.stop(signal);
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(demo_folders(temporary.path()), [""; 0]);
    }
}

#[test]
fn the_command_demo_that_cannot_serve_leaves_no_folder() {
    let temporary = crate::process::folder();
    let demo = |args: &[&str]| {
        let folder = temporary.path().display().to_string();
        Setup::empty().env("TMPDIR", &folder).args(&["demo"]).args(args).output()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let refused = demo(&["--listen", &address]);
    assert_eq!(refused.code(), 1, "{}", refused.errors());
    assert!(refused.errors().contains("the port is in use"), "{}", refused.errors());
    assert_eq!(refused.text(), "", "nothing to try");
    let configured = demo(&["-c", "shop.yaml"]);
    let expected =
        "error: the demo has its own configuration; leave out -c, or serve your configuration with `run`\n";
    assert_eq!((configured.code(), configured.errors()), (2, expected));
    let nowhere = Setup::empty().env("TMPDIR", "/nowhere").args(&["demo"]).output();
    assert_eq!(nowhere.code(), 1);
    assert!(
        nowhere.errors().starts_with("error: no temporary folder for the demo: "),
        "{}",
        nowhere.errors()
    );
    assert_eq!(demo_folders(temporary.path()), [""; 0]);
}

#[test]
fn the_demo_database_is_the_same_each_time() {
    let (first, second) = (demo(), demo());
    let bytes = |setup: &Setup| std::fs::read(setup.path().join("shop.db")).expect("the demo's file");
    assert!(bytes(&first) == bytes(&second));
}

#[test]
fn the_readme_shows_real_output() {
    let readme = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let golden = golden("demo.prom");
    let block = readme.split("```").find(|block| block.contains("# TYPE shop_")).expect("a block of output");
    let shown: Vec<&str> =
        block.lines().filter(|line| line.contains("shop_") && !line.starts_with('$')).collect();
    assert!(shown.len() > 3);
    for line in shown {
        assert!(golden.lines().any(|known| known == line), "not in the demo's page: {line}");
    }
}

fn business() -> Setup {
    let (postgres, mariadb) = (Postgres::fresh("business"), MariaDb::fresh("business"));
    postgres.run(&read(&example("business/init-postgres.sql")));
    mariadb.run(&read(&example("business/init-mysql.sql")));
    let setup = Setup::new(&read(&example("business/sql-exporter.yaml")))
        .env("POSTGRES_PORT", &postgres.port.to_string())
        .env("POSTGRES_DB", &postgres.database)
        .env("POSTGRES_USER", "postgres")
        .env("POSTGRES_PASSWORD", &postgres.password)
        .env("MYSQL_HOST", "127.0.0.1")
        .env("MYSQL_PORT", &mariadb.port.to_string())
        .env("MYSQL_DB", &mariadb.database)
        .env("MYSQL_USER", "root")
        .env("MYSQL_PASSWORD", &mariadb.password);
    let sqlite = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a file can be made");
    sqlite.execute_batch(&read(&example("business/init-sqlite.sql"))).expect("SQLite writes");
    setup
}

#[test]
fn the_business_figures_are_the_same_from_three_databases() {
    let (text, page) = once(business());
    assert_eq!(only(&text, &["users_", "business_"]), golden("business.prom"));
    for target in ["shop_postgres", "shop_mysql", "shop_sqlite"] {
        let value = |name: &str, labels: [(&str, &str); 2]| {
            page.value(name, &[("target", target), labels[0], labels[1]])
        };
        let private_north = [("region", "north"), ("user_type", "private")];
        assert_eq!(value("users_by_region", private_north), Some(2.0), "{target}");
        assert_eq!(value("users_login_frequency_average", private_north), Some(2.0), "{target}");
        assert_eq!(
            value("users_by_region", [("region", "south"), ("user_type", "private")]),
            Some(1.0),
            "{target}"
        );
        let paid_by_card = [("status", "paid"), ("payment_method", "card")];
        assert_eq!(value("business_orders", paid_by_card), Some(2.0), "{target}");
        assert_eq!(value("business_revenue_euros_total", paid_by_card), Some(149.75), "{target}");
    }
    assert_eq!(page.series("users_by_region").len(), 12);
    assert_eq!(page.series("business_orders").len(), 12);
}

const ORDERS: &str = "CREATE TABLE orders (region varchar(20), status varchar(20), payment_method varchar(20), \
     amount decimal(10,2), note varchar(20));\nINSERT INTO orders VALUES ('eu', 'paid', 'card', 10.25, NULL);\n";

#[test]
fn the_full_configuration_loads_and_runs() {
    let (postgres, mariadb) = (Postgres::fresh("full"), MariaDb::fresh("full"));
    postgres.run(ORDERS);
    mariadb.run(ORDERS);
    let setup = Setup::new(&read(&example("full.yaml")))
        .file("business/stock.sql", &read(&example("business/stock.sql")))
        .file("password", &format!("{}\n", postgres.password))
        .env("SHOP_PASSWORD_FILE", "password")
        .env("SHOP_USER", "postgres")
        .env("SHOP_HOST", "127.0.0.1")
        .env("SHOP_PORT", &postgres.port.to_string())
        .env("SHOP_DB", &postgres.database)
        .env("LEGACY_HOST", "127.0.0.1")
        .env("LEGACY_PORT", &mariadb.port.to_string())
        .env("LEGACY_DB", &mariadb.database)
        .env("LEGACY_USER", "root")
        .env("LEGACY_PASSWORD", &mariadb.password)
        .env("LOCAL_DB", "shop.db");
    let demo = demo();
    std::fs::copy(demo.path().join("shop.db"), setup.path().join("shop.db")).expect("a copy of the demo");
    let (_, page) = once(setup);
    let eu = ("region", "eu");
    for (target, revenue) in [("shop", 10.25), ("legacy", 10.25)] {
        let found = page.value("business_revenue_euros_total", &[("target", target), ("paid_by", "card")]);
        assert_eq!(found, Some(revenue), "{target}");
    }
    assert_eq!(page.value("business_orders", &[("target", "legacy"), eu, ("source", "sql")]), Some(1.0));
    assert_eq!(page.value("business_stock_units", &[("sku", "B-01"), ("kind", "reserved")]), Some(5.0));
    assert_eq!(page.value("business_stock_state", &[("sku", "B-03")]), Some(2.0));
    assert_eq!(page.value("business_stock_on_hand_bucket", &[("le", "10.0")]), Some(2.0));
    assert_eq!(page.value("business_empty_carts", &[]), Some(0.0));
    assert_eq!(page.value("business_customers", &[("region", "south")]), Some(18.0));
}
