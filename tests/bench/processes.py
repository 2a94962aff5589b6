"""The processes that are measured: the exporter, and the C programs of floor/."""
import itertools
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BINARY = Path(os.environ.get("TEST_EXPORTER", ROOT / "target/release/sql-exporter"))
PEER = "prometheus-postgres-exporter"
LIBRARIES = {
    "postgres": ["-I/usr/include/postgresql", "-lpq"],
    "mariadb": ["-I/usr/include/mariadb", "-lmariadb"],
    "sqlite": ["-lsqlite3"],
    "http": [],
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """One that ends with this script: it works in the folder that tests/run clears, also when this is killed."""
    folder = None
    numbers = itertools.count()

    def start(self, command, **more):
        self.child = subprocess.Popen(command, cwd=self.folder, **more)

    def cpu(self):
        """Seconds of all threads, also of those that ended, to the nanosecond: clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.child.pid << 3) | 2)

    def status(self, key):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise KeyError(key)

    def mebibytes(self, key):
        return self.status(key) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()


class Loop(Process):
    """floor/loop.c with one kind of client."""

    def __init__(self, kind, where, lines, clients=1):
        file = self.folder / f"lines-{next(self.numbers)}"
        file.write_text("".join(line + "\n" for line in lines))
        self.start([self.folder / kind, where, file, str(clients)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                   text=True)

    def pages(self, count):
        """Every client makes so many pages: the seconds of all, and of each."""
        self.child.stdin.write(f"{count}\n")
        self.child.stdin.flush()
        words = self.child.stdout.readline().split()
        if not words:
            raise RuntimeError(f"{self.child.args[0].name} ended; see above")
        elapsed, *took = (float(word) / 1e6 for word in words[1:])
        return elapsed, took


class Relay(Process):
    """floor/delay.c in front of a port."""

    def __init__(self, port, microseconds):
        self.port = free_port()
        self.start([self.folder / "delay", str(self.port), str(port), str(microseconds)])
        until(lambda: socket.create_connection(("127.0.0.1", self.port)).close() or True)


class Server(Process):
    """An exporter: ours, or the peer."""

    def serve(self, command, **more):
        self.log = self.folder / f"server-{self.port}.log"
        self.began = time.perf_counter()
        with open(self.log, "w") as log:
            self.start(command, stdout=log, stderr=log, **more)

    def ask(self, path="/metrics"):
        """A page, or None while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=90) as answer:
                return answer.read().decode()
        except urllib.error.URLError as error:
            if self.child.poll() is not None:
                raise RuntimeError(f"the exporter ended:\n{self.log.read_text()}") from error
            return None

    def first_page(self):
        """Seconds from the start to the first page."""
        page = until(self.ask)
        took = time.perf_counter() - self.began
        assert_whole(page)
        return took

    def client(self, paths=("/metrics",), clients=1, encoding="identity"):
        return Loop("http", f"{self.port} {encoding}", paths, clients)


class Exporter(Server):
    def __init__(self, targets, queries, include=(), **exporter):
        self.port = free_port()
        config = self.folder / f"exporter-{next(self.numbers)}.yaml"
        # JSON is YAML.
        config.write_text(json.dumps({
            "databases": targets,
            "include": list(include),
            "queries": [query_entry(*query, **limits(exporter)) for query in enumerate(queries)],
            "exporter": {"listen": f"127.0.0.1:{self.port}", "scrape_timeout": "60s", **exporter},
        }))
        self.serve([BINARY, "-c", config])


class Peer(Server):
    """postgres_exporter with the same queries and none of its own; or, without queries, with its own as it comes."""

    def __init__(self, port, database, queries=()):
        self.port = free_port()
        options = self.only(queries) if queries else []
        # The password is in PGPASSWORD.
        source = f"postgresql://postgres@127.0.0.1:{port}/{database}?sslmode=disable"
        self.serve([PEER, *options, f"--web.listen-address=127.0.0.1:{self.port}"],
                   env={**os.environ, "DATA_SOURCE_NAME": source})

    def only(self, queries):
        config = self.folder / f"peer-{next(self.numbers)}.yaml"
        config.write_text(json.dumps(dict(peer_entry(*query) for query in enumerate(queries))))
        return [*self.without_own_metrics(), f"--extend.query-path={config}"]

    @staticmethod
    def without_own_metrics():
        """Its collectors are options of their own, which differ between versions."""
        output = subprocess.run([PEER, "--help"], capture_output=True, text=True)
        collectors = re.findall(r"--(?:\[no-\])?collector\.(\w+)", output.stdout + output.stderr)
        return ["--disable-default-metrics", "--disable-settings-metrics",
                *(f"--no-collector.{name}" for name in sorted(set(collectors)))]


def limits(exporter):
    """A query may make what the page may hold."""
    most = exporter.get("max_series")
    return {"max_series": most, "max_rows": most} if most else {}


def query_entry(number, query, **limits):
    labels, sql = query
    metric = {"name": f"bench_q{number:02d}", "help": "q", "labels": labels}
    return {"name": f"q{number:02d}", "sql": sql, "databases": ["*"], "metrics": [metric], **limits}


def peer_entry(number, query):
    """An entry of the peer's query file: its metrics are called bench_qNN_value."""
    labels, sql = query
    columns = [{label: {"usage": "LABEL", "description": "q"}} for label in labels]
    return f"bench_q{number:02d}", {"query": sql, "metrics": [*columns, {"value": {"usage": "GAUGE", "description": "q"}}]}


def assert_whole(page):
    """Every query of the page succeeded; a page without a query's rows would be a fast one."""
    failed = [line for line in page.splitlines() if line.startswith("sql_exporter_query_success{") and line[-1] != "1"]
    failed += [line for line in page.splitlines()
               if line.startswith("pg_exporter_user_queries_load_error{") and not line.endswith(" 0")]
    if failed:
        raise RuntimeError("queries failed:\n" + "\n".join(failed))


def series_of(page):
    return sum(line.startswith("bench_") for line in page.splitlines())


def until(check, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            value = check()
        except OSError:
            value = None
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("nothing came in time")
        time.sleep(0.0003)


def build_floors(folder):
    source = HERE / "floor"
    compiler = [os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra"]
    for kind, libraries in LIBRARIES.items():
        files = [source / name for name in ("loop.c", "text.c", f"{kind}.c")]
        subprocess.run([*compiler, *files, "-o", folder / kind, *libraries, "-lpthread"], check=True)
    subprocess.run([*compiler, source / "delay.c", "-o", folder / "delay", "-lpthread"], check=True)


def ours_p50(client, pages):
    """The median time of a page in seconds, after a warm-up."""
    client.pages(3)
    _, took = client.pages(pages)
    return sorted(took)[len(took) // 2]
