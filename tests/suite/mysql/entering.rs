//! Logins and goodbyes as real servers count them, and the login plugins that a MariaDB has.

use mysql::prelude::Queryable;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsMode;
use sql_exporter::error::Reason;
use sql_exporter::secret::Secret;

use super::{LONG, login, open};
use crate::exporter::Setup;
use crate::process::wait_for;
use crate::recorder::run;
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

/// A counter of the whole server.
fn status(server: &MariaDb, name: &str) -> u64 {
    let row: Option<(String, u64)> =
        server.client().query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap();
    row.unwrap().1
}

/// Until the server knows that a session ended: by its own count of open ones, ours excluded.
fn all_closed(server: &MariaDb) {
    wait_for("the sessions to end", || (status(server, "Threads_connected") == 1).then_some(()));
}

const CONFIG: &str = "queries:\n- {name: q, database: db, sql: SELECT 1 AS value, metrics: [{name: q}]}\n";

#[test]
fn a_login_is_one_connection_and_no_handshake_is_broken_off() {
    for options in [&["--skip-ssl"][..], &[]] {
        let own = OwnMariaDb::start(options);
        let server = own.access();
        let mut login = login(server);
        login.tls.mode = TlsMode::Prefer;
        let count = || (status(server, "Connections"), status(server, "Aborted_connects"));
        let before = count();
        for _ in 0..3 {
            drop(open(login.clone()).unwrap());
        }
        all_closed(server);
        let after = count();
        // Each question of ours is a connection, too: those of `all_closed` are not counted, but at least one is.
        assert_eq!(after.1, before.1, "{options:?}");
        login.password = PasswordSource::Given(Secret::new("c4nary-wrong".to_owned()));
        let error =
            sql_exporter::driver::mysql::endpoint(login).connect(Deadline::within(LONG)).err().unwrap();
        assert_eq!(error.reason(), Reason::Auth);
        // The server counts it a moment after its answer.
        wait_for("the refused login to be counted", || (count().1 == after.1 + 1).then_some(()));
    }
}

#[test]
fn every_orderly_end_says_goodbye() {
    let own = OwnMariaDb::start(&[]);
    let server = own.access();
    let config = format!("databases:\n  db: {}\n{CONFIG}", server.entry_with("tls: {mode: prefer}"));
    let aborted = || status(server, "Aborted_clients");
    let before = aborted();
    // Dropped by a pool, by a login whose session_sql fails, by a cancel.
    let mut session = open(login(server)).unwrap();
    run(&mut *session, "SELECT 1", LONG).0.good();
    session.canceller().cancel(Deadline::within(LONG)).unwrap();
    drop(session);
    let mut failing = login(server);
    failing.session_sql = vec!["SELECT nothing".to_owned()];
    assert!(open(failing).is_err());
    // At the end of `--once`, and of a server.
    let once = Setup::new(&config).once();
    assert_eq!(once.code(), 0, "{}", once.errors());
    let exporter = Setup::new(&config).serve();
    assert!(exporter.metrics().contains("\nq{"));
    exporter.stop("TERM");
    all_closed(server);
    assert_eq!(aborted(), before);
}

#[test]
fn mariadb_s_ed25519_is_a_login_like_another() {
    let own = OwnMariaDb::start(&["--plugin-load-add=auth_ed25519"]);
    let server = own.access();
    server.run("CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('c4nary-ed')");
    let mut login = login(server);
    login.username = Some("ed".to_owned());
    login.database = None;
    login.password = PasswordSource::Given(Secret::new("c4nary-ed".to_owned()));
    // A nonce of 32 bytes ends with a zero once in 256 times.
    for _ in 0..3 {
        run(&mut *open(login.clone()).unwrap(), "SELECT 1", LONG).0.good();
    }
    login.password = PasswordSource::Given(Secret::new("c4nary-other".to_owned()));
    let error = sql_exporter::driver::mysql::endpoint(login).connect(Deadline::within(LONG)).err().unwrap();
    assert_eq!(error.reason(), Reason::Auth, "{error}");
}

#[test]
fn a_user_with_very_many_grants_is_told_the_first_ones() {
    let own = OwnMariaDb::start(&[]);
    own.access().run(
        "CREATE USER many@'%';\n\
         INSERT INTO mysql.tables_priv (host, db, user, table_name, table_priv) \
            SELECT '%', REPEAT('d', 60), 'many', CONCAT(REPEAT('t', 50), seq), 'Insert' FROM seq_1_to_20000;\n\
         FLUSH PRIVILEGES",
    );
    let mut login = login(own.access());
    login.username = Some("many".to_owned());
    login.database = None;
    login.password = PasswordSource::None;
    let mut session = open(login).unwrap();
    let told = session.privileges(Deadline::within(LONG)).unwrap();
    assert!(told.risks[0].contains("many@% has INSERT on `dddd"), "{:?}", told.risks);
    assert_eq!(told.risks.last().unwrap(), "many@% has 19992 more privileges of that kind");
    run(&mut *session, "SELECT 1", LONG).0.good();
}
