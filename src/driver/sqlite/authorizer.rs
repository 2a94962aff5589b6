//! SQLite's authorizers: what a session may not do although its file is opened read-only.
//!
//! Read-only mode stops every write to the database's own file. It does not stop `VACUUM INTO` and `ATTACH` (other
//! files), temporary tables, or pragmas that change the session for the queries after this one.
//! `INSERT`, `UPDATE` and `DELETE` are not refused here: R*Tree and full-text tables prepare some when they are
//! only read. The session asks SQLite whether the whole statement writes (`Statement::readonly`).

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that report something when they have no value.
#[rustfmt::skip]
const REPORTING: &[&str] = &[
    "application_id", "auto_vacuum", "automatic_index", "busy_timeout", "cache_size", "cache_spill",
    "cell_size_check", "checkpoint_fullfsync", "collation_list", "compile_options", "data_version",
    "database_list", "defer_foreign_keys", "encoding", "foreign_keys", "freelist_count", "fullfsync",
    "function_list", "hard_heap_limit", "ignore_check_constraints", "journal_mode", "journal_size_limit",
    "legacy_alter_table", "locking_mode", "max_page_count", "mmap_size", "module_list", "page_count",
    "page_size", "pragma_list", "query_only", "read_uncommitted", "recursive_triggers",
    "reverse_unordered_selects", "schema_version", "secure_delete", "soft_heap_limit", "synchronous",
    "table_list", "temp_store", "threads", "trusted_schema", "user_version", "wal_autocheckpoint",
];

/// Pragmas whose value says what to look at.
#[rustfmt::skip]
const INSPECTING: &[&str] = &[
    "foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check",
    "quick_check", "table_info", "table_list", "table_xinfo",
];

/// Pragmas that a test's script may set: they stay in its database.
const SETTABLE: &[&str] =
    &["application_id", "auto_vacuum", "encoding", "foreign_keys", "page_size", "user_version"];

/// Functions that reach outside of the database, in builds that have them.
const REACHING_OUTSIDE: &[&str] = &["load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"];

/// Pragmas of the whole process.
const PROCESS_WIDE: &[&str] =
    &["hard_heap_limit", "soft_heap_limit", "temp_store_directory", "data_store_directory"];

/// True for a pragma that would map the file into memory. Such pragmas do nothing: a file that is cut while it is mapped ends
/// the process.
pub(super) fn maps_file(action: &AuthAction<'_>) -> bool {
    matches!(action, AuthAction::Pragma { pragma_name, pragma_value: Some(_) } if contains(&["mmap_size"], pragma_name))
}

/// For a session that only reads. SQLite calls it for each thing a statement would do, while it is prepared.
pub(super) fn authorize_reader(context: AuthContext<'_>) -> Authorization {
    allow_if(match context.action {
        // The session's own: SQLite reads the schema again.
        AuthAction::Pragma { pragma_name: "writable_schema", pragma_value: Some("RESET") } => true,
        AuthAction::Pragma { pragma_name, pragma_value } => reads(pragma_name, pragma_value.is_some()),
        AuthAction::Function { function_name } => !contains(REACHING_OUTSIDE, function_name),
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Recursive
        | AuthAction::Transaction { .. }
        | AuthAction::Insert { .. }
        | AuthAction::Update { .. }
        | AuthAction::Delete { .. } => true,
        _ => false,
    })
}

/// For a session that may write: what it changes stays in its database and its session.
pub(super) fn authorize_writer(context: AuthContext<'_>) -> Authorization {
    if maps_file(&context.action) {
        return Authorization::Ignore;
    }
    allow_if(match context.action {
        AuthAction::Pragma { pragma_name, pragma_value } => {
            pragma_value.is_none() || !contains(PROCESS_WIDE, pragma_name)
        }
        AuthAction::Function { function_name } => !contains(REACHING_OUTSIDE, function_name),
        _ => true,
    })
}

/// For a script that makes a database in memory: it may do anything there, and reach nothing else.
pub(super) fn authorize_script(context: AuthContext<'_>) -> Authorization {
    allow_if(match context.action {
        AuthAction::Pragma { pragma_name, pragma_value } => {
            reads(pragma_name, pragma_value.is_some()) || contains(SETTABLE, pragma_name)
        }
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Unknown { .. } => false,
        _ => true,
    })
}

fn allow_if(is_harmless: bool) -> Authorization {
    if is_harmless { Authorization::Allow } else { Authorization::Deny }
}

fn reads(pragma: &str, has_value: bool) -> bool {
    contains(INSPECTING, pragma) || (!has_value && contains(REPORTING, pragma))
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, ErrorCode, OpenFlags};

    use super::{authorize_reader, reads};

    #[test]
    fn a_pragma_that_tells_is_allowed_and_one_that_changes_is_not() {
        assert!(reads("page_count", false));
        assert!(reads("TABLE_INFO", true));
        assert!(!reads("busy_timeout", true));
        assert!(!reads("optimize", false));
        assert!(!reads("wal_checkpoint", false));
    }

    #[test]
    fn the_guard_stands_alone_behind_the_keyword_check() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        Connection::open(&path)
            .and_then(|made| made.execute_batch("CREATE TABLE t (a)"))
            .expect("a database");
        let connection =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opened");
        let copy = format!("VACUUM INTO '{}'", folder.path().join("copy.db").display());
        let writes = [
            "ATTACH ':memory:' AS x",
            "CREATE TEMP TABLE x (a)",
            "CREATE TEMP VIEW y AS SELECT 1",
            "PRAGMA busy_timeout = 1",
            &copy,
        ];
        for sql in writes {
            let alone = connection.execute_batch(sql);
            assert!(alone.is_ok(), "{sql}: read-only mode alone refuses it: why a guard? {alone:?}");
        }
        let mut guarded =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opened");
        guarded.authorizer(Some(authorize_reader)).expect("the guard");
        std::fs::remove_file(folder.path().join("copy.db")).expect("the copy");
        for sql in writes {
            let error = guarded.execute_batch(sql).expect_err(sql);
            let code = error.sqlite_error_code();
            assert_eq!(code, Some(ErrorCode::AuthorizationForStatementDenied), "{sql}: {error}");
        }
    }
}
