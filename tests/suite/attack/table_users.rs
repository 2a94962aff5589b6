//! Attacks on passwords.

use super::{Attack, USUAL, logins};

attacks! {
    over {
        users: Users,
    }
    {
        wrong_passwords { reasons: &["auth"], answers: &[401, 503], run: logins::wrong_passwords, }
        no_passwords { reasons: &["auth"], answers: &[401], run: logins::no_passwords, }
    }
}
