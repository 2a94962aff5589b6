//! Where an address leads: the same URL or keyword string, given to `psql` and to us, opens the same server.

use std::process::Command;

use sql_exporter::config;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Drivers;

use super::{LONG, value};
use crate::process::{folder, variable};
use crate::servers::Postgres;

/// Which server answered, by which way, in which database.
const WHERE: &str = "SELECT current_setting('port') || ' ' || coalesce(host(inet_server_addr()), 'socket') || ' ' || current_database()";

fn psql(address: &str) -> Result<String, String> {
    let mut command = Command::new(format!("{}/psql", variable("TEST_POSTGRES_BIN")));
    command.env_clear().env("PGCONNECT_TIMEOUT", "10").args(["-XAtc", WHERE, address]);
    let output = command.output().expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn ours(address: &str) -> Result<String, String> {
    let folder = folder();
    let file = folder.path().join("a.yaml");
    let quoted = address.replace('\'', "''");
    std::fs::write(&file, format!("databases: {{pg: {{url: '{quoted}'}}}}\nqueries: []\n")).expect("a file");
    let plan = config::load(&file, &|_| None, &Drivers::built_in())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let endpoint = plan.targets[0].endpoint.as_ref().expect("a driver");
    let mut session = endpoint.connect(Deadline::within(LONG)).map_err(|error| error.to_string())?;
    let shown = value(&mut *session, WHERE);
    Ok(shown.trim_start_matches("Text(\"").trim_end_matches("\")").to_owned())
}

fn filled(address: &str) -> String {
    let server = Postgres::shared("postgres");
    let socket = variable("TEST_POSTGRES_SOCKET");
    let address =
        address.replace("PORT", &server.port.to_string()).replace("ESCAPED", &socket.replace('/', "%2F"));
    address
        .replace("SOCKET", &socket)
        .replace("USER", &format!("postgres:{}", server.password))
        .replace("LOGIN", &format!("user=postgres password={} dbname=postgres", server.password))
}

#[test]
fn each_form_of_an_address_opens_the_server_that_psql_opens() {
    for address in [
        "postgresql://USER@127.0.0.1:PORT/template1",
        "postgresql://USER@localhost:PORT/postgres?host=SOCKET",
        "postgres://USER@:PORT/postgres?host=SOCKET",
        "postgresql://USER@127.0.0.9:PORT/postgres?host=127.0.0.1",
        "postgresql://USER@127.0.0.1:1/postgres?port=PORT",
        "postgresql://USER@127.0.0.1:1,127.0.0.1:2/postgres?port=1,PORT",
        "postgresql://USER@127.0.0.1:1,127.0.0.1:PORT/postgres?host=SOCKET,127.0.0.1",
        "postgresql://USER@/postgres?host=127.0.0.1,SOCKET&port=1,PORT",
        "postgresql://USER@/postgres?host=SOCKET,127.0.0.1&port=PORT",
        "postgresql://USER@/postgres?host=127.0.0.9&host=127.0.0.1&port=PORT",
        "postgresql://USER@ESCAPED:PORT/postgres",
        "postgresql://USER@127.0.0.1:1,ESCAPED:PORT/postgres",
        "postgresql://USER@nowhere.invalid:PORT/postgres?hostaddr=127.0.0.1",
        "postgresql://USER@a.invalid,b.invalid/postgres?hostaddr=127.0.0.1,127.0.0.1&port=1,PORT",
        "postgresql://USER@:PORT/postgres?hostaddr=127.0.0.1",
        "postgresql://USER@127.0.0.1:PORT/postgres?dbname=template1",
        "postgresql://nobody:x@127.0.0.1:PORT/postgres?LOGIN",
        "host=127.0.0.1 port=PORT LOGIN",
        "  hostaddr = '127.0.0.1'  port = PORT\tLOGIN sslmode=disable",
        "host=SOCKET,127.0.0.1 port=1,PORT LOGIN",
        "host=127.0.0.1 port=PORT LOGIN application_name='it\\'s me' options='-c geqo=off'",
        "postgresql://USER@127.0.0.1:PORT/postgres?application_name=&fallback_application_name=fb&keepalives=1\
         &keepalives_idle=60&keepalives_count=4&tcp_user_timeout=9000&gssencmode=disable&sslsni=0&connect_timeout=5\
         &client_encoding=UTF8&target_session_attrs=read-write&channel_binding=prefer&krbsrvname=postgres&ssl=true",
    ] {
        let address = filled(&address.replace("?LOGIN", "?user=postgres&password=SECRET"));
        let address = address.replace("SECRET", &Postgres::shared("postgres").password);
        let expected = psql(&address).unwrap_or_else(|error| panic!("psql: {error}"));
        let found = ours(&address).unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(found, expected);
    }
}

#[test]
fn what_psql_refuses_is_refused_with_what_to_write() {
    for (address, said) in [
        (
            "host=127.0.0.1,127.0.0.1 port=1,2,3 LOGIN",
            "not as many ports as hosts; write one port for all hosts",
        ),
        ("host=127.0.0.1 hostaddr=127.0.0.1,127.0.0.1 port=PORT LOGIN", "not as many hostaddr as hosts"),
        ("host=127.0.0.1 port=PORT LOGIN nonsense", "a keyword of the connection string has no `=`"),
        ("host=127.0.0.1 port=PORT LOGIN search_path=x", "options=-c%20NAME%3DVALUE"),
        ("host=127.0.0.1 port=PORT LOGIN service=x", "write the section's host, port, dbname and user here"),
        ("host=127.0.0.1 port=0 LOGIN", "a port from 1 to 65535"),
    ] {
        let address = filled(address);
        psql(&address).expect_err("psql refuses it");
        let error = ours(&address).expect_err(&address);
        assert!(error.contains(said), "{error}");
    }
    // As psql refuses from 16 and 17 on.
    for (parameters, said) in [
        ("sslnegotiation=direct", "needs sslmode=require"),
        ("sslmode=require sslrootcert=system", "write sslmode=verify-full"),
    ] {
        let error =
            ours(&filled(&format!("host=127.0.0.1 port=PORT LOGIN {parameters}"))).expect_err(parameters);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_server_before_17_is_told_from_one_that_speaks_tls_at_once() {
    let error = ours(&filled("host=127.0.0.1 port=PORT LOGIN sslnegotiation=direct sslmode=require"));
    let error = error.expect_err("PostgreSQL 15 asks first");
    assert!(error.contains("needs PostgreSQL 17 or later"), "{error}");
}

#[test]
fn addresses_of_other_programs_are_told_what_to_write() {
    for (address, said) in [
        ("jdbc:postgresql://db/shop", "leave `jdbc:` out"),
        ("postgresql+psycopg2://u@db/shop", "leave out the `+`"),
        ("u:secret@tcp(db:3306)/shop", "write mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("mysql://u:secret@tcp(db:3306)/shop", "write mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("u:secret@db/shop", "write DRIVER://USER@HOST/DATABASE"),
    ] {
        let error = ours(address).expect_err(address);
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
    }
}
