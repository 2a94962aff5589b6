//! The column types of each database, with one value of each: what it is as a number and as a label.

mod mariadb;
mod postgres;
mod sqlite;

use std::borrow::Cow;

use super::value::Value;

pub(crate) use mariadb::MARIADB;
pub(crate) use postgres::POSTGRES;
pub(crate) use sqlite::SQLITE;

/// A column type with one value of it.
#[derive(Clone, Copy)]
pub(crate) struct Type {
    /// As `CREATE TABLE` has it.
    pub(crate) declared: &'static str,
    /// As `INSERT` has it.
    pub(crate) literal: &'static str,
    /// The type's name in an error.
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    pub(crate) label: &'static str,
}

/// The types of one database.
pub(crate) struct Types {
    /// What makes those that are not built in.
    pub(crate) before: &'static str,
    pub(crate) all: Cow<'static, [Type]>,
}

impl Types {
    /// Those that `has` accepts.
    pub(crate) fn of(&self, has: impl Fn(&Type) -> bool) -> Types {
        let all = self.all.iter().filter(|known| has(known)).copied().collect();
        Types { before: self.before, all: Cow::Owned(all) }
    }
}

const fn row(
    declared: &'static str,
    literal: &'static str,
    name: &'static str,
    value: Value,
    label: &'static str,
) -> Type {
    Type { declared, literal, name, value, label }
}
