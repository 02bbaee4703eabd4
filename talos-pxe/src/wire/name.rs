//! Names that people give: hostnames and roles. Both are short and plain, so that they fit a DNS
//! record, a URL and a log line as they are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A machine's hostname: labels of letters, digits and hyphens with dots between (RFC 1123
/// section 2.1), in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

/// What a machine is for: `init`, `controlplane`, `worker`, or any name that a group selects by
/// its `type`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Role(String);

/// Text that is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is no hostname.
    #[error(
        "not a hostname: labels of letters, digits and hyphens, at most 63 long, with dots \
         between, at most 253 in all"
    )]
    Hostname,
    /// It is no role.
    #[error("not a role: 1 to 64 letters, digits, hyphens, underscores and dots")]
    Role,
}

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Role {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether machines of this role make up the cluster's control plane.
    pub fn is_control_plane(&self) -> bool {
        ["init", "controlplane"].contains(&self.as_str())
    }
}

impl FromStr for Hostname {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_hostname = text.len() <= 253 && text.split('.').all(is_label);
        is_hostname.then(|| Self(text.to_ascii_lowercase())).ok_or(NameError::Hostname)
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_role = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        is_role.then(|| Self(text.to_owned())).ok_or(NameError::Role)
    }
}

/// Both are read from text and written as text.
macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

as_text!(Hostname);
as_text!(Role);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_fit_the_dns() {
        assert_eq!("Rack1-n2.lab".parse::<Hostname>().unwrap().as_str(), "rack1-n2.lab");
        let long = "a".repeat(64);
        for text in ["", "-a", "a-", "a..b", "a.", "a b", "a_b", "ä", long.as_str()] {
            assert_eq!(text.parse::<Hostname>(), Err(NameError::Hostname), "{text:?}");
        }
        assert!([&long[..63]; 3].join(".").parse::<Hostname>().is_ok());
        assert!([&long[..63]; 4].join(".").parse::<Hostname>().is_err());
    }

    #[test]
    fn roles_are_plain() {
        assert!("controlplane".parse::<Role>().unwrap().is_control_plane());
        assert!("init".parse::<Role>().unwrap().is_control_plane());
        assert!(!"gpu_worker-2.b".parse::<Role>().unwrap().is_control_plane());
        for text in ["", "a b", "a/b", "a\n", "ä", "a".repeat(65).as_str()] {
            assert_eq!(text.parse::<Role>(), Err(NameError::Role), "{text:?}");
        }
    }
}
