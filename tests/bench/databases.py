"""The private servers of tests/run: their data set, and how exporter and floors get to it."""
import os
import sqlite3
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
NAME = "bench"


class Databases:
    def __init__(self, folder, many):
        self.file = str(folder / "bench.db")
        self.postgres_port = os.environ["TEST_POSTGRES_PORT"]
        self.mariadb_port = os.environ["TEST_MARIADB_PORT"]
        # libpq and libmariadb look here, so the password is on no command line.
        os.environ["PGPASSWORD"] = os.environ["TEST_POSTGRES_PASSWORD"]
        os.environ["MYSQL_PWD"] = os.environ["TEST_MARIADB_PASSWORD"]
        self.load_postgres(many)
        self.load_mariadb()
        self.load_sqlite()

    def psql(self, database, *words):
        program = Path(os.environ["TEST_POSTGRES_BIN"], "psql")
        access = ["-h", "127.0.0.1", "-p", self.postgres_port, "-U", "postgres", "-d", database]
        subprocess.run([program, "-X", "-q", "-v", "ON_ERROR_STOP=1", *access, *words], check=True)

    def load_postgres(self, many):
        self.psql("postgres", "-c", f"CREATE DATABASE {NAME}")
        self.psql(NAME, "-v", f"many={many}", "-f", HERE / "data/postgres.sql")

    def load_mariadb(self):
        command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", self.mariadb_port, "-u", "root"]
        subprocess.run([*command, "-e", f"CREATE DATABASE {NAME}"], check=True)
        with open(HERE / "data/mariadb.sql") as script:
            subprocess.run([*command, NAME], stdin=script, check=True)

    def load_sqlite(self):
        database = sqlite3.connect(self.file)
        database.executescript((HERE / "data/sqlite.sql").read_text())
        database.close()

    def target(self, driver, **more):
        """An entry of `databases:` for the exporter."""
        if driver == "sqlite":
            return {"driver": "sqlite", "database": self.file, **more}
        own = {"postgres": (self.postgres_port, "postgres", os.environ["PGPASSWORD"]),
               "mariadb": (self.mariadb_port, "root", os.environ["MYSQL_PWD"])}
        port, user, password = own[driver]
        return {"driver": driver, "host": "127.0.0.1", "port": int(port), "database": NAME, "username": user,
                "password": password, "tls": {"mode": "disable"}, **more}

    def where(self, driver, port=None):
        """The same for a floor, as its file in floor/ reads it."""
        if driver == "sqlite":
            return self.file
        if driver == "mariadb":
            return f"{port or self.mariadb_port} {NAME}"
        port = port or self.postgres_port
        return f"host=127.0.0.1 port={port} user=postgres dbname={NAME} sslmode=disable"
