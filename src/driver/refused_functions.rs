//! Functions of PostgreSQL that its read-only mode lets through although they write, signal, or run the SQL in a text.
//!
//! Source: the volatile functions of `pg_proc` in PostgreSQL 12 to 18 and those of the extensions in its `contrib`, each
//! tried or looked up. A function that only reads is not here, whatever it reads (`pg_read_file`): the command `test`
//! reports a user who may call it. Nor is what the read-only mode refuses by itself (`nextval`). One more function is one
//! more name, in lower case.

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Changes data, files, statistics or the write-ahead log.
    Writes,
    /// Makes other sessions or the server do something, or makes them wait.
    Signals,
    /// Runs SQL that was not checked.
    RunsSql,
}

impl Effect {
    /// How a message continues after the function's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Writes => "writes",
            Effect::Signals => "signals other sessions or the server",
            Effect::RunsSql => "runs the SQL in a text",
        }
    }
}

/// The functions and what they do.
#[rustfmt::skip]
pub const FUNCTIONS: &[(Effect, &[&str])] = &[
    (Effect::Writes, &[
        // Large objects: PostgreSQL 16 and later refuse most by themselves.
        "lo_creat", "lo_create", "lo_export", "lo_from_bytea", "lo_import", "lo_put", "lo_truncate",
        "lo_truncate64", "lo_unlink", "lowrite",
        // Statistics of the planner: PostgreSQL 18 and later.
        "pg_clear_attribute_stats", "pg_clear_extended_stats", "pg_clear_relation_stats",
        "pg_restore_attribute_stats", "pg_restore_extended_stats", "pg_restore_relation_stats",
        // Statistics of what happened.
        "pg_qualstats_reset", "pg_stat_kcache_reset", "pg_stat_monitor_reset", "pg_stat_reset",
        "pg_stat_reset_backend_stats", "pg_stat_reset_replication_slot", "pg_stat_reset_shared",
        "pg_stat_reset_single_function_counters", "pg_stat_reset_single_table_counters", "pg_stat_reset_slru",
        "pg_stat_reset_subscription_stats", "pg_stat_statements_reset", "pg_wait_sampling_reset_profile",
        // The write-ahead log, and what is read out of it once.
        "pg_create_restore_point", "pg_log_standby_snapshot", "pg_logical_emit_message",
        "pg_logical_slot_get_binary_changes", "pg_logical_slot_get_changes", "pg_switch_wal",
        // Replication.
        "pg_copy_logical_replication_slot", "pg_copy_physical_replication_slot",
        "pg_create_logical_replication_slot", "pg_create_physical_replication_slot",
        "pg_drop_replication_slot", "pg_replication_origin_advance", "pg_replication_origin_create",
        "pg_replication_origin_drop", "pg_replication_origin_session_reset",
        "pg_replication_origin_session_setup", "pg_replication_origin_xact_reset",
        "pg_replication_origin_xact_setup", "pg_replication_slot_advance", "pg_sync_replication_slots",
        // Snapshots and files.
        "pg_export_snapshot", "pg_file_rename", "pg_file_sync", "pg_file_unlink", "pg_file_write",
        // Catalogs and tables.
        "brin_desummarize_range", "brin_summarize_new_values", "brin_summarize_range",
        "gin_clean_pending_list", "heap_force_freeze", "heap_force_kill", "pg_extension_config_dump",
        "pg_import_system_collations", "pg_nextoid", "pg_truncate_visibility_map",
    ]),
    (Effect::Signals, &[
        "autoprewarm_dump_now", "autoprewarm_start_worker", "pg_advisory_lock", "pg_advisory_lock_shared",
        "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_backup_start", "pg_backup_stop",
        "pg_buffercache_evict", "pg_buffercache_evict_all", "pg_buffercache_evict_relation",
        "pg_buffercache_mark_dirty", "pg_cancel_backend", "pg_log_backend_memory_contexts", "pg_notify",
        "pg_prewarm", "pg_promote", "pg_reload_conf", "pg_rotate_logfile", "pg_rotate_logfile_old",
        "pg_start_backup", "pg_stop_backup", "pg_stop_making_pinned_objects", "pg_terminate_backend",
        "pg_try_advisory_lock", "pg_try_advisory_lock_shared", "pg_try_advisory_xact_lock",
        "pg_try_advisory_xact_lock_shared", "pg_wal_replay_pause", "pg_wal_replay_resume",
    ]),
    (Effect::RunsSql, &[
        "connectby", "crosstab", "crosstab2", "crosstab3", "crosstab4", "dblink", "dblink_cancel_query",
        "dblink_close", "dblink_connect", "dblink_connect_u", "dblink_disconnect", "dblink_exec",
        "dblink_fetch", "dblink_get_result", "dblink_open", "dblink_send_query", "query_to_xml",
        "query_to_xml_and_xmlschema", "query_to_xmlschema", "ts_rewrite", "ts_stat", "xpath_table",
    ]),
];

/// What the function `name` does, in lower case; `None` for all others.
pub fn effect(name: &str) -> Option<Effect> {
    // They serve upgrades of a server, not queries.
    if name.starts_with("binary_upgrade_") {
        return Some(Effect::Writes);
    }
    FUNCTIONS.iter().find(|(_, names)| names.contains(&name)).map(|(effect, _)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_once_and_in_lower_case() {
        let mut names: Vec<&str> = FUNCTIONS.iter().flat_map(|(_, names)| *names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| *name == name.to_lowercase() && effect(name).is_some()));
        assert_eq!(effect("binary_upgrade_set_next_pg_type_oid"), Some(Effect::Writes));
        assert_eq!(effect("pg_stat_get_activity"), None);
    }
}
