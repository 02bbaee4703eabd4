//! The appliance's console: terminals that show what is served and take keys, and the daemon that
//! it starts.

pub mod daemon;
pub mod screen;
pub mod view;
