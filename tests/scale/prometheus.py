"""A real Prometheus, and what it saw: scrapes that failed or were late, and how long they took."""
import json
import os
import statistics
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass

from processes import Process, free_port, until


@dataclass(frozen=True)
class Scrapes:
    """The scrapes of some targets in a window of time."""
    targets: int
    count: int
    # Prometheus got no page: no connection, no 200, or not within the timeout.
    missed: int
    # Of two scrapes of a target the second began more than half an interval after its time.
    late: int
    # Seconds of each that was not missed.
    took: list

    @property
    def median(self):
        return statistics.median(self.took)

    @property
    def p99(self):
        return statistics.quantiles(self.took, n=100)[98]


class Prometheus(Process):
    """Scrapes what exporters list under /sd; `seed` makes the moments of its scrapes others than those of another one."""

    def __init__(self, jobs, interval, timeout=None, seed=""):
        """`jobs`: the port whose /sd lists the targets, by name."""
        self.interval, self.port = interval, free_port()
        home = self.folder / f"prometheus-{self.port}"
        home.mkdir()
        config = {
            "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{timeout or min(interval, 10)}s",
                       "external_labels": {"seed": seed}},
            "scrape_configs": [{
                "job_name": name,
                "http_sd_configs": [{"url": f"http://127.0.0.1:{port}/sd", "refresh_interval": "2s"}],
            } for name, port in jobs.items()],
        }
        (home / "prometheus.yml").write_text(json.dumps(config))
        command = [os.environ["TEST_PROMETHEUS"], f"--config.file={home}/prometheus.yml",
                   f"--storage.tsdb.path={home}/data", "--log.level=warn", f"--web.listen-address=127.0.0.1:{self.port}"]
        with open(home / "log", "w") as log:
            self.start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self.query("vector(1)"), 60)

    def query(self, expression, at=None):
        words = {"query": expression, **({"time": at} if at else {})}
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]["result"]

    def number(self, expression, at=None):
        """The only value of an expression; 0 where there is none."""
        found = self.query(expression, at)
        return float(found[0]["value"][1]) if found else 0.0

    def scrapes(self, selector, since, to=None):
        """The scrapes of the targets of `{selector}` between two moments."""
        to = to or time.time()
        window = f"{{{selector}}}[{max(1, round(to - since))}s]"
        missed = late = 0
        good, count = set(), 0
        ups = self.query(f"up{window}", to)
        for series in ups:
            instance, values = series["metric"]["instance"], series["values"]
            count += len(values)
            missed += sum(value == "0" for _, value in values)
            good.update((instance, moment) for moment, value in values if value == "1")
            moments = [moment for moment, _ in values]
            # The end of the window counts like a scrape: one that never came.
            gaps = (after - before for before, after in zip(moments, [*moments[1:], to - self.interval / 2]))
            late += sum(gap > 1.5 * self.interval for gap in gaps)
        durations = self.query(f"scrape_duration_seconds{window}", to)
        took = [float(value) for series in durations for moment, value in series["values"]
                if (series["metric"]["instance"], moment) in good]
        return Scrapes(len(ups), count, missed, late, took)

    def down(self, selector, since, to=None):
        """How many pages of these targets say that the database is down."""
        to = to or time.time()
        window = f"{{{selector}}}[{max(1, round(to - since))}s]"
        pages = self.query(f"sql_exporter_target_up{window}", to)
        return sum(value == "0" for series in pages for _, value in series["values"])
