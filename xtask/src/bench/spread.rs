//! Figures of several rounds in one.

use serde_json::{Value, json};

/// The median of some figures, and the smallest and the largest of them.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The smallest.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of these; of none, no numbers.
    pub fn of(mut figures: Vec<f64>) -> Spread {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Spread { least: at(0), median: at(last / 2), most: at(last) }
    }

    /// For a table.
    pub fn text(self, digits: usize) -> String {
        let Spread { least, median, most } = self;
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }

    /// As a list in the order of size.
    pub fn json(self) -> Value {
        json!([self.least, self.median, self.most])
    }
}
