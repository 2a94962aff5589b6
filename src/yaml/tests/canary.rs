//! A secret in a configuration that somebody is still typing never reaches a message.

use proptest::prelude::*;

use super::faults;
use crate::yaml::keys::Keys;

const CANARY: &str = "hunter2";

const TEXT: &str = "\
databases:
  shop:
    url: postgres://u:hunter2@db/x
    labels: {env: prod}
  legacy:
    driver: mysql
    password: \"hunter2\"
    host: db
  flow: {driver: mysql, password: hunter2, port: 1}
  block:
    password: |
      hunter2
    password_file: /x
    params:
      sslpassword: hunter2
      sslcrl: file
    port: 1
    session_sql:
    - SET x = 'hunter2'
    password_command: [vault, read, hunter2]
queries:
  - name: orders
    sql: SELECT 1
";

fn read(root: &mut Keys<'_>) {
    for (_, mut keys) in root.entries("databases").unwrap_or_default() {
        keys.secret("url");
        keys.secret("password");
        keys.conceal("password_command");
        keys.texts("password_command");
        keys.pairs("params");
        keys.pairs("labels");
        keys.texts("session_sql");
        keys.file("password_file");
        keys.text("host");
        keys.text("driver");
        keys.number::<u16>("port", "a port");
        keys.finish();
    }
    for mut keys in root.items("queries").unwrap_or_default() {
        keys.text("name");
        keys.literal("sql");
        keys.finish();
    }
}

proptest! {
    #[test]
    fn one_slip_shows_no_secret(at in 0..TEXT.len(), slip in "[:{}\\[\\]'\"|>&*!%@#, \t\n$-]?", cut in 0..2_usize) {
        let mut text = TEXT.to_owned();
        text.replace_range(at..(at + cut).min(TEXT.len()), &slip);
        for fault in faults(&text, read) {
            prop_assert!(!fault.contains(CANARY), "{text}\n{fault}");
        }
    }
}
