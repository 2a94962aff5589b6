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
        match argument(command) {
            Values::Words(words) => {
                script += &format!(" \\\n            {}", quoted(&format!("1: :({})", words.join(" "))));
            }
            Values::Files => script += " \\\n            '1:file:_files'",
            Values::None | Values::Any => {}
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
    // With the sign, the value can be the next word, too.
    let long = if after.is_empty() { flag.long.to_owned() } else { format!("{}=", flag.long) };
    match flag.short {
        Some(short) => format!("'(-{short} {})'{{-{short},{long}}}{rest}", flag.long),
        None if is_repeatable(flag) => format!("'*'{long}{rest}"),
        None => format!("{long}{rest}"),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
