//! Guessing passwords, as fast as can be.

use super::Aftermath;
use super::victim::Victim;

/// Who guess at once.
const GUESSERS: usize = 16;
/// Guesses of each.
const GUESSES: usize = 6;
/// `u:wrong` and `nobody:p`.
const WRONG: [&str; 2] = ["dTp3cm9uZw==", "bm9ib2R5OnA="];

/// Who has logged in before is served at once all the while: it costs no hash.
pub(super) fn wrong_passwords(victim: &Victim) -> Aftermath {
    let guess = |count: usize| {
        let mut client = victim.connect();
        client.get_as(WRONG[count % 2], "/metrics");
        client.status()
    };
    let answers = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..GUESSERS)
            .map(|_| scope.spawn(move || (0..GUESSES).map(guess).collect::<Vec<u16>>()))
            .collect();
        victim.serves();
        guessers.into_iter().flat_map(|guesser| guesser.join().expect("answers")).collect::<Vec<_>>()
    });
    answers.into()
}

/// Requests without a login, or with something that is not a login.
pub(super) fn no_passwords(victim: &Victim) -> Aftermath {
    let logins =
        ["", "Authorization: Basic\r\n", "Authorization: Basic dQ==\r\n", "Authorization: Digest x\r\n"];
    let ask = |login: &str| {
        victim.say(format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{login}Connection: close\r\n\r\n"))
    };
    logins.repeat(GUESSERS).into_iter().map(ask).collect::<Vec<_>>().into()
}
