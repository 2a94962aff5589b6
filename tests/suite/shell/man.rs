//! The manual page, in the macros of man(7).

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

use super::{Declared, is_repeatable};
use crate::versions::released;

const END: &str = r#".SH SIGNALS
.TP
SIGHUP
The configuration is read again. If it has an error, the old one stays.
.TP
SIGTERM, SIGINT
Requests in flight end, then the exporter does. A second signal ends it at once.
.SH EXIT STATUS
.TP
0
All is good.
.TP
1
Something has failed: a query, a target, or what the machine refuses.
.TP
2
The configuration or the command line is wrong.
.SH ENVIRONMENT
An option wins over its variable, and a variable over the configuration file.
.TP
.BR SQL_EXPORTER_CONFIG ", " SQL_EXPORTER_LISTEN ", " SQL_EXPORTER_LOG_LEVEL ", " SQL_EXPORTER_LOG_FORMAT
The same as the shared options.
.TP
.B NO_COLOR
No colors on a terminal.
.PP
The configuration can use any variable as \fB${NAME}\fR or \fB${NAME:\-default}\fR.
.SH FILES
.TP
.IR ./sql\-exporter.yaml ", " /etc/sql\-exporter/config.yaml
The configuration; the first one that exists.
.TP
.I /etc/default/sql\-exporter
Variables of the systemd service.
.SH SEE ALSO
.BR systemctl (1),
.BR promtool (1)
.PP
https://github.com/sql\-exporter/sql\-exporter/tree/main/docs
"#;

pub(super) fn page(declared: &Declared) -> String {
    let mut page = format!(
        ".\\\" `make docs` writes this file from what --help declares.\n\
         .TH SQL\\-EXPORTER 1 {} \"sql\\-exporter {}\" \"User Commands\"\n\
         .SH NAME\nsql\\-exporter \\- SQL results as Prometheus metrics\n\
         .SH SYNOPSIS\n.B sql\\-exporter\n[\\fIOPTIONS\\fR] [\\fICOMMAND\\fR]\n.SH DESCRIPTION\n{}\n",
        released(),
        sql_exporter::VERSION,
        text(declared.all.description),
    );
    page += &examples("sql-exporter", declared.all.examples);
    page += ".SH OPTIONS\n";
    let shared: Vec<&str> = declared.shared().map(|flag| flag.long).collect();
    page += &text(&format!("{} stand before or after a command.", shared.join(", ")));
    page.push('\n');
    declared.options().for_each(|flag| page += &option(flag));
    page += ".SH COMMANDS\n";
    declared.commands().for_each(|command| page += &of_command(command));
    page + END
}

fn of_command(command: &CommandInfoWithArgs) -> String {
    let mut part = format!(".SS {}\n{}\n", text(command.name), text(command.description));
    for argument in command.positionals {
        let is_repeatable = argument.optionality == Optionality::Repeating;
        let end = if is_repeatable { "\" .\\|.\\|.]\"" } else { "]" };
        let name = argument.name.to_uppercase();
        part += &format!(".TP\n.RI [ {name} {end}\n{}\n", text(argument.description));
    }
    command.flags.iter().filter(|flag| !flag.hidden).for_each(|flag| part += &option(flag));
    part + &examples(&format!("sql-exporter {}", command.name), command.examples)
}

fn option(flag: &FlagInfo<'_>) -> String {
    let short = flag.short.map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
    let value = match flag.kind {
        FlagInfoKind::Switch => String::new(),
        FlagInfoKind::Option { arg_name } => format!(" \\fI{}\\fR", text(&arg_name.to_uppercase())),
    };
    let again = if is_repeatable(flag) { " .\\|.\\|." } else { "" };
    format!(".TP\n{short}\\fB{}\\fR{value}{again}\n{}\n", text(flag.long), text(flag.description))
}

/// Each begins with what it is for, and ends with command lines: a format, in which braces are doubled.
fn examples(name: &str, examples: &[&str]) -> String {
    let plain = |line: &str| {
        text(&line.trim_start().replace("{command_name}", name).replace("{{", "{").replace("}}", "}"))
    };
    let of = |example: &&str| {
        let (about, lines) = example.split_once('\n').unwrap_or(("", example));
        let lines: Vec<String> = lines.lines().map(plain).collect();
        format!(".PP\n{}\n.PP\n.RS 4\n.EX\n{}\n.EE\n.RE\n", plain(about), lines.join("\n"))
    };
    examples.iter().map(of).collect()
}

/// Text as roff reads it: words in backquotes are bold.
fn text(plain: &str) -> String {
    let escaped = plain.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('^', "\\(ha");
    let mut roff = String::new();
    for (index, part) in escaped.replace('~', "\\(ti").split('`').enumerate() {
        if index > 0 {
            roff += if index % 2 == 1 { "\\fB" } else { "\\fR" };
        }
        roff += part;
    }
    if roff.starts_with('.') { format!("\\&{roff}") } else { roff }
}
