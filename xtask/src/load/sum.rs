//! The Internet checksum (RFC 1071).

/// Adds `bytes`, an even number of them but for the last call, to a running sum.
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut pairs = bytes.chunks_exact(2);
    let words: u64 = pairs
        .by_ref()
        .map(|pair| pair.try_into().map_or(0, |pair| u64::from(u16::from_be_bytes(pair))))
        .sum();
    let last = pairs.remainder().first().map_or(0, |last| u64::from(*last) << 8);
    sum + words + last
}

/// The sum in 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
