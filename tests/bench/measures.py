"""The measures: each starts what it needs, lets exporter and floor take turns, and gives rows of the table."""
import statistics
import time
from contextlib import ExitStack

import workloads
from processes import BINARY, Exporter, Loop, Relay, assert_whole, ours_p50
from table import Row, at_least, at_most, share, times

ROUNDS = 15
DRIVERS = ("postgres", "mariadb", "sqlite")


def statements(queries):
    return [sql for _, sql in queries]


def series_of(page):
    return sum(line.startswith("bench_") for line in page.splitlines())


def turns(process, loop, count):
    """`count` pages of a loop: the times of each, and the process's own CPU time a page."""
    before = process.cpu()
    _, took = loop.pages(count)
    return took, (process.cpu() - before) / count


class Pair:
    """Floor and exporter on the same workload, measured in turn; times in milliseconds."""

    def __init__(self, databases, driver, queries, pages, rounds=ROUNDS, **exporter):
        with ExitStack() as stack:
            floor = stack.enter_context(Loop(driver, databases.where(driver), statements(queries)))
            self.exporter = stack.enter_context(Exporter({"one": databases.target(driver)}, queries, **exporter))
            self.exporter.first_page()
            client = stack.enter_context(self.exporter.client())
            self.measure(floor, client, pages, rounds)
            self.floor_memory, self.memory = floor.mebibytes("VmHWM"), self.exporter.mebibytes("VmHWM")
            page = self.exporter.ask()
            assert_whole(page)
            self.series = series_of(page)
            gzip = stack.enter_context(self.exporter.client(encoding="gzip"))
            self.gzip_wall = 1e3 * ours_p50(gzip, max(5, pages // 2))

    def measure(self, floor, client, pages, rounds):
        floor_walls, walls, floor_cpus, cpus = [], [], [], []
        for loop in (floor, client):
            loop.pages(max(3, pages // 4))
        for _ in range(rounds):
            took, cpu = turns(floor, floor, pages)
            floor_walls += took
            floor_cpus.append(cpu)
            took, cpu = turns(self.exporter, client, pages)
            walls += took
            cpus.append(cpu)
        self.floor_wall, self.wall, self.floor_cpu, self.cpu = (
            1e3 * statistics.median(values) for values in (floor_walls, walls, floor_cpus, cpus))

    def rows(self, workload, wall=None, cpu=None, memory=None, gzip=None):
        name = f"{workload}, {self.series} series"
        return [
            Row(name, "wall p50", "ms", self.wall, self.floor_wall, wall),
            Row("", "CPU a scrape", "ms", self.cpu, self.floor_cpu, cpu),
            Row("", "wall p50 in gzip", "ms", self.gzip_wall, None, gzip),
            Row("", "peak memory", "MiB", self.memory, self.floor_memory, memory),
        ]


def cheap(databases):
    rows = []
    for driver in DRIVERS:
        pair = Pair(databases, driver, workloads.cheap(driver), pages=40)
        budgets = {"wall": times(1.5)}
        if driver == "postgres":
            budgets.update(cpu=at_most(0.6), memory=at_most(12))
        rows += pair.rows(f"W1 {driver}, 50 queries", **budgets)
    return rows


def slow(databases):
    rows = []
    for lanes, budget in ((8, 530), (3, 1550)):
        target = databases.target("postgres", max_connections=lanes)
        with Exporter({"one": target}, workloads.slow()) as exporter:
            exporter.first_page()
            with exporter.client() as client:
                wall = 1e3 * ours_p50(client, 3)
        rows.append(Row(f"W2 8 × 0.5 s, {lanes} lanes", "wall p50", "ms", wall, None, at_most(budget)))
    return rows


def large(databases):
    both = {"wall": times(1.2), "cpu": times(1.2)}
    small = Pair(databases, "postgres", workloads.large(10_000), pages=15, max_series=200_000)
    big = Pair(databases, "postgres", workloads.large(100_000), pages=4, rounds=9, max_series=200_000)
    return small.rows("W3a", **both) + big.rows("W3b", **both, memory=at_most(24), gzip=at_most(100))


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
        Row("W4 8 clients, a target each", "pages", "/s", rate, floor_rate, at_least(800)),
        Row("", "pages as a share of the floor", "/s", rate, floor_rate, share(0.6)),
        Row("", "wall p99", "ms", p99, floor_p99, at_most(20)),
    ]


def relayed(databases):
    """W1 through a relay that adds 0.25 ms each way; what stands for the floor is our own time without it."""
    return [*relayed_to(databases, "postgres", times(3)), *relayed_to(databases, "mariadb")]


def relayed_to(databases, driver, budget=None):
    queries = workloads.cheap(driver)
    near = databases.target(driver)
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(near["port"], 250))
        far = {**near, "port": relay.port}
        clients = []
        for target in (near, far):
            exporter = stack.enter_context(Exporter({"one": target}, queries))
            exporter.first_page()
            clients.append(stack.enter_context(exporter.client()))
        far_floor = stack.enter_context(Loop(driver, databases.where(driver, relay.port), statements(queries)))
        walls = {loop: [] for loop in (*clients, far_floor)}
        for _ in range(10):
            for loop in walls:
                walls[loop].append(ours_p50(loop, 20))
    near, far, floor = (1e3 * statistics.median(values) for values in walls.values())
    return [
        Row(f"W1 {driver}, 0.25 ms away", "wall p50 ÷ ours without delay", "ms", far, near, budget),
        Row("", "wall p50", "ms", far, floor),
    ]


def start(databases):
    """From the start of the process to the first full page, sessions and statements being new to it."""
    rows = []
    for driver in DRIVERS:
        ours, floor = (1e3 * statistics.median(first(databases, driver, workloads.cheap(driver)) for _ in range(15))
                       for first in (first_page, first_floor))
        rows.append(Row(f"start, W1 {driver}", "to the first full page", "ms", ours, floor, at_most(20)))
    return [*rows, Row("binary", "size, stripped", "MB", BINARY.stat().st_size / 1e6, None, at_most(9))]


def first_page(databases, driver, queries):
    with Exporter({"one": databases.target(driver)}, queries) as exporter:
        return exporter.first_page()


def first_floor(databases, driver, queries):
    began = time.perf_counter()
    with Loop(driver, databases.where(driver), statements(queries)) as floor:
        floor.pages(1)
        return time.perf_counter() - began
