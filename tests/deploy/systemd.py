"""The units in examples/systemd/ and what the package installs beside them. systemd itself does not run here: its tools read the
files in a folder of their own."""

import pathlib
import re
import shutil
import subprocess
import tempfile

from tools import EXAMPLES, Faults, program, variable

SYSTEMD = EXAMPLES / "systemd"
UNITS = ["sql-exporter.service", "sql-exporter.socket"]
faults = Faults()


def run(*command):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True)
    return done.returncode, done.stdout + done.stderr


def machine(folder):
    """A root folder with the units of Debian and ours."""
    root = pathlib.Path(folder)
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "lib").symlink_to("usr/lib")
    for name in ["sql-exporter", "kill"]:
        (root / "usr/bin" / name).write_text("#!/bin/sh\n")
        (root / "usr/bin" / name).chmod(0o755)
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for unit in UNITS:
        shutil.copy(SYSTEMD / unit, root / "usr/lib/systemd/system")
    return root


def check_units(root):
    analyze = program("systemd-analyze", "Debian's systemd")
    verify = [analyze, "verify", "--man=no", f"--root={root}", *UNITS]
    faults.equal(run(*verify), (0, ""), "units", "what systemd-analyze verify says")
    # 15 is 1.5 of 10.
    code, said = run(analyze, "security", "--offline=true", "--threshold=15", f"--root={root}", UNITS[0])
    faults.equal(code, 0, UNITS[0], f"systemd-analyze security says {said}; its exit code")
    dropins = root / "etc/systemd/system/sql-exporter.service.d"
    dropins.mkdir(parents=True)
    shutil.copy(SYSTEMD / "credentials.conf", dropins)
    faults.equal(run(*verify), (0, ""), "credentials.conf", "what systemd-analyze verify says")


def check_user(root):
    sysusers = program("systemd-sysusers", "Debian's systemd")
    (root / "etc").mkdir(exist_ok=True)
    code, said = run(sysusers, f"--root={root}", SYSTEMD / "sql-exporter.sysusers")
    faults.equal(code, 0, "sql-exporter.sysusers", f"systemd-sysusers says {said}; its exit code")
    user = re.search("^sql-exporter:.*", (root / "etc/passwd").read_text(), re.M)
    faults.expect(user and user[0].endswith(":/usr/sbin/nologin"), "sql-exporter.sysusers", "the user can log in")


def check_configuration():
    exporter = variable("TEST_EXPORTER_BINARY")
    # The code that keeps systemd from a restart.
    code, said = run(exporter, "run", "-c", "/nowhere.yaml")
    unit = (SYSTEMD / UNITS[0]).read_text()
    faults.expect(f"RestartPreventExitStatus={code}\n" in unit, UNITS[0], f"tries a wrong configuration again: {said}")
    code, said = run(exporter, "check", "--strict", "-c", SYSTEMD / "config.yaml")
    faults.equal(code, 0, "config.yaml", f"check says {said}; its exit code")
    # The lines that are there to be uncommented.
    text = re.sub(r"^(\s*)# (?=password:|queries:|  - name:|    sql:|    metrics:)", r"\1", (SYSTEMD / "config.yaml").read_text(), flags=re.M)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        # The variables, as sh reads the lines of /etc/default/sql-exporter.
        variables = re.sub(r"^# (?=MAIN_PASSWORD=)", "", (SYSTEMD / "sql-exporter.default").read_text(), flags=re.M)
        script = f'set -a\n{variables}\nexec "$0" check -c "$1"'
        code, said = run("sh", "-c", script, exporter, file.name)
        faults.equal(code, 0, "config.yaml, uncommented", f"check says {said}; its exit code")
    known = run("man", "--local-file", EXAMPLES / "shell/sql-exporter.1")[1] if shutil.which("man") else ""
    for name in re.findall(r"^# (SQL_EXPORTER_\w+)=", (SYSTEMD / "sql-exporter.default").read_text(), re.M):
        faults.expect(not known or name in known, "sql-exporter.default", f"the manual does not name {name}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = machine(folder)
        check_units(root)
        check_user(root)
    check_configuration()
    faults.end(f"{len(UNITS)} units")


main()
