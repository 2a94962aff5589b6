//! What a server means that lets nobody in: by its error number, the reason, the meaning in a few words, what to do.
//!
//! Only a refused password is `auth`, which is not tried again soon. Another number is one more entry in [`meant`].

use crate::error::{Error, Reason};

struct Refusal {
    reason: Reason,
    meaning: &'static str,
    /// Empty: the command `test` has more to say.
    hint: &'static str,
}

/// `error` with what its number means, where that is one of a login.
pub(super) fn explained(error: Error, number: u16) -> Error {
    let Some(Refusal { reason, meaning, hint }) = meant(number) else { return error };
    let error = error.with_reason(reason).with_meaning(meaning);
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

fn meant(number: u16) -> Option<Refusal> {
    let (reason, meaning, hint) = match number {
        1049 => (Reason::Connect, "the server has no such database", ""),
        1129 => (
            Reason::Connect,
            "the server has blocked this machine",
            "on the server: FLUSH HOSTS (MySQL from 8.4 on: TRUNCATE TABLE performance_schema.host_cache); then look in its \
             log for what breaks off its connections, and raise max_connect_errors",
        ),
        1130 => (
            Reason::Permission,
            "the server has no user for this machine",
            "on the server: CREATE USER '…'@'HOST', HOST being this machine's address as the message shows it, or '%'",
        ),
        1251 => (
            Reason::Auth,
            "the user's login plugin is not supported here",
            "on the server: ALTER USER … to the plugin caching_sha2_password (MySQL) or mysql_native_password (MariaDB)",
        ),
        1524 => (
            Reason::Server,
            "the server lacks the user's login plugin",
            "on the server: INSTALL PLUGIN, or ALTER USER … to a plugin that SHOW PLUGINS lists",
        ),
        1698 => (
            Reason::Auth,
            "the server lets this user in without a password, and only as the system's user of that name",
            "set `socket` and run as that user, or make another user with a password: CREATE USER … IDENTIFIED BY '…'",
        ),
        1820 | 1862 => (
            Reason::Permission,
            "the user's password has expired",
            "on the server: ALTER USER … IDENTIFIED BY '…', or ALTER USER … PASSWORD EXPIRE NEVER",
        ),
        3118 | 4151 => {
            (Reason::Permission, "the user's account is locked", "on the server: ALTER USER … ACCOUNT UNLOCK")
        }
        3159 => (
            Reason::Tls,
            "the server demands an encrypted connection (require_secure_transport)",
            "tls: {mode: require}, or {mode: verify-full, ca: FILE}, which also checks who the server is",
        ),
        3955 => (
            Reason::Auth,
            "the user's account is locked after failed logins",
            "put the password right first; on the server: ALTER USER … ACCOUNT UNLOCK",
        ),
        1040 => (Reason::Server, "the server has no connection left", ""),
        1203 | 1226 => (Reason::Server, "the server grants this user no more at the moment", ""),
        // A proxy in front of the server: it cannot be reached from there.
        2002 | 2003 | 2005 => (Reason::Connect, "the proxy does not reach the server behind it", ""),
        _ => return None,
    };
    Some(Refusal { reason, meaning, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_wrong_password_is_auth() {
        for (number, reason) in [
            (1049, Reason::Connect),
            (1129, Reason::Connect),
            (1130, Reason::Permission),
            (1524, Reason::Server),
            (1698, Reason::Auth),
            (1862, Reason::Permission),
            (3118, Reason::Permission),
            (3159, Reason::Tls),
            (3955, Reason::Auth),
            (1040, Reason::Server),
            (1226, Reason::Server),
        ] {
            let error = explained(Error::new(Reason::Auth, "said").with_sqlstate("HY000"), number);
            assert_eq!((error.reason(), error.message(), error.sqlstate()), (reason, "said", Some("HY000")));
            assert!(error.meaning().is_some(), "{number}");
        }
        let other = explained(Error::new(Reason::Auth, "said"), 1045);
        assert_eq!((other.reason(), other.meaning(), other.hint()), (Reason::Auth, None, None));
    }

    #[test]
    fn a_blocked_machine_is_told_how_to_be_let_in_again() {
        let error = explained(Error::new(Reason::Server, "Host 'x' is blocked"), 1129);
        assert!(error.hint().unwrap().contains("FLUSH HOSTS"), "{error}");
    }
}
