"""The table of what was measured, and whether it keeps its budget."""
from dataclasses import dataclass

HEADINGS = ("workload", "what", "floor", "ours", "ratio", "budget", "")


@dataclass(frozen=True)
class Budget:
    limit: float
    of_floor: bool = False
    least: bool = False

    def text(self, unit):
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.limit:g} ×" if self.of_floor else f"{sign} {self.limit:g} {unit}"

    def kept(self, ours, ratio):
        value = ratio if self.of_floor else ours
        return value >= self.limit if self.least else value <= self.limit


def at_most(limit):
    return Budget(limit)


def at_least(limit):
    return Budget(limit, least=True)


def times(limit):
    return Budget(limit, of_floor=True)


def share(limit):
    return Budget(limit, of_floor=True, least=True)


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
