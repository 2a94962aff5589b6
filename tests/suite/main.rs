//! The one integration binary; a module per subject.

mod recorder;
mod sqlite;
mod statement;
