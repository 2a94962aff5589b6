"""What the checks of examples/ for containers and Kubernetes share: how they report, and how they leave themselves out.

A check prints its faults and ends with 1. One whose tool cannot be had prints a line and ends with 77; tests/suite/deploy.rs
passes that line on.
"""

import importlib
import os
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def leave_out(tool):
    print(f"left out: {pathlib.Path(sys.argv[0]).name} needs {tool}, which is not there")
    sys.exit(77)


def module(name, package):
    """A module of the private Python environment (tests/servers/packages.sh)."""
    try:
        return importlib.import_module(name)
    except ImportError:
        leave_out(f"{package} (PyPI)")


def program(name, package):
    """A program of that environment, else of the system."""
    found = pathlib.Path(sys.executable).parent / name
    path = str(found) if found.exists() else shutil.which(name)
    return path or leave_out(f"{name} ({package})")


def variable(name):
    return os.environ.get(name) or leave_out(f"the variable {name} of tests/run")


class Faults:
    """Collects what is wrong, so that a run shows all of it."""

    def __init__(self):
        self.found = []

    def expect(self, holds, where, what):
        if not holds:
            self.found.append(f"{where}: {what}")

    def equal(self, found, expected, where, what):
        self.expect(found == expected, where, f"{what} is {found!r}, not {expected!r}")

    def end(self, done):
        """Ends the program. `done` says what was checked."""
        print("\n".join(self.found) if self.found else f"good: {done}")
        sys.exit(1 if self.found else 0)
