"""Hundreds of databases on one server that the exporter finds itself (`discover`), also through PgBouncer."""
import threading
import time
from contextlib import ExitStack

from exporter import Exporter, Load, query, target
from processes import until
from prometheus import Prometheus
from servers import PASSWORD, PgBouncer, Sessions, ordinary_logins
from fixtures import DATABASES, SCHEMAS
from table import Row, at_least, at_most

INTERVAL, POOLED_INTERVAL = 15, 30
# So long scrapes are counted.
WINDOW = 60
# `max_server_connections` as it comes. `discover.max_connections` is 10, but a session that is closed is there for a moment.
SESSIONS = 20
# max_user_connections of PgBouncer.
POOLED_SESSIONS = 20
DROPS = 10

QUERIES = {
    "postgres": [
        query("relations", "SELECT count(*) AS value FROM pg_class", "srv/*"),
        query("commits", "SELECT xact_commit AS value FROM pg_stat_database WHERE datname = current_database()", "srv/*"),
    ],
    "mariadb": [
        query("tables", "SELECT count(*) AS value FROM information_schema.tables WHERE table_schema = database()", "srv/*"),
        query("name_length", "SELECT length(database()) AS value", "srv/*"),
    ],
}


def targets(server, user, port=None, discover=None, **more):
    # The default of `max` is 200.
    entry = target(server, user, PASSWORD, discover={"max": 400, **(discover or {})}, **more)
    return {"srv": {**entry, "port": port or entry["port"]}}


class Watched:
    """An exporter that discovers the databases of a server, a Prometheus, and what they did in a minute."""

    def __init__(self, stack, server, user, count, entry, interval=INTERVAL, **exporter):
        self.server, self.user, self.count, self.interval = server, user, count, interval
        self.queries = QUERIES[server.driver]
        self.exporter = stack.enter_context(Exporter(entry, self.queries, **exporter))
        self.sessions = stack.enter_context(Sessions(server))
        self.prometheus = stack.enter_context(Prometheus({"sd": self.exporter.port}, interval))
        # The first scrape, of `srv`, finds the databases; then Prometheus asks /sd again.
        until(lambda: len(self.exporter.listed()) > count, 60)
        time.sleep(interval + 5)
        logins, since = server.logins(user), time.time()
        ordinary = threading.Thread(target=self.log_in_as_somebody_else)
        ordinary.start()
        with Load(self.exporter) as self.load:
            time.sleep(WINDOW)
        self.logins = server.logins(user) - logins
        self.scrapes = self.prometheus.scrapes('job="sd"', since)
        self.down = self.prometheus.down('target=~"srv.*"', since)
        self.up = self.prometheus.number('count(sql_exporter_target_up{target=~"srv/.+"} == 1)')
        ordinary.join()

    def log_in_as_somebody_else(self):
        self.ordinary = ordinary_logins(self.server, "ordinary", 0.9 * WINDOW)

    def rows(self, title, bound, memory=32, threads=64):
        scrapes, load = self.scrapes, self.load
        return [
            Row(title, "databases up", "", self.up, None, at_least(self.count)),
            Row("", "scrapes", "", scrapes.count, None, at_least(self.count * (WINDOW / self.interval - 1))),
            Row("", "scrapes missed or late", "", scrapes.missed + scrapes.late, None, at_most(0)),
            Row("", "pages with target_up 0", "", self.down, None, at_most(0)),
            Row("", "sessions at once, as the server counts", "", self.sessions.most(self.user), None, at_most(bound)),
            Row("", "ordinary logins that succeed, of 10", "", self.ordinary, None, at_least(10)),
            Row("", "logins that the server refused as full", "", self.server.refusals(), None, at_most(0)),
            Row("", "logins a scrape", "", self.logins / scrapes.count, None, at_most(1.1)),
            Row("", "scrape p50", "ms", 1e3 * scrapes.median),
            Row("", "scrape p99", "ms", 1e3 * scrapes.p99),
            Row("", "memory", "MiB", load.memory, None, at_most(memory)),
            Row("", "threads", "", load.threads, None, at_most(threads)),
            Row("", "CPU", "cores", load.core_share),
        ]


def postgres(fixtures):
    server = fixtures.databases()
    with ExitStack() as stack:
        watched = Watched(stack, server, "monitor", DATABASES, targets(server, "monitor"))
        return watched.rows(f"{DATABASES} databases, discover, PostgreSQL", SESSIONS) + drops(watched)


def drops(watched):
    """`idle_timeout: 0`: nobody waits for the exporter who drops a database that is scraped."""
    exporter, server = watched.exporter, watched.server
    exporter.reload(targets(server, watched.user, idle_timeout=0), watched.queries)
    time.sleep(INTERVAL)
    names, longest, good = [f"app_{number:03}" for number in range(DROPS)], 0, 0
    for name in names:
        began = time.monotonic()
        good += server.run(f"DROP DATABASE {name}; SELECT 'dropped'") == ["dropped"]
        longest = max(longest, time.monotonic() - began)
        # Spread over a round, so that each meets other scrapes.
        time.sleep(INTERVAL / DROPS)
    # A scrape of each says that it is gone; then the list is made anew.
    gone, began = {f"srv/{name}" for name in names}, time.monotonic()
    while gone & exporter.listed() and time.monotonic() - began < 2 * INTERVAL:
        time.sleep(1)
    left = len(gone & exporter.listed())
    # The next part has all of them again.
    server.run("".join(f"CREATE DATABASE {name};\n" for name in names))
    return [
        Row("the same, idle_timeout 0", f"DROP DATABASE that succeed, of {DROPS}", "", good, None, at_least(DROPS)),
        Row("", "the longest of them", "s", longest),
        Row("", "dropped databases in /sd after two rounds", "", left, None, at_most(0)),
    ]


def mariadb(fixtures):
    server = fixtures.schemas()
    with ExitStack() as stack:
        watched = Watched(stack, server, "monitor", SCHEMAS, targets(server, "monitor"))
        return watched.rows(f"{SCHEMAS} schemas, discover, MariaDB", SESSIONS)


def pgbouncer(fixtures):
    """A session of PgBouncer costs little, so each database keeps its own; of the 20 in the server one is always free for
    the 16 queries that run at once."""
    server = fixtures.databases()
    with ExitStack() as stack:
        bouncer = stack.enter_context(PgBouncer(server, "pooled", POOLED_SESSIONS))
        keys = {"discover": {"max_connections": 400}, "max_server_connections": 400}
        entry = targets(server, "pooled", bouncer.port, **keys)
        watched = Watched(stack, server, "pooled", DATABASES, entry, POOLED_INTERVAL, max_workers=16)
        title = f"{DATABASES} databases, PgBouncer, max_user_connections {POOLED_SESSIONS}"
        # One that PgBouncer has closed is there for a moment.
        return watched.rows(title, POOLED_SESSIONS + 4, memory=64, threads=128)
