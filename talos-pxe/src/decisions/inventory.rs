//! The inventory: machines that are named before they first boot.
//!
//! `<root>/machines.yaml` (or `.yml`, or the same in TOML) lists them:
//!
//! ```yaml
//! machines:
//!   - mac: 52:54:00:12:34:56
//!     hostname: rack1-n1             # also the label `hostname`
//!     address: 192.168.123.50        # this machine's and nobody else's
//!     role: controlplane             # until another is chosen or assigned
//!     labels: { rack: "1" }          # for the selectors of groups
//!     patches:                       # for its machine config, in this order
//!       - big-disk.yaml              # a file in <root>/patches/
//!       - machine: { network: { nameservers: [192.168.123.1] } }
//!   - mac: 52:54:00:12:34:57
//!     patch: { machine: { install: { disk: /dev/nvme0n1 } } }    # one, before those of `patches`
//! ```
//!
//! Only `mac` is needed. Nothing is guessed: an unknown key, or a MAC address, hostname or address
//! that stands twice, is an error that names the place.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_yaml_ng::Value;

use super::boot::labels;
use crate::wire::{Hostname, MacAddr, Role};

/// The machines that the operator named, by MAC address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The file's path, for messages.
    path: String,
    machines: BTreeMap<MacAddr, Entry>,
}

/// What the operator wrote of a machine.
#[derive(Clone, Default, PartialEq)]
pub struct Entry {
    /// Its name.
    pub hostname: Option<Hostname>,
    /// The address that it gets, and no other machine does.
    pub address: Option<Ipv4Addr>,
    /// What it is for, unless another role was chosen or assigned.
    pub role: Option<Role>,
    /// Labels that groups select by, beside those that the machine sends.
    pub labels: BTreeMap<String, String>,
    /// Strategic-merge patches for its machine config, in this order.
    pub patches: Vec<Patch>,
}

/// A patch in YAML. It may hold secrets: never log its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Patch {
    /// Where it was written, for messages.
    pub name: String,
    /// One or more YAML documents, each a mapping. That of a file is as it was written: numbers in
    /// unusual notations, such as `0644`, do not survive being read and written again.
    pub text: String,
}

/// A file's path, for messages, and its text.
#[derive(Clone)]
pub struct TextFile {
    /// The file's path; its ending says what it is written in.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// The files of `<root>/patches`, by name.
pub type PatchFiles = BTreeMap<String, TextFile>;

/// Why an inventory cannot be used: the file, the place in it where there is one, and the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct InventoryError {
    path: String,
    cause: String,
}

impl Inventory {
    /// Reads an inventory: TOML if its name ends so, else YAML.
    ///
    /// # Errors
    /// Names the file, line and column where there is one, and the machine.
    pub fn parse(file: &TextFile, patches: &PatchFiles) -> Result<Self, InventoryError> {
        let parse = if file.path.ends_with(".toml") { parse_toml } else { parse_yaml };
        let error = |cause| InventoryError { path: file.path.clone(), cause };
        let Listed(listed) = parse(&file.text).map_err(error)?;
        let mut machines = BTreeMap::new();
        for (mac, listed) in listed {
            let entry = listed.with_patches(mac, patches, &file.path)?;
            machines.insert(mac, entry);
        }
        Ok(Self { path: file.path.clone(), machines })
    }

    /// Checks that each fixed address can be given in the subnet of our `own` address.
    ///
    /// # Errors
    /// Names the file, the machine and its address.
    pub fn check_addresses(&self, own: Ipv4Net, router: Ipv4Addr) -> Result<(), InventoryError> {
        for (mac, address) in self.addresses() {
            let cause = if !own.contains(&address) {
                format!("is not inside the subnet {}: correct it, or --addr", own.trunc())
            } else if address == own.addr() {
                "is our own: correct it, or --addr".to_owned()
            } else if address == router {
                "is the router's: correct it, or --gw".to_owned()
            } else if [own.network(), own.broadcast()].contains(&address) {
                format!("is no host's address in {}", own.trunc())
            } else {
                continue;
            };
            let cause = format!("machine {mac}: address {address} {cause}");
            return Err(InventoryError { path: self.path.clone(), cause });
        }
        Ok(())
    }

    /// What is known of a machine.
    pub fn get(&self, mac: MacAddr) -> Option<&Entry> {
        self.machines.get(&mac)
    }

    /// All machines, in the order of their MAC addresses.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddr, &Entry)> {
        self.machines.iter().map(|(mac, entry)| (*mac, entry))
    }

    /// The fixed addresses.
    pub fn addresses(&self) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> {
        self.iter().filter_map(|(mac, entry)| Some((mac, entry.address?)))
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }
}

impl fmt::Debug for Entry {
    /// Without the patches: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hostname, address, role, labels, patches: _ } = self;
        f.debug_struct("Entry")
            .field("hostname", hostname)
            .field("address", address)
            .field("role", role)
            .field("labels", labels)
            .finish_non_exhaustive()
    }
}

fn parse_yaml(text: &str) -> Result<Listed, String> {
    let file: Option<FileText> =
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    Ok(file.and_then(|file| file.machines).unwrap_or_default())
}

fn parse_toml(text: &str) -> Result<Listed, String> {
    let file: FileText = toml::from_str(text).map_err(|error| {
        // Its own `Display` quotes the line, which may hold a secret of a patch.
        let message = error.message().replace('\n', ", ");
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => {
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!("{message} at line {line} column {column}")
            }
            None => message,
        }
    })?;
    Ok(file.machines.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    machines: Option<Listed>,
}

/// The machines, no two alike.
#[derive(Default)]
struct Listed(BTreeMap<MacAddr, MachineText>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineText {
    mac: MacAddr,
    hostname: Option<Hostname>,
    address: Option<Ipv4Addr>,
    role: Option<Role>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    patch: Option<PatchText>,
    #[serde(default)]
    patches: Vec<PatchText>,
}

#[derive(Deserialize)]
#[serde(try_from = "Value")]
enum PatchText {
    File(String),
    Inline(Value),
}

impl MachineText {
    fn with_patches(
        self,
        mac: MacAddr,
        files: &PatchFiles,
        path: &str,
    ) -> Result<Entry, InventoryError> {
        let Self { mac: _, hostname, address, role, labels, patch, patches } = self;
        let mut ordered = Vec::new();
        for patch in patch.into_iter().chain(patches) {
            match patch {
                PatchText::Inline(patch) => ordered.push(Patch {
                    name: format!("the inventory's patch for {mac}"),
                    text: serde_yaml_ng::to_string(&patch).map_err(|error| InventoryError {
                        path: path.to_owned(),
                        cause: format!("machine {mac}: a patch: {error}"),
                    })?,
                }),
                PatchText::File(name) => {
                    let file = files.get(&name).ok_or_else(|| InventoryError {
                        path: path.to_owned(),
                        cause: no_such_patch(mac, &name, files),
                    })?;
                    check_patch(file)?;
                    ordered.push(Patch { name: file.path.clone(), text: file.text.clone() });
                }
            }
        }
        Ok(Entry { hostname, address, role, labels, patches: ordered })
    }
}

fn no_such_patch(mac: MacAddr, name: &str, files: &PatchFiles) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() > 64 || !name.chars().all(plain) {
        // Perhaps the text of a patch, which may hold secrets.
        return format!(
            "machine {mac}: a patch is text; write a mapping, or the name of a file in patches/"
        );
    }
    let known: Vec<&str> = files.keys().map(String::as_str).collect();
    format!("machine {mac}: no file {name:?} in patches/; there are: {}", known.join(", "))
}

/// Checks that each YAML document of a file is a patch.
fn check_patch(file: &TextFile) -> Result<(), InventoryError> {
    let error = |cause| InventoryError { path: file.path.clone(), cause };
    for document in serde_yaml_ng::Deserializer::from_str(&file.text) {
        match Value::deserialize(document).map_err(|cause| error(cause.to_string()))? {
            Value::Null | Value::Mapping(_) => {}
            _ => return Err(error(NO_MAPPING.to_owned())),
        }
    }
    Ok(())
}

const NO_MAPPING: &str = "not a strategic-merge patch: a mapping was expected";

impl TryFrom<Value> for PatchText {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::String(name) => Ok(Self::File(name)),
            Value::Mapping(_) => Ok(Self::Inline(value)),
            _ => Err("a patch is a mapping, or the name of a file in patches/"),
        }
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        list.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of machines, each with its mac")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Listed, A::Error> {
        let mut taken = Taken::default();
        while list.next_element_seed(&mut taken)?.is_some() {}
        Ok(taken.listed)
    }
}

/// What the machines so far have taken. A machine is checked where it is read, so that the parser
/// can say where that is.
#[derive(Default)]
struct Taken {
    listed: Listed,
    hostnames: HashSet<Hostname>,
    addresses: HashSet<Ipv4Addr>,
}

impl Taken {
    fn add(&mut self, machine: MachineText) -> Result<(), String> {
        let mac = machine.mac;
        let error = |cause: String| Err(format!("machine {mac}: {cause}"));
        if mac == MacAddr::ZERO || mac.0.first().is_some_and(|octet| octet & 1 == 1) {
            return error("no machine has this MAC address".to_owned());
        }
        if let Some(name) = &machine.hostname
            && !self.hostnames.insert(name.clone())
        {
            return error(format!("another machine has the hostname {name}"));
        }
        if let Some(address) = machine.address
            && !self.addresses.insert(address)
        {
            return error(format!("another machine has the address {address}"));
        }
        for (label, value) in &machine.labels {
            labels::check_named(label, value).map_err(|cause| format!("machine {mac}: {cause}"))?;
        }
        match self.listed.0.entry(mac) {
            Slot::Vacant(slot) => {
                slot.insert(machine);
                Ok(())
            }
            Slot::Occupied(_) => error("it stands there twice".to_owned()),
        }
    }
}

impl<'de> de::DeserializeSeed<'de> for &mut Taken {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, machine: D) -> Result<(), D::Error> {
        machine.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Taken {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a machine with its mac")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let machine = MachineText::deserialize(MapAccessDeserializer::new(map))?;
        self.add(machine).map_err(A::Error::custom)
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
