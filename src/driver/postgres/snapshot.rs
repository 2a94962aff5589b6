//! The statements around a snapshot: one transaction that sees the database at one moment, and a savepoint from which
//! each query starts and to which it is undone, so that one that fails leaves the others be.
//!
//! <https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ>

/// Opens the transaction, with what each transaction sets.
pub(super) fn open(local: Option<&str>) -> String {
    let local = local.map(|local| format!("{local}; ")).unwrap_or_default();
    format!("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {local}SAVEPOINT sqlexp")
}

/// Undoes a query; the savepoint stays for the next.
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT sqlexp";
