-- What only some packs need, beside examples/grants/postgres.sql, each for what stands above it. Leave out what you do not use:
-- without it the query is skipped. Run it in each database that the exporter connects to, as a superuser.

-- postgres/subscriptions: origins of replication from PostgreSQL 14 on; before it subscriptions.
GRANT SELECT ON pg_catalog.pg_replication_origin_status TO exporter;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status() TO exporter;
GRANT SELECT (oid, subdbid, subname, subenabled) ON pg_catalog.pg_subscription TO exporter;

-- postgres/settings: whether the configuration files and pg_hba.conf are in order. The role can then read their lines.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_all_file_settings() TO exporter;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO exporter;

-- postgres/server: shared memory, from PostgreSQL 13 on (from 15 on pg_monitor has it). pg_stat_statements and pg_buffercache
-- for postgres/statements, postgres/buffercache and the compat packs of these, where the server has them and
-- shared_preload_libraries names pg_stat_statements.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 130000 THEN
    GRANT SELECT ON pg_catalog.pg_shmem_allocations TO exporter;
    GRANT EXECUTE ON FUNCTION pg_catalog.pg_get_shmem_allocations() TO exporter;
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pg_stat_statements') THEN
    CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public;
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pg_buffercache') THEN
    CREATE EXTENSION IF NOT EXISTS pg_buffercache SCHEMA public;
  END IF;
END $$;

-- postgres/sequences and postgres/bloat look at last values and statistics of what the role may read. This lets it read, so it
-- is not done here. One of:
--   GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO exporter;   -- sequences only
--   GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter;     -- bloat, and all rows of these tables
--   GRANT pg_read_all_data TO exporter;                          -- both everywhere, and all rows (PostgreSQL 14 and later)
