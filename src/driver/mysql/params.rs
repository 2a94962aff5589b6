//! Parameters of MySQL URLs, and of `params`: one is accepted, the others are errors that say what to write instead.
//!
//! `connection` reads those of TLS, `connect_timeout` and `socket`. Another parameter is one line in [`OTHER_CLIENTS`].

/// Parameters of other clients, in lower case without `-` and `_`, and what to write here.
#[rustfmt::skip]
const OTHER_CLIENTS: &[(&[&str], &str)] = &[
    // Of the Go driver.
    (&["tls"], "write ssl-mode=require (or verify-ca, verify-full; the Go driver's `true` is verify-full)"),
    (&["parsetime"], "leave it out: dates and times are always read"),
    (&["timeout"], "write connect_timeout=3s; the `timeout` of a query is a key of the query"),
    (&["readtimeout", "writetimeout"], "leave it out: the `timeout` of a query and the scrape's deadline apply"),
    (&["maxallowedpacket"], "leave it out; `exporter.max_cell_bytes` bounds a value"),
    (&["multistatements"], "leave it out: each statement is a query of its own"),
    (&["interpolateparams"], "leave it out: values of `foreach` are bound by the server"),
    (&["allownativepasswords"], "leave it out: it is allowed"),
    (&["allowcleartextpasswords"],
        "leave it out: over TLS it is allowed, and in plain text where ssl-mode=disabled is written"),
    // Of JDBC and Python.
    (&["usessl", "requiressl"], "write ssl-mode=require"),
    (&["verifyservercertificate", "sslverifyidentity"], "write ssl-mode=verify-full"),
    (&["sslverifycert"], "write ssl-mode=verify-ca"),
    (&["servertimezone", "loc"], "leave it out: the session's time zone is the server's"),
    (&["allowpublickeyretrieval"],
        "leave it out, and write ssl-mode=require where a password is refused without TLS; or name the server's public key \
         by the key `server_public_key` of the target"),
    (&["serverrsapublickeyfile", "serverpublickeypath"], "write it as the key `server_public_key` of the target"),
    (&["serverpubkey"], "write the key's file as the key `server_public_key` of the target"),
    (&["connecttimeout"], "write connect_timeout=3s"),
    (&["autocommit", "sslcipher", "applicationname"], "leave it out"),
    (&["collation", "characterencoding", "useunicode"], "leave it out: the connection's character set is utf8mb4"),
    // Of MySQL itself.
    (&["tlsversion"], "leave it out: TLS 1.2 and 1.3 are supported, whichever the server has"),
    (&["sslcapath"], "write ssl-ca=FILE, one file with the certificates of the authorities"),
    (&["sslcrl"], "lists of revoked certificates are not read: leave it out"),
    (&["authplugin", "defaultauth"], "leave it out: the server says which plugin it requires"),
    (&["compress"], "leave it out: results are not compressed"),
    (&["initcommand"], "write the statement under `session_sql`"),
    (&["sessionvariables"], "write SET statements under `session_sql`"),
    // Of libpq.
    (&["hostaddr"], "write the address as the host"),
    (&["passfile"], "write the password, by `password_file` for one"),
];

/// Why a parameter is not accepted, and what to write; `None` for one that is.
pub(super) fn refusal(name: &str, value: &str) -> Option<(String, &'static str)> {
    if name == "charset" {
        let is_ours = value.eq_ignore_ascii_case("utf8mb4");
        return (!is_ours).then(|| ("charset is always utf8mb4".to_owned(), "leave it out"));
    }
    let plain: String = name.to_ascii_lowercase().chars().filter(|c| !matches!(c, '-' | '_')).collect();
    let advice =
        OTHER_CLIENTS.iter().find(|(known, _)| known.contains(&plain.as_str())).map(|(_, advice)| *advice);
    let setting =
        "there is charset=utf8mb4; a variable of the session is set by a statement under `session_sql`";
    Some((format!("{name} is not a parameter of MySQL here"), advice.unwrap_or(setting)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_clients_need_is_told_what_to_write() {
        assert_eq!(refusal("charset", "UTF8MB4"), None);
        for (name, advice) in [
            ("tls", "ssl-mode=require"),
            ("parseTime", "leave it out"),
            ("ssl_verify_identity", "ssl-mode=verify-full"),
            ("init-command", "session_sql"),
            ("sql_mode", "session_sql"),
        ] {
            let (what, hint) = refusal(name, "x").unwrap();
            assert!(what.starts_with(name) && hint.contains(advice), "{name}: {hint}");
        }
    }
}
