//! Taking scalars, lists of scalars and pairs out of [`Keys`].

use std::path::PathBuf;
use std::time::Duration;

use crate::deadline::parse_duration;
use crate::error::{Error, SourcePosition};
use crate::secret::Secret;

use super::audit::join;
use super::document::NodeValue;
use super::expand::expand;
use super::hint::nearest;
use super::keys::Keys;
use super::place::names_secret;
use super::scalar;
use super::shape::{Kind, Number};
use super::source::Found;

impl<'d> Keys<'d> {
    /// A scalar, expanded. A list or mapping is a fault. `~` and an empty value count as absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let found = self.scalar(key, &Kind::Text)?;
        let NodeValue::Scalar(text) = found.value() else { return None };
        self.expanded(text, &found.place())
    }

    /// A scalar as typed, without expansion: for `sql`.
    pub fn literal(&mut self, key: &'static str) -> Option<String> {
        let found = self.scalar(key, &Kind::Text)?;
        let NodeValue::Scalar(text) = found.value() else { return None };
        self.mark(|record| record.leave(key));
        Some(text.clone())
    }

    /// A scalar, expanded; its text never appears in a message.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.conceal(key);
        self.text(key).map(Secret::new)
    }

    /// Keeps the lines of `key` out of every message, for values that hold a secret among other things.
    pub fn conceal(&self, key: &'static str) {
        self.mark(|record| record.hide(key));
        let Some(found) = self.look(key) else { return };
        self.reader.hide(&found.place());
        self.reader.hide(&found.source.key_place(found.entry));
    }

    /// `true` or `false` (also yes/no, on/off, any case).
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, &Kind::Flag, |text| {
            scalar::flag(text).ok_or_else(|| format!("{text:?} is neither true nor false"))
        })
    }

    /// A number, expanded; `what` names it in the message: "a port from 1 to 65535".
    pub fn number<T: Number>(&mut self, key: &'static str, what: &str) -> Option<T> {
        self.read(key, &T::KIND, |text| text.trim().parse().map_err(|_| format!("{text:?} is not {what}")))
    }

    /// `500ms`, `10s`, `5m`, `1h`, or a number of seconds.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, &Kind::Duration, parse_duration)
    }

    /// `64MiB`, `16KiB`, `1GB`, or a number of bytes.
    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        let refused =
            |text: &str| format!("{text:?} is not a size: write 64MiB, 16KiB, 1GB or a number of bytes");
        self.read(key, &Kind::Size, |text| scalar::size(text).ok_or_else(|| refused(text)))
    }

    /// One word of a closed set, case-insensitively; else a fault that lists them and hints at the nearest.
    pub fn choice<T: Copy>(&mut self, key: &'static str, table: &[(&'static str, T)]) -> Option<T> {
        let words = || table.iter().map(|(word, _)| *word);
        self.words(key, words());
        self.read(key, &Kind::Text, |text| {
            let found = table.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
            found.map(|(_, value)| *value).ok_or_else(|| {
                let near = nearest(text, words()).map(|near| format!("; did you mean `{near}`?"));
                let all = words().collect::<Vec<_>>().join(", ");
                format!("{text:?} is not one of {all}{}", near.unwrap_or_default())
            })
        })
    }

    /// One word of a closed set, in any case, or a finite number.
    pub fn word_or_number<T: Copy>(
        &mut self,
        key: &'static str,
        table: &[(&'static str, T)],
        number: impl Fn(f64) -> T,
    ) -> Option<T> {
        let words = || table.iter().map(|(word, _)| *word);
        self.words(key, words());
        self.read(key, &Kind::Number, |text| {
            let found = table.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
            let parsed = || text.trim().parse().ok().filter(|number: &f64| number.is_finite()).map(&number);
            found.map(|(_, value)| *value).or_else(parsed).ok_or_else(|| {
                let all = words().collect::<Vec<_>>().join(", ");
                format!("expected {all} or a number, found {text:?}")
            })
        })
    }

    /// A path, relative to the file that names it.
    pub fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.is_empty() {
            self.fault(key, "the path is empty");
            return None;
        }
        Some(self.folder(key).join(text))
    }

    /// What the file itself says under `key`: variables left out, their defaults in. Asks nothing; for a look at
    /// whether a secret is written down.
    #[must_use]
    pub fn written(&self, key: &str) -> Option<Secret> {
        let NodeValue::Scalar(text) = self.look(key)?.value() else { return None };
        expand(text, &|_| Some(String::new())).ok().map(Secret::new)
    }

    /// A variable of the environment, as `${NAME}` would give it.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.reader.environment)(name)
    }

    /// The path under `key`, as [`Keys::file`] gives it. Asks nothing and records no fault.
    #[must_use]
    pub fn path_of(&self, key: &str) -> Option<PathBuf> {
        let NodeValue::Scalar(text) = self.look(key)?.value() else { return None };
        expand(text, self.reader.environment).ok().map(|text| self.folder(key).join(text))
    }

    /// A list of scalars, or one scalar; expanded.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.ask(key);
        self.note(key, &Kind::Texts);
        let found = self.look(key)?;
        let items = match found.value() {
            NodeValue::Scalar(text) => return self.expanded(text, &found.place()).map(|text| vec![text]),
            NodeValue::List(items) => items,
            _ => return self.wrong(&found, "a list of texts"),
        };
        let texts = items.iter().enumerate().map(|(index, item)| {
            let place = found.place_of(item.at, &format!("{}[{index}]", found.path()));
            self.inner_text(&item.value, &place)
        });
        // All of them are read first, so that every fault is found.
        texts.collect::<Vec<_>>().into_iter().collect()
    }

    /// A mapping of scalars in file order; values expanded, keys as typed.
    pub fn pairs(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        self.ask(key);
        self.note(key, &Kind::Pairs);
        let found = self.look(key)?;
        let mut pairs = self.pairs_of(&found)?;
        if self.merges
            && self.front.find(key).is_some()
            && let Some(behind) = self.behind(key)
        {
            let more = self.pairs_of(&behind)?;
            let missing: Vec<_> =
                more.into_iter().filter(|(name, _)| pairs.iter().all(|(own, _)| own != name)).collect();
            pairs.extend(missing);
        }
        Some(pairs)
    }

    /// A list of texts, each standing for itself, or a mapping of names to texts.
    pub fn named_texts(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        self.note(key, &Kind::Texts);
        self.note(key, &Kind::Pairs);
        if self.is_mapping(key) {
            return self.pairs(key);
        }
        Some(self.texts(key)?.into_iter().map(|text| (text.clone(), text)).collect())
    }

    fn pairs_of(&self, found: &Found<'_, 'd>) -> Option<Vec<(String, String)>> {
        let NodeValue::Map(entries) = found.value() else {
            return self.wrong(found, "a mapping of names to texts");
        };
        let pairs = entries.iter().map(|entry| {
            let at = entry.tree.at.filter(|_| matches!(entry.tree.value, NodeValue::Scalar(_))).or(entry.at);
            let place = found.place_of(at, &join(&found.path(), &entry.key));
            Some((entry.key.clone(), self.inner_text(&entry.tree.value, &place)?))
        });
        pairs.collect::<Vec<_>>().into_iter().collect()
    }

    fn inner_text(&self, value: &NodeValue, place: &SourcePosition) -> Option<String> {
        match value {
            NodeValue::Scalar(text) => self.expanded(text, place),
            NodeValue::Null => {
                let error = Error::config("expected text, found nothing").at(place.clone());
                self.record(error.with_hint("an empty text is written \"\""));
                None
            }
            other => {
                self.record(
                    Error::config(format!("expected text, found {}", other.kind())).at(place.clone()),
                );
                None
            }
        }
    }

    fn scalar(&self, key: &'static str, kind: &Kind) -> Option<Found<'_, 'd>> {
        self.ask(key);
        self.note(key, kind);
        let found = self.look(key)?;
        match found.value() {
            NodeValue::Scalar(_) => Some(found),
            _ => self.wrong(&found, "text"),
        }
    }

    fn read<T>(
        &self,
        key: &'static str,
        kind: &Kind,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.scalar(key, kind)?;
        let NodeValue::Scalar(typed) = found.value() else { return None };
        let place = found.place();
        let text = self.expanded(typed, &place)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => {
                // Neither `…` nor `${…}` is a value of any kind, so what is shown instead is refused as well.
                let shown = shown(typed, &text);
                let message = if shown == text { message } else { parse(&shown).err().unwrap_or_default() };
                self.record(Error::config(message).at(place));
                None
            }
        }
    }

    fn expanded(&self, text: &str, place: &SourcePosition) -> Option<String> {
        match expand(text, self.reader.environment) {
            Ok(text) => Some(text),
            Err(refusals) => {
                for refusal in refusals {
                    self.record(Error::config(refusal.message).at(place.clone()).with_hint(refusal.hint));
                }
                None
            }
        }
    }
}

/// What a message shows of a value: the variable instead of what it holds where that is likely a secret (a password
/// under the wrong key), and no more than fits a line.
fn shown(typed: &str, expanded: &str) -> String {
    const LONGEST: usize = 80;
    let text = if names_secret(typed) { typed } else { expanded };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
