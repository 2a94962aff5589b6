//! YAML files read strictly: every key is asked for, every fault has a place, all faults come together.

pub mod keys;
pub mod place;
pub mod tree;
