//! What to write where a column of PostgreSQL is not a number.

use postgres_types::{Kind, Type};

use crate::driver::advice::{Advice, find};

/// The entry of [`TABLE`] for all arrays.
const ARRAY: &str = "array";

/// By the type's name.
pub const TABLE: &[(&str, Advice)] = &[
    // Bytes since the beginning of the log.
    ("pg_lsn", Advice::Write("{} - '0/0'")),
    (ARRAY, Advice::Write("cardinality({})")),
    ("json", Advice::Write("({} ->> 'FIELD')::numeric")),
    ("jsonb", Advice::Write("({} ->> 'FIELD')::numeric")),
    ("int4range", RANGE),
    ("int8range", RANGE),
    ("numrange", RANGE),
    ("daterange", RANGE),
    ("tsrange", RANGE),
    ("tstzrange", RANGE),
    ("int4multirange", RANGE),
    ("int8multirange", RANGE),
    ("nummultirange", RANGE),
    ("datemultirange", RANGE),
    ("tsmultirange", RANGE),
    ("tstzmultirange", RANGE),
    ("bit", Advice::Write("{}::bigint")),
    ("bytea", Advice::Bytes),
];

/// Its length; an interval is a number for us.
const RANGE: Advice = Advice::Write("upper({}) - lower({})");

/// Of a type that every server has; others need their category ([`of_category`]).
pub(super) fn of(oid: u32) -> Advice {
    let Some(known) = Type::from_oid(oid) else { return Advice::Label };
    find(TABLE, if matches!(known.kind(), Kind::Array(_)) { ARRAY } else { known.name() })
}

/// Of a type that only this server has, by `pg_type.typcategory`.
pub(super) fn of_category(category: &str) -> Advice {
    find(TABLE, if category == "A" { ARRAY } else { "" })
}
