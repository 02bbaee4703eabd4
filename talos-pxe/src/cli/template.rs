//! `talos-pxe config`: a config file to begin with.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use serde_json::Value;

use super::{Serve, config};

/// `talos-pxe config`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Config {
    /// Flags of `serve`: what they set is set in the file, all else stands there as a comment.
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub flags: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  talos-pxe config > talos-pxe.toml
  talos-pxe config --if eth1 --lease-time 600 > talos-pxe.toml";

/// A config file with every setting of `serve`, where what `given` sets is set.
///
/// # Errors
/// When `given` are not flags of `serve`, with clap's words.
pub fn template(given: &[OsString]) -> Result<String, clap::Error> {
    let command = Serve::augment_args(Command::new("talos-pxe").no_binary_name(true));
    let matches = command.clone().try_get_matches_from(given)?;
    let mut file = config::template();
    for flag in command.get_arguments() {
        let Some(name) = flag.get_long() else { continue };
        let Some(value) = given_value(flag, &matches) else { continue };
        let comment = format!("\n#{name} = ");
        let Some(at) = file.find(&comment) else { continue };
        let rest = file.split_off(at + 1);
        let after = rest.find('\n').and_then(|end| rest.get(end..)).unwrap_or("\n");
        file.push_str(&format!("{name} = {value}{after}"));
    }
    Ok(file)
}

/// What the command line gives a flag. JSON's numbers, strings and lists are TOML's, too.
fn given_value(flag: &Arg, matches: &ArgMatches) -> Option<Value> {
    let id = flag.get_id().as_str();
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return None;
    }
    let values = || matches.get_raw(id).into_iter().flatten();
    let value = |text: &std::ffi::OsStr| {
        let text = text.to_string_lossy();
        text.parse::<u32>().map_or_else(|_| text.into(), Value::from)
    };
    match flag.get_action() {
        ArgAction::SetTrue => Some(true.into()),
        ArgAction::Count => Some(matches.get_count(id).into()),
        ArgAction::Append => Some(values().map(value).collect()),
        _ => values().map(value).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(flags: &[&str]) -> Result<toml::Table, clap::Error> {
        let flags: Vec<OsString> = flags.iter().map(OsString::from).collect();
        let file = template(&flags)?;
        Ok(toml::from_str(&file).unwrap_or_else(|error| panic!("{error}:\n{file}")))
    }

    #[test]
    fn what_is_given_is_set_and_nothing_else() {
        assert!(made(&[]).unwrap().is_empty());
        let flags = ["--if", "eth\"1", "--dns", "10.0.0.1,10.0.0.2", "--skip-ifup", "-vv"];
        let flags = [&flags[..], &["--lease-time=600", "--mode", "server"]].concat();
        let expected = toml::from_str(
            "if = 'eth\"1'\ndns = ['10.0.0.1', '10.0.0.2']\nskip-ifup = true\nverbose = 2\n\
             lease-time = 600\nmode = 'server'",
        );
        assert_eq!(made(&flags).unwrap(), expected.unwrap());
    }

    #[test]
    fn every_setting_can_be_given() {
        let all = Serve::augment_args(Command::new("all"));
        let file = config::template();
        for flag in all.get_arguments().filter(|flag| flag.get_id() != "config") {
            let name = flag.get_long().unwrap();
            assert!(file.contains(&format!("\n#{name} = ")), "no {name}:\n{file}");
        }
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for wrong in [&["--leese-time", "1"][..], &["--lease-time", "never"], &["eth0"]] {
            assert!(made(wrong).is_err(), "{wrong:?}");
        }
    }
}
