# Completions of sql-exporter for bash. `make docs` writes this file from what --help declares.
_sql_exporter() {
  local command='' is_value='' words='' word current previous
  local -a typed files=()
  COMPREPLY=()
  # Not COMP_WORDS, in which --name=value is three words. The dot keeps a last word that is empty.
  read -ra typed <<<"${COMP_LINE:0:COMP_POINT}."
  current=${typed[-1]%.} previous=${typed[-2]}
  case $current in --*=*) previous=${current%%=*} current=${current#*=} ;; esac
  for word in "${typed[@]:1:${#typed[@]}-2}"; do
    case $is_value$word in
      -c | --config | --listen | --log-level | --log-format) is_value=' ' ;;
      -* | ' '*) is_value='' ;;
      *) command=$word && break ;;
    esac
  done
  case "$command $previous" in
    *' -c' | *' --config') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    *' --listen') return ;;
    *' --log-level') mapfile -t COMPREPLY < <(compgen -W 'error warn info debug trace off' -- "$current"); return ;;
    *' --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
    'collect --query') return ;;
    'collect --target') return ;;
    'collect --collector') return ;;
    'collect --format') mapfile -t COMPREPLY < <(compgen -W 'text openmetrics' -- "$current"); return ;;
    'collect --timeout') return ;;
    'collect --output') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    'test --target') return ;;
    'test --timeout') return ;;
    'test --format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
    'check --timeout') return ;;
    'check --rule') mapfile -t COMPREPLY < <(compgen -W 'L001 L002 L003 L004 L005 L006 L007 L008 L009 L010 L011 L012 L013 L014 L015 list' -- "$current"); return ;;
    'check --format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
    'try --query') return ;;
    'try --sql') return ;;
    'try --target') return ;;
    'try --rows') return ;;
    'try --timeout') return ;;
    'try --format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
    'init -o' | 'init --output') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    'init --timeout') return ;;
    'import --from') mapfile -t COMPREPLY < <(compgen -W 'auto burningalchemist export-sql justwatch pg_exporter postgres_exporter psql-query-exporter query-exporter' -- "$current"); return ;;
    'import -o' | 'import --output') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    'import --url') return ;;
    'import --compare') return ;;
    'import --ignore') return ;;
    'import --ignore-label') return ;;
    'import --tolerance') return ;;
    'import --timeout') return ;;
  esac
  case $command in
    '') words='run collect test check try packs schema health init import demo --help --config --listen --log-level --log-format --once --version' ;;
    run) words='--help --config --listen --log-level --log-format' ;;
    collect) words='--help --query --target --collector --format --timeout --output --no-self-metrics --config --listen --log-level --log-format' ;;
    test) words='--help --target --timeout --format --config --listen --log-level --log-format' ;;
    check) words='--help --strict --connect --timeout --rule --format --config --listen --log-level --log-format' ;;
    try) words='--help --query --sql --target --rows --plan --timeout --format --config --listen --log-level --log-format' ;;
    packs) words='--help --config --listen --log-level --log-format compat/mysqld_exporter compat/pgbouncer_exporter compat/postgres_exporter compat/mysqld_exporter_optional/auto_increment_columns compat/mysqld_exporter_optional/binlog_size compat/mysqld_exporter_optional/heartbeat compat/mysqld_exporter_optional/info_schema_clientstats compat/mysqld_exporter_optional/info_schema_innodb_metrics compat/mysqld_exporter_optional/info_schema_innodb_tablespaces compat/mysqld_exporter_optional/info_schema_processlist compat/mysqld_exporter_optional/info_schema_replica_host compat/mysqld_exporter_optional/info_schema_rocksdb_perf_context compat/mysqld_exporter_optional/info_schema_schemastats compat/mysqld_exporter_optional/info_schema_tables compat/mysqld_exporter_optional/info_schema_tablestats compat/mysqld_exporter_optional/info_schema_userstats compat/mysqld_exporter_optional/mysql_user compat/mysqld_exporter_optional/perf_schema_eventsstatements compat/mysqld_exporter_optional/perf_schema_eventsstatementssum compat/mysqld_exporter_optional/perf_schema_eventswaits compat/mysqld_exporter_optional/perf_schema_file_events compat/mysqld_exporter_optional/perf_schema_file_instances compat/mysqld_exporter_optional/perf_schema_indexiowaits compat/mysqld_exporter_optional/perf_schema_memory_events compat/mysqld_exporter_optional/perf_schema_replication_applier_status_by_worker compat/mysqld_exporter_optional/perf_schema_replication_group_member_stats compat/mysqld_exporter_optional/perf_schema_replication_group_members compat/mysqld_exporter_optional/perf_schema_tableiowaits compat/mysqld_exporter_optional/perf_schema_tablelocks compat/mysqld_exporter_optional/slave_hosts compat/mysqld_exporter_optional/sys_user_summary compat/postgres_exporter_optional/buffercache_summary compat/postgres_exporter_optional/database_wraparound compat/postgres_exporter_optional/long_running_transactions compat/postgres_exporter_optional/postmaster compat/postgres_exporter_optional/process_idle compat/postgres_exporter_optional/stat_activity_autovacuum compat/postgres_exporter_optional/stat_statements compat/postgres_exporter_optional/stat_wal_receiver compat/postgres_exporter_optional/statio_user_indexes mariadb/activity mariadb/aria mariadb/disks mariadb/gtid mariadb/innodb mariadb/metadata_locks mariadb/processes mariadb/response_time mariadb/rocksdb mariadb/thread_pool mariadb/user_statistics mysql/binlog mysql/blocking mysql/caches mysql/connections mysql/digests mysql/error_log mysql/essential mysql/events mysql/file_io mysql/galera mysql/group_replication mysql/innodb mysql/innodb_metrics mysql/innodb_tablespaces mysql/memory mysql/processes mysql/progress mysql/replication mysql/semisync mysql/server mysql/settings mysql/statement_events mysql/statements mysql/status mysql/table_io mysql/tables mysql/thread_pool mysql/tls mysql/transactions pgbouncer/clients pgbouncer/databases pgbouncer/pools pgbouncer/process pgbouncer/stats postgres/activity postgres/archiver postgres/bloat postgres/blocking postgres/buffercache postgres/checkpointer postgres/connections postgres/databases postgres/essential postgres/functions postgres/indexes postgres/io postgres/locks postgres/progress postgres/replication postgres/sequences postgres/server postgres/settings postgres/slots postgres/slru postgres/statements postgres/subscriptions postgres/tables postgres/transactions postgres/vacuum postgres/wal sqlite/checks sqlite/file sqlite/fragmentation sqlite/pages sqlite/schema sqlite/statistics sqlite/tables' ;;
    schema) words='--help --config --listen --log-level --log-format config collector' ;;
    health) words='--help --config --listen --log-level --log-format' ;;
    init) words='--help --output --offline --timeout --config --listen --log-level --log-format' ;;
    import) words='--help --from --output --url --keep-labels --compare --ignore --ignore-label --tolerance --timeout --config --listen --log-level --log-format' files=(-f); compopt -o filenames ;;
    demo) words='--help --config --listen --log-level --log-format' ;;
  esac
  mapfile -t COMPREPLY < <(compgen "${files[@]}" -W "$words" -- "$current")
}
complete -F _sql_exporter sql-exporter
