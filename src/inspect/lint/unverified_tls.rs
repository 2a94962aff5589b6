//! L010: a server on the network that need not prove who it is.

use crate::config::Config;
use crate::driver::connection::tls::TlsRequirement;
use crate::inspect::{Rule, Said, Sink};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::UnverifiedTls,
    why: "Without a verified certificate whoever stands between may answer in the server's place: read what is asked, \
          give the answers, and on some servers take the password. `prefer`, the default, is plain text where the server \
          offers nothing else; `require` encrypts for whoever answers. `verify-full` with a `ca` of your own is the one \
          that names your server. Targets on this machine (a Unix socket, localhost) are left alone.",
    bad: "databases:\n  shop: {url: \"postgres://exporter@db.example/shop\"}",
    good: "databases:\n  shop: {url: \"postgres://exporter@db.example/shop?sslmode=verify-full\"}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for target in &plan.targets {
        let Some(endpoint) = &target.endpoint else { continue };
        let what = match endpoint.tls_requirement() {
            TlsRequirement::Local | TlsRequirement::Identity => continue,
            TlsRequirement::PlainText => "is spoken to in plain text",
            TlsRequirement::WhatIsOffered => {
                "may be spoken to in plain text, and nobody checks who it is (`prefer`)"
            }
            TlsRequirement::Encryption => "is spoken to encrypted, and nobody checks who it is (`require`)",
            TlsRequirement::Authority => {
                "is believed with a certificate of any public authority (`verify-ca`)"
            }
        };
        let message = format!("target {} {what}", target.name);
        let hint =
            "write `tls: {mode: verify-full, ca: FILE}`; without `ca` the public authorities are trusted";
        sink.target(target, &target.source.place, Said::new(message, hint));
    }
}
