"""The exporter under load: its configuration, and the most that it took of the machine."""
import json
import threading
import time
import urllib.request
from pathlib import Path

from processes import BINARY, Process, Server, free_port, until

# As often its memory, threads and descriptors are read.
SAMPLE_INTERVAL = 0.25


def query(name, sql, databases, value_column="value", **more):
    """An entry of `queries:` with one metric of the same name."""
    metric = {"name": name, "value_column": value_column}
    return {"name": name, "sql": sql, "databases": [databases], "metrics": [metric], **more}


def target(server, user, password, **more):
    """An entry of `databases:`; with a port of its own where something stands in front of the server."""
    return {"driver": server.driver, "host": "127.0.0.1", "port": server.port, "username": user, "password": password,
            "database": server.database, **more}


class Exporter(Server):
    def __init__(self, targets, queries, **exporter):
        self.port = free_port()
        self.config = self.folder / f"exporter-{next(self.numbers)}.yaml"
        self.exporter = {"listen": f"127.0.0.1:{self.port}", **exporter}
        self.write(targets, queries)
        self.launch()

    def write(self, targets, queries):
        """Another configuration, for a reload."""
        # JSON is YAML.
        self.config.write_text(json.dumps({"databases": targets, "queries": queries, "exporter": self.exporter}))

    def launch(self):
        self.serve([BINARY, "-c", self.config])
        until(lambda: self.ask("/-/ready"))

    def reload(self, targets, queries):
        self.write(targets, queries)
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/-/reload", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def listed(self):
        """The names that /sd lists."""
        return {entry["labels"]["__param_target"] for entry in json.loads(self.ask("/sd"))}

    def __exit__(self, *_):
        if self.child.poll() is None:
            super().__exit__()


class Load:
    """What a process takes from the beginning to the end of a `with`: CPU time, and the most of the rest. `last_…` is what
    it has in the end."""

    def __init__(self, process):
        self.process = process
        self.memory = self.threads = self.descriptors = 0
        self.over = threading.Event()

    def __enter__(self):
        self.began, self.cpu_before = time.monotonic(), self.process.cpu()
        self.sampler = threading.Thread(target=self.sample, daemon=True)
        self.sampler.start()
        return self

    def sample(self):
        files = Path(f"/proc/{self.process.child.pid}/fd")
        while not self.over.wait(SAMPLE_INTERVAL):
            try:
                self.last_memory, self.last_threads = self.process.mebibytes("VmRSS"), self.process.status("Threads")
                self.memory, self.threads = max(self.memory, self.last_memory), max(self.threads, self.last_threads)
                self.descriptors = max(self.descriptors, len(list(files.iterdir())))
            except (OSError, KeyError):
                return

    def __exit__(self, *_):
        self.over.set()
        self.sampler.join()
        self.core_share = (self.process.cpu() - self.cpu_before) / (time.monotonic() - self.began)
