//! TFTP: which file a name stands for.
