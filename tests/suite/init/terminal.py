"""Runs a program on a terminal of its own: waits for texts and answers them, then says how it ended.

Arguments: a JSON list of [text to wait for, answer], then the program and its arguments. The answer "EOF" ends the input.
Prints a JSON object: the exit code, what the terminal showed, stdout, and whether the terminal echoes afterwards.
"""

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
master, terminal = pty.openpty()


def own_terminal():
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


child = subprocess.Popen(
    command, stdin=terminal, stderr=terminal, stdout=subprocess.PIPE, preexec_fn=own_terminal
)
shown = b""
end = time.monotonic() + 60


def read():
    global shown
    if select.select([master], [], [], 0.05)[0]:
        shown += os.read(master, 65536)
    if time.monotonic() > end:
        child.kill()
        sys.exit("timeout: " + shown.decode(errors="replace"))


seen = 0
for wanted, answer in steps:
    while wanted.encode() not in shown[seen:]:
        read()
        if child.poll() is not None and wanted.encode() not in shown[seen:]:
            break
    seen = len(shown)
    os.write(master, {"EOF": b"\x04"}.get(answer, answer.encode()))
stdout = child.stdout.read()
code = child.wait()
while select.select([master], [], [], 0)[0]:
    shown += os.read(master, 65536)
echoes = bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
print(json.dumps({"code": code, "shown": shown.decode(errors="replace"), "stdout": stdout.decode(), "echoes": echoes}))
