"""Servers of this run's own, beside those of tests/run, and what they count: sessions and logins of each user."""
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from processes import Process, free_port, until

PASSWORD = os.environ["TEST_POSTGRES_PASSWORD"]
# tests/run gives both servers the same password; clients look here, so it is on no command line.
os.environ["PGPASSWORD"] = os.environ["MYSQL_PWD"] = PASSWORD
# As often the sessions of a server are counted.
WATCH_INTERVAL = 0.3


def as_user(user):
    """Servers refuse to run as root."""
    root = os.geteuid() == 0
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if root else []


def copy(source, target):
    subprocess.run(["cp", "-a", source, target], check=True)


class Server(Process):
    """A database server that runs until the end of a `with`."""

    def __init__(self, name):
        self.name = name
        self.log = self.folder / f"{name}.log"
        for _ in range(5):
            self.port = free_port()
            with open(self.log, "a") as log:
                self.start(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if until(lambda: self.answers() or self.child.poll() is not None, 60) and self.child.poll() is None:
                return
        raise RuntimeError(f"{name} does not start:\n{self.log.read_text()}")

    def answers(self):
        try:
            return bool(self.run("SELECT 1"))
        except subprocess.CalledProcessError:
            return False

    def family(self):
        """Its process and those that it started."""
        listing = subprocess.run(["pgrep", "-P", str(self.child.pid)], capture_output=True, text=True).stdout
        return [self.child.pid, *map(int, listing.split())]

    def signal(self, number):
        for pid in self.family():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def freeze(self):
        """Its port accepts, and nothing answers."""
        # Twice: a process that began while the first list was read.
        self.signal(signal.SIGSTOP)
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def __exit__(self, *_):
        self.thaw()
        self.child.send_signal(self.quick_stop)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            super().__exit__()


class Postgres(Server):
    driver, admin, database, quick_stop = "postgres", "postgres", "postgres", signal.SIGQUIT
    sessions = "SELECT usename, count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1"

    def __init__(self, name, **settings):
        self.data = self.folder / name
        copy(os.environ["TEST_POSTGRES_DATA"], self.data)
        self.settings = {"log_connections": "on", **settings}
        super().__init__(name)

    def command(self):
        settings = (word for key, value in self.settings.items() for word in ("-c", f"{key}={value}"))
        server = Path(os.environ["TEST_POSTGRES_BIN"], "postgres")
        return [*as_user("postgres"), server, "-D", self.data, "-p", str(self.port), *settings]

    @classmethod
    def client(cls, port, database, user):
        # psql writes each answer at once to a terminal only.
        psql = ["stdbuf", "-oL", Path(os.environ["TEST_POSTGRES_BIN"], "psql"), "-X", "-q", "-A", "-t", "-F", "\t"]
        return [*psql, "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(port), "-d", database, "-U", user]

    def run(self, sql, database="postgres", user="postgres"):
        """The lines of the answer."""
        return run(self.client(self.port, database, user), sql)

    def roles(self, *names):
        self.run("".join(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}';" for name in names))

    def logins(self, user):
        """How often this user logged in."""
        return len(re.findall(rf"connection authorized: user={user} ", self.log.read_text(errors="replace")))

    def refusals(self):
        """How often it said that it is full."""
        text = self.log.read_text(errors="replace")
        return len(re.findall("too many clients|remaining connection slots are reserved", text))


class MariaDb(Server):
    driver, admin, database, quick_stop = "mariadb", "root", "information_schema", signal.SIGKILL
    sessions = "SELECT user, count(*) FROM information_schema.processlist GROUP BY user"

    def __init__(self, name, **settings):
        self.data = self.folder / name
        copy(os.environ["TEST_MARIADB_DATA"], self.data)
        self.settings = {"userstat": "1", **settings}
        super().__init__(name)

    def command(self):
        settings = (f"--{key.replace('_', '-')}={value}" for key, value in self.settings.items())
        files = [f"--defaults-file={os.environ['TEST_MARIADB_CONFIG']}", f"--datadir={self.data}"]
        where = [f"--port={self.port}", f"--socket={self.data}/mariadb.sock"]
        return [*as_user("mysql"), os.environ["TEST_MARIADB_BIN"], *files, *where, *settings]

    @classmethod
    def client(cls, port, database, user):
        access = ["-h", "127.0.0.1", "-P", str(port), "-u", user, "-D", database]
        return ["mariadb", "--no-defaults", "--batch", "-N", "--unbuffered", *access]

    def run(self, sql, database="information_schema", user="root"):
        return run(self.client(self.port, database, user), sql)

    def roles(self, *names):
        self.run("".join(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
                         f"GRANT SELECT, PROCESS ON *.* TO {name}@'127.0.0.1';" for name in names))

    def logins(self, user):
        sql = f"SELECT total_connections FROM information_schema.user_statistics WHERE user = '{user}'"
        return sum(map(int, self.run(sql)))

    def refusals(self):
        sql = "SELECT variable_value FROM information_schema.global_status WHERE variable_name LIKE 'connection_errors_max%'"
        return sum(map(int, self.run(sql)))


class Sessions:
    """Counts the sessions of a server until the end of a `with`, on a session of its administrator."""

    def __init__(self, server):
        self.server = server
        self.output = Process.folder / f"sessions-{next(Process.numbers)}"
        self.over = threading.Event()

    def __enter__(self):
        client = self.server.client(self.server.port, self.server.database, self.server.admin)
        with open(self.output, "w") as output:
            self.client = subprocess.Popen(client, cwd=Process.folder, stdin=subprocess.PIPE, stdout=output, text=True)
        threading.Thread(target=self.count, daemon=True).start()
        return self

    def count(self):
        while not self.over.wait(WATCH_INTERVAL):
            try:
                self.client.stdin.write(self.server.sessions + ";\n")
                self.client.stdin.flush()
            except OSError:
                return

    def most(self, user):
        """The most sessions that this user had."""
        rows = (line.split("\t") for line in self.output.read_text().splitlines())
        return max((int(row[1]) for row in rows if len(row) == 2 and row[0] == user and row[1].isdigit()), default=0)

    def __exit__(self, *_):
        self.over.set()
        self.client.kill()
        self.client.wait()


class PgBouncer(Process):
    """Transaction pooling to a server, `most` sessions for each user."""

    def __init__(self, server, user, most):
        self.port = free_port()
        users, config = (self.folder / f"pgbouncer-{self.port}.{suffix}" for suffix in ("users", "ini"))
        users.write_text(f'"{user}" "{PASSWORD}"\n')
        config.write_text(f"""[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 5
max_user_connections = {most}
""")
        with open(self.folder / "pgbouncer.log", "w") as log:
            self.start([*as_user("postgres"), "pgbouncer", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: answers(Postgres.client(self.port, "postgres", user)))


def run(client, sql):
    output = subprocess.run(client, input=sql, capture_output=True, text=True)
    if output.returncode:
        raise subprocess.CalledProcessError(output.returncode, client[0], output.stdout, output.stderr)
    return output.stdout.splitlines()


def answers(client):
    try:
        return bool(run(client, "SELECT 1"))
    except subprocess.CalledProcessError:
        return False


def ordinary_logins(server, user, seconds, tries=10):
    """How many of so many logins of an ordinary user succeed, spread over the time."""
    good = 0
    for _ in range(tries):
        good += answers(server.client(server.port, server.database, user))
        time.sleep(seconds / tries)
    return good
