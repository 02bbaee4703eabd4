//! Checksums, and the files that list them as `sha256sum` writes them.

use std::fmt;

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// What a Talos release calls the file with such checksums.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256sum.txt",
            Self::Sha512 => "sha512sum.txt",
        }
    }

    /// How many hexadecimal digits such a checksum has.
    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// A checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How it was computed.
    pub algorithm: Algorithm,
    /// Its lower-case hexadecimal digits.
    pub hex: String,
}

impl Sum {
    /// The checksum with these octets, the first one first.
    pub fn new(algorithm: Algorithm, octets: &[u8]) -> Self {
        Self { algorithm, hex: octets.iter().map(|octet| format!("{octet:02x}")).collect() }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.hex)
    }
}

/// A list of checksums does not say what a file's is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SumError {
    /// No line is about the file.
    #[error("it does not list {0}")]
    Missing(String),
    /// Two lines are, and differ.
    #[error("it lists two checksums for {0}")]
    Ambiguous(String),
}

/// Finds the checksum of the file `name` in a list.
///
/// A line is the checksum, then a space, then a space or `*`, then the name, perhaps with folders
/// before it. Names of the list are compared with, and never used. What is no such line, such as
/// an error page, lists nothing.
///
/// # Errors
/// When the list does not say what the file's checksum is.
pub fn find(list: &str, algorithm: Algorithm, name: &str) -> Result<Sum, SumError> {
    let listed = list.lines().filter_map(|line| {
        let (hex, rest) = line.trim_end().split_once(' ')?;
        let path = rest.strip_prefix([' ', '*'])?;
        let its_name = path.rsplit('/').next()?;
        let is_sum = hex.len() == algorithm.digits() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        (is_sum && its_name == name).then(|| hex.to_ascii_lowercase())
    });
    let mut found = None;
    for hex in listed {
        if found.as_ref().is_some_and(|other| *other != hex) {
            return Err(SumError::Ambiguous(name.to_owned()));
        }
        found = Some(hex);
    }
    let hex = found.ok_or_else(|| SumError::Missing(name.to_owned()))?;
    Ok(Sum { algorithm, hex })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_a_name_as_the_tools_write_it() {
        let (a, b) = ("a".repeat(64), "B".repeat(64));
        let list = format!("{a}  vmlinuz-arm64\r\n{b} *_out/vmlinuz-amd64\n");
        let find = |name| find(&list, Algorithm::Sha256, name).map(|sum| sum.hex);
        assert_eq!(find("vmlinuz-arm64"), Ok(a));
        assert_eq!(find("vmlinuz-amd64"), Ok("b".repeat(64)));
        assert_eq!(find("vmlinuz"), Err(SumError::Missing("vmlinuz".to_owned())));
    }

    #[test]
    fn a_list_that_says_nothing_clear_is_refused() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        for list in [
            String::new(),
            "<html>  kernel</html>".to_owned(),
            format!("{}  kernel", &a[1..]),
            format!("{a}{a}  kernel"),
            format!("{}  kernel", a.replace('a', "x")),
            format!("{a} kernel"),
            format!("{a}  kernel.sig"),
            format!("{a}\tkernel"),
        ] {
            let found = find(&list, Algorithm::Sha256, "kernel");
            assert_eq!(found, Err(SumError::Missing("kernel".to_owned())), "{list}");
        }
        let twice = format!("{a}  kernel\n{a}  x/kernel\n");
        assert!(find(&twice, Algorithm::Sha256, "kernel").is_ok());
        let contradictory = format!("{a}  kernel\n{b}  ../kernel\n");
        let found = find(&contradictory, Algorithm::Sha256, "kernel");
        assert_eq!(found, Err(SumError::Ambiguous("kernel".to_owned())));
    }

    #[test]
    fn octets_are_written_in_order() {
        let sum = Sum::new(Algorithm::Sha256, &[0x01, 0xab]);
        assert_eq!(sum.to_string(), "SHA-256 01ab");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(list in "\\PC{0,300}", name in "[a-z]{1,3}") {
            let _ = find(&list, Algorithm::Sha512, &name);
        }

        #[test]
        fn what_is_listed_is_found(
            octets in prop::array::uniform32(any::<u8>()), name in "[a-z0-9.-]{1,20}"
        ) {
            let sum = Sum::new(Algorithm::Sha256, &octets);
            let list = format!("{}  {name}\n", sum.hex);
            prop_assert_eq!(find(&list, Algorithm::Sha256, &name), Ok(sum));
        }
    }
}
