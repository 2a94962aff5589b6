#!/usr/bin/env python3
"""`make bench`: the exporter beside the floor (C programs that send the same statements through the databases' own
libraries and write the rows as text) and the peer (postgres_exporter with the same queries). Prints one table; exits 1
where a budget is missed. BENCH=quick leaves out how things grow; further words name the measures to take:
`TEST_NEEDS=bench tests/run tests/bench/run.py cheap large`. docs/performance.md has the budgets."""
import os
import sys
import tempfile
from pathlib import Path

import idle
import measures
import processes
import table
import workloads
from databases import Databases
from table import Row

QUICK = os.environ.get("BENCH") == "quick"


def growth(databases):
    """A series costs the same, however many there are."""
    rows, few = [], None
    for series, pages in ((1_000, 100), (10_000, 15), (100_000, 3), (1_000_000, 1)):
        trio = measures.Trio(databases, "postgres", workloads.large(series), pages, rounds=7, max_series=2_000_000,
                             max_page_bytes="1GiB")
        each = 1e6 * trio.wall["ours"] / trio.series
        few = each if series == 10_000 else few
        rows += trio.rows("growth")
        rows.append(Row("", "wall a series", "ns", each, few, table.times(1.3) if few else None, "10,000 series"))
    return rows


MEASURES = {
    "cheap": measures.cheap,
    "packs": measures.packs,
    "slow": measures.slow,
    "large": measures.large,
    "load": measures.load,
    "relayed": measures.relayed,
    "start": measures.start,
    "idle": lambda databases: idle.idle(databases, (3, 500) if QUICK else (3, 10, 50, 150, 500)),
    "growth": growth,
}


def main():
    names = sys.argv[1:] or [name for name in MEASURES if not (QUICK and name == "growth")]
    # The exporter is killed with what works in this folder, and tests/run removes it.
    folder = Path(tempfile.mkdtemp())
    processes.Process.folder = folder
    processes.build_floors(folder)
    databases = Databases(folder, many=1_000_000 if "growth" in names else 1)
    rows = []
    for name in names:
        print(f"bench: {name}", file=sys.stderr)
        rows += MEASURES[name](databases)
    print(table.text(rows))
    missed = sum(row.missed for row in rows)
    print(f"{missed} budgets missed" if missed else "every budget is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
