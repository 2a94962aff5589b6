//! `docs/getting-started.md`, walked as a reader would: from `init` to a Prometheus that answers with the reader's own
//! series. Only addresses are replaced, since the servers are private ones.

use std::path::Path;

use super::Page;
use super::blocks::{run, run_script};
use crate::exporter::Setup;
use crate::process::{folder, wait_for};
use crate::prometheus::Prometheus;
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{MariaDb, Postgres};

const TABLE: &str = "CREATE TABLE orders (region varchar(20), amount int)";
const ROWS: &str = "INSERT INTO orders VALUES ('eu', 1), ('eu', 2), ('us', 3)";

fn page() -> Page {
    Page::read("docs/getting-started.md")
}

impl Page {
    fn replaced(self, from: &str, to: &str) -> Page {
        assert!(self.text.contains(from), "{} does not name {from}", self.name);
        Page { text: self.text.replace(from, to), ..self }
    }

    /// The text of the only block of this kind that holds `part`.
    fn block(&self, info: &str, part: &str) -> String {
        let blocks =
            self.blocks().into_iter().filter(|block| block.info == info && block.text.contains(part));
        let [block] = <[_; 1]>::try_from(blocks.collect::<Vec<_>>())
            .unwrap_or_else(|found| panic!("{} blocks `{info}` of {} hold {part}", found.len(), self.name));
        block.text
    }

    /// The URL in backquotes that begins with this.
    fn url(&self, scheme: &str) -> String {
        let start =
            self.text.find(&format!("`{scheme}:")).unwrap_or_else(|| panic!("no URL of {scheme}")) + 1;
        self.text[start..].split('`').next().unwrap_or_default().to_owned()
    }
}

#[test]
fn the_page_leads_from_init_to_a_prometheus_that_has_ones_own_series() {
    let server = OwnPostgres::start(&[]);
    server.access().run("CREATE DATABASE shop");
    let shop = Postgres { database: "shop".to_owned(), ..server.access().clone() };
    shop.run(TABLE);
    shop.run(ROWS);
    let page = page().replaced("localhost:5432", &format!("127.0.0.1:{}", shop.port));
    shop.run(&page.block("sql", "CREATE ROLE"));
    let setup = Setup::empty();
    run(&page, setup.path(), &[]);

    let serve = page.block("sh", "sql-exporter -c");
    let arguments: Vec<&str> = serve.split_whitespace().skip(1).collect();
    let exporter = setup.args(&arguments).env("SHOP_PASSWORD", "change-me").serve();
    let config =
        page.block("yaml", "scrape_configs").replace("localhost:9399", &exporter.address().to_string());
    let prometheus = Prometheus::with_files(
        &format!("global: {{scrape_interval: 5s, scrape_timeout: 5s}}\n{config}"),
        &[],
    );
    let orders = wait_for("Prometheus to have the reader's series", || {
        let series = prometheus.query("sort(shop_orders{target=\"shop\"})");
        (!series.is_empty()).then_some(series)
    });
    let value =
        |index: usize| (orders[index]["metric"]["region"].as_str(), orders[index]["value"][1].as_str());
    assert_eq!(orders.len(), 2);
    assert_eq!((value(0), value(1)), ((Some("us"), Some("1")), (Some("eu"), Some("2"))));
    // What `init` wrote has no query that fails, and the example is about the largest table.
    // On a busy machine the first scrapes may be too slow for Prometheus' timeout here.
    wait_for("all queries to be good", || {
        prometheus.query("sql_exporter_query_success == 0").is_empty().then_some(())
    });
    assert_eq!(prometheus.query("sql_exporter_target_up")[0]["value"][1], "1");
    assert!(!prometheus.query("{target=\"shop\", __name__=~\".*orders.*\"}").is_empty());
}

/// The steps of the page that are the same on every database, for a URL that the page names.
fn first_steps(url: &str, place: &Path) {
    let script = format!(
        "sql-exporter init '{url}' -o shop.yaml
        sql-exporter check -c shop.yaml
        sql-exporter test -c shop.yaml
        sql-exporter -c shop.yaml --once"
    );
    run_script(&script, place, &[("SHOP_PASSWORD", "change-me".to_owned())]);
}

#[test]
fn the_user_of_the_page_is_enough_on_mariadb() {
    let server = OwnMariaDb::start(&[]);
    server.access().run("CREATE DATABASE shop");
    let shop = MariaDb { database: "shop".to_owned(), ..server.access().clone() };
    shop.run(TABLE);
    shop.run(ROWS);
    let page = page();
    for statement in page.block("mysql", "CREATE USER").split_terminator(";\n") {
        shop.run(statement);
    }
    let url = page.url("mysql").replace("localhost:3306", &format!("127.0.0.1:{}", shop.port));
    first_steps(&url, folder().path());
}

#[test]
fn the_url_of_the_page_is_enough_for_sqlite() {
    let place = folder();
    let database = rusqlite::Connection::open(place.path().join("shop.db")).expect("opened");
    database.execute_batch(&format!("{TABLE}; {ROWS}")).expect("made");
    first_steps(&page().url("sqlite"), place.path());
}
