//! YAML files read strictly: every key is asked for, every fault has a place, all faults come together.
//!
//! [`document`] makes a tree of a text, [`keys::Keys`] reads a mapping of it, [`keys::Reader`] collects what is wrong,
//! [`writer`] writes YAML and shows what a mapping came to say, and [`recording`] holds what a file may say.
//! Knows no key of any configuration but those that hold secrets.

pub mod document;
pub mod folds;
pub mod keys;
mod lines;
mod nearest;
mod reader;
pub mod recording;
mod scalar;
mod source;
mod syntax;
pub mod writer;

#[cfg(test)]
mod tests;
