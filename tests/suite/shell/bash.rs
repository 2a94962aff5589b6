//! Completions for bash: the words that can follow, by command and previous word.

use super::{Declared, Values, argument, values};

const BEGIN: &str = r#"# Completions of sql-exporter for bash. `make docs` writes this file from what --help declares.
_sql_exporter() {
  local command='' is_value='' words='' word current previous
  local -a typed files=()
  COMPREPLY=()
  # Not COMP_WORDS, in which --name=value is three words. The dot keeps a last word that is empty.
  read -ra typed <<<"${COMP_LINE:0:COMP_POINT}."
  current=${typed[-1]%.} previous=${typed[-2]}
  case $current in --*=*) previous=${current%%=*} current=${current#*=} ;; esac
  for word in "${typed[@]:1:${#typed[@]}-2}"; do
    case $is_value$word in
"#;

const END: &str = r#"  esac
  mapfile -t COMPREPLY < <(compgen "${files[@]}" -W "$words" -- "$current")
}
complete -F _sql_exporter sql-exporter
"#;

pub(super) fn script(declared: &Declared) -> String {
    let mut script = BEGIN.to_owned();
    let valued: Vec<String> = declared
        .shared()
        .flat_map(|flag| {
            flag.short.map(|short| format!("-{short}")).into_iter().chain([flag.long.to_owned()])
        })
        .collect();
    script += &format!("      {}) is_value=' ' ;;\n", valued.join(" | "));
    script += "      -* | ' '*) is_value='' ;;\n      *) command=$word && break ;;\n    esac\n  done\n";
    script += "  case \"$command $previous\" in\n";
    for flag in declared.shared() {
        let short = flag.short.map(|short| format!("*' -{short}' | ")).unwrap_or_default();
        script += &arm(&format!("{short}*' {}'", flag.long), &values("", flag));
    }
    for command in declared.commands() {
        for flag in command.flags.iter().filter(|flag| !flag.hidden) {
            let short = flag.short.map(|short| format!("'{} -{short}' | ", command.name)).unwrap_or_default();
            script += &arm(&format!("{short}'{} {}'", command.name, flag.long), &values(command.name, flag));
        }
    }
    script += "  esac\n  case $command in\n";
    let names: Vec<&str> = declared.commands().map(|command| command.name).collect();
    let options: Vec<&str> = declared.options().map(|flag| flag.long).collect();
    script += &format!("    '') words='{} {}' ;;\n", names.join(" "), options.join(" "));
    for command in declared.commands() {
        let mut words: Vec<&str> = declared.options_of(command).map(|flag| flag.long).collect();
        let files = match argument(command) {
            Values::Words(more) => {
                words.extend(more);
                ""
            }
            Values::Files => " files=(-f); compopt -o filenames",
            Values::None | Values::Any => "",
        };
        script += &format!("    {}) words='{}'{files} ;;\n", command.name, words.join(" "));
    }
    script + END
}

/// What follows an option.
fn arm(pattern: &str, values: &Values) -> String {
    let act = match values {
        Values::None => return String::new(),
        Values::Any => "return".to_owned(),
        Values::Files => {
            "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); return".to_owned()
        }
        Values::Words(words) => {
            format!("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$current\"); return", words.join(" "))
        }
    };
    format!("    {pattern}) {act} ;;\n")
}
