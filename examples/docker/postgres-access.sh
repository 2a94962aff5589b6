#!/bin/sh
# Runs once in a new PostgreSQL container, after ../grants/postgres.sql: the password of the exporter's role, what it may read,
# and the extension with the statistics of statements.
set -eu

psql --set ON_ERROR_STOP=1 --set password="$(cat "$EXPORTER_PASSWORD_FILE")" --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<'SQL'
ALTER ROLE exporter PASSWORD :'password';
GRANT USAGE ON SCHEMA public TO exporter;
GRANT SELECT ON orders TO exporter;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
