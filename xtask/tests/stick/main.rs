//! The image of a stick: it boots, and machines boot from it.

mod image;
