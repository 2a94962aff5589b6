# shellcheck shell=bash
# The servers of tests/versions/fetch.sh, started as tests/run starts the machine's, with the same variables exported.
# Sourced by tests/versions/run.

start_version() {
  case $1 in
    pgbouncer*) start_pooled "$1" ;;
    pg*) start_postgres_of "$versions/roots/$1/native/bin" ;;
    mariadb*) start_mysql_of "$1" mariadb ;;
    mysql*) start_mysql_of "$1" mysql ;;
  esac
}

# start_postgres_of FOLDER: with the programs in it, and the machine's PgBouncer in front.
start_postgres_of() {
  local port
  export TEST_POSTGRES_BIN=$1
  make_postgres_data
  cp -a "$root/postgres-data" "$root/postgres"
  start postgres
  export TEST_POSTGRES_PORT=$port
  start pgbouncer
  export TEST_PGBOUNCER_PORT=$port
  export TEST_POSTGRES_PASSWORD=$password TEST_POSTGRES_DATA=$root/postgres-data TEST_POSTGRES_SOCKET=$root/run
}

# The machine's PostgreSQL, behind a PgBouncer of another version.
start_pooled() {
  mkdir "$root/bin"
  wrapper "$root/bin/pgbouncer" "$1" usr/sbin/pgbouncer
  PATH=$root/bin:$PATH
  start_postgres_of "$(postgres_bin)"
}

# start_mysql_of NAME KIND: MariaDB or MySQL; what tests call MariaDB's is this server's.
start_mysql_of() {
  local port
  mkdir "$root/bin"
  unpacked=$versions/roots/$1
  "wrap_$2" "$1"
  export TEST_MARIADB_BIN=$root/bin/server TEST_MARIADB_CONFIG=$root/run/mariadb.cnf
  folder_of mysql "$root/mariadb-data"
  "make_${2}_version" >"$root/log/install" 2>&1 || { tail -n 20 "$root/log/install" >&2; die "$1 could not be initialised"; }
  cp -a "$root/mariadb-data" "$root/mariadb"
  start mariadb
  export TEST_MARIADB_PORT=$port
  export TEST_MARIADB_PASSWORD=$password TEST_MARIADB_DATA=$root/mariadb-data TEST_MARIADB_SOCKET=$root/run/mariadb.sock
}

wrap_mariadb() { wrapper "$root/bin/server" "$1" usr/sbin/mariadbd; }

# Without the installation script, which wants to stand where a package puts it.
make_mariadb_version() {
  local share=$unpacked/usr/share/mariadb
  [ -d "$share" ] || share=$unpacked/usr/share/mysql
  {
    mariadb_settings
    printf '%s\n' "basedir = $unpacked/usr" "lc-messages-dir = $share" "character-sets-dir = $share/charsets" \
      "plugin-dir = $unpacked/usr/lib/mysql/plugin" 'explicit-defaults-for-timestamp = ON'
  } >"$TEST_MARIADB_CONFIG"
  {
    printf 'CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n'
    cat "$share"/m*_system_tables.sql "$share"/m*_performance_tables.sql "$share"/m*_system_tables_data.sql
    mariadb_users
  } >"$root/run/install.sql"
  as mysql "$TEST_MARIADB_BIN" --defaults-file="$TEST_MARIADB_CONFIG" --datadir="$root/mariadb-data" --bootstrap \
    <"$root/run/install.sql"
}

wrap_mysql() { wrapper "$root/bin/server" "$1" usr/sbin/mysqld; }

make_mysql_version() {
  local share=$unpacked/usr/share/mysql
  {
    mariadb_settings | sed -e 's/^\[mariadbd\]$/[mysqld]/' -e '/^aria-/d' -e '/^innodb-log-file-size/d' \
      -e 's/^innodb-flush-method.*/innodb-flush-method = O_DIRECT_NO_FSYNC/'
    printf '%s\n' "basedir = $unpacked/usr" "lc-messages-dir = $share" "character-sets-dir = $share/charsets" \
      "plugin-dir = $unpacked/usr/lib/mysql/plugin" 'mysqlx = OFF' 'skip-log-bin' 'secure-file-priv ='
  } >"$TEST_MARIADB_CONFIG"
  mariadb_users | sed 's/CREATE OR REPLACE USER/CREATE USER/' >"$root/run/users.sql"
  chmod 644 "$root/run/users.sql"
  as mysql "$TEST_MARIADB_BIN" --defaults-file="$TEST_MARIADB_CONFIG" --datadir="$root/mariadb-data" \
    --initialize-insecure --init-file="$root/run/users.sql"
}
