//! The HTTP server with a web-config file: TLS, client certificates, logins, answer headers, and all of them replaced
//! while it stands open. The client is curl.

use std::process::Command;
use std::time::Duration;

use crate::exporter::{Exporter, Setup, assert_clean};
use crate::process::{processor_time, wait_for};
use crate::servers::{CANARY, tls_file};

const CONFIG: &str = "
databases: {lite: {driver: sqlite, database: lite.db}}
queries: [{name: one, sql: SELECT 1 AS value, metrics: [{name: one, help: One.}]}]
exporter: {web_config_file: web.yml, http: {head_timeout: 2s}}
";
const TLS: &str = "tls_server_config: {cert_file: cert.pem, key_file: key.pem";
/// A login that is quick to check.
const COST: u32 = 5;

fn password() -> String {
    format!("{CANARY}door")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(tls_file(name)).expect("tests/run makes certificates")
}

/// An exporter with this web-config file, and the certificates of `localhost` beside it.
fn serve(web: &str) -> Exporter {
    let setup = Setup::new(CONFIG).file("web.yml", web).file("lite.db", "");
    let setup = setup.file("cert.pem", &read("server.pem")).file("key.pem", &read("server.key"));
    setup.file("ca.pem", &read("ca.pem")).serve()
}

fn users(names: &[(&str, &str, u32)]) -> String {
    let user = |(name, password, cost): &(&str, &str, u32)| {
        format!("  {name}: {}\n", bcrypt::hash(password, *cost).expect("a hash"))
    };
    format!("basic_auth_users:\n{}", names.iter().map(user).collect::<String>())
}

/// Status (0: no answer), head and body; or why there are none.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn curl(exporter: &Exporter, path: &str, options: &[&str]) -> Answer {
    curl_as(exporter, "https://localhost", path, options)
}

fn curl_as(exporter: &Exporter, site: &str, path: &str, options: &[&str]) -> Answer {
    let port = exporter.address().port();
    let host = site.split_once("://").map_or(site, |(_, host)| host);
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--include"]);
    command.arg("--resolve").arg(format!("{host}:{port}:127.0.0.1"));
    command.arg("--cacert").arg(tls_file("ca.pem")).args(options).arg(format!("{site}:{port}{path}"));
    let output = command.output().expect("tests/run installs curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    assert_clean(path, text.as_bytes());
    let body = if output.status.success() {
        body.to_owned()
    } else {
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    Answer { status, head: head.to_owned(), body }
}

fn rejected(exporter: &Exporter, reason: &str, options: &[&str]) -> f64 {
    let page = curl(exporter, "/-/metrics", options).body;
    let line = format!("sql_exporter_http_requests_rejected_total{{reason=\"{reason}\"}} ");
    let value = page.lines().find_map(|row| row.strip_prefix(&line));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {reason} in {page}"))
}

fn put(exporter: &Exporter, file: &str, text: &str) {
    // As Kubernetes and certbot do: never a half-written file.
    let (whole, new) = (exporter.file(file), exporter.file(&format!("{file}.new")));
    std::fs::write(&new, text).expect("written");
    std::fs::rename(new, whole).expect("renamed");
}

#[test]
fn tls_12_and_13_are_spoken_and_a_lower_bound_holds() {
    let exporter = serve(&format!("{TLS}}}\n"));
    exporter.wait_for_log("listening on https://");
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"], &["--http2"]] {
        let answer = curl(&exporter, "/metrics", version);
        assert_eq!(answer.status, 200, "{version:?}: {}", answer.body);
        assert!(answer.body.contains("one{target=\"lite\"} 1\n"), "{}", answer.body);
    }
    let strict = serve(&format!("{TLS}, min_version: TLS13, curve_preferences: [X25519]}}\n"));
    assert_eq!(curl(&strict, "/metrics", &["--tls-max", "1.2"]).status, 0);
    assert_eq!(curl(&strict, "/metrics", &[]).status, 200);
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let old = serve(&format!("{TLS}, max_version: TLS12, cipher_suites: [{suite}]}}\n"));
    assert_eq!(curl(&old, "/metrics", &["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"]).status, 0);
    assert_eq!(curl(&old, "/metrics", &["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"]).status, 200);
}

#[test]
fn plain_text_on_a_tls_port_is_told_and_counted() {
    let exporter = serve(&format!("{TLS}}}\n"));
    let answer = curl_as(&exporter, "http://localhost", "/metrics", &[]);
    assert_eq!((answer.status, answer.body.as_str()), (400, "this port speaks TLS: use https://\n"));
    // A port check is not a failed handshake.
    drop(std::net::TcpStream::connect(exporter.address()).expect("accepted"));
    assert_eq!(rejected(&exporter, "tls", &[]), 1.0);
}

#[test]
fn a_client_certificate_is_demanded_and_verified() {
    let exporter =
        serve(&format!("{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}}\n"));
    let shown = |name: &str| tls_file(name).to_str().expect("UTF-8").to_owned();
    let (cert, key) = (shown("client.pem"), shown("client.key"));
    let with = ["--cert", &cert, "--key", &key];
    assert_eq!(curl(&exporter, "/metrics", &with).status, 200);
    assert_eq!(curl(&exporter, "/metrics", &[]).status, 0);
    let (stranger, its_key) = (shown("stranger-ca.pem"), shown("stranger-ca.key"));
    assert_eq!(curl(&exporter, "/metrics", &["--cert", &stranger, "--key", &its_key]).status, 0);
    assert_eq!(rejected(&exporter, "tls", &with), 2.0);
}

#[test]
fn logins_are_checked_but_not_for_health() {
    let exporter =
        serve(&format!("{TLS}}}\n{}", users(&[("prom", &password(), COST), ("other", "x", COST)])));
    let login = format!("prom:{}", password());
    let good = ["--user", login.as_str()];
    assert_eq!(curl(&exporter, "/metrics", &good).status, 200);
    assert_eq!(curl(&exporter, "/-/healthy", &[]).status, 200);
    assert_eq!(curl(&exporter, "/-/healthy", &[]).status, 200);
    let refused: [&[&str]; 6] = [
        &[],
        &["--user", "prom:wrong"],
        &["--user", "nobody:x"],
        &["--user", "prom:"],
        &["--header", "Authorization: Basic !!!"],
        &["--header", "Authorization: TargetLabels x"],
    ];
    for options in refused {
        let answer = curl(&exporter, "/metrics?x=/-/healthy", options);
        assert_eq!(answer.status, 401, "{options:?}");
        assert!(answer.head.contains("WWW-Authenticate: Basic realm=\"sql-exporter\""), "{}", answer.head);
    }
    assert_eq!(curl(&exporter, "/-/healthy/../metrics", &["--path-as-is"]).status, 401);
    assert_eq!(rejected(&exporter, "auth", &good), 7.0);
}

#[test]
fn a_login_that_succeeded_costs_no_hash_again_and_strangers_cost_as_much_as_wrong_passwords() {
    let exporter = serve(&users(&[("prom", &password(), 12)]));
    let login = format!("prom:{}", password());
    let took = |options: &[&str], status: u16| {
        // Not the time on a clock: what a hash costs does not depend on what else the machine does.
        let before = processor_time(exporter.pid());
        let answer = curl_as(&exporter, "http://localhost", "/-/metrics", options);
        assert_eq!(answer.status, status, "{options:?}: {}", answer.body);
        processor_time(exporter.pid()) - before
    };
    let first = took(&["--user", &login], 200);
    let again = (0..5).map(|_| took(&["--user", &login], 200)).min().expect("some");
    assert!(again < first / 3, "{first:?}, then {again:?}");
    let fastest = |user: &str| (0..3).map(|_| took(&["--user", user], 401)).min().expect("some");
    let (wrong, stranger) = (fastest("prom:wrong"), fastest("nobody:wrong"));
    assert!(stranger > wrong / 2 && wrong > stranger / 2, "{wrong:?} against {stranger:?}");
    assert!(stranger > again * 3, "no hash was made: {stranger:?} against {again:?}");
}

#[test]
fn certificates_and_users_change_with_their_files_and_no_scrape_is_dropped() {
    let exporter = serve(&format!("{TLS}}}\n{}", users(&[("prom", &password(), COST)])));
    let login = format!("prom:{}", password());
    let good = ["--user", login.as_str()];
    // The name decides which certificate fits, so one of the two sites always answers.
    let seen = |site: &str| curl_as(&exporter, site, "/metrics", &good).status == 200;
    assert!(seen("https://localhost") && !seen("https://elsewhere.example"));
    put(&exporter, "key.pem", &read("other.key"));
    // The key fits no certificate yet: what was there stays.
    exporter.wait_for_log_while("key_file", || assert!(seen("https://localhost")));
    put(&exporter, "cert.pem", &read("other.pem"));
    wait_for("the new certificate", || {
        let (old, new) = (seen("https://localhost"), seen("https://elsewhere.example"));
        assert!(old || new || seen("https://elsewhere.example"), "a scrape was dropped");
        new.then_some(())
    });

    put(&exporter, "web.yml", &format!("{TLS}}}\n{}", users(&[("prom", "new", COST)])));
    let status =
        |login: &str| curl_as(&exporter, "https://elsewhere.example", "/metrics", &["--user", login]).status;
    wait_for("the new password", || (status("prom:new") == 200).then_some(()));
    assert_eq!(status(&login), 401);

    put(&exporter, "web.yml", "basic_auth_users: {prom: plain}\n");
    exporter.wait_for_log_while("is not a bcrypt hash", || assert_eq!(status("prom:new"), 200));
    put(&exporter, "web.yml", &users(&[("prom", "new", COST)]));
    exporter.wait_for_log_while("until a restart", || assert_eq!(status("prom:new"), 200));
}

#[test]
fn configured_headers_are_on_every_answer_and_replace_ours() {
    let headers = "http_server_config:\n  http2: true\n  headers:\n    Strict-Transport-Security: max-age=1\n    X-Frame-Options: sameorigin\n    X-XSS-Protection: ''\n";
    let exporter = serve(&format!("{headers}{}", users(&[("prom", &password(), COST)])));
    let login = format!("prom:{}", password());
    for (path, options, status) in
        [("/", &["--user", login.as_str()][..], 200), ("/", &[], 401), ("/x", &["--user", &login], 404)]
    {
        let answer = curl_as(&exporter, "http://localhost", path, options);
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("\r\nStrict-Transport-Security: max-age=1"), "{}", answer.head);
        assert_eq!(
            answer.head.to_ascii_lowercase().matches("x-frame-options: ").count(),
            1,
            "{}",
            answer.head
        );
        assert!(answer.head.contains("X-Frame-Options: sameorigin"), "{}", answer.head);
    }
}

#[test]
fn the_health_command_speaks_tls_where_the_exporter_does() {
    let demanding = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem";
    for more in ["".to_owned(), format!(", {demanding}"), format!(", {demanding}, max_version: TLS12")] {
        let exporter = serve(&format!("{TLS}{more}}}\n"));
        let listen = exporter.address().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sql-exporter"));
        command.args(["health", "-c"]).arg(exporter.file("sql-exporter.yaml")).args(["--listen", &listen]);
        let output = command.output().expect("it runs");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_str()), (Some(0), "healthy\n"), "{more}");
    }
}

#[test]
fn a_stalled_handshake_ends_and_is_counted() {
    use std::io::{Read as _, Write as _};
    let exporter = serve(&format!("{TLS}}}\n"));
    let mut stream = std::net::TcpStream::connect(exporter.address()).expect("accepted");
    stream.write_all(&[22, 3, 1]).expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    assert_eq!(stream.read(&mut [0; 16]).expect("closed in good order"), 0);
    assert_eq!(rejected(&exporter, "tls", &[]), 1.0);
}

/// What a web-config file is while it is rewritten: the first so many bytes of it, or none at all, or away.
#[test]
fn no_half_written_file_takes_tls_certificates_or_logins_away() {
    let web = format!(
        "{}tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: ca.pem\n  \
         client_auth_type: RequireAndVerifyClientCert\n",
        users(&[("prom", &password(), COST), ("other", "x", COST)])
    );
    let exporter = serve(&web);
    let shown = |name: &str| tls_file(name).to_str().expect("UTF-8").to_owned();
    let (cert, key, login) = (shown("client.pem"), shown("client.key"), format!("prom:{}", password()));
    let all = ["--cert", &cert, "--key", &key, "--user", &login];
    let protected = |cut: &str| {
        assert_eq!(curl(&exporter, "/-/metrics", &all).status, 200, "after {cut:?}");
        assert_eq!(curl(&exporter, "/-/metrics", &all[..4]).status, 401, "after {cut:?}");
        assert_eq!(curl(&exporter, "/-/metrics", &all[4..]).status, 0, "after {cut:?}");
        assert_eq!(
            curl_as(&exporter, "http://localhost", "/-/metrics", &all[4..]).status,
            400,
            "after {cut:?}"
        );
    };
    // In place, as an editor or a full disk does it. All cuts of a login are in the unit tests.
    let ends = web.char_indices().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1);
    let cuts: Vec<usize> = [0, 5, 17].into_iter().chain(ends).filter(|at| *at < web.len()).collect();
    for cut in cuts {
        std::fs::write(exporter.file("web.yml"), &web[..cut]).expect("written");
        std::thread::sleep(Duration::from_millis(210));
        protected(&web[..cut]);
    }
    exporter.wait_for_log("are gone from the file; the old settings stay until a restart");
    exporter.wait_for_log("tls_server_config");
    std::fs::remove_file(exporter.file("web.yml")).expect("removed");
    std::thread::sleep(Duration::from_millis(210));
    protected("no file");
    // Whole again, through a link to another folder: what is new in it counts.
    std::fs::create_dir(exporter.file("data")).expect("made");
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        std::fs::copy(exporter.file(name), exporter.file("data").join(name)).expect("copied");
    }
    put(&exporter, "data/web.yml", &web.replace("other", "third"));
    std::os::unix::fs::symlink("data/web.yml", exporter.file("web.yml")).expect("linked");
    let third = ["--cert", &cert, "--key", &key, "--user", "third:x"];
    wait_for("the whole file", || (curl(&exporter, "/-/metrics", &third).status == 200).then_some(()));
    protected("the whole file");
}

/// At the start there is nothing to keep: the file is taken as it is, as other exporters do, and the log says so.
#[test]
fn a_file_that_protects_nothing_at_the_start_is_a_warning_and_users_in_it_count_later() {
    let exporter = serve("basic_auth_users:\n");
    exporter.wait_for_log("web.yml: the file has neither TLS nor users: everybody has access");
    let status = || curl_as(&exporter, "http://localhost", "/config", &[]).status;
    assert_eq!(status(), 200);
    put(&exporter, "web.yml", &users(&[("prom", &password(), COST)]));
    wait_for("the login to be asked for", || (status() == 401).then_some(()));
}

/// The port never answers without a login while its file is cut and made whole again and again.
#[test]
fn a_file_that_is_rewritten_under_load_never_opens_the_port() {
    let web = users(&[("prom", &password(), COST)]);
    let exporter = serve(&web);
    let login = format!("prom:{}", password());
    for _ in 0..4 {
        for cut in ["", "basic_auth_users:", "basic_auth_users:\n", "# soon\n", "{}\n", &web[..40]] {
            std::fs::write(exporter.file("web.yml"), cut).expect("written");
            for _ in 0..3 {
                assert_eq!(curl_as(&exporter, "http://localhost", "/config", &[]).status, 401, "{cut:?}");
                let status = curl_as(&exporter, "http://localhost", "/config", &["--user", &login]).status;
                assert_eq!(status, 200, "{cut:?}");
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        std::fs::write(exporter.file("web.yml"), &web).expect("written");
    }
}

/// Counted in the exporter's own processor time: what else the machine does is in no measure.
#[test]
fn a_wrong_login_costs_the_same_for_every_user() {
    let exporter = serve(&users(&[("cheap", &password(), COST), ("costly", "x", 11)]));
    let cost = |user: &&str| {
        let before = processor_time(exporter.pid());
        for _ in 0..3 {
            assert_eq!(curl_as(&exporter, "http://localhost", "/-/metrics", &["--user", user]).status, 401);
        }
        processor_time(exporter.pid()) - before
    };
    let costs: Vec<Duration> = ["cheap:wrong", "costly:wrong", "nobody:wrong"].iter().map(cost).collect();
    let (least, most) = (costs.iter().min().expect("some"), costs.iter().max().expect("some"));
    assert!(*most < *least * 3 / 2, "{costs:?}");
}

/// Wrong logins without a pause, and more of them than may wait.
#[test]
fn a_flood_of_wrong_logins_locks_nobody_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let exporter = serve(&users(&[("prom", &password(), 8), ("late", "x", 8)]));
    let over = AtomicBool::new(false);
    let ask = |login: &str| {
        let authorization = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, login);
        exporter.get_with("/-/metrics", &[("Authorization", &format!("Basic {authorization}"))]).status
    };
    std::thread::scope(|scope| {
        for flood in 0..40 {
            let (over, ask) = (&over, &ask);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    assert!([401, 503].contains(&ask(&format!("guess{}:wrong", flood % 4))));
                }
            });
        }
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("the flood", || (ask("guess0:wrong") == 503).then_some(()));
            for login in [format!("prom:{}", password()), "late:x".to_owned()] {
                wait_for("a first login amid the flood", || (ask(&login) == 200).then_some(()));
                (0..20).for_each(|_| assert_eq!(ask(&login), 200, "a login that is known"));
            }
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(failure) = served {
            std::panic::resume_unwind(failure);
        }
    });
}
