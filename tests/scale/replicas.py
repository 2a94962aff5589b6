"""Two replicas behind a balancer, one of which ends under load; and two Prometheis on one exporter."""
import csv
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

from exporter import Exporter, query, target
from processes import Process, free_port, until
from prometheus import Prometheus
from servers import PASSWORD, Postgres
from table import Row, at_least, at_most

# Of the replicas. Each scrape takes a part of it, so that there is always one in flight.
SCRAPE_INTERVAL, QUERY_TIME = 2, 0.2
TARGETS = 80
KILLS = 3
# `shutdown_delay`: the balancer asks every 200 ms.
DELAY = 2

# `interval`, and the interval of both Prometheis.
TWIN_INTERVAL = 5
TWIN_TARGETS, TWIN_ROUNDS = 10, 12


class HaProxy(Process):
    """Round robin over replicas that are ready."""

    def __init__(self, port, ports):
        self.port, self.statistics = port, self.folder / "haproxy.sock"
        config = self.folder / "haproxy.cfg"
        replicas = "".join(f"  server replica-{number} 127.0.0.1:{port} check inter 200ms fall 1 rise 1\n"
                           for number, port in enumerate(ports))
        config.write_text(f"""global
  stats socket {self.statistics} mode 600 level admin
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  retries 2
  option redispatch 1
listen exporters
  bind 127.0.0.1:{self.port}
  balance roundrobin
  option httpchk GET /-/ready
{replicas}""")
        with open(self.folder / "haproxy.log", "w") as log:
            self.start(["haproxy", "-db", "-f", config], stdout=log, stderr=log)
        until(lambda: all(self.replica(number)["status"] == "UP" for number in range(len(ports))))

    def replica(self, number):
        """HAProxy's own figures of a replica."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.statistics))
            client.sendall(b"show stat\n")
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        return next(row for row in csv.DictReader(text.removeprefix("# ").splitlines())
                    if row["svname"] == f"replica-{number}")

    def lost(self, number):
        """Requests that a replica had taken and did not answer."""
        return int(self.replica(number)["eresp"])


class Readiness:
    """What a replica answers on two paths until it has gone."""

    def __init__(self, exporter):
        self.exporter, self.ready, self.served = exporter, [], []

    def __enter__(self):
        self.asking = threading.Thread(target=self.ask, daemon=True)
        self.asking.start()
        return self

    def ask(self):
        while self.exporter.child.poll() is None:
            for path, codes in (("/-/ready", self.ready), ("/-/metrics", self.served)):
                codes.append((time.monotonic(), code(self.exporter.port, path)))
            time.sleep(0.05)

    def __exit__(self, *_):
        self.asking.join()


def code(port, path):
    """The status of a response; `None` where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def replicas(fixtures):
    server = fixtures.five()[0]
    entry = target(server, "replica", PASSWORD, max_server_connections=TARGETS)
    entries = {f"replica-{number:02}": entry for number in range(TARGETS)}
    queries = [query("slow", f"SELECT 1 AS value FROM pg_sleep({QUERY_TIME})", "*")]
    with ExitStack() as stack:
        port = free_port()
        pair = [Exporter(entries, queries, shutdown_delay=f"{DELAY}s", advertise=f"127.0.0.1:{port}") for _ in range(2)]
        for replica in pair:
            stack.callback(lambda replica=replica: replica.__exit__())
        front = stack.enter_context(HaProxy(port, [replica.port for replica in pair]))
        prometheus = stack.enter_context(Prometheus({"sd": front.port}, SCRAPE_INTERVAL))
        time.sleep(3 * SCRAPE_INTERVAL)
        rows = killed(pair[0], front, prometheus)
        return rows + stopped(pair[1], front, prometheus)


def killed(replica, front, prometheus):
    since, lost = time.time(), front.lost(0)
    for _ in range(KILLS):
        time.sleep(2 * SCRAPE_INTERVAL)
        replica.child.kill()
        replica.child.wait()
        time.sleep(2 * SCRAPE_INTERVAL)
        replica.launch()
    time.sleep(2 * SCRAPE_INTERVAL)
    scrapes = prometheus.scrapes('job="sd"', since)
    lost = front.lost(0) - lost
    return [
        Row(f"2 replicas behind HAProxy, one killed {KILLS} times", "scrapes", "", scrapes.count, None, at_least(TARGETS)),
        Row("", "in flight that died with it", "", lost),
        Row("", "scrapes missed or late", "", scrapes.missed + scrapes.late, None, at_most(lost)),
    ]


def stopped(replica, front, prometheus):
    since, began, lost = time.time(), time.monotonic(), front.lost(1)
    with Readiness(replica) as readiness:
        replica.child.send_signal(signal.SIGTERM)
    ended = time.monotonic() - began
    replica.launch()
    time.sleep(2 * SCRAPE_INTERVAL)
    scrapes = prometheus.scrapes('job="sd"', since)
    refused = [moment for moment, code in readiness.ready if code == 503]
    served = [moment for moment, code in readiness.served if code == 200 and refused and moment > refused[0]]
    return [
        Row(f"SIGTERM to one of them, shutdown_delay {DELAY} s", "scrapes", "", scrapes.count, None, at_least(TARGETS)),
        Row("", "scrapes missed or late", "", scrapes.missed + scrapes.late, None, at_most(0)),
        Row("", "in flight that died with it", "", front.lost(1) - lost, None, at_most(0)),
        Row("", "/-/ready is 503 after", "s", refused[0] - began if refused else DELAY, None, at_most(DELAY / 2)),
        Row("", "pages served after that", "", len(served), None, at_least(1)),
        Row("", "until it has ended", "s", ended, None, at_least(DELAY)),
    ]


def twins(fixtures):
    """How often the database sees a query that both ask for."""
    server = fixtures.five()[2]
    entries = {f"twin-{number}": target(server, "twin", PASSWORD) for number in range(TWIN_TARGETS)}
    # Two tables: pg_stat_statements takes statements that differ in names and constants only for one.
    queries = [
        query("kept", "SELECT count(*) AS twin_kept FROM pg_am", "*", interval=f"{TWIN_INTERVAL}s", value_column="twin_kept"),
        query("each", "SELECT count(*) AS twin_each FROM pg_cast", "*", value_column="twin_each"),
    ]
    server.run("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter(entries, queries))
        pair = [stack.enter_context(Prometheus({"sd": exporter.port}, TWIN_INTERVAL, seed=seed)) for seed in ("a", "b")]
        time.sleep(2 * TWIN_INTERVAL)
        before, since = statements(server), time.time()
        time.sleep(TWIN_ROUNDS * TWIN_INTERVAL)
        after = statements(server)
        scrapes = [prometheus.scrapes('job="sd"', since) for prometheus in pair]
    kept, each = ((after[name] - before[name]) / TWIN_TARGETS / TWIN_ROUNDS for name in ("twin_kept", "twin_each"))
    return [
        Row(f"2 Prometheis on one exporter, interval {TWIN_INTERVAL} s", "scrapes", "", sum(one.count for one in scrapes),
            None, at_least(1.8 * TWIN_TARGETS * TWIN_ROUNDS)),
        Row("", "scrapes missed or late", "", sum(one.missed + one.late for one in scrapes), None, at_most(0)),
        Row("", "statements of a query with `interval`, each interval", "", kept, None, at_most(1.1)),
        Row("", "statements of one without, each interval", "", each, None, at_least(1.8)),
    ]


def statements(server: Postgres):
    """How often each statement ran."""
    sql = r"SELECT substring(query FROM 'twin_\w+'), sum(calls) FROM pg_stat_statements WHERE query LIKE '%AS twin\_%' GROUP BY 1"
    return {name: int(calls) for name, calls in (line.split("\t") for line in server.run(sql))}
