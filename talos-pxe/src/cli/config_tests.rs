//! Tests of the config file.

use std::fs;

use clap::Parser;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::cli::LogFormat;
use crate::decisions::interface::ModeChoice;

/// Parses `words` behind `talos-pxe`, with a config file of this text.
fn parsed(words: &[&str], text: impl AsRef<[u8]>) -> Result<Cli, String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("talos-pxe.toml");
    fs::write(&file, text).unwrap();
    let (file, shown) = (file.into_os_string(), folder.path().display().to_string());
    let words = ["talos-pxe"].iter().chain(words).map(Into::into);
    let cli = parse(words.chain(["--config".into(), file]));
    cli.map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        error.to_string().replace(&shown, "").trim_end().to_owned()
    })
}

fn serve(words: &[&str], text: &str) -> Serve {
    parsed(words, text).unwrap().serving().unwrap().clone()
}

#[test]
fn sets_every_kind_of_flag() {
    let text = "\
        if = \"eth1\"\n\
        lease-time = 6_00\n\
        dns = [\"1.1.1.1\", \"9.9.9.9\"]\n\
        skip-ifup = true\n\
        verbose = 2\n\
        mode = 'server' # a comment\n\
        log-format = \"json\"\n\
        http-port = 0x50\n";
    let marked = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    for text in [text, &marked] {
        for words in [&[][..], &["serve"], &["check"], &["console"]] {
            let serve = serve(words, text);
            assert_eq!(serve.interface.as_deref(), Some("eth1"));
            assert_eq!(serve.lease_time, 600);
            assert_eq!(serve.dns, [[1, 1, 1, 1].into(), std::net::Ipv4Addr::from([9, 9, 9, 9])]);
            assert!(serve.skip_ifup);
            assert_eq!(serve.verbose, 2);
            assert_eq!(serve.mode, ModeChoice::Server);
            assert_eq!(serve.log_format, LogFormat::Json);
            assert_eq!(serve.ports.http_port, 80);
            assert_eq!(serve.ports.tftp_port, 69, "what is not in the file is as ever");
        }
    }
}

#[test]
fn the_console_passes_on_what_its_command_line_says() {
    let words = ["console", "--if=eth2", "--root", "/boot", "-vv", "--skip-ifup", "--dns=8.8.8.8"];
    let words = [&words[..], &["--dns", "9.9.9.9", "--power", "--tty", "/dev/null"]].concat();
    for text in ["lease-time = 600\nif = \"eth1\"", "a mistake"] {
        let Some(crate::cli::Command::Console(mut console)) = parsed(&words, text).unwrap().command
        else {
            panic!("another command")
        };
        let config = console.given.remove(0).into_string().unwrap();
        assert!(config.starts_with("--config=/"), "{config}");
        let given = ["--root=/boot", "--dns=8.8.8.8", "--dns=9.9.9.9", "--skip-ifup"];
        assert_eq!(console.given, [&given[..], &["--verbose", "--verbose"]].concat());
        assert_eq!(console.serve.interface.as_deref(), Some("eth2"));
    }
}

#[test]
fn a_flag_counts_more() {
    let flags = ["--lease-time", "60", "--dns", "8.8.8.8", "-v", "--if=eth2"];
    let serve = serve(&flags, "lease-time = 90\ndns = \"1.1.1.1\"\nverbose = 2\nif = \"eth1\"");
    assert_eq!((serve.lease_time, serve.verbose), (60, 1));
    assert_eq!(serve.dns, [std::net::Ipv4Addr::from([8, 8, 8, 8])]);
    assert_eq!(serve.interface.as_deref(), Some("eth2"));
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "\u{feff}", "# nothing\r\n", "dns = []", "skip-ifup = false\nverbose = 0"] {
        let without_file = Cli::try_parse_from(["talos-pxe"]).unwrap().serve;
        let with_it = Serve { config: None, ..serve(&[], text) };
        assert_eq!(format!("{with_it:?}"), format!("{without_file:?}"));
    }
}

#[test]
fn a_mistake_has_a_place_a_cause_and_a_next_step() {
    for (text, message) in [
        ("\n\nlease_time = 3", "3: there is no setting \"lease_time\"; did you mean lease-time?"),
        (
            "colour = 3",
            "1: there is no setting \"colour\"; `talos-pxe --help` lists them, as flags",
        ),
        (
            "config = 'x'",
            "1: there is no setting \"config\"; `talos-pxe --help` lists them, as flags",
        ),
        ("skip-ifup = 1", "1: skip-ifup: it takes true or false"),
        ("verbose = true", "1: verbose: it takes a number"),
        ("verbose = 256", "1: verbose: it takes a small number"),
        (
            "root = true",
            "1: root: it takes a number or a text in quotes, and this is of type boolean",
        ),
        (
            "root = ['a']",
            "1: root: it takes a number or a text in quotes, and this is of type array",
        ),
        (
            "mode = 'sever'",
            "1: mode: invalid value 'sever' for '--mode <MODE>' [possible values: auto, server, proxy]",
        ),
        (
            "# one\r\nlease-time = 5\r\n",
            "2: lease-time: invalid value '5' for '--lease-time <SECS>': 5 is not in 30..=4294967295",
        ),
        ("if = 'a'\nif = 'b'", "2: duplicate key"),
    ] {
        let error = parsed(&[], text).unwrap_err();
        assert_eq!(error, format!("error: /talos-pxe.toml:{message}"));
    }
    let unreadable = parsed(&["check"], "if = 'a'\nif = ").unwrap_err();
    assert!(unreadable.starts_with("error: /talos-pxe.toml:2: "), "{unreadable}");
    assert_eq!(unreadable.lines().count(), 1, "{unreadable}");
    let utf16 = parsed(&[], b"\xff\xfei\0f\0").unwrap_err();
    assert_eq!(utf16, "error: /talos-pxe.toml:1: not UTF-8: save the file as UTF-8");
    let missing = ["talos-pxe", "--config", "/nonexistent/file"].map(OsString::from);
    let missing = parse(missing).unwrap_err();
    assert_eq!(missing.exit_code(), 2);
    assert!(missing.to_string().starts_with("error: cannot read /nonexistent/file: No such"));
}

#[test]
fn the_template_has_every_setting_and_changes_nothing() {
    let template = template();
    let untouched = serve(&[], &template);
    assert_eq!(untouched.lease_time, 300);
    let setting =
        |line: &str| Some(line.strip_prefix('#')?.to_owned()).filter(|l| !l.starts_with(' '));
    let uncommented: Vec<String> =
        template.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect();
    let set: Vec<Id> =
        settings(&uncommented.join("\n")).unwrap().into_iter().map(|s| s.flag).collect();
    let every: Vec<Id> = flags().iter().map(|flag| flag.get_id().clone()).collect();
    assert_eq!(set, every);
    serve(&["check"], &uncommented.join("\r\n"));
    assert!(
        template.lines().all(|line| line.len() < 100 && (line.is_empty() || line.starts_with('#')))
    );
}

proptest! {
    #[test]
    fn no_text_is_taken_amiss(text in "([a-z-]{1,8} ?= ?.{0,12}\n){0,3}.{0,40}") {
        let _ = settings(&text);
    }
}
