//! Completions for fish: one `complete` a word.

use argh::FlagInfo;

use super::{Declared, SHARED, Values, argument, sentence, values};

const PROGRAM: &str = "complete -c sql-exporter";

/// Where no command has been given yet. Not `__fish_use_subcommand`, which takes an option's value for a command.
const FIRST: &str = " -n \"not __fish_seen_subcommand_from $commands\"";

pub(super) fn script(declared: &Declared) -> String {
    let names: Vec<&str> = declared.commands().map(|command| command.name).collect();
    let mut script = format!(
        "# Completions of sql-exporter for fish. `make docs` writes this file from what --help declares.\n\
         set -l commands {}\n{PROGRAM} -f\n",
        names.join(" ")
    );
    for flag in declared.options() {
        let only_first = if SHARED.contains(&flag.long) { "" } else { FIRST };
        script += &option(only_first, "", flag);
    }
    for command in declared.commands() {
        let about = quoted(sentence(command.description));
        script += &format!("{PROGRAM}{FIRST} -a {} -d {about}\n", command.name);
    }
    for command in declared.commands() {
        let seen = format!(" -n '__fish_seen_subcommand_from {}'", command.name);
        match argument(command) {
            Values::Words(words) => script += &format!("{PROGRAM}{seen} -a {}\n", quoted(&words.join(" "))),
            Values::Files => script += &format!("{PROGRAM}{seen} -F\n"),
            Values::None | Values::Any => {}
        }
        for flag in command.flags.iter().filter(|flag| !flag.hidden) {
            script += &option(&seen, command.name, flag);
        }
    }
    script
}

fn option(condition: &str, command: &str, flag: &FlagInfo<'_>) -> String {
    let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
    let after = match values(command, flag) {
        Values::None => String::new(),
        Values::Any => " -x".to_owned(),
        Values::Files => " -r -F".to_owned(),
        Values::Words(words) => format!(" -x -a {}", quoted(&words.join(" "))),
    };
    let (name, about) = (flag.long.trim_start_matches('-'), quoted(sentence(flag.description)));
    format!("{PROGRAM}{condition}{short} -l {name}{after} -d {about}\n")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
