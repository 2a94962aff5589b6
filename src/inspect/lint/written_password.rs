//! L011: a password that stands in the configuration.

use crate::config::Config;
use crate::inspect::{Rule, Said, Sink};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::WrittenPassword,
    why: "A configuration is copied, mailed and kept in version control, and the password goes wherever it goes, for as \
          long as that history is kept. From a file, a variable or a command it stays in one place, and `password_file` \
          and `password_command` are read again when it is changed, without a reload.",
    bad: "databases:\n  shop: {driver: postgres, host: localhost, password: swordfish}",
    good: "databases:\n  shop: {driver: postgres, host: localhost, password_file: /run/secrets/shop}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for target in &plan.targets {
        for stored in target.source.secrets.iter().filter(|stored| stored.in_configuration) {
            let message = match stored.key {
                "password" => "the password stands in this file".to_owned(),
                key => format!("a password stands in this file, in the `{key}`"),
            };
            let hint =
                "write `password_file: FILE`, `password_command: [PROGRAM]` or `password: ${VARIABLE}`";
            sink.target(target, &stored.place, Said::new(message, hint));
        }
    }
}
