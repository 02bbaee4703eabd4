//! TFTP: iPXE's binaries, for firmware that boots by it, and iPXE's entry script.
