//! L012: a file with a password that everybody on the machine may read.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::Config;
use crate::inspect::{Rule, Said, Sink};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::OpenFile,
    why: "Every account on the machine, a compromised web server's too, can read a file of mode 0644 in a folder that \
          all may enter, and with it the password to the database. The exporter needs to be its only reader: mode 0600, \
          or 0640 with a group of its own. What Docker and Kubernetes mount below /run/secrets is left alone: they \
          choose the mode, and in the container nobody else lives.",
    bad: "databases:\n  shop: {driver: postgres, host: localhost, password: swordfish}   # in a file of mode 0644",
    good: "databases:\n  shop: {driver: postgres, host: localhost, password: swordfish}   # in a file of mode 0600",
    check,
};

/// Where containers get their secrets.
const MOUNTED: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

fn check(plan: &Config, sink: &mut Sink<'_>) {
    // A file is told of once, at its first password that no `lint_off` silences.
    let mut told = HashSet::new();
    for target in &plan.targets {
        for stored in target.source.secrets.iter().filter(|stored| is_open(&stored.file)) {
            let silent = target.source.lint_off.holds(RULE.lint);
            if !silent && !told.insert(&stored.file) {
                continue;
            }
            let shown = stored.file.display();
            let message = if stored.in_configuration {
                format!("everybody on this machine may read {shown}, and a password stands in it")
            } else {
                format!("everybody on this machine may read {shown}, the file of `{}`", stored.key)
            };
            sink.target(target, &stored.place, Said::new(message, format!("chmod 0640 {shown}")));
        }
    }
}

/// True when every account may read the file and enter the folders above it.
fn is_open(file: &Path) -> bool {
    let Ok(real) = file.canonicalize() else { return false };
    if MOUNTED.iter().any(|folder| file.starts_with(folder) || real.starts_with(folder)) {
        return false;
    }
    let others = |path: &Path, bit: u32| {
        path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & bit != 0)
    };
    others(&real, 0o004) && real.ancestors().skip(1).all(|folder| others(folder, 0o001))
}
