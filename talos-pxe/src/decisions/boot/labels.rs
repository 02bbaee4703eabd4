//! What a machine says of itself in the query of `/ipxe`: the labels that selectors match.

use std::collections::BTreeMap;

use crate::decisions::inventory::Entry;
use crate::wire::MacAddr;

/// The label that names a machine's role.
pub const TYPE: &str = "type";
/// The label that names a machine.
pub const MAC: &str = "mac";
/// The label with a machine's hostname.
pub const HOSTNAME: &str = "hostname";

const MAX_LABELS: usize = 32;
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 256;

/// The labels of one request, bounded in number and length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

/// The query holds more than any boot firmware sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the query is too long: at most {MAX_LABELS} labels, names of {MAX_NAME} bytes and values of \
     {MAX_VALUE}"
)]
pub struct QueryTooLong;

impl Labels {
    /// Reads a URL's query, percent-encoded. As in matchbox the first value of a repeated name
    /// counts, and `mac` is brought into one spelling if it is a MAC address.
    ///
    /// # Errors
    /// When the query exceeds the bounds.
    pub fn from_query(query: &str) -> Result<Self, QueryTooLong> {
        let mut labels = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if name.len() > MAX_NAME || value.len() > MAX_VALUE || labels.len() == MAX_LABELS {
                return Err(QueryTooLong);
            }
            let value = normalize(&name, value.into_owned());
            labels.entry(name.into_owned()).or_insert(value);
        }
        Ok(Self(labels))
    }

    /// A label's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All labels with their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The machine that asks, if it says so.
    pub fn mac(&self) -> Option<MacAddr> {
        self.get(MAC)?.parse().ok()
    }

    /// The role asked for by name; `auto` leaves the choice to us.
    pub fn role(&self) -> Option<&str> {
        self.get(TYPE).filter(|role| !role.is_empty() && *role != "auto")
    }

    /// The same labels with another role.
    pub fn with_role(&self, role: &str) -> Self {
        let mut labels = self.0.clone();
        labels.insert(TYPE.to_owned(), role.to_owned());
        Self(labels)
    }

    /// The same labels of another machine.
    pub fn with_mac(&self, mac: MacAddr) -> Self {
        let mut labels = self.0.clone();
        labels.insert(MAC.to_owned(), mac.to_string());
        Self(labels)
    }

    /// The same labels, and those of the inventory, which count before what the machine says of
    /// itself: its operator knows it better than its firmware does.
    pub fn with_inventory(&self, entry: &Entry) -> Self {
        let mut labels = self.0.clone();
        labels.extend(entry.labels.clone());
        if let Some(hostname) = &entry.hostname {
            labels.insert(HOSTNAME.to_owned(), hostname.to_string());
        }
        Self(labels)
    }
}

/// Checks a label that the operator gives a machine by name.
///
/// # Errors
/// When another key of the machine says it already, or it is longer than a label can be.
pub fn check_named(name: &str, value: &str) -> Result<(), String> {
    match name {
        TYPE => Err("the label \"type\" is the machine's role: write role".to_owned()),
        MAC | HOSTNAME => Err(format!("the label {name:?} is the machine's own: write {name}")),
        _ if name.len() > MAX_NAME || value.len() > MAX_VALUE => Err(format!(
            "a label is too long: at most {MAX_NAME} bytes of name and {MAX_VALUE} of value"
        )),
        _ => Ok(()),
    }
}

/// Brings a label's value into the spelling in which values are compared.
pub(super) fn normalize(name: &str, value: String) -> String {
    match value.parse::<MacAddr>() {
        Ok(mac) if name == MAC => mac.to_string(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_ipxe_sends() {
        let labels = Labels::from_query(
            "uuid=&ip=10.0.0.9&mac=52-54-00-AB-cd-ef&hostname=a%20b&type=auto&type=worker",
        )
        .unwrap();
        assert_eq!(labels.mac(), Some(MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef])));
        assert_eq!(labels.get("mac"), Some("52:54:00:ab:cd:ef"));
        assert_eq!(labels.get("hostname"), Some("a b"));
        assert_eq!(labels.get("uuid"), Some(""));
        assert_eq!(labels.get(TYPE), Some("auto"));
        assert_eq!(labels.role(), None);
        assert_eq!(labels.with_role("worker").role(), Some("worker"));
    }

    #[test]
    fn bounds_number_and_length() {
        let many: String = (0..40).map(|i| format!("label{i}=x&")).collect();
        assert_eq!(Labels::from_query(&many), Err(QueryTooLong));
        assert_eq!(Labels::from_query(&format!("a={}", "x".repeat(257))), Err(QueryTooLong));
        assert_eq!(Labels::from_query(&format!("{}=a", "x".repeat(65))), Err(QueryTooLong));
    }

    proptest! {
        #[test]
        fn takes_any_query(
            query in prop_oneof!["\\PC*", "([a-c]|mac|type|[=&%+]|%[0-9a-f]{2}|%c3){0,40}"],
        ) {
            let _ = Labels::from_query(&query).map(|labels| labels.mac());
        }
    }
}
