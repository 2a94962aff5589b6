# shellcheck shell=bash
# The temporary folder, and processes that end with the script. Sourced by tests/run.

# Everything that still works inside a folder of ours was started for it: servers that a test left frozen too.
end_processes_in() {
  local link
  for link in /proc/[0-9]*/cwd; do
    case $(readlink "$link" 2>/dev/null) in
      "$1" | "$1"/*) kill -KILL "$(basename "${link%/cwd}")" 2>/dev/null || true ;;
    esac
  done
}

# PostgreSQL's memory segment outlives a killed server; its number is in the seventh line of postmaster.pid.
remove_shared_memory_in() {
  local file segment
  find "$1" -name postmaster.pid 2>/dev/null | while read -r file; do
    segment=$(awk 'NR == 7 { print $2 }' "$file")
    [ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null || true
  done
}

remove_folder() {
  end_processes_in "$1"
  remove_shared_memory_in "$1"
  rm -rf "$1" 2>/dev/null || { sleep 0.2; rm -rf "$1"; }
}

# A killed run leaves its folder behind; its name bears the process id, which may be a zombie or reused by now.
remove_leftovers() {
  local folder pid
  for folder in "$stem".*.*; do
    [ -O "$folder" ] || continue
    pid=${folder#"$stem".}
    pid=${pid%%.*}
    grep -qsa run "/proc/$pid/cmdline" || remove_folder "$folder"
  done
}

stop_all() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  if [ -n "$root" ]; then
    # shellcheck disable=SC2046
    kill -KILL $(jobs -p) 2>/dev/null || true
    wait 2>/dev/null || true
    cd "$here" && remove_folder "$root"
  fi
  exit "$status"
}

make_root() {
  remove_leftovers
  root=$(mktemp -d "$stem.$script_pid.XXXX")
  chmod 755 "$root"
  mkdir "$root/log" "$root/run" "$root/tls"
  chmod 1777 "$root/log" "$root/run"
  export TMPDIR=$root/tmp
  mkdir "$TMPDIR" && chmod 1777 "$TMPDIR"
}

is_root() { [ "$(id -u)" = 0 ]; }

# as USER COMMAND…: runs it as that user where this script runs as root; PostgreSQL refuses root.
as() {
  local user=$1
  shift
  if is_root; then setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@"; else "$@"; fi
}

# folder_of USER FOLDER: makes a folder that only this user enters.
folder_of() {
  mkdir -m 700 "$2"
  if is_root; then chown "$1:$1" "$2"; fi
}

# launch USER SIGNAL LOG COMMAND…: in the background; the kernel sends it SIGNAL when this script dies.
launch() {
  local user=$1 signal=$2 log=$3
  local -a who=()
  shift 3
  if is_root; then who=(--reuid="$user" --regid="$user" --clear-groups); fi
  (cd "$root" && exec setpriv "${who[@]}" --pdeathsig "$signal" -- "$@") >>"$log" 2>&1 </dev/null &
  launched=$!
}

free_port() {
  local port
  while :; do
    port=$((10000 + RANDOM % 22000))
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

# until_ready CHECK…: true when it succeeds, false when the launched process ended first (a taken port).
until_ready() {
  local tries=0
  until "$@" >/dev/null 2>&1; do
    kill -0 "$launched" 2>/dev/null || return 1
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || return 1
    sleep 0.05
  done
  kill -0 "$launched" 2>/dev/null
}

# start NAME: tries start_NAME PORT on free ports until it runs; sets $port.
start() {
  local try
  for try in 1 2 3 4 5; do
    port=$(free_port)
    if "start_$1" "$port"; then return; fi
    kill -KILL "$launched" 2>/dev/null || true
    say "$1 did not start on port $port (try $try)"
  done
  tail -n 30 "$root/log/$1" >&2
  die "$1 does not start; its log is above"
}
