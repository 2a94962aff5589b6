"""The servers of this run, each started when it is first asked for, and stopped in the end."""
import threading

from servers import MariaDb, Postgres

DATABASES, SCHEMAS = 300, 200


def databases():
    """With PostgreSQL's own `max_connections`."""
    server = Postgres("databases", max_connections=100)
    server.roles("monitor", "pooled", "ordinary")
    server.run("".join(f"CREATE DATABASE app_{number:03};\n" for number in range(DATABASES)))
    return server


def schemas():
    """With MariaDB's own `max_connections`."""
    server = MariaDb("schemas", max_connections=151)
    server.roles("monitor", "ordinary")
    server.run("".join(f"CREATE DATABASE app_{number:03}; CREATE TABLE app_{number:03}.orders (id int);\n"
                       for number in range(SCHEMAS)))
    return server


def small(kind, name):
    """A session of PostgreSQL is a process, one of MariaDB a thread."""
    server = kind(name, max_connections=300 if kind is Postgres else 1_000)
    server.roles("fleet", "frozen", "cold", "replica", "twin")
    return server


class Fixtures:
    def __init__(self):
        self.made, self.lock = {}, threading.Lock()

    def server(self, name, make):
        with self.lock:
            own = self.made.setdefault(name, {"lock": threading.Lock()})
        with own["lock"]:
            if "server" not in own:
                own["server"] = make()
            return own["server"]

    def databases(self):
        return self.server("databases", databases)

    def schemas(self):
        return self.server("schemas", schemas)

    def five(self):
        """Three of PostgreSQL and two of MariaDB."""
        kinds = [Postgres, MariaDb, Postgres, MariaDb, Postgres]
        return [self.server(f"five-{number}", lambda: small(kind, f"five-{number}"))
                for number, kind in enumerate(kinds)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for own in list(self.made.values()):
            # One that is just being made is waited for.
            with own["lock"]:
                if "server" in own:
                    own["server"].__exit__()
