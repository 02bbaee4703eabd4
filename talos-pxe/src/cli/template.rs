//! The settings file that `talos-pxe config` prints, made from the flags' own definitions.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use serde_json::Value;

use super::Serve;

/// `talos-pxe config`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Config {
    /// Flags of `serve`; those given here are set in the file, all others stand there as comments.
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub flags: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  talos-pxe config > talos-pxe.toml
  talos-pxe config --if eth1 --lease-time 600 > talos-pxe.toml";

const HEAD: &str = "\
# The settings of talos-pxe, each with the meaning of the flag of the same name.
# A line has an effect once the # before its name is removed.
";

/// A TOML file with every flag of `serve` and its help, where the `flags` that are given are set.
///
/// # Errors
/// When `flags` are not flags of `serve`.
pub fn template(flags: &[OsString]) -> Result<String, clap::Error> {
    let command = Serve::augment_args(Command::new("talos-pxe serve").no_binary_name(true));
    let matches = command.clone().try_get_matches_from(flags)?;
    let mut file = HEAD.to_owned();
    for flag in command.get_arguments() {
        let Some(name) = flag.get_long() else { continue };
        file.push('\n');
        let help = flag.get_long_help().or(flag.get_help());
        for line in help.map(ToString::to_string).unwrap_or_default().lines() {
            let _ = writeln!(file, "# {line}");
        }
        let choices = flag.get_possible_values();
        if takes_value(flag) && !choices.is_empty() {
            let names: Vec<&str> = choices.iter().map(|choice| choice.get_name()).collect();
            let _ = writeln!(file, "# One of {}.", names.join(", "));
        }
        let _ = match given(flag, &matches) {
            Some(value) => writeln!(file, "{name} = {value}"),
            None => writeln!(file, "# {name} = {}", example(flag)),
        };
    }
    Ok(file)
}

fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values()
}

/// What the command line gives a flag.
fn given(flag: &Arg, matches: &ArgMatches) -> Option<Value> {
    let id = flag.get_id().as_str();
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return None;
    }
    match flag.get_action() {
        ArgAction::SetTrue => return Some(true.into()),
        ArgAction::Count => return Some(matches.get_count(id).into()),
        _ => {}
    }
    let raw = matches.get_raw(id)?.map(|value| value.to_string_lossy());
    let mut values = raw.map(|raw| value(&raw));
    match flag.get_action() {
        ArgAction::Append => Some(values.collect()),
        _ => values.next(),
    }
}

/// What shows how a flag that is not given would be set: its default, if it has one.
fn example(flag: &Arg) -> Value {
    match flag.get_action() {
        ArgAction::SetTrue => return true.into(),
        ArgAction::Count => return 1.into(),
        _ => {}
    }
    let default = flag.get_default_values().first().map(|default| default.to_string_lossy());
    let name = flag.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let value = default.map_or_else(|| name.unwrap_or_default().into(), |default| value(&default));
    match flag.get_action() {
        ArgAction::Append => vec![value].into(),
        _ => value,
    }
}

/// A number where it is one; JSON's numbers, strings and lists are TOML's, too.
fn value(text: &str) -> Value {
    text.parse::<u32>().map_or_else(|_| text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(flags: &[&str]) -> String {
        let flags: Vec<OsString> = flags.iter().map(OsString::from).collect();
        template(&flags).unwrap()
    }

    #[test]
    fn without_flags_nothing_is_set_and_every_flag_is_there() {
        let file = made(&[]);
        assert!(toml::from_str::<toml::Table>(&file).unwrap().is_empty(), "{file}");
        let all = Serve::augment_args(Command::new("all"));
        // Each line that sets a flag is one without its "# ".
        let lines: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        for flag in all.get_arguments().filter_map(Arg::get_long) {
            let start = format!("{flag} = ");
            let line = lines.iter().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("no {flag}:\n{file}"));
            assert_eq!(toml::from_str::<toml::Table>(line).unwrap().len(), 1, "{line}");
        }
        assert!(lines.contains(&"One of auto, server, proxy."), "{file}");
        assert!(lines.contains(&"lease-time = 300"), "{file}");
    }

    #[test]
    fn what_is_given_is_set() {
        let flags = ["--if", "eth\"1", "--dns", "10.0.0.1", "--dns", "10.0.0.2", "--skip-ifup"];
        let flags = [&flags[..], &["-vv", "--lease-time=600", "--mode", "server"]].concat();
        let expected = toml::from_str::<toml::Table>(
            "if = 'eth\"1'\ndns = ['10.0.0.1', '10.0.0.2']\nskip-ifup = true\nverbose = 2\n\
             lease-time = 600\nmode = 'server'",
        );
        let file = made(&flags);
        assert_eq!(toml::from_str::<toml::Table>(&file), expected, "{file}");
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for wrong in [&["--leese-time", "1"][..], &["--lease-time", "never"], &["eth0"]] {
            let flags: Vec<OsString> = wrong.iter().map(OsString::from).collect();
            assert!(template(&flags).is_err(), "{wrong:?}");
        }
    }
}
