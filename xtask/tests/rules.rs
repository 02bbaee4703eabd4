//! Rules of the repository that no compiler checks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use talos_pxe::cli::Cli;
use xtask::repository;

/// The Rust sources under `folder`, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The sources of every crate.
fn all_sources() -> Vec<(PathBuf, String)> {
    let crates = ["talos-pxe", "talos-pxe-ebpf", "xtask"];
    crates.iter().flat_map(|name| sources(&repository().join(name))).collect()
}

/// Fails with the list of `offenders`, one a line.
fn assert_none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

#[test]
fn every_file_is_short_and_says_what_it_is() {
    let mut offenders = Vec::new();
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        if lines >= 400 {
            offenders.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            offenders.push(format!("{}: does not start with //!", path.display()));
        }
    }
    assert_none(
        &offenders,
        "files have under 400 lines and start with a line that says what they are",
    );
}

#[test]
fn each_layer_knows_only_those_below_it() {
    let rules: [(&str, &[&str]); 3] = [
        (
            "wire",
            &["crate::decisions", "crate::state", "crate::edges", "crate::appliance", "tokio::"],
        ),
        (
            "decisions",
            &[
                "crate::edges",
                "crate::appliance",
                "tokio::",
                "BootTime::now",
                "SystemTime",
                "Instant",
            ],
        ),
        ("state", &["crate::edges", "crate::appliance", "tokio::", "BootTime::now"]),
    ];
    let mut offenders = Vec::new();
    for (layer, forbidden) in rules {
        for (path, text) in sources(&repository().join("talos-pxe/src").join(layer)) {
            let uses = forbidden.iter().filter(|name| text.contains(**name));
            offenders.extend(uses.map(|name| format!("{}: {name}", path.display())));
        }
    }
    assert_none(&offenders, "a layer uses what lies above it, or a clock or a socket");
}

#[test]
fn host_code_never_names_aya_ebpf() {
    let name = "aya_ebpf";
    let offenders: Vec<String> = all_sources()
        .into_iter()
        .filter(|(path, text)| {
            let program = repository().join("talos-pxe-ebpf/src/program");
            let gated = path.starts_with(&program) || *path == program.with_extension("rs");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            !gated
                && !path.ends_with("rules.rs")
                && code.into_iter().any(|line| line.contains(name))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none(&offenders, "its byte-loop memcpy would replace the C library's");
}

#[test]
fn the_readme_names_every_flag_and_subcommand() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let words: HashSet<&str> =
        readme.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let daemon = <Cli as CommandFactory>::command();
    let flags = daemon.get_arguments().filter_map(|flag| {
        let long = format!("--{}", flag.get_long()?);
        let short = flag.get_short().map(|short| format!("-{short}"));
        let named = |name: &String| words.contains(name.as_str());
        (!named(&long) && !short.is_some_and(|short| named(&short))).then_some(long)
    });
    let xtask = xtask::command_line();
    let subcommands = xtask
        .get_subcommands()
        .map(|subcommand| format!("cargo xtask {}", subcommand.get_name()))
        .filter(|subcommand| !readme.contains(subcommand.as_str()));
    let missing: Vec<String> = flags.chain(subcommands).collect();
    assert_none(&missing, "README.md does not name");
}
