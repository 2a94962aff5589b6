#!/usr/bin/env python3
"""`make scale`: the exporter with hundreds of databases and thousands of targets, beside real servers, Prometheis and a
balancer. Prints one table of counts and ratios; exits 1 where a bound is missed. Words name the parts to take:
`TEST_NEEDS=scale tests/run tests/scale/run.py postgres mariadb`. docs/operations.md has a table of such a run."""
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The table, and the processes.
sys.path.append(str(Path(__file__).parent.parent / "bench"))

import discover  # noqa: E402
import fleet  # noqa: E402
import processes  # noqa: E402
import replicas  # noqa: E402
import table  # noqa: E402
from fixtures import Fixtures  # noqa: E402

# What runs side by side, in turn. Parts whose times are compared are alone.
WAVES = [
    {"postgres": discover.postgres, "mariadb": discover.mariadb, "replicas": replicas.replicas},
    {"pgbouncer": discover.pgbouncer, "fleet": fleet.fleet, "twins": replicas.twins},
    {"frozen": fleet.frozen},
    {"cold": fleet.cold},
]


def wave(parts, fixtures):
    """The rows of some parts, which run at once."""
    with ThreadPoolExecutor(len(parts)) as pool:
        began = time.monotonic()
        running = [pool.submit(part, fixtures) for part in parts.values()]
        rows = [row for part in running for row in part.result()]
        print(f"scale: {', '.join(parts)}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return rows


def main():
    wanted = sys.argv[1:]
    # Everything that works in this folder is killed in the end, and tests/run removes it.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    processes.Process.folder = folder
    rows = []
    with Fixtures() as fixtures:
        threading.Thread(target=fixtures.five, daemon=True).start()
        for parts in WAVES:
            parts = {name: part for name, part in parts.items() if not wanted or name in wanted}
            rows += wave(parts, fixtures) if parts else []
    print(table.text(rows))
    missed = sum(row.missed for row in rows)
    print(f"{missed} bounds missed" if missed else "every bound is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
