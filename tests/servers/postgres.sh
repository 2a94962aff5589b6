# shellcheck shell=bash
# PostgreSQL and PgBouncer. Sourced by tests/run.

postgres_settings() {
  cat <<SETTINGS
listen_addresses = '127.0.0.1'
unix_socket_directories = '$root/run'
max_connections = 300
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 32MB
ssl = on
ssl_ca_file = '$root/tls/ca.pem'
ssl_cert_file = '$root/tls/server.pem'
ssl_key_file = 'server.key'
logging_collector = off
$([ -z "$(find "$TEST_POSTGRES_BIN/../lib" -name pg_stat_statements.so)" ] \
    || echo "shared_preload_libraries = 'pg_stat_statements'")
SETTINGS
}

# User `clear` is asked for a clear-text password, user `client` for a certificate; all others use SCRAM.
postgres_access() {
  cat <<'ACCESS'
local   all clear  password
local   all all    scram-sha-256
host    all clear  127.0.0.1/32 password
hostssl all client 127.0.0.1/32 cert
host    all all    127.0.0.1/32 scram-sha-256
host    replication all 127.0.0.1/32 scram-sha-256
ACCESS
}

make_postgres_data() {
  local data=$root/postgres-data
  folder_of postgres "$data"
  printf '%s' "$password" >"$root/password"
  as postgres "$TEST_POSTGRES_BIN/initdb" -D "$data" -U postgres -A scram-sha-256 --pwfile="$root/password" \
    -E UTF8 --locale=C.UTF-8 --no-sync --wal-segsize=1 >"$root/log/initdb" 2>&1 \
    || { cat "$root/log/initdb" >&2; return 1; }
  rm "$root/password"
  postgres_settings >>"$data/postgresql.conf"
  postgres_access >"$data/pg_hba.conf"
  install -m 600 "$root/tls/server.key" "$data/server.key"
  if is_root; then chown postgres:postgres "$data/server.key"; fi
}

start_postgres() {
  launch postgres QUIT "$root/log/postgres" "$TEST_POSTGRES_BIN/postgres" -D "$root/postgres" -p "$1"
  until_ready postgres_client "$1" postgres -c 'SELECT 1'
}

# postgres_client PORT DATABASE ARGUMENT…: the machine's psql as superuser.
postgres_client() {
  local port=$1 database=$2
  shift 2
  PGPASSWORD=$password "$(postgres_bin)/psql" -h 127.0.0.1 -p "$port" -U postgres -d "$database" "$@"
}

pgbouncer_settings() {
  cat <<SETTINGS
[databases]
* = host=127.0.0.1 port=$TEST_POSTGRES_PORT
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $root/run/userlist
admin_users = postgres
pool_mode = transaction
max_client_conn = 200
default_pool_size = 10
client_tls_sslmode = allow
client_tls_cert_file = $root/tls/server.pem
client_tls_key_file = $root/tls/server.key
SETTINGS
}

start_pgbouncer() {
  printf '"postgres" "%s"\n' "$password" >"$root/run/userlist"
  pgbouncer_settings "$1" >"$root/run/pgbouncer.ini"
  launch postgres KILL "$root/log/pgbouncer" pgbouncer "$root/run/pgbouncer.ini"
  until_ready postgres_client "$1" pgbouncer -c 'SHOW VERSION'
}
