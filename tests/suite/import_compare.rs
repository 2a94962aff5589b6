//! `import --compare`: against scripted HTTP servers, against this exporter behind TLS and a login, and (`real`) against the
//! exporters that people replace.

mod real;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::exporter::{Exporter, Output, Setup};
use crate::process::{bound, free_port};
use crate::servers::{CANARY, tls_file};

/// Two families, and a label of the target's own.
const CONFIG: &str = "
databases: {lite: {driver: sqlite, database: lite.db, labels: {env: test}}}
queries:
  - name: orders
    sql: SELECT 'north' AS region, 3 AS orders, 1.5 AS euros UNION ALL SELECT 'south', 4, 2.5
    metrics:
      - {name: shop_orders, help: Orders., labels: [region], value_column: orders}
      - {name: shop_euros_total, help: Euros., type: counter, labels: [region], value_column: euros}
";

const SAME: &str = "\
# HELP shop_euros_total Money.
# TYPE shop_euros_total counter
shop_euros_total{env=\"test\",region=\"south\"} 2.5
shop_euros_total{env=\"test\",region=\"north\"} 1.5
# TYPE shop_orders gauge
shop_orders{region=\"north\",env=\"test\"} 3
shop_orders{region=\"south\",env=\"test\"} 4
# TYPE go_threads gauge
go_threads 9
";

/// The same for OpenMetrics.
const SAME_OPENMETRICS: &str = "\
# TYPE shop_euros counter
shop_euros_total{env=\"test\",region=\"south\"} 2.5 # {trace=\"1\"} 1
shop_euros_created{env=\"test\",region=\"south\"} 1e9
shop_euros_total{env=\"test\",region=\"north\"} 1.5
# TYPE shop_orders gauge
shop_orders{region=\"north\",env=\"test\"} 3.0
shop_orders{region=\"south\",env=\"test\"} 4.0
# EOF
";

/// An HTTP server that gives each request, whose head it passes on, to `answer`.
struct Scripted {
    port: u16,
    heads: Receiver<String>,
}

impl Scripted {
    fn new(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, heads) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.extend_from_slice(&byte);
                }
                let _ = sender.send(String::from_utf8_lossy(&head).to_lowercase());
                answer(&mut stream);
            }
        });
        Scripted { port, heads }
    }

    /// Always the same page.
    fn page(headers: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::response("200 OK", headers, body)
    }

    fn response(status: &str, headers: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Self::new(move |stream| {
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.port)
    }
}

const OPENMETRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
const TEXT: &str = "Content-Type: text/plain; version=0.0.4\r\n";

fn compared_with(config: &str, url: &str, options: &[&str]) -> Output {
    let setup = Setup::new(config).file("lite.db", "");
    setup.args(&["import", "--compare", url]).args(options).output()
}

fn compared(server: &Scripted, options: &[&str]) -> Output {
    compared_with(CONFIG, &server.url(), options)
}

/// The comparison cannot be made, with these words on stderr and nothing on stdout.
fn refused(output: &Output, words: &str) {
    assert_eq!((output.code(), output.text()), (2, ""), "{}", output.errors());
    assert!(output.errors().contains(words), "{words:?} is not in {}", output.errors());
}

#[test]
fn the_same_page_in_either_format_is_equal() {
    let output = compared(&Scripted::page(TEXT, SAME), &[]);
    let expected = "\
no difference in 2 families with 4 series
not compared: 1 family of the old exporter about itself (go_*)
not a difference: the help text of 2 families (shop_euros_total, shop_orders)
";
    assert_eq!((output.code(), output.text()), (0, expected), "{}", output.errors());
    let output = compared(&Scripted::page(OPENMETRICS, SAME_OPENMETRICS), &[]);
    assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
    assert!(output.text().contains("1 sample ending in _created"), "{}", output.text());
}

#[test]
fn what_differs_is_a_table() {
    let page = SAME
        .replace(
            "shop_orders{region=\"north\",env=\"test\"} 3",
            "shop_orders{region=\"north\",env=\"test\"} 30",
        )
        .replace("shop_orders{region=\"south\"", "shop_orders{region=\"west\"")
        .replace("# TYPE shop_euros_total counter", "# TYPE shop_euros_total gauge")
        .replace("shop_euros_total{env", "shop_euros_total{server=\"db\",env")
        + "shop_stock 1\n";
    let output = compared(&Scripted::page(TEXT, page), &[]);
    let expected = "\
differs  of                                      old                ours
type     shop_euros_total                        gauge              counter
label    shop_euros_total                        server             -
value    shop_orders{env=\"test\",region=\"north\"}  30                 3
series   shop_orders{env=\"test\",region=\"south\"}  -                  4
series   shop_orders{env=\"test\",region=\"west\"}   4                  -
family   shop_stock                              unknown, 1 series  -

6 differences in 3 families with 6 series
";
    assert_eq!((output.code(), output.text().starts_with(expected)), (1, true), "{}", output.text());
}

#[test]
fn what_is_ignored_or_near_is_not_a_difference() {
    let page = SAME.replace("} 3\n", "} 3.01\n").replace("env=\"test\"", "env=\"live\"") + "other 1\n";
    let server = Scripted::page(TEXT, page);
    assert_eq!(compared(&server, &[]).code(), 1);
    let most = ["--ignore-label=env", "--ignore", "oth*"];
    let output = compared(&server, &most);
    assert!(output.text().contains("1 difference in 2 families"), "{}", output.text());
    let output = compared(&server, &[&most[..], &["--tolerance", "1%", "--ignore", "absent"]].concat());
    assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
    assert!(output.text().contains("not compared: 1 sample by --ignore\n--ignore absent matches nothing"));
}

#[test]
fn a_page_in_chunks_as_gzip_or_elsewhere_is_read() {
    let chunked = Scripted::new(|stream| {
        let head = format!("HTTP/1.1 200 OK\r\n{TEXT}Transfer-Encoding: chunked\r\n\r\n");
        let chunks = SAME
            .as_bytes()
            .chunks(100)
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        let body: Vec<u8> = chunks.flatten().chain(*b"0\r\n\r\n").collect();
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
    });
    assert_eq!(compared(&chunked, &[]).code(), 0);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(SAME.as_bytes()).expect("memory");
    let gzip = gzip.finish().expect("memory");
    assert_eq!(compared(&Scripted::page("Content-Encoding: gzip\r\n", gzip), &[]).code(), 0);
    let target = Scripted::page(TEXT, SAME);
    let moved = Scripted::response("302 Found", &format!("Location: {}\r\n", target.url()), "");
    assert_eq!(compared(&moved, &[]).code(), 0);
}

#[test]
fn the_request_has_the_login_of_the_url() {
    let server = Scripted::page(TEXT, SAME);
    let url = format!("http://scraper:{CANARY}p%40ss@127.0.0.1:{}", server.port);
    assert_eq!(compared_with(CONFIG, &url, &["--log-level=trace"]).code(), 0);
    let head = server.heads.recv_timeout(Duration::from_secs(5)).expect("a request");
    // `printf 'scraper:c4nary-p@ss' | base64`, in lower case.
    assert!(head.contains("authorization: basic c2nyyxblcjpjng5hcnktcebzcw=="), "{head}");
    assert!(head.starts_with("get /metrics http/1.1\r\n"), "a URL without a path means /metrics: {head}");
    assert!(head.contains("accept: application/openmetrics-text"), "{head}");

    let server = Scripted::response("401 Unauthorized", "", "");
    refused(
        &compared(&server, &[]),
        "/metrics answers 401 Unauthorized; write USER:PASSWORD@ before the host",
    );
    let url = format!("http://scraper:{CANARY}x@127.0.0.1:{}", server.port);
    refused(&compared_with(CONFIG, &url, &[]), "check user and password in the URL");
}

#[test]
fn a_page_that_cannot_be_had_is_exit_2() {
    let closed = format!("http://127.0.0.1:{}/metrics", free_port());
    refused(&compared_with(CONFIG, &closed, &[]), &format!("error: {closed}: Connection refused"));
    refused(&compared(&Scripted::response("404 Not Found", "", ""), &[]), "answers 404 Not Found");
    refused(
        &compared(&Scripted::page("Content-Type: text/html\r\n", "<html>"), &[]),
        "Content-Type is text/html",
    );
    let faulty = Scripted::page(TEXT, format!("{SAME}shop_orders{{region=north}} 1\n"));
    refused(
        &compared(&faulty, &[]),
        "cannot be read: line 10: the value of label region is not in quotes: shop_orders{region=north} 1",
    );
    let cut = SAME_OPENMETRICS.replace("# EOF\n", "");
    refused(&compared(&Scripted::page(OPENMETRICS, cut), &[]), "no last line `# EOF`: it is cut off");
    refused(&compared(&Scripted::page(TEXT, *b"a 1\n\xff"), &[]), "invalid utf-8");
    let garbage = Scripted::new(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n")));
    assert_eq!(compared(&garbage, &[]).code(), 2);
    // A body that ends before its length.
    let short =
        Scripted::new(|stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n")));
    assert_eq!(compared(&short, &[]).code(), 2);
}

#[test]
fn a_page_is_bounded_in_time_and_size() {
    let endless = Scripted::new(|stream| {
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{TEXT}\r\n").as_bytes());
        while stream.write_all(&[b'\n'; 1 << 16]).is_ok() {}
    });
    refused(&compared(&endless, &[]), "is longer than 64 MiB");
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    (0..65).for_each(|_| bomb.write_all(&vec![b'\n'; 1 << 20]).expect("memory"));
    let bomb = Scripted::page("Content-Encoding: gzip\r\n", bomb.finish().expect("memory"));
    refused(&compared(&bomb, &[]), "is longer than 64 MiB");
    let silent = Scripted::new(|stream| drop(stream.read(&mut [0])));
    let dripping = Scripted::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b"\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for server in [silent, dripping] {
        let start = Instant::now();
        refused(&compared(&server, &["--timeout", "1s"]), "has not answered within 1s");
        assert!(start.elapsed() < bound(Duration::from_secs(2)), "{:?}", start.elapsed());
    }
}

#[test]
fn queries_of_ours_that_fail_are_told() {
    let failing =
        format!("{CONFIG}  - {{name: bad, sql: SELECT x, metrics: [{{name: bad, value_column: x}}]}}\n");
    let server = Scripted::page(TEXT, SAME);
    let output = compared_with(&failing, &server.url(), &[]);
    assert_eq!(output.code(), 1, "{}", output.text());
    assert!(output.text().contains("no difference in 2 families"), "{}", output.text());
    assert!(output.text().ends_with("our scrape is not complete: the log says which queries failed\n"));
    assert!(output.errors().contains("query bad"), "{}", output.errors());
    let broken = CONFIG.replace("SELECT 'north'", "SELECT nothing, 'north'");
    refused(&compared_with(&broken, &server.url(), &[]), "no query of this configuration succeeded");
}

#[test]
fn wrong_options_are_one_clear_line() {
    let cases: [(&[&str], &str); 6] = [
        (&["import"], "error: no file to convert is named; name the files"),
        (
            &["import", "--compare", "localhost:9187"],
            "error: --compare: the value is not a URL; write http://HOST",
        ),
        (&["import", "--compare", "ftp://a"], "error: --compare: ftp:// is neither http:// nor https://"),
        (&["import", "--compare", "http://a", "--tolerance", "1"], "\"1\" is not a tolerance: write a part"),
        (&["import", "--compare", "http://a", "--ignore", "a["], "error: --ignore \"a[\" is not a pattern"),
        (&["import", "--compare", "http://a", "--timeout", "0"], "0 leaves no time"),
    ];
    for (arguments, expected) in cases {
        let output = Setup::new(CONFIG).file("lite.db", "").args(arguments).output();
        assert_eq!(output.code(), 2, "{arguments:?}");
        assert!(output.errors().contains(expected), "{}", output.errors());
    }
}

/// This exporter as the old one, behind TLS and a login, with a page that is long enough for gzip.
#[test]
fn an_exporter_with_tls_and_a_login_is_compared() {
    let read = |name: &str| std::fs::read_to_string(tls_file(name)).expect("tests/run makes certificates");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
      SELECT i AS label, i AS value FROM n";
    let config = format!(
        "databases: {{lite: {{driver: sqlite, database: lite.db}}}}
queries: [{{name: many, sql: {many:?}, metrics: [{{name: many, help: Many., labels: [label]}}]}}]\n"
    );
    let web = format!(
        "tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\nbasic_auth_users:\n  scraper: {}\n",
        bcrypt::hash(format!("{CANARY}door"), 5).expect("a hash")
    );
    let with_tls = format!("{config}exporter: {{web_config_file: web.yml}}\n");
    let setup = Setup::new(&with_tls).file("web.yml", &web).file("lite.db", "");
    let old: Exporter =
        setup.file("cert.pem", &read("server.pem")).file("key.pem", &read("server.key")).serve();
    let port = old.address().port();
    let compare = |login: &str, ca: Option<&str>| {
        let url = format!("https://{login}localhost:{port}/metrics");
        let setup = Setup::new(&config).file("lite.db", "").args(&["import", "--compare", &url]);
        let ca = ca.map(|name| tls_file(name).to_string_lossy().into_owned());
        match ca {
            Some(ca) => setup.env("SSL_CERT_FILE", &ca).output(),
            None => setup.output(),
        }
    };
    let login = format!("scraper:{CANARY}door@");
    let output = compare(&login, Some("ca.pem"));
    // Both have the label `target`, with the same value.
    assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
    assert!(output.text().starts_with("no difference in 1 family with 200 series\n"), "{}", output.text());
    assert!(output.text().contains("about itself (process_*, sql_exporter_*)"), "{}", output.text());
    refused(&compare("", Some("ca.pem")), "answers 401 Unauthorized");
    let stranger = compare(&login, Some("stranger-ca.pem"));
    refused(&stranger, "/metrics: TLS: invalid peer certificate: UnknownIssuer; SSL_CERT_FILE=FILE names");
    refused(&compare(&login, None), "invalid peer certificate");
}
