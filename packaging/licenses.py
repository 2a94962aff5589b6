"""Writes the licenses of the crates that are compiled into the binary: most of them ask that their text goes with it."""

import pathlib
import re
import sys

from crates import compiled

NAME = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.I)
HEAD = """sql-exporter contains the crates below and Rust's standard library (MIT OR Apache-2.0, https://www.rust-lang.org).
libsqlite3-sys contains SQLite, which is in the public domain.
"""


def texts(package):
    """What the crate has to say. Some have only a name of a license."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and NAME.match(path.name))
    found = [path.read_text(errors="replace").strip() for path in files if path.suffix not in (".rs", ".toml")]
    return found or [f"{package['license']}, by {', '.join(package['authors']) or 'its authors'}: {package['repository']}"]


def main(path):
    root, packages, graph = compiled()
    crates = {}
    for key in graph:
        if key != root:
            for text in texts(packages[key]):
                crates.setdefault(text, []).append(f"{packages[key]['name']} {packages[key]['version']}")
    parts = sorted((sorted(names), text) for text, names in crates.items())
    line = "-" * 80
    with open(path, "w") as file:
        file.write(HEAD + "".join(f"\n{line}\n{', '.join(names)}\n{line}\n\n{text}\n" for names, text in parts))


main(sys.argv[1])
