"""Runs the exporter confined as examples/systemd/sql-exporter.service says: as another user without capabilities, under the unit's filter
of system calls, without memory that is writable and executable, with a read-only machine, a /tmp of its own, no /home, and a
password as a credential. systemd does not run here, so this script does what it would do, with libseccomp and mounts of a
namespace. What it does not do: PrivateUsers, PrivateDevices and the directives that protect the kernel and other processes."""

import ctypes
import errno
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.request

from sandbox import BIND, READ_ONLY, REMOUNT, Sandboxed, become, mount, need_mounts, own_mounts
from tools import EXAMPLES, Faults, leave_out, program, variable

UNIT = EXAMPLES / "systemd/sql-exporter.service"
# What the exporter sees of the folder that this script makes.
INSIDE = "/mnt"
# A user of no account.
USER = 64321
CONFIG = """
databases:
  plain: {driver: sqlite, database: data/plain.db}
  # In WAL mode: nobody has it open; another process has; one was killed and left `-wal` behind.
  idle: {driver: sqlite, database: data/idle.db}
  used: {driver: sqlite, database: data/used.db}
  left: {driver: sqlite, database: data/left.db}
  postgres: {driver: postgres, host: 127.0.0.1, port: "${POSTGRES}", database: postgres, username: postgres, password_file: "${CREDENTIALS_DIRECTORY}/shop"}
  mysql: {driver: mysql, host: localhost, port: "${MARIADB}", username: root, password_command: [/bin/cat, "${CREDENTIALS_DIRECTORY}/mysql"], tls: {mode: require}}
include: ["builtin:postgres/*", "builtin:mysql/*"]
queries:
  - {name: rows, databases: [plain, idle, used, left], sql: SELECT count(*) AS n FROM t, metrics: [{name: rows_of_t, help: Rows., value_column: n}]}
exporter: {listen: "127.0.0.1:0", enable_reload: true}
"""
faults = Faults()


def directives():
    """The lines of [Service]; a directive that is there several times has several values."""
    found = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text().split("[Service]")[1], re.M):
        found.setdefault(key, []).append(value)
    return found


def calls(sets, analyze):
    """The system calls of sets such as @privileged, and of the sets in them."""
    names = set()
    for name in sets:
        if not name.startswith("@"):
            names.add(name)
            continue
        done = subprocess.run([analyze, "syscall-filter", name], text=True, capture_output=True, check=True)
        lines = [line.strip() for line in done.stdout.splitlines()[1:]]
        names |= calls([line for line in lines if line and not line.startswith("#")], analyze)
    return names


def allowed_calls(service, analyze):
    names = set()
    for value in service["SystemCallFilter"]:
        if value.startswith("~"):
            names -= calls(value[1:].split(), analyze)
        else:
            names |= calls(value.split(), analyze)
    return names


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def load_filter(seccomp, names, families):
    """The kernel's filter for what this process runs next: others get EPERM, as SystemCallErrorNumber= says."""
    equal, masked = 4, 7
    allow, refuse = 0x7FFF0000, 0x00050000
    protection = {"write": 2, "execute": 4}
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(refuse | errno.EPERM)))

    def rule(action, name, *compares):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        done = number < 0 or seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(compares), (Compare * len(compares))(*compares)) == 0
        assert done, name

    for name in sorted(names - {"socket", "mmap", "mprotect", "pkey_mprotect", "shmat"}):
        rule(allow, name)
    for family in families:
        rule(allow, "socket", Compare(0, equal, getattr(socket, family), 0))
    rule(refuse | errno.EAFNOSUPPORT, "socket", Compare(0, equal, socket.AF_NETLINK, 0))
    # MemoryDenyWriteExecute=
    for bit in protection.values():
        rule(allow, "mmap", Compare(2, masked, bit, 0))
    rule(allow, "mprotect", Compare(2, masked, protection["execute"], 0))
    assert seccomp.seccomp_load(context) == 0


def confine_files(folder, service):
    assert (service["ProtectSystem"], service["ProtectHome"], service["PrivateTmp"]) == (["strict"], ["yes"], ["yes"])
    own_mounts()
    mount(folder, INSIDE, flags=BIND)
    mount(variable("TEST_EXPORTER_BINARY"), f"{INSIDE}/sql-exporter", flags=BIND)
    points = re.findall(r"^(?:\S+ ){4}(\S+)", open("/proc/self/mountinfo").read(), re.M)
    for point in points:
        if not point.startswith(("/proc", "/sys", "/dev")):
            try:
                mount(None, point.encode().decode("unicode_escape"), flags=REMOUNT | BIND | READ_ONLY)
            except OSError as error:
                # A mount below a hidden one.
                assert error.errno in (errno.ENOENT, errno.EACCES, errno.EINVAL), error
    for path in ["/home", "/root"]:
        mount("tmpfs", path, "tmpfs", READ_ONLY, "mode=0")
    for path in ["/tmp", "/var/tmp"]:
        mount("tmpfs", path, "tmpfs", data="mode=1777")


def become_service(folder, service, names, seccomp, writable):
    """In the child: does not return."""
    os.umask(int(service["UMask"][0], 8))
    confine_files(folder, service)
    if writable:
        # ReadWritePaths= of docs/operations.md.
        mount(f"{INSIDE}/data", f"{INSIDE}/data", flags=BIND)
        mount(None, f"{INSIDE}/data", flags=REMOUNT | BIND)
    os.chdir(INSIDE)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    become(USER, USER)
    environment = {
        "PATH": "/usr/bin:/bin",
        "CREDENTIALS_DIRECTORY": f"{INSIDE}/credentials",
        "POSTGRES": variable("TEST_POSTGRES_PORT"),
        "MARIADB": variable("TEST_MARIADB_PORT"),
    }
    load_filter(seccomp, names, service["RestrictAddressFamilies"][0].split())
    os.execve(f"{INSIDE}/sql-exporter", ["sql-exporter", "run", "-c", "config.yaml"], environment)


def make_folder(folder):
    """What the machine has for the service: its program, its configuration, its credentials, databases."""
    for name in ["data", "credentials"]:
        os.mkdir(f"{folder}/{name}")
    open(f"{folder}/sql-exporter", "w").close()
    with open(f"{folder}/config.yaml", "w") as file:
        file.write(CONFIG)
    open_ = {}
    for name in ["plain", "idle", "used", "left"]:
        shop = open_[name] = sqlite3.connect(f"{folder}/data/{name}.db")
        shop.execute(f"PRAGMA journal_mode = {'delete' if name == 'plain' else 'wal'}")
        shop.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)")
    for name in ["left.db", "left.db-wal"]:
        shutil.copy(f"{folder}/data/{name}", f"{folder}/{name}")
    for name in ["plain", "idle", "left"]:
        open_.pop(name).close()
    for name in ["left.db", "left.db-wal"]:
        os.replace(f"{folder}/{name}", f"{folder}/data/{name}")
    for name in os.listdir(f"{folder}/data"):
        os.chown(f"{folder}/data/{name}", USER, USER)
    for name, password in [("shop", variable("TEST_POSTGRES_PASSWORD")), ("mysql", variable("TEST_MARIADB_PASSWORD"))]:
        with open(f"{folder}/credentials/{name}", "w") as file:
            file.write(password + "\n")
        os.chown(f"{folder}/credentials/{name}", USER, USER)
        os.chmod(f"{folder}/credentials/{name}", 0o400)
    for name, mode in [("", 0o755), ("data", 0o700), ("credentials", 0o500)]:
        os.chmod(f"{folder}/{name}", mode)
        os.chown(f"{folder}/{name}", USER, USER)
    return open_


def value(page, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.M)
    return found and float(found[1])


def check(folder, service, names, seccomp, writable):
    where = "confined, with ReadWritePaths=" if writable else "confined"
    exporter = Sandboxed(lambda: become_service(folder, service, names, seccomp, writable))
    listening = exporter.wait_for(r"listening on (http://\S+)")
    if not listening:
        faults.expect(False, where, f"does not start: {exporter.log}")
        return
    status = dict(re.findall(r"^(\w+):\s*(.*)$", open(f"/proc/{exporter.pid}/status").read(), re.M))
    for key, expected in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("CapEff", "0" * 16), ("Uid", "\t".join([str(USER)] * 4))]:
        faults.equal(status[key], expected, where, f"{key} of the process")
    soft, hard = re.search(r"^Max open files +(\d+) +(\d+)", open(f"/proc/{exporter.pid}/limits").read(), re.M).groups()
    faults.equal(soft, hard, where, "the soft limit of open files, which the exporter raises,")
    with urllib.request.urlopen(f"{listening[1]}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    failing = re.findall(r'^sql_exporter_query_success\{(.*)\} 0$', page, re.M)
    expected = [] if writable else ['collector="default",query="rows",target="left"']
    faults.equal([",".join(sorted(labels.split(","))) for labels in failing], expected, where, "the queries that fail")
    for target in ["plain", "postgres", "mysql"]:
        faults.equal(value(page, f'sql_exporter_target_up{{target="{target}"}}'), 1, where, f"target_up of {target}")
    for target in ["plain", "idle", "used"] + ["left"] * writable:
        faults.equal(value(page, f'rows_of_t{{target="{target}"}}'), 2, where, f"the rows of {target}")
    faults.expect(abs(time.time() - (value(page, "process_start_time_seconds") or 0)) < 600, where, "process_start_time_seconds is wrong")
    faults.expect((value(page, "process_open_fds") or 0) > 5, where, "process_open_fds is wrong")
    os.kill(exporter.pid, signal.SIGHUP)
    faults.expect(exporter.wait_for("configuration reloaded"), where, f"no reload: {exporter.log}")
    faults.equal(exporter.stop(), 0, where, f"the exit code ({exporter.log})")
    warnings = [line for line in exporter.log.splitlines() if " WARN " in line and "target left is down" not in line]
    faults.equal(warnings, [], where, "the warnings in the log")


def main():
    analyze = program("systemd-analyze", "Debian's systemd")
    try:
        seccomp = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        leave_out("libseccomp2 (Debian)")
    need_mounts()
    service = directives()
    names = allowed_calls(service, analyze)
    with tempfile.TemporaryDirectory() as folder:
        # What another process has open stays open.
        others = make_folder(folder)
        for writable in [False, True]:
            check(folder, service, names, seccomp, writable)
        for other in others.values():
            other.close()
    faults.end(f"{len(names)} system calls")


main()
