//! How long the XDP program takes for an answer, without a cable: the kernel's own measurement, by
//! `cargo bench`.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{exec, repository};

/// The time of one kind of answer.
#[derive(Debug)]
pub struct Answer {
    /// The request's message type.
    pub request: String,
    /// The request's length in octets.
    pub octets: u64,
    /// How many machines asked, in turn.
    pub machines: u64,
    /// Nanoseconds.
    pub time: f64,
    /// Nanoseconds of a program that only swaps the Ethernet addresses.
    pub swap: f64,
}

/// Measures all kinds, each so many times, of which the best counts.
///
/// # Errors
/// When it does not compile, or the kernel refuses the program.
pub fn measure(rounds: u32) -> Result<Vec<Answer>> {
    let mut bench = exec::cargo();
    bench.args(["bench", "--package", "talos-pxe", "--bench", "xdp", "--", "--json"]);
    bench.args(["--rounds", &rounds.to_string()]);
    bench.current_dir(repository());
    let text = exec::output_with_errors_shown(&mut bench).context("cannot measure answers")?;
    let rows: Vec<Value> = serde_json::from_str(&text).context("cargo bench wrote no JSON")?;
    rows.iter().map(|row| answer(row).with_context(|| format!("unexpected: {row}"))).collect()
}

fn answer(row: &Value) -> Option<Answer> {
    Some(Answer {
        request: row.get("request")?.as_str()?.to_owned(),
        octets: row.get("octets")?.as_u64()?,
        machines: row.get("machines")?.as_u64()?,
        time: row.get("nanoseconds")?.as_f64()?,
        swap: row.get("swap_nanoseconds")?.as_f64()?,
    })
}

impl Answer {
    /// A row of a table in Markdown, under [`HEAD`].
    pub fn markdown(&self) -> String {
        let Answer { request, octets, machines, time, swap } = self;
        let ratio = time / swap;
        format!("| {request} | {octets} | {machines} | {time:.0} | {swap:.1} | {ratio:.0} |\n")
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let Answer { request, octets, machines, time, swap } = self;
        json!({
            "request": request, "octets": octets, "machines": machines,
            "nanoseconds": time, "swap_nanoseconds": swap,
        })
    }
}

/// The head of the table.
pub const HEAD: &str = "| request | octets | machines | ns per answer | ns to swap MACs | ratio |\n\
                        | --- | ---: | ---: | ---: | ---: | ---: |\n";
