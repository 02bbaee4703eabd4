//! Keeps what is tried again and again from filling the log.

use std::collections::HashMap;
use std::time::Duration;

use crate::time::BootTime;

/// When something that has not changed is worth another line.
const AGAIN: Duration = Duration::from_secs(600);
/// More subjects than any control plane has machines.
const CAPACITY: usize = 64;

/// What was said last of each subject.
#[derive(Debug, Default)]
pub struct News(HashMap<String, (String, BootTime)>);

impl News {
    /// Whether this is worth a line: it was not said before, or long ago.
    pub fn is_new(&mut self, subject: impl ToString, text: &str) -> bool {
        self.is_new_at(BootTime::now(), subject.to_string(), text)
    }

    fn is_new_at(&mut self, now: BootTime, subject: String, text: &str) -> bool {
        let known = self.0.get(&subject);
        if known.is_some_and(|(last, when)| last == text && now.since(*when) < AGAIN) {
            return false;
        }
        if self.0.len() >= CAPACITY {
            self.0.clear();
        }
        self.0.insert(subject, (text.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_seldom() {
        let mut news = News::default();
        let mut at = |seconds, subject: &str, text| {
            let now = BootTime::BOOT + Duration::from_secs(seconds);
            news.is_new_at(now, subject.to_owned(), text)
        };
        assert!(at(0, "a", "off"));
        assert!(!at(1, "a", "off"));
        assert!(at(1, "b", "off"));
        assert!(at(2, "a", "on"));
        assert!(at(3, "a", "off"));
        assert!(!at(602, "a", "off"));
        assert!(at(603, "a", "off"));
        for n in 0..1000 {
            assert!(at(700, &n.to_string(), "off"));
        }
    }
}
