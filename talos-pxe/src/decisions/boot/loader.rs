//! What a DHCP client is, and the boot file that fits it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::origin::Origin;
use crate::decisions::tftp::SCRIPT;
use crate::wire::dhcp::{Message, OptionCode};

/// iPXE's encapsulated options (<https://ipxe.org/howto/dhcpd>), no registered code.
pub const IPXE_OPTIONS: OptionCode = OptionCode::Unknown(175);
/// Within [`IPXE_OPTIONS`]: this iPXE can load from HTTP.
const IPXE_HTTP: u8 = 0x13;

/// Processor and firmware (option 93; RFC 4578 section 2.1 and IANA's "Processor Architecture
/// Types"). Written and read as text: `uefi-x64`, or the code for any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// x86 BIOS (0).
    Bios,
    /// 32-bit x86 UEFI (6, by HTTP 15).
    UefiIa32,
    /// x86-64 UEFI: in the field both 7 and 9, by HTTP 16.
    UefiX64,
    /// 32-bit ARM UEFI (10, by HTTP 18).
    UefiArm32,
    /// 64-bit ARM UEFI (11, by HTTP 19).
    UefiArm64,
    /// Any other code.
    Other(u16),
}

impl From<u16> for Architecture {
    fn from(code: u16) -> Self {
        match code {
            0 => Self::Bios,
            6 | 15 => Self::UefiIa32,
            7 | 9 | 16 => Self::UefiX64,
            10 | 18 => Self::UefiArm32,
            11 | 19 => Self::UefiArm64,
            other => Self::Other(other),
        }
    }
}

impl Architecture {
    const NAMED: [(Self, &str); 5] = [
        (Self::Bios, "bios"),
        (Self::UefiIa32, "uefi-ia32"),
        (Self::UefiX64, "uefi-x64"),
        (Self::UefiArm32, "uefi-arm32"),
        (Self::UefiArm64, "uefi-arm64"),
    ];

    /// The architecture that a request names.
    pub fn of(request: &Message) -> Option<Self> {
        let class = request.options.get(OptionCode::ClassIdentifier).unwrap_or_default();
        architecture(request, class)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMED.iter().find(|(architecture, _)| architecture == self);
        match (name, self) {
            (Some((_, name)), _) => f.write_str(name),
            (None, Self::Other(code)) => code.fmt(f),
            (None, _) => Ok(()),
        }
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.to_string()
    }
}

impl TryFrom<String> for Architecture {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match Self::NAMED.iter().find(|(_, name)| *name == text) {
            Some((architecture, _)) => Ok(*architecture),
            None => text.parse::<u16>().map(Self::from),
        }
    }
}

/// What a DHCP client wants besides an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Nothing: an operating system, a phone.
    Plain,
    /// A boot file, without being a PXE client: U-Boot and other BOOTP-minded loaders.
    Bootp(Architecture),
    /// A PXE boot ROM: class `PXEClient`, loads by TFTP.
    Pxe(Architecture),
    /// UEFI HTTP boot: class `HTTPClient`, loads from a URL.
    Http(Architecture),
    /// iPXE: takes a script.
    Ipxe {
        /// It can load from HTTP, else only by TFTP.
        http: bool,
    },
}

impl Client {
    /// Tells what sent this request, from its vendor class (option 60), user class (77),
    /// architecture (93), parameter list (55) and the `file` that it asks for.
    ///
    /// U-Boot on x86 has no architecture to send and reads no option 67: it names the file that
    /// it would like.
    pub fn of(request: &Message) -> Self {
        let class = request.options.get(OptionCode::ClassIdentifier).unwrap_or_default();
        let architecture = architecture(request, class);
        if is_ipxe(request) {
            return Self::Ipxe { http: ipxe_has(request, IPXE_HTTP) };
        }
        if class.starts_with(b"PXEClient") {
            return Self::Pxe(architecture.unwrap_or(Architecture::Bios));
        }
        if class.starts_with(b"HTTPClient") {
            return Self::Http(architecture.unwrap_or(Architecture::UefiX64));
        }
        let asks = request.options.get(OptionCode::ParameterRequestList).unwrap_or_default();
        let boots = architecture.is_some()
            || !request.file.is_empty()
            || asks.contains(&OptionCode::BootfileName.into());
        if boots { Self::Bootp(architecture.unwrap_or(Architecture::Bios)) } else { Self::Plain }
    }
}

/// The architecture from option 93, whose first entry counts, else from a class such as
/// `PXEClient:Arch:00007:UNDI:003016`.
fn architecture(request: &Message, class: &[u8]) -> Option<Architecture> {
    if let Some([high, low, ..]) = request.options.get(OptionCode::ClientSystemArchitecture) {
        return Some(u16::from_be_bytes([*high, *low]).into());
    }
    let mut parts = class.split(|octet| *octet == b':').skip_while(|part| *part != b"Arch");
    let code = std::str::from_utf8(parts.nth(1)?).ok()?;
    code.parse::<u16>().ok().map(Architecture::from)
}

/// Option 77 holds one class as plain text, or a list of length-prefixed ones (RFC 3004).
fn is_ipxe(request: &Message) -> bool {
    let class = request.options.get(OptionCode::UserClass).unwrap_or_default();
    class == b"iPXE" || class == b"\x04iPXE"
}

fn ipxe_has(request: &Message, feature: u8) -> bool {
    let mut rest = request.options.get(IPXE_OPTIONS).unwrap_or_default();
    while let [code, length, tail @ ..] = rest {
        if *code == feature {
            return true;
        }
        rest = tail.get(usize::from(*length)..).unwrap_or_default();
    }
    false
}

/// The boot files, as clients are told of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaders {
    /// Where we are reached.
    pub origin: Origin,
    /// File for BIOS machines.
    pub bios: String,
    /// File for x86-64 UEFI machines.
    pub uefi: String,
    /// File for 64-bit ARM machines, if there is one.
    pub arm64: Option<String>,
    /// What boots by UEFI HTTP boot instead of these.
    pub ukis: Ukis,
}

/// Talos's UKIs, each a kernel, an initramfs and arguments in one EFI program: files of the assets
/// folder. They start without iPXE, and so without a script that could say where the machine's
/// config is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ukis {
    /// The one for x86-64.
    pub amd64: Option<String>,
    /// The one for 64-bit ARM.
    pub arm64: Option<String>,
}

impl Loaders {
    /// The boot file for a client: a name for TFTP, or a URL. `None` for one that boots nothing,
    /// or whose architecture we have no loader for.
    pub fn file_for(&self, client: Client) -> Option<String> {
        let origin = self.origin;
        match client {
            Client::Plain => None,
            Client::Ipxe { http: true } => Some(origin.url(&format!("/{SCRIPT}"))),
            Client::Ipxe { http: false } => Some(format!("tftp://{}/{SCRIPT}", origin.address)),
            Client::Bootp(architecture) | Client::Pxe(architecture) => {
                self.loader(architecture).map(str::to_owned)
            }
            Client::Http(architecture) => match self.uki(architecture) {
                Some(uki) => Some(origin.url(&format!("/assets/{uki}"))),
                None => Some(origin.url(&format!("/firmware/{}", self.loader(architecture)?))),
            },
        }
    }

    fn loader(&self, architecture: Architecture) -> Option<&str> {
        match architecture {
            Architecture::Bios => Some(&self.bios),
            Architecture::UefiX64 => Some(&self.uefi),
            Architecture::UefiArm64 => self.arm64.as_deref(),
            _ => None,
        }
    }

    fn uki(&self, architecture: Architecture) -> Option<&str> {
        match architecture {
            Architecture::UefiX64 => self.ukis.amd64.as_deref(),
            Architecture::UefiArm64 => self.ukis.arm64.as_deref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::MacAddr;
    use crate::wire::dhcp::{MessageType, Opcode};

    fn request(options: &[(u8, &[u8])]) -> Message {
        let mut message =
            Message::new(Opcode::BootRequest, MessageType::Discover, 1, MacAddr::ZERO);
        for (code, value) in options {
            message.options.append(OptionCode::from(*code), value);
        }
        message
    }

    #[test]
    fn clients_are_told_apart() {
        let pxe = b"PXEClient:Arch:00007:UNDI:003000";
        type Sent<'a> = &'a [(u8, &'a [u8])];
        let cases: [(Sent<'_>, Client); _] = [
            (&[], Client::Plain),
            (&[(60, b"udhcp 1.35.0"), (55, &[1, 3, 6])], Client::Plain),
            (&[(55, &[1, 3, 67])], Client::Bootp(Architecture::Bios)),
            (&[(60, b"U-Boot.armv8"), (93, &[0, 11])], Client::Bootp(Architecture::UefiArm64)),
            (&[(60, b"PXEClient")], Client::Pxe(Architecture::Bios)),
            (&[(60, pxe)], Client::Pxe(Architecture::UefiX64)),
            (&[(60, pxe), (93, &[0, 9, 0, 7])], Client::Pxe(Architecture::UefiX64)),
            (&[(60, b"PXEClient:Arch:x"), (93, &[0, 31])], Client::Pxe(Architecture::Other(31))),
            (&[(60, b"HTTPClient:Arch:00016")], Client::Http(Architecture::UefiX64)),
            (&[(60, pxe), (77, b"iPXE")], Client::Ipxe { http: false }),
            (&[(60, pxe), (77, b"\x04iPXE")], Client::Ipxe { http: false }),
            (&[(60, pxe), (77, b"foreign")], Client::Pxe(Architecture::UefiX64)),
            (&[(77, b"iPXE"), (175, &[0xb1, 1, 0x13, 0x13, 1, 1])], Client::Ipxe { http: true }),
            (&[(77, b"iPXE"), (175, &[0xb1, 1, 0x13, 0x24, 1, 1])], Client::Ipxe { http: false }),
            (&[(77, b"iPXE"), (175, &[0xb1, 9, 0x13])], Client::Ipxe { http: false }),
        ];
        for (options, client) in cases {
            assert_eq!(Client::of(&request(options)), client, "{options:?}");
        }
        let names_a_file = Message { file: b"bzImage".to_vec(), ..request(&[]) };
        assert_eq!(Client::of(&names_a_file), Client::Bootp(Architecture::Bios));
    }

    #[test]
    fn each_client_gets_a_file_it_can_load() {
        let files = Loaders {
            origin: Origin { address: Ipv4Addr::new(10, 0, 0, 1), port: 8080 },
            bios: "undionly.kpxe".into(),
            uefi: "snponly.efi".into(),
            arm64: Some("snponly-arm64.efi".into()),
            ukis: Ukis::default(),
        };
        for (client, file) in [
            (Client::Plain, None),
            (Client::Bootp(Architecture::Bios), Some("undionly.kpxe")),
            (Client::Pxe(Architecture::UefiX64), Some("snponly.efi")),
            (Client::Pxe(Architecture::UefiArm64), Some("snponly-arm64.efi")),
            (Client::Pxe(Architecture::UefiArm32), None),
            (
                Client::Http(Architecture::UefiArm64),
                Some("http://10.0.0.1:8080/firmware/snponly-arm64.efi"),
            ),
            (
                Client::Http(Architecture::UefiX64),
                Some("http://10.0.0.1:8080/firmware/snponly.efi"),
            ),
            (Client::Ipxe { http: true }, Some("http://10.0.0.1:8080/boot.ipxe")),
            (Client::Ipxe { http: false }, Some("tftp://10.0.0.1/boot.ipxe")),
        ] {
            assert_eq!(files.file_for(client).as_deref(), file);
        }
    }

    #[test]
    fn a_uki_is_for_http_boot_only() {
        let files = Loaders {
            origin: Origin { address: Ipv4Addr::new(10, 0, 0, 1), port: 8080 },
            bios: "undionly.kpxe".into(),
            uefi: "snponly.efi".into(),
            arm64: None,
            ukis: Ukis { amd64: Some("metal-amd64-uki.efi".into()), arm64: None },
        };
        let url = "http://10.0.0.1:8080/assets/metal-amd64-uki.efi";
        for (client, file) in [
            (Client::Http(Architecture::UefiX64), Some(url)),
            (Client::Http(Architecture::UefiArm64), None),
            (Client::Pxe(Architecture::UefiX64), Some("snponly.efi")),
            (Client::Pxe(Architecture::UefiArm64), None),
            (Client::Ipxe { http: true }, Some("http://10.0.0.1:8080/boot.ipxe")),
        ] {
            assert_eq!(files.file_for(client).as_deref(), file);
        }
    }
}
