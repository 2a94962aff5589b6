"""A process in a mount namespace of its own, as another user, for checks where neither systemd nor Docker runs. Needs root."""

import ctypes
import os
import re
import signal
import subprocess
import threading

from tools import leave_out

libc = ctypes.CDLL(None, use_errno=True)
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
NO_NEW_PRIVILEGES, DEATH_SIGNAL, NEW_MOUNTS = 38, 1, 0x20000


def need_mounts():
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        leave_out("root's right to mount")


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind=None, flags=0, data=None):
    text = [str(word).encode() if word else None for word in (source, target, kind)]
    call("mount", *text, ctypes.c_ulong(flags), data.encode() if data else None)


def own_mounts():
    """This process's mounts are from here on not those of others."""
    call("unshare", NEW_MOUNTS)
    mount(None, "/", flags=PRIVATE | RECURSIVE)


def become(user, group):
    """Gives up root for good. The process dies with its parent."""
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


class Sandboxed:
    """A child process: `start` confines it and replaces it by a program. What that writes to stderr is its log."""

    def __init__(self, start):
        reading, errors = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(errors, 2)
                start()
            except BaseException as error:
                os.write(2, f"cannot be confined: {error!r}\n".encode())
            os._exit(1)
        os.close(errors)
        self.log, self.ended, self.added = "", False, threading.Condition()
        self.reader = threading.Thread(target=self.read, args=(reading,), daemon=True)
        self.reader.start()

    def read(self, reading):
        with os.fdopen(reading, errors="replace") as log:
            for line in log:
                with self.added:
                    self.log += line
                    self.added.notify_all()
        with self.added:
            self.ended = True
            self.added.notify_all()

    def wait_for(self, pattern):
        """The match of a pattern in the log; none if the process ends first, or after 30 s."""
        with self.added:
            self.added.wait_for(lambda: self.ended or re.search(pattern, self.log), 30)
            return re.search(pattern, self.log)

    def stop(self):
        """The exit code."""
        os.kill(self.pid, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.reader.join()
        return code
