//! What a server is to its clients, a primary or a standby, holds for the life of a session.

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::{Health, Job, Session, Sql};

use super::{LONG, assert_clean, login, open, refused, value};
use crate::checker::checked;
use crate::exporter::Exporter;
use crate::process::wait_for;
use crate::recorder::{Recorder, job, run};
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

fn wanting(server: &Postgres, attrs: &str) -> ConnectionConfig {
    let mut login = login(server);
    login.params = vec![("target_session_attrs".to_owned(), attrs.to_owned())];
    login
}

fn promote(server: &Postgres) {
    server.run("SELECT pg_promote()");
    wait_for("the promotion", || {
        let row = server.client().query_one("SELECT pg_is_in_recovery()", &[]).ok()?;
        (!row.get::<_, bool>(0)).then_some(())
    });
}

fn says_why(health: &Health) {
    let Health::Lost(error) = health else { panic!("{health:?}") };
    assert!(error.message().contains("now, and target_session_attrs asked for another"), "{error}");
}

/// What the error says to do is what helps.
#[test]
fn a_standby_of_serializable_transactions_says_what_to_do() {
    let primary = OwnPostgres::start(&[]);
    let standby =
        OwnPostgres::standby_with(primary.access(), &["default_transaction_isolation=serializable"]);
    let error = refused(login(standby.access()));
    let hint = error.hint().expect("what to do");
    let (_, told) = hint.split_once("on the primary: ").expect("a statement");
    let told = told.split(", for").next().expect("its end").replace('…', "postgres");
    primary.access().run(&told);
    wait_for("the standby to hear of it", || {
        let mut session = open(login(standby.access())).ok()?;
        (value(&mut *session, "SELECT 1") == "Int(1)").then_some(())
    });
}

#[test]
fn a_standby_that_was_promoted_answers_no_query_that_asked_for_a_standby() {
    let primary = OwnPostgres::start(&[]);
    let standby = OwnPostgres::standby_of(primary.access());
    let server = standby.access();
    let recovering = "SELECT pg_is_in_recovery()";
    let mut bound: Vec<Box<dyn Session>> =
        ["standby", "prefer-standby", "read-only"].map(|attrs| open(wanting(server, attrs)).unwrap()).into();
    let mut simple = wanting(server, "standby");
    simple.params.push(("protocol".to_owned(), "simple".to_owned()));
    bound.push(open(simple).unwrap());
    let mut pinged = open(wanting(server, "standby")).unwrap();
    let mut grouped = open(wanting(server, "standby")).unwrap();
    let mut any = open(wanting(server, "any")).unwrap();
    for session in bound.iter_mut().chain([&mut pinged, &mut grouped, &mut any]) {
        assert_eq!(session.facts().role, "replica");
        assert_eq!(value(&mut **session, recovering), "Bool(true)");
    }
    promote(server);
    for session in &mut bound {
        let (recorder, health) = run(&mut **session, recovering, LONG);
        says_why(&health);
        assert!(recorder.columns.is_none() && recorder.verdict.is_none(), "{recorder:?}");
    }
    says_why(&pinged.ping(Deadline::within(LONG)));
    let statements = [recovering, "SELECT 1"].map(Sql::new);
    let mut sinks = [Recorder::new(), Recorder::new()];
    let jobs = statements.iter().zip(&mut sinks);
    let mut jobs: Vec<Job<'_>> = jobs.map(|(sql, sink)| job(sql, LONG, sink)).collect();
    says_why(&grouped.run(&mut jobs, Deadline::within(LONG)));
    assert!(sinks.iter().all(|sink| sink.verdict.is_none()), "{sinks:?}");
    // A session that asked for nothing goes on, and knows.
    assert_eq!(value(&mut *any, recovering), "Bool(false)");
    assert_eq!(any.facts().role, "primary");
}

#[test]
fn a_server_that_became_read_only_answers_no_query_that_asked_for_another() {
    let own = OwnPostgres::start(&[]);
    let mut session = open(wanting(own.access(), "read-write")).unwrap();
    assert_eq!(value(&mut *session, "SELECT 1"), "Int(1)");
    own.access().run("ALTER SYSTEM SET default_transaction_read_only = on");
    own.access().run("SELECT pg_reload_conf()");
    wait_for("the setting", || {
        let row = own.access().client().query_one("SHOW default_transaction_read_only", &[]).ok()?;
        (row.get::<_, String>(0) == "on").then_some(())
    });
    says_why(&session.ping(Deadline::within(LONG)));
}

#[test]
fn a_session_whose_sql_makes_it_read_only_is_what_was_asked_for() {
    let mut login = wanting(&Postgres::shared("postgres"), "read-write");
    login.session_sql = vec!["SET default_transaction_read_only = on".to_owned()];
    let mut session = open(login).unwrap();
    for _ in 0..3 {
        assert_eq!(value(&mut *session, "SELECT 1"), "Int(1)");
        assert_clean(&session.ping(Deadline::within(LONG)));
    }
}

/// The page after a promotion: the other hosts are tried in the same scrape, and the role on the page follows.
#[test]
fn a_page_after_a_promotion_is_that_of_the_server_that_suits() {
    let primary = OwnPostgres::start(&[]);
    let standby = OwnPostgres::standby_of(primary.access());
    let (a, b) = (primary.access().port, standby.access().port);
    let password = &primary.access().password;
    let target = |name: &str, attrs: &str| {
        format!(
            "  {name}: {{url: 'postgres://postgres@127.0.0.1:{b},127.0.0.1:{a}/postgres?target_session_attrs={attrs}', \
             password: '{password}'}}\n"
        )
    };
    let exporter = Exporter::serve(&format!(
        "databases:\n{}{}{}queries:\n\
         - {{name: q, databases: ['*'], sql: SELECT pg_is_in_recovery() AS value, metrics: [{{name: in_recovery}}]}}\n",
        target("standby", "standby"),
        target("primary", "primary"),
        target("any", "any"),
    ));
    let page = || checked(exporter.get("/metrics").text());
    let role = |page: &crate::checker::Page, name: &str| {
        let rows = page.series("sql_exporter_target_info");
        rows.iter().find(|row| row.labels["target"] == name).map(|row| row.labels["role"].clone())
    };
    for _ in 0..2 {
        let page = page();
        assert_eq!(page.value("in_recovery", &[("target", "standby")]), Some(1.0), "{}", exporter.log());
        assert_eq!(page.value("in_recovery", &[("target", "primary")]), Some(0.0));
        assert_eq!(page.value("in_recovery", &[("target", "any")]), Some(1.0));
        assert_eq!(role(&page, "any").as_deref(), Some("replica"));
    }
    promote(standby.access());
    let page = page();
    assert_eq!(page.value("in_recovery", &[("target", "standby")]), None, "{}", exporter.log());
    assert_eq!(page.value("in_recovery", &[("target", "primary")]), Some(0.0));
    assert_eq!(page.value("in_recovery", &[("target", "any")]), Some(0.0));
    assert_eq!(role(&page, "any").as_deref(), Some("primary"));
}
