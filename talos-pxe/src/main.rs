//! The daemon's command line: parses, builds, runs.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use talos_pxe::appliance;
use talos_pxe::cli::check::Check;
use talos_pxe::cli::config;
use talos_pxe::cli::console::Console;
use talos_pxe::cli::fetch::{Assets, AssetsCommand};
use talos_pxe::cli::template::template;
use talos_pxe::cli::{Command, Serve, UsageError};
use talos_pxe::decisions::console::Ending;
use talos_pxe::edges::admin::client;
use talos_pxe::edges::{log, thread};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = config::parse(env::args_os()).unwrap_or_else(|error| error.exit());
    let done = match cli.command() {
        Command::Serve(serve) => {
            let _log = log::to_stderr(&serve);
            thread::be_nicer(thread::DAEMON);
            run(&serve)
        }
        Command::Check(check) => {
            let _log = log::to_stderr(&check.serve);
            run_check(&check)
        }
        Command::Console(console) => match run_console(&console) {
            Ok(ending) => return ExitCode::from(ending.exit_code()),
            Err(error) => Err(error),
        },
        Command::Assets(Assets { command: AssetsCommand::Fetch(fetch) }) => {
            appliance::assets::fetch(&fetch)
        }
        Command::Config(config) => {
            let file = template(&config.flags).unwrap_or_else(|error| error.exit());
            io::stdout().write_all(file.as_bytes()).map_err(Into::into)
        }
        Command::Status(command) => client::status(command.target, &mut io::stdout()),
        Command::Machines(command) => client::machines(command, &mut io::stdout()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("talos-pxe: {error:#}");
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

#[tokio::main]
async fn run(serve: &Serve) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        on_signal.cancel();
    });
    appliance::run(serve, shutdown).await
}

#[tokio::main(flavor = "current_thread")]
async fn run_check(check: &Check) -> anyhow::Result<()> {
    appliance::check::run(check).await
}

#[tokio::main(flavor = "current_thread")]
async fn run_console(console: &Console) -> anyhow::Result<Ending> {
    appliance::console::run(console).await
}
