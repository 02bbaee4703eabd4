//! What a process wrote, as lines of plain text.
//!
//! Firmware draws menus with cursor movements and colours: escape sequences are left out, and a
//! cursor that goes to another row starts a new line.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vte::{Params, Parser, Perform};

/// A line of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its first character came, counted from the start of the process.
    pub at: Duration,
    /// Its text, without line end and escape sequences.
    pub text: String,
    /// Nothing more is added to it.
    pub complete: bool,
}

/// The lines of a process, shared between those that write and those that wait.
#[derive(Debug, Default)]
pub struct Transcript {
    state: Mutex<State>,
    grown: Condvar,
}

/// The lines so far.
#[derive(Debug, Default)]
pub struct State {
    /// In the order in which they began.
    pub lines: Vec<Line>,
    /// How many streams still write.
    pub writers: u8,
}

/// One stream of a process.
pub struct Writer {
    transcript: Arc<Transcript>,
    parser: Parser,
    cursor: Cursor,
}

#[derive(Debug, Default)]
struct Cursor {
    /// Index of the line that it goes on with.
    line: Option<usize>,
    /// The screen's row as the last cursor movement said, from 1.
    row: u16,
    /// It went back to the first column: what comes next overwrites the line.
    returned: bool,
}

impl Transcript {
    /// The lines so far, locked.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the lock until there is more, or until `timeout`.
    pub fn wait(&self, state: MutexGuard<'_, State>, timeout: Duration) {
        drop(self.grown.wait_timeout(state, timeout));
    }

    /// Adds a stream; it ends on drop.
    pub fn writer(self: &Arc<Transcript>) -> Writer {
        self.lock().writers += 1;
        Writer { transcript: Arc::clone(self), parser: Parser::new(), cursor: Cursor::default() }
    }
}

impl State {
    /// The first line that contains `text`.
    pub fn find(&self, text: &str) -> Option<Line> {
        self.lines.iter().find(|line| line.text.contains(text)).cloned()
    }

    /// The lines from number `start` that are complete.
    pub fn complete_from(&self, start: usize) -> Vec<Line> {
        let lines = self.lines.iter().skip(start);
        lines.take_while(|line| line.complete).cloned().collect()
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }
}

impl Writer {
    /// Adds what came at `at`, counted from the start of the process.
    pub fn write(&mut self, bytes: &[u8], at: Duration) {
        let mut state = self.transcript.lock();
        let mut pen = Pen { lines: &mut state.lines, cursor: &mut self.cursor, at };
        self.parser.advance(&mut pen, bytes);
        self.transcript.grown.notify_all();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.transcript.lock();
        Pen { lines: &mut state.lines, cursor: &mut self.cursor, at: Duration::ZERO }.end_line();
        state.writers = state.writers.saturating_sub(1);
        self.transcript.grown.notify_all();
    }
}

struct Pen<'a> {
    lines: &'a mut Vec<Line>,
    cursor: &'a mut Cursor,
    at: Duration,
}

impl Pen<'_> {
    fn end_line(&mut self) {
        self.cursor.returned = false;
        if let Some(line) = self.cursor.line.take().and_then(|index| self.lines.get_mut(index)) {
            line.complete = true;
        }
    }
}

impl Perform for Pen<'_> {
    fn print(&mut self, character: char) {
        if self.cursor.returned {
            self.end_line();
        }
        if let Some(line) = self.cursor.line.and_then(|index| self.lines.get_mut(index)) {
            line.text.push(character);
        } else {
            self.cursor.line = Some(self.lines.len());
            self.lines.push(Line { at: self.at, text: character.into(), complete: false });
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.cursor.returned = true,
            b'\n' => {
                self.end_line();
                self.cursor.row = self.cursor.row.saturating_add(1);
            }
            b'\t' => self.print(' '),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, _: &[u8], _: bool, action: char) {
        match action {
            // Cursor position.
            'H' | 'f' => {
                let row = params.iter().next().and_then(|row| row.first());
                let row = row.map_or(1, |row| (*row).max(1));
                if row != self.cursor.row {
                    self.end_line();
                }
                self.cursor.row = row;
                self.cursor.returned = false;
            }
            // Erase the screen.
            'J' => self.end_line(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str]) -> Vec<String> {
        let transcript = Arc::new(Transcript::default());
        let mut writer = transcript.writer();
        for chunk in chunks {
            writer.write(chunk.as_bytes(), Duration::ZERO);
        }
        let state = transcript.lock();
        state.lines.iter().map(|line| line.text.clone()).collect()
    }

    #[test]
    fn escape_sequences_are_left_out_even_when_split() {
        assert_eq!(lines(&["\x1b[1;3", "3mBoot", "\x1b[0m!\r\nnext"]), ["Boot!", "next"]);
    }

    #[test]
    fn another_row_is_another_line() {
        assert_eq!(lines(&["\x1b[3;1Hone\x1b[3;9H more\x1b[4;1Htwo"]), ["one more", "two"]);
    }

    #[test]
    fn an_overwritten_or_erased_line_is_a_line() {
        assert_eq!(lines(&["1%\r2%\r\nstart\x1b[2Jkernel"]), ["1%", "2%", "start", "kernel"]);
    }

    #[test]
    fn streams_do_not_share_a_line() {
        let transcript = Arc::new(Transcript::default());
        let (mut out, mut err) = (transcript.writer(), transcript.writer());
        out.write(b"hal", Duration::ZERO);
        err.write(b"error\n", Duration::ZERO);
        out.write(b"f\n", Duration::ZERO);
        drop((out, err));
        assert_eq!(transcript.lock().text(), "half\nerror\n");
        assert_eq!(transcript.lock().writers, 0);
    }
}
