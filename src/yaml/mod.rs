//! YAML files read strictly: every key is asked for, every fault has a place, all faults come together.
//!
//! `tree` makes a [`tree::Document`] of a text (`syntax` puts what is no YAML into words, `audit` finds what YAML
//! allows and we do not, `place` knows lines and which of them may be shown); [`keys::Keys`] reads a mapping of it
//! (`values` its scalars, `expand` their variables, `folds` where their lines are joined, `rows` what a query test gives), [`keys::Reader`] collects what is wrong,
//! [`effective`] shows what a mapping came to say, and a `survey` asks what a file may say: its [`shape`]. A new kind of value is a function in `scalar` and a method in `values`. It knows no key of any configuration but those that hold secrets.

mod audit;
pub mod document;
mod expand;
pub mod folds;
mod hint;
pub mod keys;
mod node;
pub mod place;
mod reader;
mod record;
pub mod rows;
mod scalar;
pub mod shape;
mod source;
mod survey;
mod syntax;
mod values;
pub mod writer;

#[cfg(test)]
mod tests;
