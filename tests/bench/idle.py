"""Memory and threads of an exporter that nobody scrapes, and how they grow with its targets."""
import time
from contextlib import ExitStack

from measures import DRIVERS
from processes import Exporter, ours_p50
from table import Row, at_most

# A worker of the HTTP server ends after 30 s without work.
REST = 33
BUDGETS = {3: at_most(12), 500: at_most(32)}


def targets(databases, count):
    """So many entries, in turn on the three databases: neither server takes 500 sessions."""
    return {f"t{number}": databases.target(DRIVERS[number % 3], max_connections=1) for number in range(count)}


def idle(databases, counts):
    """Each target has one query and, after a scrape, one idle session."""
    rows = []
    query = [(["label"], "SELECT 'a' AS label, 1 AS value")]
    with ExitStack() as stack:
        exporters = {count: stack.enter_context(Exporter(targets(databases, count), query)) for count in counts}
        walls = {}
        for count, exporter in exporters.items():
            exporter.first_page()
            with exporter.client() as client:
                walls[count] = 1e3 * ours_p50(client, 15)
        time.sleep(REST)
        for count, exporter in exporters.items():
            rows += [
                Row(f"idle, {count} targets", "memory", "MiB", exporter.mebibytes("VmRSS"), None, BUDGETS.get(count)),
                Row("", "threads", "", exporter.status("Threads"), None, at_most(12) if count in BUDGETS else None),
                Row("", "wall p50 before", "ms", walls[count]),
            ]
    return rows
