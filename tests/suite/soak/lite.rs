//! A SQLite file that another process locks, that goes away for a while, and whose view changes.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::chance::Chance;
use super::part::{Fault, MOODS, Mood, Part};

/// The file, and the fault it has.
pub(crate) struct Lite {
    target: &'static str,
    path: PathBuf,
    writer: Connection,
    generation: u64,
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Mood(Mood),
    Locked,
    Away,
}

impl Lite {
    /// Makes the file. Its journal is the classic one: a writer's lock keeps readers out.
    pub(crate) fn new(path: PathBuf, target: &'static str) -> Self {
        let writer = open(&path);
        // SQLite looks whether the schema has changed only when it reads a table: a view of constants would stay.
        writer.execute_batch("CREATE TABLE base (first); INSERT INTO base VALUES (1)").expect("a table");
        let mut lite = Lite { target, path, writer, generation: 0, trouble: Trouble::Mood(Mood::Good) };
        lite.set(Mood::Good);
        lite
    }

    fn set(&mut self, mood: Mood) {
        self.generation += 1;
        self.trouble = Trouble::Mood(mood);
        let create = match mood {
            Mood::Gone => String::new(),
            _ => format!("CREATE VIEW moody AS {};", select(mood, self.generation)),
        };
        self.run(&format!("BEGIN IMMEDIATE; DROP VIEW IF EXISTS moody; {create} COMMIT"));
    }

    fn run(&self, sql: &str) {
        self.writer.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn away(&self) -> PathBuf {
        self.path.with_extension("away")
    }
}

fn open(path: &PathBuf) -> Connection {
    let writer = Connection::open(path).expect("a database");
    writer.busy_timeout(Duration::from_secs(30)).expect("a timeout can be set");
    writer
}

fn select(mood: Mood, generation: u64) -> String {
    let rows = |value: &str, more: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT first FROM base UNION ALL SELECT i + 1 FROM n {more}) SELECT CAST(i AS TEXT) AS label, {value} AS value FROM n"
        )
    };
    match mood {
        Mood::Good | Mood::Gone => rows(&generation.to_string(), "WHERE i < 3"),
        Mood::Slow => rows("count(*)", ""),
        Mood::Failing => rows("CASE WHEN i < 3 THEN i ELSE abs(-9223372036854775807 - 1) END", "WHERE i < 3"),
        Mood::Reshaped => format!("SELECT {generation} AS other, first AS known FROM base"),
        Mood::Many => rows("i", "WHERE i < 5000"),
    }
}

impl Part for Lite {
    fn target(&self) -> &'static str {
        self.target
    }

    fn fail(&mut self, chance: &mut Chance) -> Fault {
        let mood = Trouble::Mood(chance.pick(MOODS));
        self.trouble = chance.pick(&[(12, mood), (4, Trouble::Locked), (2, Trouble::Away)]);
        match self.trouble {
            Trouble::Mood(mood) => {
                self.set(mood);
                mood.fault()
            }
            Trouble::Locked => {
                self.run("BEGIN EXCLUSIVE");
                Fault { name: "a file locked", hangs: true }
            }
            Trouble::Away => {
                std::fs::rename(&self.path, self.away()).expect("the file can be moved");
                Fault { name: "a file gone", hangs: false }
            }
        }
    }

    fn heal(&mut self) {
        match self.trouble {
            Trouble::Mood(_) => self.set(Mood::Good),
            Trouble::Locked => self.run("ROLLBACK"),
            Trouble::Away => std::fs::rename(self.away(), &self.path).expect("the file can be moved back"),
        }
        self.trouble = Trouble::Mood(Mood::Good);
    }

    fn shows(&self) -> Option<u64> {
        match self.trouble {
            Trouble::Mood(mood) => (mood == Mood::Good).then_some(self.generation),
            _ => Some(self.generation),
        }
    }
}
