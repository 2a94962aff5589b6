"""The table of values in the chart's README, made from the comments of its values.yaml: `make docs` writes it, chart.py compares it."""

import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parents[2] / "examples/helm/sql-exporter"
README = CHART / "README.md"
MARKERS = ("<!-- values -->\n", "<!-- /values -->\n")
KEY = re.compile(r"( *)(\w+):(?: (.*))?$")
# `# Text`; an example that is commented out is indented further.
COMMENT = re.compile(r" *# (?! )(.*)")


def rows():
    """A path, its default and its description, for each value that is not a group of others."""
    open_keys, comments, free = [], [], None
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        key, comment = KEY.match(line), COMMENT.match(line)
        if comment:
            comments.append(comment[1])
        elif not key:
            comments = []
        else:
            depth = len(key[1]) // 2
            if free is None or depth <= free:
                free = None
                open_keys[depth:] = [key[2]]
                default = key[3]
                if default is None and key[2].endswith(("Probe", "ecurityContext")):
                    # Its keys are those of Kubernetes.
                    free, default = depth, "see values.yaml"
                if default is not None:
                    yield ".".join(open_keys), default, " ".join(comments)
            comments = []


def table():
    cells = ((path, default if default.startswith("see ") else f"`{default}`", said.replace("|", r"\|")) for path, default, said in rows())
    lines = [f"| `{path}` | {default} | {said} |" for path, default, said in cells]
    return "\n".join(["| value | default | |", "|---|---|---|", *lines]) + "\n"


def readme():
    """The README as it must be."""
    head, rest = README.read_text().split(MARKERS[0])
    return head + MARKERS[0] + table() + MARKERS[1] + rest.split(MARKERS[1])[1]


if __name__ == "__main__":
    README.write_text(readme())
    sys.exit(0)
