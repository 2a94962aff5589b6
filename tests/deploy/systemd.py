"""The units in examples/systemd/ and what the package installs beside them. systemd itself does not run here: its tools read the
files in a folder of their own."""

import pathlib
import re
import shutil
import subprocess
import tempfile

from tools import EXAMPLES, ROOT, Faults, program, variable

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
    security = [analyze, "security", "--offline=true", "--threshold=15", f"--root={root}", UNITS[0]]
    code, said = run(*security)
    faults.equal(code, 0, UNITS[0], f"systemd-analyze security says {said}; its exit code")
    exposure = re.search(r"Overall exposure level for \S+: (\S+)", said)
    operations = (ROOT / "docs/operations.md").read_text()
    faults.expect(exposure and f"`systemd-analyze security` says {exposure[1]} of 10" in operations, "operations.md", f"does not say {exposure}")
    dropins = root / "etc/systemd/system/sql-exporter.service.d"
    dropins.mkdir(parents=True)
    shutil.copy(SYSTEMD / "credentials.conf", dropins)
    for number, text in enumerate(re.findall(r"```ini\n# systemctl edit sql-exporter\n(.*?)```", operations, re.S)):
        (dropins / f"operations-{number}.conf").write_text(text)
    faults.expect(len(list(dropins.iterdir())) > 3, "operations.md", "its drop-ins are not found")
    faults.equal(run(*verify), (0, ""), "the drop-ins", "what systemd-analyze verify says")
    faults.equal(run(*security)[0], 0, "the drop-ins", "the exit code of systemd-analyze security")
    # Both tools find what is wrong, where something is.
    unit = root / "usr/lib/systemd/system" / UNITS[0]
    text = unit.read_text()
    unit.write_text(text.replace("SystemCallFilter=", "#").replace("CapabilityBoundingSet=", "#"))
    faults.expect(run(*security)[0] != 0, UNITS[0], "without its filter and with all capabilities it passes, too")
    unit.write_text(text.replace("WatchdogSec=30s", "WatchdogSec=soon"))
    faults.expect("soon" in run(*verify)[1], UNITS[0], "systemd-analyze verify does not read it")
    unit.write_text(text)
    for line in ["Type=notify", "WatchdogSec=30s", "ExecReload=/bin/kill -HUP $MAINPID", "User=sql-exporter"]:
        faults.expect(f"\n{line}\n" in text, UNITS[0], f"has no {line}")


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
