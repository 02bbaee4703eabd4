//! What `--max-transfers` does to a rack that loads its image at once.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::image_servers::{Bed, image};
use super::spread::Spread;
use crate::lab::Lab;
use crate::load::downloads;
use crate::progress;

/// How many clients load the image once, at the same time.
const CLIENTS: [usize; 2] = [64, 200];
const LIMITS: [&str; 4] = ["off", "auto", "4", "16"];

/// One server and so many clients: seconds until they had the image, in each round.
#[derive(Debug)]
pub struct Row {
    clients: usize,
    server: String,
    first: Spread,
    mean: Spread,
    last: Spread,
}

/// Measures talos-pxe with several limits beside nginx, in turn.
///
/// # Errors
/// When a server fails.
pub fn measure(lab: &Lab, daemon: &Path, root: &Path, rounds: usize) -> Result<Vec<Row>> {
    let ours = |limit: &str| {
        let name = format!("talos-pxe, --max-transfers {limit}");
        Bed::ours(name, lab, daemon, root, &["--max-transfers", limit])
    };
    let mut beds = LIMITS.iter().map(|limit| ours(limit)).collect::<Result<Vec<_>>>()?;
    beds.push(Bed::nginx(lab, root)?);
    let mut rows = Vec::new();
    for clients in CLIENTS {
        let mut times = vec![Vec::new(); beds.len()];
        for round in 1..=rounds {
            for (bed, times) in beds.iter().zip(&mut times) {
                let what =
                    format!("{}: {clients} clients once, round {round} of {rounds}", bed.name);
                let load = || downloads::once(bed.far.netns(), &image(), clients);
                times.push(progress::during(&what, load)?);
            }
        }
        rows.extend(beds.iter().zip(&times).map(|(bed, times)| Row::of(clients, bed, times)));
    }
    Ok(rows)
}

impl Row {
    fn of(clients: usize, bed: &Bed, rounds: &[Vec<Duration>]) -> Self {
        let spread = |of: &dyn Fn(&[Duration]) -> Option<Duration>| {
            let seconds = |times: &Vec<Duration>| of(times).map_or(f64::NAN, |t| t.as_secs_f64());
            Spread::of(rounds.iter().map(seconds).collect())
        };
        Self {
            clients,
            server: bed.name.clone(),
            first: spread(&|times| times.first().copied()),
            mean: spread(&|times| Some(times.iter().sum::<Duration>() / times.len() as u32)),
            last: spread(&|times| times.last().copied()),
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "clients": self.clients,
            "server": self.server,
            "first_seconds": self.first.json(),
            "mean_seconds": self.mean.json(),
            "last_seconds": self.last.json(),
        })
    }
}

/// All as a table.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = "\nSeconds until so many clients have the image, who all ask at once and once \
         only.\n\n| clients | server | first | mean | last |\n| ---: | --- | --- | --- | --- |\n"
        .to_owned();
    for Row { clients, server, first, mean, last } in rows {
        let [first, mean, last] = [first, mean, last].map(|spread| spread.text(2));
        let _ = writeln!(text, "| {clients} | {server} | {first} | {mean} | {last} |");
    }
    text
}
