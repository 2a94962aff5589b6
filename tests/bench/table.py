"""The table of what was measured, and whether it keeps its budget."""
from dataclasses import dataclass

HEADINGS = ("workload", "what", "floor", "ours", "ratio", "budget", "")


@dataclass(frozen=True)
class Budget:
    """A limit for our figure, for its ratio to the floor's, or both: then either is enough, as a figure in milliseconds
    was set on a machine with a floor of its own, and this one may be slower."""
    limit: float | None = None
    ratio: float | None = None
    least: bool = False

    def text(self, unit):
        sign = "≥" if self.least else "≤"
        limits = [f"{self.limit:g} {unit}"] if self.limit is not None else []
        limits += [f"{self.ratio:.3g} ×"] if self.ratio is not None else []
        return f"{sign} {' or '.join(limits)}"

    def kept(self, ours, ratio):
        pairs = [(value, limit) for value, limit in ((ours, self.limit), (ratio, self.ratio))
                 if value is not None and limit is not None]
        return any(value >= limit if self.least else value <= limit for value, limit in pairs)


def at_most(limit, floor=None):
    """`floor`: what the floor took where the limit was set."""
    return Budget(limit, limit / floor if floor else None)


def at_least(limit, floor=None):
    return Budget(limit, limit / floor if floor else None, least=True)


def times(limit):
    return Budget(ratio=limit)


def share(limit):
    return Budget(ratio=limit, least=True)


@dataclass(frozen=True)
class Row:
    workload: str
    what: str
    unit: str
    ours: float
    floor: float | None = None
    budget: Budget | None = None

    @property
    def ratio(self):
        return self.ours / self.floor if self.floor else None

    @property
    def missed(self):
        return self.budget is not None and not self.budget.kept(self.ours, self.ratio)

    def cells(self):
        verdict = "" if self.budget is None else "MISS" if self.missed else "ok"
        return (self.workload, f"{self.what}, {self.unit}", number(self.floor), number(self.ours), number(self.ratio),
                self.budget.text(self.unit) if self.budget else "", verdict)


def number(value):
    """Three digits that say something."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def text(rows):
    """The rows under their headings, in columns; numbers stand to the right."""
    lines = [HEADINGS] + [row.cells() for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    to_right = {2, 3, 4}

    def line(cells):
        padded = (cell.rjust(width) if column in to_right else cell.ljust(width)
                  for column, (cell, width) in enumerate(zip(cells, widths)))
        return "  ".join(padded).rstrip()
    return "\n".join(map(line, lines))
