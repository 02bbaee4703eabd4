//! `--config FILE`: a TOML file whose keys are the flags of `serve`.
//!
//! The keys, their types and their limits are those of the flags' definition. What the file says
//! becomes the flags' defaults, so flags and environment variables count more.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Id};
use toml::de::{DeInteger, DeTable, DeValue};

use super::{Cli, Serve};
use crate::text::wrap;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// The subcommands that take the flags of `serve`.
const READERS: [&str; 3] = ["serve", "check", "console"];

/// Parses the command line, with the values of the config file that it or the environment names.
///
/// # Errors
/// What clap says of the command line (its exit code is 2), which includes `--help`; or what is
/// wrong with the file, and where.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = parse_with(&[], &args)?;
    let Some(file) = cli.serving().and_then(|serve| serve.config.as_deref()) else {
        return Ok(cli);
    };
    match read(file) {
        Ok(settings) => parse_with(&settings, &args),
        // The daemon that it starts finds the same mistake, and the screen shows what it says.
        Err(_) if matches!(cli.command, Some(super::Command::Console(_))) => Ok(cli),
        Err(cause) => Err(clap::Error::raw(ErrorKind::ValueValidation, format!("{cause}\n"))),
    }
}

fn parse_with(settings: &[Setting], args: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = with_defaults(<Cli as CommandFactory>::command(), settings);
    for reader in READERS {
        command = command.mut_subcommand(reader, |reader| with_defaults(reader, settings));
    }
    let matches = command.try_get_matches_from_mut(args)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let Some(super::Command::Console(console)) = &mut cli.command {
        console.given = matches.subcommand_matches("console").map(given).unwrap_or_default();
    }
    Ok(cli)
}

/// The flags of `serve` that stand on this command line, but for `--if`.
fn given(matches: &ArgMatches) -> Vec<OsString> {
    let mut given = Vec::new();
    let bare = bare();
    for flag in bare.get_arguments().filter(|flag| flag.get_id() != "interface") {
        let id = flag.get_id().as_str();
        let name = flag.get_long().unwrap_or_default();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        match flag.get_action() {
            ArgAction::SetTrue => given.push(format!("--{name}").into()),
            ArgAction::Count => {
                given.extend((0..matches.get_count(id)).map(|_| format!("--{name}").into()));
            }
            _ => given.extend(matches.get_raw(id).into_iter().flatten().map(|value| {
                let mut flag = OsString::from(format!("--{name}="));
                flag.push(value);
                flag
            })),
        }
    }
    given
}

fn with_defaults(command: Command, settings: &[Setting]) -> Command {
    settings.iter().fold(command, |command, Setting { flag, values }| {
        command.mut_arg(flag, |flag| flag.default_values(values.clone()))
    })
}

/// A flag that the file sets.
#[derive(Debug)]
struct Setting {
    flag: Id,
    /// More than one only where the flag may be repeated.
    values: Vec<String>,
}

/// What is wrong, and at which offset of the text.
#[derive(Debug)]
struct Mistake(usize, String);

fn read(file: &Path) -> Result<Vec<Setting>, String> {
    let name = file.display();
    let mut octets = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut octets))
        .map_err(|error| format!("cannot read {name}: {error}"))?;
    if octets.len() as u64 > LARGEST {
        return Err(format!("{name} is no config file: it is longer than {LARGEST} bytes"));
    }
    let at =
        |offset: usize| 1 + octets.iter().take(offset).filter(|octet| **octet == b'\n').count();
    let text = str::from_utf8(&octets).map_err(|error| {
        format!("{name}:{}: not UTF-8: save the file as UTF-8", at(error.valid_up_to()))
    })?;
    settings(text).map_err(|Mistake(offset, cause)| format!("{name}:{}: {cause}", at(offset)))
}

fn settings(text: &str) -> Result<Vec<Setting>, Mistake> {
    // Editors on Windows put a byte order mark at the beginning. The parser skips it.
    let table = DeTable::parse(text).map_err(|error| {
        Mistake(error.span().map_or(0, |span| span.start), one_line(error.message()))
    })?;
    let flags = flags();
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut settings = Vec::new();
    for (key, value) in entries {
        let name: &str = key.get_ref();
        let flag = flags.iter().find(|flag| flag.get_long() == Some(name));
        let flag = flag.ok_or_else(|| Mistake(key.span().start, unknown(name)))?;
        let values = values(flag, value.get_ref())
            .map_err(|cause| Mistake(value.span().start, format!("{name}: {cause}")))?;
        if !values.is_empty() {
            settings.push(Setting { flag: flag.get_id().clone(), values });
        }
    }
    Ok(settings)
}

/// The command that has the flags of `serve` and nothing else.
fn bare() -> Command {
    Serve::augment_args(Command::new("talos-pxe")).no_binary_name(true).disable_help_flag(true)
}

/// What the file may set.
fn flags() -> Vec<Arg> {
    let mut command = bare();
    command.build();
    command.get_arguments().filter(|flag| flag.get_id() != "config").cloned().collect()
}

/// The value, as it would stand on the command line.
fn values(flag: &Arg, value: &DeValue) -> Result<Vec<String>, String> {
    let several = match (flag.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(on)) => return Ok(vec![on.to_string()]),
        (ArgAction::SetTrue, _) => return Err("it takes true or false".to_owned()),
        (ArgAction::Count, DeValue::Integer(number)) => {
            let count = decimal(number).and_then(|count| u8::try_from(count).ok());
            return Ok(vec![count.ok_or("it takes a small number")?.to_string()]);
        }
        (ArgAction::Count, _) => return Err("it takes a number".to_owned()),
        (ArgAction::Append, DeValue::Array(several)) => {
            several.iter().map(|value| scalar(value.get_ref())).collect()
        }
        (_, value) => scalar(value).map(|value| vec![value]),
    }?;
    for value in &several {
        accepts(flag, value)?;
    }
    Ok(several)
}

fn scalar(value: &DeValue) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            Ok(decimal(number).ok_or("the number is too large")?.to_string())
        }
        other => {
            let kind = other.type_str();
            Err(format!("it takes a number or a text in quotes, and this is of type {kind}"))
        }
    }
}

fn decimal(number: &DeInteger) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Asks clap, by a command line with this flag alone.
fn accepts(flag: &Arg, value: &str) -> Result<(), String> {
    let trial = Command::new("talos-pxe").no_binary_name(true).arg(flag.clone());
    let name = flag.get_long().unwrap_or_default();
    match trial.try_get_matches_from([format!("--{name}={value}")]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let cause = text.split("\n\n").next().unwrap_or_default();
            Err(one_line(cause.trim_start_matches("error: ")))
        }
    }
}

fn unknown(name: &str) -> String {
    let tried = bare().try_get_matches_from([format!("--{name}")]).err();
    match tried.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(near)) => {
            format!("there is no setting {name:?}; did you mean {}?", near.trim_start_matches('-'))
        }
        _ => format!("there is no setting {name:?}; `talos-pxe --help` lists them, as flags"),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const INTRO: &str = "\
# Settings of talos-pxe, each as it is without this file, or with an example where there is no
# default. To change one, take away the # before its name.
";

/// A config file with every setting, its meaning, and its default or an example, all commented
/// out. A line that begins with `#` and no space is a setting.
pub fn template() -> String {
    let mut text = INTRO.to_owned();
    for flag in flags() {
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for line in wrap(&help, 96) {
            text.push_str(&format!("# {line}\n"));
        }
        let choices: Vec<_> = match flag.get_action() {
            ArgAction::Set => flag.get_possible_values(),
            _ => Vec::new(),
        };
        if !choices.is_empty() {
            let names: Vec<_> = choices.iter().map(|choice| choice.get_name()).collect();
            text.push_str(&format!("# One of: {}\n", names.join(", ")));
        }
        let name = flag.get_long().unwrap_or_default();
        text.push_str(&format!("#{name} = {}\n", default_or_example(&flag)));
    }
    text
}

fn default_or_example(flag: &Arg) -> String {
    let default = flag.get_default_values().first().and_then(|value| value.to_str());
    let value_name = flag.get_value_names().and_then(|names| names.first());
    let value = default.unwrap_or_else(|| match value_name.map(|name| name.as_str()) {
        Some("NAME") => "eth0",
        Some("CIDR") => "192.168.123.1/24",
        Some("IP") => "192.168.123.1",
        Some("A-B") => "192.168.123.100-192.168.123.199",
        Some("DIR") => "/path/to/folder",
        _ => "name-of-file",
    });
    match flag.get_action() {
        ArgAction::SetTrue | ArgAction::Count => value.to_owned(),
        ArgAction::Append => format!("[{value:?}]"),
        _ if value.parse::<i64>().is_ok() => value.to_owned(),
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
