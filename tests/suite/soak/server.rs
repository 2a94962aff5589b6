//! A database server of the soak's own: its view changes, its sessions are killed, it is frozen, killed and started
//! again, and the exporter's password is wrong for a while.

use std::path::PathBuf;

use mysql::prelude::Queryable;

use super::chance::Chance;
use super::part::{Fault, MOODS, Mood, Part};
use crate::servers::own::{Access, Own};
use crate::servers::{MariaDb, Postgres};

/// What differs between the databases.
pub(crate) trait Dialect: Access {
    /// The user `exporter`, who may read everything.
    fn create_user(&self);
    /// Makes the view `moody` anew; `None` leaves it gone.
    fn replace_view(&self, select: Option<&str>);
    /// What the view selects.
    fn select(mood: Mood, generation: u64) -> String;
    /// Ends every session of `exporter`.
    fn end_sessions(&self);
    /// How many sessions `exporter` has.
    fn sessions(&self) -> usize;
    fn password(&self) -> &str;
}

/// One server, and the file with the password that the exporter reads.
pub(crate) struct Server<A> {
    own: Own<A>,
    target: &'static str,
    password_file: PathBuf,
    generation: u64,
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Mood(Mood),
    Frozen,
    Down,
    WrongPassword,
    SessionsEnded,
}

impl<A: Dialect> Server<A> {
    /// Takes a running server over.
    pub(crate) fn new(own: Own<A>, target: &'static str, password_file: PathBuf) -> Self {
        own.access().create_user();
        let mut server =
            Server { own, target, password_file, generation: 0, trouble: Trouble::Mood(Mood::Good) };
        server.write_password(server.own.access().password());
        server.set(Mood::Good);
        server
    }

    fn set(&mut self, mood: Mood) {
        self.generation += 1;
        self.trouble = Trouble::Mood(mood);
        let select = (mood != Mood::Gone).then(|| A::select(mood, self.generation));
        self.own.access().replace_view(select.as_deref());
    }

    fn write_password(&self, password: &str) {
        std::fs::write(&self.password_file, password).expect("the password file can be written");
    }
}

impl<A: Dialect> Part for Server<A> {
    fn target(&self) -> &'static str {
        self.target
    }

    fn fail(&mut self, chance: &mut Chance) -> Fault {
        let mood = Trouble::Mood(chance.pick(MOODS));
        let others = [
            (12, mood),
            (4, Trouble::SessionsEnded),
            (3, Trouble::Frozen),
            (1, Trouble::Down),
            (2, Trouble::WrongPassword),
        ];
        let trouble = chance.pick(&others);
        self.trouble = trouble;
        match trouble {
            Trouble::Mood(mood) => {
                self.set(mood);
                return mood.fault();
            }
            Trouble::Frozen => {
                self.own.freeze();
                return Fault { name: "a server frozen", hangs: true };
            }
            Trouble::Down => {
                self.own.kill();
                return Fault { name: "a server killed and restarted", hangs: false };
            }
            Trouble::WrongPassword => self.write_password("c4nary-wrong"),
            Trouble::SessionsEnded => {}
        }
        self.own.access().end_sessions();
        let name = if trouble == Trouble::SessionsEnded { "sessions killed" } else { "a wrong password" };
        Fault { name, hangs: false }
    }

    fn heal(&mut self) {
        match self.trouble {
            Trouble::Mood(_) => self.set(Mood::Good),
            Trouble::Frozen => self.own.thaw(),
            Trouble::Down => self.own.restart(),
            Trouble::WrongPassword => self.write_password(self.own.access().password()),
            Trouble::SessionsEnded => {}
        }
        self.trouble = Trouble::Mood(Mood::Good);
    }

    fn shows(&self) -> Option<u64> {
        match self.trouble {
            Trouble::Mood(mood) => (mood == Mood::Good).then_some(self.generation),
            _ => Some(self.generation),
        }
    }

    fn sessions(&self) -> usize {
        self.own.access().sessions()
    }
}

impl Dialect for Postgres {
    fn create_user(&self) {
        let password = &self.password;
        self.run(&format!(
            "CREATE ROLE exporter LOGIN PASSWORD '{password}'; GRANT pg_read_all_data TO exporter"
        ));
    }

    fn replace_view(&self, select: Option<&str>) {
        let create = select.map(|select| format!("CREATE VIEW moody AS {select}"));
        self.run(&format!("DROP VIEW IF EXISTS moody; {}", create.unwrap_or_default()));
    }

    fn select(mood: Mood, generation: u64) -> String {
        let rows = |value: &str, count: u32| {
            format!("SELECT n::text AS label, {value} AS value FROM generate_series(1, {count}) AS n")
        };
        match mood {
            Mood::Good | Mood::Gone => rows(&generation.to_string(), 3),
            Mood::Slow => format!("{}, pg_sleep(60)", rows(&generation.to_string(), 3)),
            Mood::Failing => rows("1 / (n - 3)", 3),
            Mood::Reshaped => format!("SELECT {generation} AS other, now() AS known"),
            Mood::Many => rows("n", 5000),
        }
    }

    fn end_sessions(&self) {
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'exporter'");
    }

    fn sessions(&self) -> usize {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
        let count: i64 = self.client().query_one(count, &[]).expect("a count").get(0);
        usize::try_from(count).expect("small")
    }

    fn password(&self) -> &str {
        &self.password
    }
}

impl Dialect for MariaDb {
    fn create_user(&self) {
        let password = &self.password;
        self.run(&format!(
            "CREATE DATABASE moods;\nCREATE USER exporter@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             GRANT SELECT ON moods.* TO exporter@'127.0.0.1';\n"
        ));
    }

    fn replace_view(&self, select: Option<&str>) {
        let create = select.map(|select| format!("CREATE VIEW moods.moody AS {select};\n"));
        self.run(&format!("DROP VIEW IF EXISTS moods.moody;\n{}", create.unwrap_or_default()));
    }

    fn select(mood: Mood, generation: u64) -> String {
        match mood {
            Mood::Good | Mood::Gone => format!("SELECT seq AS label, {generation} AS value FROM seq_1_to_3"),
            Mood::Slow => format!("SELECT seq AS label, {generation} + sleep(60) AS value FROM seq_1_to_3"),
            Mood::Failing => "SELECT 1 AS label, (SELECT seq FROM seq_1_to_3) AS value".to_owned(),
            Mood::Reshaped => format!("SELECT {generation} AS other, now() AS known"),
            Mood::Many => "SELECT seq AS label, seq AS value FROM seq_1_to_5000".to_owned(),
        }
    }

    fn end_sessions(&self) {
        let mut client = self.client();
        let list = "SELECT id FROM information_schema.processlist WHERE user = 'exporter'";
        for id in client.query::<u64, _>(list).expect("a list") {
            // It may have ended by itself.
            let _ = client.query_drop(format!("KILL {id}"));
        }
    }

    fn sessions(&self) -> usize {
        let count = "SELECT count(*) FROM information_schema.processlist WHERE user = 'exporter'";
        self.client().query_first(count).expect("a count").unwrap_or(0)
    }

    fn password(&self) -> &str {
        &self.password
    }
}
