//! Completions for zsh: specifications of `_arguments`.

use argh::FlagInfo;

use super::{Declared, Values, argument, is_repeatable, sentence, values};

pub(super) fn script(declared: &Declared) -> String {
    let mut script = "#compdef sql-exporter\n\
         # Completions of sql-exporter for zsh. `make docs` writes this file from what --help declares.\n\n\
         _sql-exporter() {\n  local curcontext=$curcontext state line\n  local -a shared commands\n  shared=(\n"
        .to_owned();
    for flag in declared.shared() {
        script += &format!("    {}\n", option("", flag));
    }
    script += "  )\n  commands=(\n";
    for command in declared.commands() {
        script +=
            &format!("    {}\n", quoted(&format!("{}:{}", command.name, sentence(command.description))));
    }
    script += "  )\n  _arguments -C \\\n";
    let is_shared = |flag: &&FlagInfo<'_>| !super::SHARED.contains(&flag.long);
    for flag in declared.options().filter(is_shared) {
        script += &format!("    {} \\\n", option("", flag));
    }
    script += "    $shared '1: :->command' '*:: :->arguments' && return\n  case $state in\n";
    script += "    command) _describe command commands ;;\n    arguments)\n      case $line[1] in\n";
    for command in declared.commands() {
        script += &format!("        {})\n          _arguments", command.name);
        for flag in command.flags.iter().filter(|flag| !flag.hidden) {
            script += &format!(" \\\n            {}", option(command.name, flag));
        }
        if let Values::Words(words) = argument(command) {
            script += &format!(" \\\n            {}", quoted(&format!("1: :({})", words.join(" "))));
        }
        script += " \\\n            $shared ;;\n";
    }
    script + "      esac ;;\n  esac\n}\n\n_sql-exporter \"$@\"\n"
}

/// One option with its description and what follows it.
fn option(command: &str, flag: &FlagInfo<'_>) -> String {
    let about = sentence(flag.description).replace('\\', "\\\\").replace(']', "\\]").replace('[', "\\[");
    let name = flag.long.trim_start_matches('-');
    let after = match values(command, flag) {
        Values::None => String::new(),
        Values::Any => format!(":{name}: "),
        Values::Files => format!(":{name}:_files"),
        Values::Words(words) => format!(":{name}:({})", words.join(" ")),
    };
    let rest = quoted(&format!("[{about}]{after}"));
    match flag.short {
        Some(short) => format!("'(-{short} {long})'{{-{short},{long}}}{rest}", long = flag.long),
        None if is_repeatable(flag) => format!("'*'{}{rest}", flag.long),
        None => format!("{}{rest}", flag.long),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
