"""The table of what was measured, and whether it keeps its budget."""
from dataclasses import dataclass

HEADINGS = ("workload", "what", "beside", "theirs", "ours", "ratio", "budget", "")


@dataclass(frozen=True)
class Budget:
    """A bound on a ratio, or on memory, threads and sizes, which say the same on every machine."""
    limit: float
    ratio: bool = True
    least: bool = False

    def text(self, unit):
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.limit:.3g} ×" if self.ratio else f"{sign} {self.limit:g} {unit}".rstrip()

    def kept(self, ours, ratio):
        value = ratio if self.ratio else ours
        return value >= self.limit if self.least else value <= self.limit


def at_most(limit):
    return Budget(limit, ratio=False)


def at_least(limit):
    return Budget(limit, ratio=False, least=True)


def times(limit):
    return Budget(limit)


def share(limit):
    return Budget(limit, least=True)


@dataclass(frozen=True)
class Row:
    workload: str
    what: str
    unit: str
    ours: float
    theirs: float | None = None
    budget: Budget | None = None
    beside: str = "floor"

    @property
    def ratio(self):
        return self.ours / self.theirs if self.theirs else None

    @property
    def missed(self):
        return self.budget is not None and not self.budget.kept(self.ours, self.ratio)

    def cells(self):
        verdict = "" if self.budget is None else "MISS" if self.missed else "ok"
        beside = self.beside if self.theirs is not None else ""
        what = f"{self.what}, {self.unit}" if self.unit else self.what
        return (self.workload, what, beside, number(self.theirs), number(self.ours),
                number(self.ratio), self.budget.text(self.unit) if self.budget else "", verdict)


def number(value):
    """Three digits that say something."""
    if value is None:
        return ""
    if value == round(value):
        return f"{value:.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def text(rows):
    """The rows under their headings, in columns; numbers stand to the right."""
    lines = [HEADINGS] + [row.cells() for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    to_right = {3, 4, 5}

    def line(cells):
        padded = (cell.rjust(width) if column in to_right else cell.ljust(width)
                  for column, (cell, width) in enumerate(zip(cells, widths)))
        return "  ".join(padded).rstrip()
    return "\n".join(map(line, lines))
