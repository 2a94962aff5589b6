# shellcheck shell=bash
# MariaDB. Sourced by tests/run.

mariadb_settings() {
  cat <<SETTINGS
[mariadbd]
bind-address = 127.0.0.1
skip-name-resolve
max-connections = 300
character-set-server = utf8mb4
default-time-zone = +00:00
innodb-log-file-size = 8M
innodb-buffer-pool-size = 32M
innodb-flush-method = nosync
innodb-flush-log-at-trx-commit = 0
aria-log-purge-type = immediate
max-allowed-packet = 64M
pid-file = mariadbd.pid
ssl-ca = $root/tls/ca.pem
ssl-cert = $root/tls/server.pem
ssl-key = $root/tls/server.key
SETTINGS
}

mariadb_users() {
  cat <<SQL
FLUSH PRIVILEGES;
ALTER USER root@localhost IDENTIFIED BY '$password';
CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
SQL
}

make_mariadb_data() {
  local data=$root/mariadb-data
  folder_of mysql "$data"
  mariadb_settings >"$root/run/mariadb.cnf"
  mariadb_users >"$root/run/users.sql"
  as mysql mariadb-install-db --defaults-file="$root/run/mariadb.cnf" --datadir="$data" --skip-test-db \
    --skip-name-resolve --auth-root-authentication-method=normal --extra-file="$root/run/users.sql" \
    >"$root/log/mariadb-install-db" 2>&1 || { cat "$root/log/mariadb-install-db" >&2; return 1; }
}

start_mariadb() {
  launch mysql KILL "$root/log/mariadb" "$TEST_MARIADB_BIN" --defaults-file="$root/run/mariadb.cnf" \
    --datadir="$root/mariadb" --port="$1" --socket="$root/run/mariadb.sock"
  until_ready mariadb_client "$1" -e 'SELECT 1'
}

# mariadb_client PORT ARGUMENT…: the client as root.
mariadb_client() {
  local port=$1
  shift
  MYSQL_PWD=$password mariadb --no-defaults -h 127.0.0.1 -P "$port" -u root "$@"
}
