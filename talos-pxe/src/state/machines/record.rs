//! What is known of one machine, and what can be seen of it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::decisions::boot::loader::{Architecture, Client};
use crate::time::{BootTime, WallTime};
use crate::wire::{Hostname, Role};

/// What is known of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// When it was first heard of; none if it never was.
    pub first_seen: Option<WallTime>,
    /// When it was last heard of. Stored to the minute only.
    pub last_seen: Option<WallTime>,
    /// Its processor and firmware, as it says.
    pub architecture: Option<Architecture>,
    /// How its firmware boots.
    pub firmware: Option<Firmware>,
    /// Its SMBIOS UUID, as it says.
    pub uuid: Option<Text>,
    /// Its serial number, as it says.
    pub serial: Option<Text>,
    /// The hostname that it claims; nobody has checked it.
    pub hostname: Option<Hostname>,
    /// Its last address.
    pub address: Option<IpAddr>,
    /// The role that it was given. Stored before anything that rests on it is said.
    pub role: Option<Role>,
    /// The profile that it booted last.
    pub profile: Option<Text>,
    /// How far its last boot has come.
    pub stage: Option<Stage>,
    /// In server mode, when its lease ends or ended. Not stored: leases are, in a table of their
    /// own.
    #[serde(skip)]
    pub lease: Option<BootTime>,
}

impl Machine {
    /// Its address, as long as it can be there: while its lease lasts; where somebody else gives
    /// the leases, for good.
    pub fn present_at(&self, now: BootTime) -> Option<IpAddr> {
        self.address.filter(|_| self.lease.is_none_or(|end| now < end))
    }

    /// Takes in what was seen; returns whether it tells more than that the machine still lives.
    pub(super) fn take(&mut self, seen: Observation) -> bool {
        let Observation { time, stage, client, architecture, .. } = seen;
        self.first_seen = self.first_seen.or(Some(time));
        self.last_seen = Some(time);
        let firmware = client.and_then(Firmware::of).filter(|firmware| {
            // iPXE may have been loaded by the firmware that is known.
            self.firmware.is_none() || *firmware != Firmware::Ipxe
        });
        let stage = stage.filter(|stage| self.reaches(*stage, client));
        let (address, lease) = self.address_and_lease(seen.address, seen.lease);
        let changes = [
            replace(&mut self.stage, stage),
            replace(&mut self.firmware, firmware),
            replace(&mut self.architecture, architecture),
            replace(&mut self.uuid, seen.uuid),
            replace(&mut self.serial, seen.serial),
            replace(&mut self.hostname, seen.hostname),
            replace(&mut self.profile, seen.profile),
            replace(&mut self.address, address),
        ];
        let ends_sooner = lease.is_some_and(|end| self.lease.is_none_or(|known| end < known));
        self.lease = lease.or(self.lease);
        changes.contains(&true) || ends_sooner
    }

    /// Whether a step of a boot takes it there. Each does, but for DHCP of the loader that the
    /// machine has just loaded, which is no new boot.
    fn reaches(&self, stage: Stage, client: Option<Client>) -> bool {
        let firmware = matches!(client, Some(Client::Pxe(_) | Client::Http(_)));
        match stage {
            Stage::Discovered => firmware || self.stage != Some(Stage::BootFile),
            Stage::Offered => self.stage.is_none_or(|stage| stage == Stage::Discovered),
            _ => true,
        }
    }

    /// Where we give the leases, nobody can claim a machine's address by merely naming its MAC in
    /// a request: from then on only a lease counts.
    fn address_and_lease(
        &self,
        address: Option<IpAddr>,
        lease: Option<BootTime>,
    ) -> (Option<IpAddr>, Option<BootTime>) {
        let address = address.filter(|_| lease.is_some() || self.lease.is_none());
        (address, lease)
    }
}

/// Puts what is newly known in place of what was; returns whether that changed anything.
fn replace<T: PartialEq>(known: &mut Option<T>, new: Option<T>) -> bool {
    let differs = new.is_some() && *known != new;
    if differs {
        *known = new;
    }
    differs
}

/// How far a boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its firmware asks for DHCP.
    Discovered,
    /// It was offered an address or a boot file.
    Offered,
    /// It loads its boot file.
    BootFile,
    /// It asks for its script.
    Script,
    /// It loads its kernel.
    Kernel,
    /// It loads its initramfs.
    Initramfs,
    /// It has fetched its config.
    Config,
    /// Talos runs on it.
    Up,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 8] = [
        Self::Discovered,
        Self::Offered,
        Self::BootFile,
        Self::Script,
        Self::Kernel,
        Self::Initramfs,
        Self::Config,
        Self::Up,
    ];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Offered => "offered",
            Self::BootFile => "boot-file",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::Config => "config",
            Self::Up => "up",
        }
    }
}

/// How a machine's firmware boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PXE in a BIOS.
    Bios,
    /// PXE in UEFI.
    Uefi,
    /// UEFI HTTP boot.
    UefiHttp,
    /// iPXE, in the network card or the machine.
    Ipxe,
    /// A BOOTP-minded loader, such as U-Boot.
    Bootp,
}

impl Firmware {
    /// The firmware that a DHCP client shows; none for an operating system.
    pub fn of(client: Client) -> Option<Self> {
        match client {
            Client::Plain => None,
            Client::Bootp(_) => Some(Self::Bootp),
            Client::Pxe(Architecture::Bios) => Some(Self::Bios),
            Client::Pxe(_) => Some(Self::Uefi),
            Client::Http(_) => Some(Self::UefiHttp),
            Client::Ipxe { .. } => Some(Self::Ipxe),
        }
    }

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::UefiHttp => "uefi-http",
            Self::Ipxe => "ipxe",
            Self::Bootp => "bootp",
        }
    }
}

/// What was seen of a machine. What is `None` was not seen, and stays as it was.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When.
    pub time: WallTime,
    /// How far its boot has come.
    pub stage: Option<Stage>,
    /// What sent the DHCP message.
    pub client: Option<Client>,
    /// Its processor and firmware.
    pub architecture: Option<Architecture>,
    /// Its SMBIOS UUID.
    pub uuid: Option<Text>,
    /// Its serial number.
    pub serial: Option<Text>,
    /// The hostname that it claims.
    pub hostname: Option<Hostname>,
    /// The profile that it boots.
    pub profile: Option<Text>,
    /// Where it is.
    pub address: Option<IpAddr>,
    /// When its lease ends: in the past for one that was given back.
    pub lease: Option<BootTime>,
}

impl Observation {
    /// That the machine lives.
    pub fn at(time: WallTime) -> Self {
        Self {
            time,
            stage: None,
            client: None,
            architecture: None,
            uuid: None,
            serial: None,
            hostname: None,
            profile: None,
            address: None,
            lease: None,
        }
    }

    /// That it has come so far.
    pub fn stage(time: WallTime, stage: Stage) -> Self {
        Self { stage: Some(stage), ..Self::at(time) }
    }
}

/// Words of a machine about itself: 1 to 128 printable ASCII characters, so that nothing in them
/// can act on a terminal or fill the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// The text is empty, long, or not plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to 128 printable ASCII characters")]
pub struct NotPlain;

impl Text {
    /// The text, when it is one.
    pub fn new(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        ((1..=128).contains(&text.len()) && plain).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = NotPlain;

    fn try_from(text: String) -> Result<Self, NotPlain> {
        Self::new(&text).ok_or(NotPlain)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
