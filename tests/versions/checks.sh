# shellcheck shell=bash
# What is run on a server of another version. Sourced by tests/versions/run.

# check_version NAME: prints the columns of its line, with tabs between them; false where something failed, and what did
# is on stderr.
check_version() {
  local failed=0 conformance tests families queries tested checked
  case $1 in
    pgbouncer*) suite postgres::pooler packs::families::the_packs_of_pgbouncer ;;
    pg*) suite conformance::table::postgres:: discovery::every_database init::servers::postgres_and init::servers::partitions ;;
    *) suite conformance::table::mariadb:: discovery::every_schema init::servers::mariadb_and ;;
  esac
  conformance=$counted
  case $1 in
    pg*)
      suite packs::hostile packs::postgres packs::the_ packs::privileges packs::families::the_packs_of_postgres \
        --skip on_each_database
      ;;
    mariadb*) suite packs::mysql packs::mariadb packs::families::the_packs_of_mariadb ;;
    *) suite packs::mysql ;;
  esac
  tests=$counted
  configure "$1"
  scrape_packs
  test_target
  check_packs
  printf '%s\t' "$(version_of "$1")" "$conformance" "$tests" "$families" "$queries" "$tested"
  printf '%s\n' "$checked"
  return "$failed"
}

version_of() {
  local line
  line=$(sed -n 's/^sql_exporter_target_info{.*target="it".*version="\([0-9.]*\).*/\1/p' "$root/page")
  case $1 in
    pgbouncer*) line=$(postgres_client "$TEST_PGBOUNCER_PORT" pgbouncer -Atc 'SHOW VERSION' | sed 's/[^0-9]*//') ;;
  esac
  echo "$line"
}

# suite FILTER…: those tests of the project; sets $counted.
suite() {
  local log=$root/log/suite passed broken
  (cd "$here" && setpriv --pdeathsig KILL -- "$TEST_SUITE" "$@") >"$log" 2>&1 || failed=1
  passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log")
  broken=$(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1/p' "$log")
  counted="${passed:-0} ok${broken:+, $broken failed}"
  counted=${counted%, 0 failed}
  if [ "${passed:-0}" = 0 ] || [ "${broken:-1}" != 0 ]; then
    failed=1
    sed -n '/^failures:$/,$p' "$log" | grep -v '^ *[0-9]*: \|^ *at ' >&2
  fi
}

# What applies to the server, for the role of examples/grants/; through a pooler for the superuser, whom alone it knows.
configure() {
  local driver=postgres port database=postgres grants=$here/examples/grants include hosts
  export USERNAME=exporter PASSWORD=$password
  case $1 in
    pgbouncer*) port=$TEST_PGBOUNCER_PORT USERNAME=postgres ;;
    pg*)
      port=$TEST_POSTGRES_PORT
      postgres_client "$port" postgres -q -v ON_ERROR_STOP=1 -f "$grants/postgres.sql" -f "$grants/postgres-more.sql" \
        -c "ALTER ROLE exporter PASSWORD '$password'"
      ;;
    *)
      driver=mysql port=$TEST_MARIADB_PORT database=app
      # With the privilege that the scripts leave to you: the replicas of this server.
      case $1 in
        mysql*) mariadb_client "$port" <"$grants/mysql.sql" && hosts='REPLICATION SLAVE' ;;
        *) mariadb_client "$port" <"$grants/mariadb.sql" && hosts='REPLICATION MASTER ADMIN' ;;
      esac
      mariadb_client "$port" -e "CREATE DATABASE app; GRANT SELECT ON app.* TO exporter@'%';
        GRANT $hosts ON *.* TO exporter@'%'; ALTER USER exporter@'%' IDENTIFIED BY '$password' ACCOUNT UNLOCK"
      ;;
  esac
  case $1 in
    pgbouncer*) include="'builtin:postgres/*', 'builtin:pgbouncer/*', 'builtin:compat/pgbouncer_exporter'" ;;
    pg*) include="'builtin:postgres/*', 'builtin:compat/postgres_exporter', 'builtin:compat/postgres_exporter_optional/*'" ;;
    *)
      include="'builtin:mysql/*', 'builtin:mariadb/*', 'builtin:compat/mysqld_exporter'"
      include+=", 'builtin:compat/mysqld_exporter_optional/*'"
      ;;
  esac
  local address="host: 127.0.0.1, port: $port, username: \"\${USERNAME}\", password: \"\${PASSWORD}\", lint_off: [L010, L011]"
  mkdir "$root/check"
  {
    printf '%s\n' 'databases:' "  it: {driver: $driver, database: $database, $address}"
    case $1 in pgbouncer*) printf '%s\n' "  console: {driver: pgbouncer, $address}" ;; esac
    printf '%s\n' "include: [$include]"
  } >"$root/check/sql-exporter.yaml"
}

exporter() { (cd "$root/check" && setpriv --pdeathsig KILL -- "$TEST_EXPORTER" -c sql-exporter.yaml "$@"); }

# Sets $queries and $families.
scrape_packs() {
  local good bad skipped
  exporter --once >"$root/page" 2>"$root/log/scrape" || failed=1
  good=$(grep -c '^sql_exporter_query_success{.* 1$' "$root/page" || true)
  bad=$(grep -c '^sql_exporter_query_success{.* 0$' "$root/page" || true)
  skipped=$(grep -c '^sql_exporter_query_skipped{.* 1$' "$root/page" || true)
  families=$(grep '^# TYPE' "$root/page" | grep -vc ' sql_exporter_' || true)
  queries="$good ok, $skipped skipped"
  [ "$bad" = 0 ] || queries+=", $bad failed"
  if [ "$good" = 0 ] || [ "$bad" != 0 ]; then
    failed=1
    cat "$root/log/scrape" >&2
  fi
}

# Sets $tested.
test_target() {
  tested=PASS
  exporter test >"$root/log/test" 2>&1 || { tested=FAIL failed=1; cat "$root/log/test" >&2; }
}

# Sets $checked.
check_packs() {
  exporter check --connect --strict >"$root/log/check" 2>&1 || { failed=1; cat "$root/log/check" >&2; }
  checked=$(sed -n '$s/ in .*//p' "$root/log/check")
}
