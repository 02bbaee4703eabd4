//! DHCP clients by the thousand, on one cable: whole frames, built and checked without the
//! daemon's code, so that a fault of that code cannot hide itself.

pub mod cpu;
pub mod downloads;
pub mod fleet;
pub mod frame;
pub mod inject;
pub mod instruction;
pub mod meter;
pub mod packets;
pub mod rack;
pub mod reply;
pub mod ring;
pub mod stamp;
pub mod sum;
pub mod tftp;
pub mod tftp_client;
pub mod xsk;
