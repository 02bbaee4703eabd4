//! Machines booted over time, as a picture (SVG).

use std::fmt::Write as _;

use super::stacks::Kind;
use crate::load::rack::files::Size;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 630.0;
/// Where the axes meet, and where they end.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 920.0;
const TOP: f64 = 90.0;
const BOTTOM: f64 = 470.0;
/// How many parts an axis has at most.
const PARTS: f64 = 10.0;

/// The machines that booted from a server.
#[derive(Clone, Debug)]
pub struct Line {
    /// The server.
    pub kind: Kind,
    /// When machines were up, in order, in seconds since the first was switched on.
    pub up: Vec<f64>,
}

impl Kind {
    /// Colours that people with any kind of sight tell apart (Okabe and Ito), and dashes for those
    /// who print them in grey.
    fn stroke(self) -> (&'static str, &'static str) {
        match self {
            Kind::TalosPxe => ("#0072b2", "none"),
            Kind::Dnsmasq => ("#d55e00", "10 4"),
            Kind::Kea => ("#009e73", "3 3"),
        }
    }
}

/// An axis from 0.
struct Axis {
    /// The largest number on it, and the distance of its marks.
    end: f64,
    step: f64,
    /// Where in the picture 0 and the end are.
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis with room for `most`.
    fn new(most: f64, from: f64, to: f64) -> Axis {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let digit = 10_f64.powf((most / PARTS).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * digit);
        let fits = |step: &f64| (most / step).ceil() <= PARTS;
        let step = steps.into_iter().find(fits).unwrap_or(most);
        Axis { end: (most / step).ceil() * step, step, from, to }
    }

    fn at(&self, number: f64) -> f64 {
        self.from + (self.to - self.from) * number / self.end
    }

    /// Its marks: where they are, and what stands there.
    fn marks(&self) -> impl Iterator<Item = (f64, String)> {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        let count = (self.end / self.step).round() as u32;
        (0..=count).map(move |mark| {
            let number = f64::from(mark) * self.step;
            (self.at(number), format!("{number:.digits$}"))
        })
    }
}

/// Draws it.
pub fn svg(size: Size, lines: &[Line]) -> String {
    let last = lines.iter().filter_map(|line| line.up.last().copied()).fold(0.0, f64::max);
    let (x, y) = (Axis::new(last, LEFT, RIGHT), Axis::new(size.machines.into(), BOTTOM, TOP));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"14\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"36\" font-size=\"22\" font-weight=\"bold\">{} machines power on: \
         how many have booted</text>\n\
         <text x=\"{LEFT}\" y=\"62\" fill=\"#555\">switched on evenly in {} s; {:.0} MiB of kernel \
         and initramfs each; up means: the machine has its config</text>\n",
        size.machines,
        size.spread.as_secs(),
        (size.image + size.image / 5) as f64 / f64::from(1 << 20),
    );
    axes(&mut text, &x, &y);
    for line in lines {
        curve(&mut text, line, &x, &y);
    }
    for (place, line) in lines.iter().enumerate() {
        legend(&mut text, line, size.machines, place as f64);
    }
    text.push_str("</svg>\n");
    text
}

fn axes(text: &mut String, x: &Axis, y: &Axis) {
    for (at, mark) in y.marks() {
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>",
            LEFT - 8.0,
            at + 5.0,
        );
    }
    for (at, mark) in x.marks() {
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} {BOTTOM}v6\" stroke=\"#222\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}</text>",
            BOTTOM + 24.0,
        );
    }
    let (middle, centre) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    let _ = writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" stroke=\"#222\" fill=\"none\"/>\n\
         <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">seconds since the first machine \
         was switched on</text>\n\
         <text transform=\"translate(24 {centre}) rotate(-90)\" text-anchor=\"middle\">machines \
         booted</text>",
        BOTTOM + 52.0,
    );
}

/// A line that rises with every machine.
fn curve(text: &mut String, line: &Line, x: &Axis, y: &Axis) {
    let (colour, dashes) = line.kind.stroke();
    let mut path = format!("M{:.2} {:.2}", x.at(0.0), y.at(0.0));
    for (booted, up) in (1_u32..).zip(&line.up) {
        let _ = write!(path, "H{:.2}V{:.2}", x.at(*up), y.at(booted.into()));
    }
    let _ = writeln!(
        text,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"3\" \
         stroke-dasharray=\"{dashes}\" stroke-linejoin=\"round\"/>"
    );
    if let (Some(last), Ok(booted)) = (line.up.last(), u32::try_from(line.up.len())) {
        let (last, booted) = (x.at(*last), y.at(booted.into()));
        let _ = writeln!(
            text,
            "<circle cx=\"{last:.2}\" cy=\"{booted:.2}\" r=\"5\" fill=\"{colour}\"/>"
        );
    }
}

/// What a line is; all of them stand below the chart, where no line goes.
fn legend(text: &mut String, line: &Line, machines: u32, place: f64) {
    let (colour, dashes) = line.kind.stroke();
    let (left, at) = (LEFT, BOTTOM + 84.0 + 26.0 * place);
    let booted = match (line.up.last(), line.up.len() == machines as usize) {
        (Some(last), true) => format!("all after {last:.1} s"),
        (Some(last), false) => {
            format!("{} of {machines}, the last after {last:.1} s", line.up.len())
        }
        (None, _) => "none".to_owned(),
    };
    let _ = writeln!(
        text,
        "<path d=\"M{left} {at}h44\" stroke=\"{colour}\" stroke-width=\"3\" \
         stroke-dasharray=\"{dashes}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}: {booted}</text>",
        left + 56.0,
        at + 5.0,
        line.kind.name(),
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_axis_has_round_marks_and_room_for_all() {
        for (most, end, step) in [(1000.0, 1000.0, 100.0), (73.2, 80.0, 10.0), (0.31, 0.35, 0.05)] {
            let axis = Axis::new(most, 0.0, 1.0);
            assert!((axis.end - end).abs() < 1e-9 && (axis.step - step).abs() < 1e-9, "{most}");
        }
        assert!(Axis::new(f64::NAN, 0.0, 1.0).end > 0.0);
    }

    #[test]
    fn a_line_ends_with_the_last_machine() {
        let size = Size { machines: 2, spread: Duration::ZERO, image: 1 << 20 };
        let line = |kind, up: &[f64]| Line { kind, up: up.to_vec() };
        let lines = [line(Kind::TalosPxe, &[1.0, 2.0]), line(Kind::Kea, &[])];
        let text = svg(size, &lines);
        assert!(text.contains("talos-pxe: all after 2.0 s"));
        assert!(text.contains("Kea + tftpd-hpa + nginx: none"));
        assert!(text.contains(&format!("cx=\"{RIGHT:.2}\" cy=\"{TOP:.2}\"")), "{text}");
    }
}
