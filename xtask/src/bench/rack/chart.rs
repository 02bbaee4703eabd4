//! Machines booted over time, as a picture (SVG).

use super::Run;
use crate::load::rack::files::Size;

/// Draws it.
pub fn svg(_size: Size, _runs: &[Run]) -> String {
    String::new()
}
