"""Hundreds and thousands of targets over five servers in one exporter: with each a session, with some that never answer,
with a server that froze, and after a cold start."""
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

from exporter import Exporter, Load, query, target
from prometheus import Prometheus
from servers import PASSWORD, Sessions
from table import Row, at_least, at_most, times

INTERVAL = 15
# From the start of a Prometheus until it has scraped each target.
SETTLE = INTERVAL + 3
TARGETS, UNANSWERED = 500, 60
FROZEN, HEALTHY = 300, 200
# Of each server: a login to PostgreSQL takes ten times what one to MariaDB takes, all of it in the server.
COLD = {"postgres": 100, "mariadb": 850}
# `max_server_connections` where each target keeps its session.
SESSIONS, COLD_SESSIONS = 120, 900

QUERIES = [
    query("pg_activity", "SELECT count(*) AS value FROM pg_stat_activity", "pg-*"),
    query("pg_commits", "SELECT sum(xact_commit) AS value FROM pg_stat_database", "pg-*"),
    query("pg_kept", "SELECT extract(epoch FROM clock_timestamp()) AS value", "pg-*", interval="1h"),
    query("my_activity", "SELECT count(*) AS value FROM information_schema.processlist", "my-*"),
    query("my_schemas", "SELECT count(*) AS value FROM information_schema.schemata", "my-*"),
    query("my_kept", "SELECT unix_timestamp(now(6)) AS value", "my-*", interval="1h"),
]
ADDED = query("added", "SELECT 1 AS value", "*")


def name(server, number):
    return f"{'pg' if server.driver == 'postgres' else 'my'}-{number:04}"


def targets(servers, count, user, **more):
    """So many targets, in turn on the servers."""
    on = [(servers[number % len(servers)], number) for number in range(count)]
    return {name(server, number): target(server, user, PASSWORD, **more) for server, number in on}


@contextmanager
def black_hole():
    """A port that accepts and never answers."""
    clients = []

    def accept():
        try:
            while True:
                clients.append(listener.accept()[0])
        except OSError:
            pass
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for client in clients:
        client.close()


def most_sessions(watched, user):
    return max(sessions.most(user) for sessions in watched)


def machine(load, memory, threads=None, cpu=None):
    return [
        Row("", "memory", "MiB", load.memory, None, at_most(memory)),
        Row("", "threads", "", load.threads, None, at_most(threads) if threads else None),
        Row("", "descriptors", "", load.descriptors),
        Row("", "CPU", "cores", load.core_share, None, at_most(cpu) if cpu else None),
    ]


def lost(scrapes):
    return Row("", "scrapes missed or late", "", scrapes.missed + scrapes.late, None, at_most(0))


def measured(prometheus, selector, seconds, exporter):
    """The scrapes of some seconds, the moment when they began, and what the exporter took."""
    since = time.time()
    with Load(exporter) as load:
        time.sleep(seconds)
    return prometheus.scrapes(selector, since), since, load


def fleet(fixtures):
    servers = fixtures.five()
    with ExitStack() as stack:
        watched = [stack.enter_context(Sessions(server)) for server in servers]
        entries = targets(servers, TARGETS, "fleet", max_server_connections=SESSIONS)
        exporter = stack.enter_context(Exporter(entries, QUERIES))
        prometheus = stack.enter_context(Prometheus({"sd": exporter.port}, INTERVAL))
        time.sleep(SETTLE)
        scrapes, since, load = measured(prometheus, 'job="sd"', 3 * INTERVAL, exporter)
        rows = [
            Row(f"{TARGETS} targets on 5 servers, a session each", "scrapes", "", scrapes.count, None, at_least(2 * TARGETS)),
            lost(scrapes),
            Row("", "pages with target_up 0", "", prometheus.down('job="sd"', since), None, at_most(0)),
            Row("", "sessions of a server", "", most_sessions(watched, "fleet"), None, at_most(SESSIONS)),
            Row("", "scrape p50", "ms", 1e3 * scrapes.median),
            Row("", "scrape p99", "ms", 1e3 * scrapes.p99),
            *machine(load, memory=32, threads=96, cpu=0.15),
        ]
        rows += unanswered(stack, exporter, prometheus, entries, scrapes)
        exporter.reload(entries, QUERIES)
        time.sleep(SETTLE)
        return rows + reload(exporter, prometheus, servers, entries, load)


def unanswered(stack, exporter, prometheus, entries, before):
    """Some of the targets are not answered any more, whichever server they are on."""
    holes = [stack.enter_context(black_hole()) for _ in range(5)]
    chosen = list(entries)[:UNANSWERED]
    ports = {chosen: {"port": holes[number % len(holes)]} for number, chosen in enumerate(chosen)}
    exporter.reload({entry: {**keys, **ports.get(entry, {})} for entry, keys in entries.items()}, QUERIES)
    others = f'instance!~"{"|".join(chosen)}"'
    scrapes, since, load = measured(prometheus, others, 3 * INTERVAL, exporter)
    down = others.replace("instance", "target")
    of_chosen = prometheus.scrapes(others.replace("!~", "=~"), since)
    return [
        Row(f"{UNANSWERED} of them never answered: the others", "scrapes", "", scrapes.count, None,
            at_least(2 * (TARGETS - UNANSWERED))),
        lost(scrapes),
        Row("", "pages with target_up 0", "", prometheus.down(down, since), None, at_most(0)),
        Row("", "scrape p50", "ms", 1e3 * scrapes.median, 1e3 * before.median, times(1.5), "before"),
        Row("", "scrape p99", "ms", 1e3 * scrapes.p99, 1e3 * before.p99, None, "before"),
        Row("", "pages of the unanswered that were missed", "", of_chosen.missed, None, at_most(0)),
        *machine(load, memory=56),
    ]


def reload(exporter, prometheus, servers, entries, before):
    """One query more on each target: the same sessions, and the results that `interval` keeps."""
    logins = sum(server.logins("fleet") for server in servers)
    exporter.reload(entries, [*QUERIES, ADDED])
    scrapes, _, load = measured(prometheus, 'job="sd"', 2 * INTERVAL, exporter)
    logins = sum(server.logins("fleet") for server in servers) - logins
    kept = f'changes({{__name__=~".._kept"}}[{3 * INTERVAL}s])'
    return [
        Row(f"a reload adds a query to {TARGETS} targets", "targets that have it", "", prometheus.number("count(added)"),
            None, at_least(TARGETS)),
        lost(scrapes),
        Row("", "logins", "", logins, None, at_most(0)),
        Row("", "results within `interval` that were kept", "", prometheus.number(f"count({kept} == 0)"), None,
            at_least(TARGETS)),
        # The threads that the targets without an answer needed have gone.
        Row("", "threads in the end", "", load.last_threads, before.threads, times(1.5), "at first"),
        Row("", "memory in the end", "MiB", load.last_memory, before.memory, times(1.6), "at first"),
    ]


def frozen(fixtures):
    """One server with 300 targets stops in its tracks; 200 targets are on the four others."""
    *others, server = fixtures.five()
    entries = targets([server], FROZEN, "frozen")
    healthy = targets(others, HEALTHY, "frozen", max_server_connections=SESSIONS)
    entries |= {f"{entry}-healthy": keys for entry, keys in healthy.items()}
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter(entries, QUERIES))
        prometheus = stack.enter_context(Prometheus({"sd": exporter.port}, INTERVAL))
        time.sleep(SETTLE)
        selector = 'instance=~".+-healthy"'
        before, _, _ = measured(prometheus, selector, 2 * INTERVAL, exporter)
        stack.callback(server.thaw)
        server.freeze()
        scrapes, since, load = measured(prometheus, selector, 3 * INTERVAL, exporter)
        of_frozen = prometheus.scrapes('instance!~".+-healthy"', since)
        return [
            Row(f"a frozen server with {FROZEN} targets: {HEALTHY} others", "scrapes", "", scrapes.count, None,
                at_least(2 * HEALTHY)),
            lost(scrapes),
            Row("", "pages with target_up 0", "", prometheus.down('target=~".+-healthy"', since), None, at_most(0)),
            Row("", "scrape p50", "ms", 1e3 * scrapes.median, 1e3 * before.median, times(1.5), "before"),
            Row("", "scrape p99", "ms", 1e3 * scrapes.p99, 1e3 * before.p99, None, "before"),
            Row("", "pages of the frozen server that were missed", "", of_frozen.missed),
            *machine(load, memory=96),
        ]


def cold(fixtures):
    """Nothing is connected, and all are scraped at once."""
    servers = fixtures.five()
    with ExitStack() as stack:
        watched = [stack.enter_context(Sessions(server)) for server in servers]
        queries = [query("one", "SELECT 1 AS value", "*")]
        began = time.monotonic()
        of_each = [server for server in servers for _ in range(COLD[server.driver])]
        entries = targets(of_each, len(of_each), "cold", max_server_connections=COLD_SESSIONS)
        exporter = stack.enter_context(Exporter(entries, queries))
        started, since = time.monotonic() - began, time.time()
        prometheus = stack.enter_context(Prometheus({"sd": exporter.port}, INTERVAL))
        scrapes, _, load = measured(prometheus, 'job="sd"', 4 * INTERVAL, exporter)
        return [
            Row(f"{len(entries)} targets on 5 servers, cold", "start until ready", "s", started),
            Row("", "scrapes", "", scrapes.count, None, at_least(3 * len(entries))),
            lost(scrapes),
            Row("", "pages with target_up 0", "", prometheus.down('job="sd"', since), None, at_most(0)),
            Row("", "sessions of a server", "", most_sessions(watched, "cold"), None, at_most(COLD_SESSIONS)),
            Row("", "scrape p50", "ms", 1e3 * scrapes.median),
            Row("", "scrape p99", "ms", 1e3 * scrapes.p99),
            *machine(load, memory=128),
        ]
