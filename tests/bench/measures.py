"""The measures: each starts what it needs, lets the exporter, the floor and the peer take turns, and returns rows of the
table. Every budget is a ratio taken in the same run, but for memory, threads and the binary's size."""
import statistics
import time
from contextlib import ExitStack

import workloads
from databases import NAME
from processes import BINARY, Exporter, Loop, Peer, Relay, assert_whole, ours_p50, series_of
from table import Row, at_most, share, times

ROUNDS = 15
DRIVERS = ("postgres", "mariadb", "sqlite")


def statements(queries):
    return [sql for _, sql in queries]


def turns(process, loop, count):
    """`count` pages of a loop: the times of each, and the process's own CPU time a page."""
    before = process.cpu()
    _, took = loop.pages(count)
    return took, (process.cpu() - before) / count


class Trio:
    """Floor, exporter and (on PostgreSQL) peer on the same workload, measured in turn; times in milliseconds."""

    def __init__(self, databases, driver, queries, pages, rounds=ROUNDS, peer=False, **exporter):
        with ExitStack() as stack:
            floor = stack.enter_context(Loop(driver, databases.where(driver), statements(queries)))
            self.exporter = stack.enter_context(Exporter({"one": databases.target(driver)}, queries, **exporter))
            page = first(self.exporter)
            loops = {"floor": (floor, floor), "ours": client_of(stack, self.exporter)}
            self.series = series_of(page)
            if peer:
                server = stack.enter_context(Peer(databases.postgres_port, NAME, queries))
                series = series_of(first(server))
                if series != self.series:
                    raise RuntimeError(f"the peer shows {series} series, the exporter {self.series}")
                loops["peer"] = client_of(stack, server)
            self.wall, self.cpu = measure(loops, pages, rounds)
            self.memory = {"floor": floor.mebibytes("VmHWM"), "ours": self.exporter.mebibytes("VmHWM")}
            assert_whole(self.exporter.ask())
            gzip = stack.enter_context(self.exporter.client(encoding="gzip"))
            self.gzip_wall = 1e3 * ours_p50(gzip, max(5, pages // 2))

    def rows(self, workload, wall=None, cpu=None, memory=None, peer_wall=None, peer_cpu=None):
        """The rows; a budget is one of their ratio to the floor, or to the peer."""
        rows = [
            Row(f"{workload}, {self.series} series", "wall p50", "ms", self.wall["ours"], self.wall["floor"], wall),
            Row("", "CPU a scrape", "ms", self.cpu["ours"], self.cpu["floor"], cpu),
        ]
        if "peer" in self.wall:
            rows += [
                Row("", "wall p50", "ms", self.wall["ours"], self.wall["peer"], peer_wall, "peer"),
                Row("", "CPU a scrape", "ms", self.cpu["ours"], self.cpu["peer"], peer_cpu, "peer"),
            ]
        return [
            *rows,
            Row("", "wall p50 in gzip", "ms", self.gzip_wall),
            Row("", "peak memory", "MiB", self.memory["ours"], self.memory["floor"], memory),
        ]


def first(server):
    """The first page of an exporter, which is whole."""
    server.first_page()
    return server.ask()


def client_of(stack, server):
    return server, stack.enter_context(server.client())


def measure(loops, pages, rounds):
    """Medians of wall and CPU time of a page, by the name of the loop. The peer is slow, so it makes fewer pages."""
    counts = {name: max(1, pages // 8) if name == "peer" else pages for name in loops}
    for name, (_, loop) in loops.items():
        loop.pages(max(3, counts[name] // 4))
    walls, cpus = ({name: [] for name in loops} for _ in range(2))
    for _ in range(rounds):
        for name, (process, loop) in loops.items():
            took, cpu = turns(process, loop, counts[name])
            walls[name] += took
            cpus[name].append(cpu)
    return ({name: 1e3 * statistics.median(times) for name, times in of.items()} for of in (walls, cpus))


def cheap(databases):
    rows = []
    for driver in DRIVERS:
        trio = Trio(databases, driver, workloads.cheap(driver), pages=40, peer=driver == "postgres")
        budgets = {"wall": times(1.5)}
        if driver == "postgres":
            budgets.update(cpu=times(5), memory=at_most(12), peer_wall=times(1 / 4), peer_cpu=times(1 / 6))
        rows += trio.rows(f"W1 {driver}, 50 queries", **budgets)
    return rows


def packs(databases):
    """compat/postgres_exporter beside the exporter that it stands for, as each comes: they show nearly the same series."""
    target = databases.target("postgres")
    with ExitStack() as stack:
        ours = stack.enter_context(Exporter({"one": target}, [], include=["builtin:compat/postgres_exporter"]))
        peer = stack.enter_context(Peer(databases.postgres_port, NAME))
        loops, pages = {}, {}
        for name, server in (("ours", ours), ("peer", peer)):
            pages[name] = first(server)
            loops[name] = client_of(stack, server)
        wall, cpu = measure(loops, pages=16, rounds=ROUNDS)
        assert_whole(ours.ask())
    series = {name: sum(line.startswith("pg_") for line in page.splitlines()) for name, page in pages.items()}
    if series["ours"] < 0.9 * series["peer"]:
        raise RuntimeError(f"the pack shows {series['ours']} series, the peer {series['peer']}")
    return [
        Row(f"compat/postgres_exporter, {series['ours']} series", "wall p50", "ms", wall["ours"], wall["peer"], times(1), "peer"),
        Row("", "CPU a scrape", "ms", cpu["ours"], cpu["peer"], None, "peer"),
    ]


def slow(databases):
    """W2: the ideal is as many at once as there are sessions."""
    rows = []
    for sessions, ideal, budget in ((8, 500, 1.06), (3, 1500, 1.04)):
        target = databases.target("postgres", max_connections=sessions)
        with Exporter({"one": target}, workloads.slow()) as exporter:
            exporter.first_page()
            with exporter.client() as client:
                wall = 1e3 * ours_p50(client, 3)
        workload = f"W2 8 × 0.5 s, {sessions} sessions"
        rows.append(Row(workload, "wall p50", "ms", wall, ideal, times(budget), "ideal"))
    return rows


def large(databases):
    both = {"wall": times(1.2), "cpu": times(1.2), "peer_wall": times(1 / 8)}
    small = Trio(databases, "postgres", workloads.large(10_000), pages=15, peer=True, max_series=200_000)
    big = Trio(databases, "postgres", workloads.large(100_000), pages=4, rounds=9, peer=True, max_series=200_000)
    return small.rows("W3a", **both) + big.rows("W3b", **both, memory=at_most(24))


def load(databases):
    """W4: 8 clients at once, a target each, so that they share no run of a query."""
    queries, clients, pages = workloads.cheap("postgres"), 8, 100
    targets = {f"t{number}": databases.target("postgres") for number in range(clients)}
    floor_rates, rates, floor_walls, walls = [], [], [], []
    with ExitStack() as stack:
        floor = stack.enter_context(Loop("postgres", databases.where("postgres"), statements(queries), clients))
        exporter = stack.enter_context(Exporter(targets, queries))
        exporter.first_page()
        client = stack.enter_context(exporter.client([f"/probe?target={name}" for name in targets], clients))
        for loop in (floor, client):
            loop.pages(20)
        for _ in range(8):
            for loop, all_rates, all_walls in ((floor, floor_rates, floor_walls), (client, rates, walls)):
                elapsed, took = loop.pages(pages)
                all_rates.append(clients * pages / elapsed)
                all_walls += took
        assert_whole(exporter.ask())
    rate, floor_rate = statistics.median(rates), statistics.median(floor_rates)
    p99, floor_p99 = (1e3 * statistics.quantiles(values, n=100)[98] for values in (walls, floor_walls))
    return [
        Row("W4 8 clients, a target each", "pages", "/s", rate, floor_rate, share(0.6)),
        Row("", "wall p99", "ms", p99, floor_p99, times(4)),
    ]


def relayed(databases):
    """W1 through a relay that adds a delay each way."""
    far = ((driver, delay) for driver in ("postgres", "mariadb") for delay in (0.25, 20))
    return [row for driver, delay in far for row in relayed_by(databases, driver, delay)]


def relayed_by(databases, driver, delay):
    """`delay` milliseconds away: the budget is two and a half round trips and our own time at loopback."""
    queries = workloads.cheap(driver)
    near = databases.target(driver)
    pages, rounds = (20, 10) if delay < 1 else (5, 5)
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(near["port"], round(1000 * delay)))
        loops = {}
        for name, target in (("near", near), ("far", {**near, "port": relay.port})):
            exporter = stack.enter_context(Exporter({"one": target}, queries))
            exporter.first_page()
            loops[name] = stack.enter_context(exporter.client())
        walls = {name: [] for name in loops}
        for _ in range(rounds):
            for name, loop in loops.items():
                walls[name].append(1e3 * ours_p50(loop, pages))
        wall = {name: statistics.median(values) for name, values in walls.items()}
        goal = 5 * delay + wall["near"]
        workload = f"W1 {driver}, {delay:g} ms away"
        rows = [Row(workload, "wall p50", "ms", wall["far"], goal, times(1), "2.5 round trips + loopback")]
        if driver == "postgres":
            peer = stack.enter_context(Peer(relay.port, NAME, queries))
            first(peer)
            theirs = 1e3 * ours_p50(stack.enter_context(peer.client()), pages if delay < 1 else 1)
            rows.append(Row("", "wall p50", "ms", wall["far"], theirs, times(1 / 4), "peer"))
    return rows


def start(databases):
    """From the start of the process to the first full page, sessions and statements being new to it."""
    rows = []
    for driver in DRIVERS:
        ours, floor = (1e3 * statistics.median(begin(databases, driver, workloads.cheap(driver)) for _ in range(15))
                       for begin in (first_page, first_floor))
        budget = times(4) if driver == "sqlite" else None
        rows.append(Row(f"start, W1 {driver}", "to the first full page", "ms", ours, floor, budget))
    return [*rows, Row("binary", "size, stripped", "MB", BINARY.stat().st_size / 1e6, None, at_most(14))]


def first_page(databases, driver, queries):
    with Exporter({"one": databases.target(driver)}, queries) as exporter:
        return exporter.first_page()


def first_floor(databases, driver, queries):
    began = time.perf_counter()
    with Loop(driver, databases.where(driver), statements(queries)) as floor:
        floor.pages(1)
        return time.perf_counter() - began
