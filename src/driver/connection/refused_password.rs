//! A login with a password that may change: what the server refused, and when there is something new to try.

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::error::{Reason, Result};
use crate::secret::Secret;

use super::password::PasswordSource;

/// The password that one endpoint's server refused last. A new one ends the back-off after a refusal early.
#[derive(Debug, Default)]
pub struct RefusedPassword(Mutex<Option<Secret>>);

impl RefusedPassword {
    /// Enters with the password as it is now. When the server refuses it, and its file or command gives another one
    /// when asked again, with that one. Blocks as [`PasswordSource::read`] and `enter` do.
    ///
    /// # Errors
    /// What [`PasswordSource::read`] and `enter` say.
    pub fn enter<T>(
        &self,
        password: &PasswordSource,
        by: Deadline,
        mut enter: impl FnMut(Option<&Secret>) -> Result<T>,
    ) -> Result<T> {
        let first = password.read(by)?;
        let entered = self.attempt(first.as_ref(), &mut enter);
        match entered {
            Err(error) if error.reason() == Reason::Auth => {
                let again = password.read_again(first.as_ref(), by)?;
                if again == first { Err(error) } else { self.attempt(again.as_ref(), &mut enter) }
            }
            done => done,
        }
    }

    fn attempt<T>(
        &self,
        password: Option<&Secret>,
        enter: &mut impl FnMut(Option<&Secret>) -> Result<T>,
    ) -> Result<T> {
        let entered = enter(password);
        if entered.as_ref().is_err_and(|error| error.reason() == Reason::Auth) {
            *self.0.lock() = password.cloned();
        }
        entered
    }

    /// True when the password is another than the one refused last. Blocks for a command, at most until `by`.
    #[must_use]
    pub fn has_new(&self, password: &PasswordSource, by: Deadline) -> bool {
        let refused = self.0.lock().clone();
        password.read_again(refused.as_ref(), by).is_ok_and(|now| now != refused)
    }
}
