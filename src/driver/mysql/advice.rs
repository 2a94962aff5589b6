//! What to write where a column of MySQL or MariaDB is not a number.

use crate::driver::advice::Advice;

const DATE: Advice =
    Advice::Convert { moment: "UNIX_TIMESTAMP({})", or_null: "NULLIF(UNIX_TIMESTAMP({}), 0)" };

/// By the type's name.
pub const TABLE: &[(&str, Advice)] = &[
    ("DATE", DATE),
    ("DATETIME", DATE),
    ("TIMESTAMP", DATE),
    ("JSON", Advice::Write("JSON_UNQUOTE(JSON_EXTRACT({}, '$.FIELD'))")),
    ("BINARY", Advice::Bytes),
    ("VARBINARY", Advice::Bytes),
    ("BLOB", Advice::Bytes),
    ("GEOMETRY", Advice::Bytes),
    ("VECTOR", Advice::Bytes),
];
