"""Runs what examples/docker/Dockerfile says an image runs, where there is no Docker: its entry point and its health check, as its user,
in a read-only root folder with nothing but the program and the libraries that the base has. The base itself is not downloaded: the
libraries are this machine's."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from sandbox import BIND, READ_ONLY, RECURSIVE, REMOUNT, Sandboxed, become, mount, need_mounts, own_mounts
from tools import EXAMPLES, Faults, variable

DOCKERFILE = (EXAMPLES / "docker/Dockerfile").read_text()
# The libraries of gcr.io/distroless/cc: libc6 and libgcc-s1.
BASE = {"linux-vdso", "ld-linux-x86-64", "ld-linux-aarch64", "libc", "libm", "libdl", "libpthread", "librt", "libgcc_s", "libresolv"}
CONFIG = "databases: {shop: {driver: sqlite, database: shop.db}}\nqueries: [{name: one, sql: SELECT 1 AS n, metrics: [{name: one, value_column: n}]}]\n"
WEB = "tls_server_config: {cert_file: server.pem, key_file: server.key}\nbasic_auth_users: {me: $2y$04$pV3tZBdVzBd8c3yZhSvQT.0Xe6YDUB1yJF6w1Yk1q6v1Y2r9Yw5bG}\n"
faults = Faults()
program = pathlib.Path(variable("TEST_EXPORTER_BINARY"))


def libraries():
    done = subprocess.run(["ldd", program], text=True, capture_output=True, check=True)
    found = {}
    for name, path in re.findall(r"^\s*(?:(\S+) => )?(/\S+|linux-vdso\S*) \(", done.stdout, re.M):
        found[re.split(r"\.so", pathlib.Path(name or path).name)[0]] = path
    faults.expect(set(found) <= BASE, "libraries", f"{sorted(set(found) - BASE)} are not in the base")
    return [path for path in found.values() if path.startswith("/")]


def json_words(instruction):
    return json.loads(re.search(rf"{instruction} (\[.*\])$", DOCKERFILE, re.M)[1])


class Container:
    """The image's entry point with `arguments`, and with files at absolute paths."""

    def __init__(self, folder, files, environment, arguments=()):
        self.root = pathlib.Path(folder)
        for name in ["usr/local/bin", "proc", "tmp"]:
            (self.root / name).mkdir(parents=True)
        for library in libraries():
            (self.root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, self.root / library.lstrip("/"))
        shutil.copy(program, self.root / "usr/local/bin/sql-exporter")
        for path, text in files.items():
            place = self.root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self.root.chmod(0o755)
        self.command = [*json_words("ENTRYPOINT"), *arguments]
        # That of distroless.
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | environment
        self.user, self.group = map(int, re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M)[-1])
        self.exporter = Sandboxed(self.become)

    def become(self):
        """In the child: the entry point in a read-only root folder with a /tmp. Does not return."""
        own_mounts()
        mount(self.root, self.root, flags=BIND)
        mount("/proc", self.root / "proc", flags=BIND | RECURSIVE)
        mount("tmpfs", self.root / "tmp", "tmpfs", data="mode=1777")
        mount(None, self.root, flags=REMOUNT | BIND | READ_ONLY)
        os.chroot(self.root)
        os.chdir("/")
        become(self.user, self.group)
        os.execve(self.command[0], self.command, self.environment)

    def run(self, words):
        """The exit code of another command in the container, and what it says."""
        inside = ["nsenter", f"--target={self.exporter.pid}", "--mount", "--root", f"--setuid={self.user}", f"--setgid={self.group}"]
        command = [shutil.which(inside[0]), *inside[1:], *words]
        done = subprocess.run(command, env=self.environment, text=True, capture_output=True)
        return done.returncode, done.stdout + done.stderr

    def health(self):
        return self.run(json_words(r"HEALTHCHECK .*CMD"))


held = []


def free_port():
    """A port for a server that reuses addresses: a socket has it that does not listen, so the system gives it to nobody else."""
    held.append(socket.socket())
    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held[-1].bind(("127.0.0.1", 0))
    return held[-1].getsockname()[1]


def check(name, files, environment, later=None):
    """It starts, and is healthy; also after its configuration has become `later`."""
    with tempfile.TemporaryDirectory() as folder:
        container = Container(folder, {f"/etc/sql-exporter/{file}": text for file, text in files.items()}, environment)
        exporter = container.exporter
        if not exporter.wait_for("listening on"):
            faults.expect(False, name, f"does not start: {exporter.log}")
            return
        if later is not None:
            (container.root / "etc/sql-exporter/config.yaml").write_text(later)
        faults.equal(container.health(), (0, "healthy\n"), name, "the health check")
        if later is not None:
            os.kill(exporter.pid, signal.SIGSTOP)
            code, said = container.health()
            faults.equal(code, 1, name, f"the exit code of the health check ({said}) while the exporter stands still")
            os.kill(exporter.pid, signal.SIGCONT)
        code = exporter.stop()
        faults.expect(code == 0 and "WARN" not in exporter.log, name, f"the exit code is {code}, and it says {exporter.log}")


def main():
    need_mounts()
    tls = {name: pathlib.Path(variable("TEST_TLS"), name).read_text() for name in ["server.pem", "server.key"]}

    def listen(more=""):
        return f"{CONFIG}exporter: {{listen: '127.0.0.1:{free_port()}'{more}}}\n"

    check("as it comes", {"config.yaml": listen()}, {})
    check("by a variable", {"config.yaml": CONFIG}, {"SQL_EXPORTER_LISTEN": f":{free_port()}"})
    check("another file", {"shop.yaml": listen()}, {"SQL_EXPORTER_CONFIG": "/etc/sql-exporter/shop.yaml"})
    check("below a prefix", {"config.yaml": listen(", route_prefix: /sql")}, {})
    check("with TLS and users", {"config.yaml": listen(", web_config_file: web.yml, route_prefix: sql"), "web.yml": WEB, **tls}, {})
    check("on a Unix socket", {"config.yaml": f"{CONFIG}exporter: {{listen: 'unix:/tmp/x.sock'}}\n"}, {})
    good = listen()
    check("with a file that broke", {"config.yaml": good}, {}, later=good.replace("driver", "drover"))
    faults.end("7 containers")


if __name__ == "__main__":
    main()
