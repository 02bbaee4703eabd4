//! A terminal: it shows the scene, and its keys are passed on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::pty::Winsize;
use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr,
    tcsetattr,
};
use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::view::{Line, Scene, Size, lines};

/// The question for a terminal's size (`asm-generic/ioctls.h`).
const TIOCGWINSZ: Opcode = 0x5413;
/// What a serial line has that does not tell.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// More than a screen has.
const LARGEST: Size = Size { columns: 400, rows: 200 };

/// A terminal that the console has taken; it is put back when dropped.
#[derive(Debug)]
pub struct Screen {
    terminal: AsyncFd<File>,
    before: libc::termios,
}

impl Screen {
    /// Takes a terminal.
    ///
    /// # Errors
    /// When it is not there, or is no terminal.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Without a wait for the other end of a serial line, and never to be ended by it.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let no_terminal = |_| io::Error::other("it is no terminal");
        let before = tcgetattr(&terminal).map_err(no_terminal)?;
        let mut settings = before.clone();
        settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // No key may stop the output, for then it would wait.
        settings.input_flags.remove(InputFlags::IXON);
        settings.control_flags.insert(ControlFlags::CLOCAL);
        for (index, value) in
            [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)]
        {
            if let Some(character) = settings.control_chars.get_mut(index as usize) {
                *character = value;
            }
        }
        tcsetattr(&terminal, SetArg::TCSANOW, &settings)?;
        // SAFETY: the file keeps its descriptor until it is dropped, with the `AsyncFd`.
        #[allow(unsafe_code)]
        let terminal = unsafe { AsyncFd::register(terminal) }?;
        Ok(Self { terminal, before: before.into() })
    }

    /// Shows each scene until there are no more, and passes keys on. A line that is slow or stuck
    /// misses scenes and holds up nobody.
    pub async fn serve(self, mut scenes: watch::Receiver<Scene>, keys: mpsc::Sender<char>) {
        let disturbed = AtomicBool::new(true);
        let show = async {
            let mut shown = Vec::new();
            loop {
                let new = lines(&scenes.borrow_and_update(), self.size());
                if new != shown || disturbed.swap(false, Ordering::Relaxed) {
                    shown = new;
                    if self.write(frame(&shown).as_bytes()).await.is_err() {
                        return;
                    }
                }
                if scenes.changed().await.is_err() {
                    return;
                }
            }
        };
        let listen = async {
            let mut reader = Keys::Plain;
            while let Ok(typed) = self.read().await {
                // Who sees a screen that something else has written over presses a key.
                disturbed.store(true, Ordering::Relaxed);
                for key in typed.into_iter().filter_map(|octet| reader.take(octet)) {
                    if keys.send(key).await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        };
        tokio::select! {
            () = show => {}
            () = listen => {}
        }
    }

    fn size(&self) -> Size {
        // SAFETY: this ioctl writes a `struct winsize`, and nothing else.
        #[allow(unsafe_code)]
        let size = unsafe { ioctl(self.terminal.get_ref(), Getter::<TIOCGWINSZ, Winsize>::new()) };
        let known = |size: &Winsize| size.ws_col > 0 && size.ws_row > 0;
        size.ok().filter(known).map_or(USUAL, |size| Size {
            columns: usize::from(size.ws_col).min(LARGEST.columns),
            rows: usize::from(size.ws_row).min(LARGEST.rows),
        })
    }

    async fn write(&self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            let mut ready = self.terminal.writable().await?;
            if let Ok(written) = ready.try_io(|terminal| terminal.get_ref().write(text)) {
                text = text.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }

    async fn read(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut typed = [0; 64];
            let mut ready = self.terminal.readable().await?;
            match ready.try_io(|terminal| terminal.get_ref().read(&mut typed)) {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(typed.get(..count?).unwrap_or_default().to_vec()),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Screen {
    /// Below what was shown last, the cursor comes back.
    fn drop(&mut self) {
        let _ = self.terminal.get_ref().write_all(b"\x1b[0m\x1b[?25h\r\n");
        let before = Termios::from(self.before);
        let _ = tcsetattr(self.terminal.get_ref(), SetArg::TCSANOW, &before);
    }
}

/// Reads keys. Arrows and the like send several characters behind an escape, which are no keys.
#[derive(Clone, Copy, Debug)]
enum Keys {
    Plain,
    /// Behind an escape.
    Escape,
    /// Within what `ESC [` or `ESC O` began (ECMA-48, 5.4).
    Sequence,
}

impl Keys {
    fn take(&mut self, octet: u8) -> Option<char> {
        let (next, key) = match (*self, octet) {
            (_, 0x1b) => (Self::Escape, None),
            (Self::Plain, key) => (Self::Plain, Some(char::from(key))),
            (Self::Escape, b'[' | b'O') => (Self::Sequence, None),
            (Self::Sequence, 0x20..=0x3f) => (Self::Sequence, None),
            (Self::Escape | Self::Sequence, _) => (Self::Plain, None),
        };
        *self = next;
        key
    }
}

/// What draws the lines over those before: home, each line and the rest of its row, the rest of
/// the screen. Nothing is cleared first, so nothing flickers.
fn frame(lines: &[Line]) -> String {
    let mut frame = "\x1b[?25l\x1b[H".to_owned();
    for (position, Line { text, strong }) in lines.iter().enumerate() {
        if position > 0 {
            frame.push_str("\r\n");
        }
        match strong {
            true => frame.push_str(&format!("\x1b[1m{text}\x1b[0m\x1b[K")),
            false => frame.push_str(&format!("{text}\x1b[K")),
        }
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_keys_are_no_digits() {
        let mut keys = Keys::Plain;
        let typed = b"1\x1b[15~2\x1bOA3\x1b[A\x1b\x1b[1;5C4\x1bpy\r";
        let read: String = typed.iter().filter_map(|octet| keys.take(*octet)).collect();
        assert_eq!(read, "1234y\r");
    }

    #[test]
    fn draws_without_clearing_first() {
        let line = |text: &str, strong| Line { text: text.to_owned(), strong };
        assert_eq!(
            frame(&[line("talos-pxe", true), line("", false), line("p: power off", false)]),
            "\x1b[?25l\x1b[H\x1b[1mtalos-pxe\x1b[0m\x1b[K\r\n\x1b[K\r\np: power off\x1b[K\x1b[J"
        );
    }
}
