//! The user's terminal as the console of a virtual machine.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ChildStdin;
use std::thread;

use anyhow::{Context, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::lab::process::Tee;

/// The terminal, handing on each key at once and unseen; put back on drop. Ctrl-C still
/// interrupts.
#[derive(Debug)]
pub struct Console {
    saved: Termios,
}

/// Whether there is a user to type and to read.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Shows all that a machine writes, as it is.
pub fn tee() -> Tee {
    Box::new(|bytes| {
        let mut terminal = io::stdout().lock();
        let _ = terminal.write_all(bytes).and_then(|()| terminal.flush());
    })
}

impl Console {
    /// Hands what the user types to `machine`.
    ///
    /// # Errors
    /// When the terminal refuses its mode.
    pub fn attach(mut machine: ChildStdin) -> Result<Console> {
        let saved = tcgetattr(io::stdin()).context("cannot read the terminal's mode")?;
        let mut mode = saved.clone();
        mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(io::stdin(), OptionalActions::Now, &mode)
            .context("cannot set the terminal's mode")?;
        // Ends with the process: a read of the terminal cannot be called back.
        thread::spawn(move || {
            let mut keys = [0; 64];
            while let Ok(count @ 1..) = io::stdin().read(&mut keys) {
                let typed = keys.get(..count).unwrap_or_default();
                if machine.write_all(typed).and_then(|()| machine.flush()).is_err() {
                    break;
                }
            }
        });
        Ok(Console { saved })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
        // Firmware leaves colours set and line wrap off.
        let mut terminal = io::stdout().lock();
        let _ = terminal.write_all(b"\x1b[0m\x1b[?7h\r\n").and_then(|()| terminal.flush());
    }
}
