//! YAML files read strictly: every key is asked for, every fault has a place, all faults come together.

mod audit;
mod expand;
mod hint;
pub mod keys;
pub mod place;
mod reader;
mod record;
mod scalar;
mod source;
mod syntax;
pub mod tree;
mod values;

#[cfg(test)]
mod tests;
