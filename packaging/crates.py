"""The crates that are compiled into the binary, from `cargo metadata`. sbom.py and licenses.py tell of them."""

import json
import subprocess

PLATFORMS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]


def metadata():
    platforms = [word for platform in PLATFORMS for word in ("--filter-platform", platform)]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", *platforms]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def compiled():
    """Our package's id, all packages by id, and which depends on which: neither tests nor what runs only during a build,
    such as procedural macros."""
    found = metadata()
    # They run in the compiler, and so does what they depend on.
    macros = {package["id"] for package in found["packages"] for target in package["targets"] if "proc-macro" in target["kind"]}
    normal = lambda dep: dep["pkg"] not in macros and any(kind["kind"] is None for kind in dep["dep_kinds"])
    edges = {node["id"]: [dep["pkg"] for dep in node["deps"] if normal(dep)] for node in found["resolve"]["nodes"]}
    root, graph = found["resolve"]["root"], {}
    waiting = [root]
    while waiting:
        package = waiting.pop()
        if package not in graph:
            graph[package] = edges[package]
            waiting += edges[package]
    return root, {package["id"]: package for package in found["packages"] if package["id"] in graph}, graph
