//! The XDP program on an interface: attached, in which mode, and until when.

mod events;
mod load;
mod log;
mod machines;
mod maps;
mod shared;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, XdpMode};
use bytemuck::Zeroable;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};
use rustix::io::Errno;
use talos_pxe_ebpf::PROGRAM;

pub use events::Sent;
pub use load::{Loaded, OBJECT};
pub use log::Forwarder;
pub use maps::{InsertError, Maps};

use crate::cli::XdpChoice;
use crate::decisions::dhcp::templates::Answers;
use crate::decisions::interface::Interface;

/// Where the kernel runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a packet buffer.
    Native,
    /// In the network stack, for drivers that cannot.
    Generic,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Native => Self::Driver,
            Mode::Generic => Self::Skb,
        }
    }
}

/// What came of [`attach`].
#[must_use]
pub enum Attachment {
    /// The program runs.
    Attached(Box<FastPath>),
    /// It was to run if possible, and is not: the cause and the next step. Worth a warning.
    Unavailable(Error),
    /// It was not asked for.
    Off,
}

/// An attached XDP program. Dropping it detaches the program; so does the kernel, by closing the
/// link's file descriptor, however the process ends.
pub struct FastPath {
    /// The program's maps.
    pub maps: Maps,
    mode: Mode,
    why_generic: Option<String>,
    _link: FdLink,
    log: Option<Forwarder>,
}

impl FastPath {
    /// Where the kernel says that it runs the program.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why the program does not run in the driver; `None` when it does.
    pub fn why_generic(&self) -> Option<&str> {
        self.why_generic.as_deref()
    }

    /// Whether it is the program that logs each request.
    pub fn logs(&self) -> bool {
        self.log.is_some()
    }
}

/// Attaches the program to the interface, as `choice` says, to answer up to `capacity` machines with
/// `answers`; when those change, attach it again. Drivers may drop the carrier for a moment when a
/// program is attached natively, so do it first.
///
/// What a native program sends from a veth device arrives only if the other end runs a program as
/// well. That cannot be seen from here, so a veth device gets a generic one unless native is asked
/// for: an answer that the machine never hears would be worse than a slower one.
///
/// # Errors
///
/// When the mode that `choice` forces is not to be had. With [`XdpChoice::Auto`] nothing is an
/// error: see [`Attachment::Unavailable`].
pub async fn attach(
    interface: &Interface,
    choice: XdpChoice,
    answers: &Answers,
    capacity: u32,
) -> Result<Attachment> {
    let generic = async |why: String| {
        let fast_path = attach_as(interface, Mode::Generic, answers, capacity).await?;
        Ok(FastPath { why_generic: Some(why), ..fast_path })
    };
    let attached = match choice {
        XdpChoice::Off => return Ok(Attachment::Off),
        XdpChoice::Native => attach_as(interface, Mode::Native, answers, capacity).await,
        XdpChoice::Generic => generic("as --xdp says".to_owned()).await,
        XdpChoice::Auto if interface.veth => {
            generic("as on every veth device, unless --xdp native".to_owned()).await
        }
        XdpChoice::Auto => match attach_as(interface, Mode::Native, answers, capacity).await {
            Ok(fast_path) => Ok(fast_path),
            Err(refused) => {
                tracing::debug!("{refused:#}");
                generic(format!("{refused:#}")).await
            }
        },
    };
    match (attached, choice) {
        (Ok(fast_path), _) => Ok(Attachment::Attached(Box::new(fast_path))),
        (Err(error), XdpChoice::Auto) => Ok(Attachment::Unavailable(error)),
        (Err(error), _) => Err(error),
    }
}

async fn attach_as(
    interface: &Interface,
    mode: Mode,
    answers: &Answers,
    capacity: u32,
) -> Result<FastPath> {
    let Interface { index, ref name, .. } = *interface;
    let (maps, link, log) = load_and_link(index, mode, answers, capacity)
        .map_err(|error| explain(error, name, mode))?;
    let granted = granted_mode(index).await?;
    ensure!(granted == mode, "asked for {mode} XDP on {name}, the kernel gave {granted}");
    Ok(FastPath { maps, mode: granted, why_generic: None, _link: link, log })
}

fn load_and_link(
    index: u32,
    mode: Mode,
    answers: &Answers,
    capacity: u32,
) -> Result<(Maps, FdLink, Option<Forwarder>)> {
    let (mut loaded, log) = if log::is_wanted() {
        let (loaded, log) = Loaded::logging(answers, capacity)?;
        (loaded, Some(log))
    } else {
        (Loaded::new(answers, capacity)?, None)
    };
    let program = loaded.program(PROGRAM)?;
    let id = program.attach_to_if_index(index, mode.into())?;
    // aya falls back to netlink where the kernel has no links for XDP (before Linux 5.9). Such a
    // program would stay attached after a crash; dropping it here detaches it.
    let link = FdLink::try_from(program.take_link(id)?)
        .map_err(|_| anyhow!("the kernel gives no link for it (Linux 5.9 or later does)"))?;
    Ok((loaded.maps, link, log))
}

/// Loads the program for up to `capacity` machines and lets it go: says whether the kernel takes
/// it, and changes nothing.
///
/// # Errors
/// Missing rights, a kernel that refuses the program, or a build without it.
pub fn try_load(capacity: u32) -> Result<()> {
    let answers = Answers { config: Zeroable::zeroed(), templates: Vec::new() };
    match Loaded::new(&answers, capacity) {
        Ok(_) => Ok(()),
        Err(error) if errno(&error) == Some(Errno::PERM) => {
            bail!("no right to load the program: run as root or with CAP_BPF and CAP_NET_ADMIN")
        }
        Err(error) => Err(match error.downcast_ref() {
            Some(ProgramError::LoadError { io_error, .. }) => {
                anyhow!("the kernel refuses the program ({io_error})")
            }
            _ => error,
        }),
    }
}

/// The kernel's error among the causes.
fn errno(error: &Error) -> Option<Errno> {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.filter_map(Errno::from_io_error).next()
}

/// Turns a refusal into one line that names the next step, where there is one.
fn explain(error: Error, name: &str, mode: Mode) -> Error {
    let what = format!("cannot attach {mode} XDP to {name}");
    match errno(&error) {
        Some(Errno::PERM) => {
            return anyhow!("{what}: no right to; run as root or with CAP_BPF and CAP_NET_ADMIN");
        }
        Some(Errno::BUSY | Errno::EXIST) => {
            return anyhow!(
                "{what}: another program is attached; `ip link set dev {name} xdp off` removes it"
            );
        }
        Some(Errno::OPNOTSUPP) => {
            return anyhow!("{what}: its driver has no support for it; try --xdp auto");
        }
        _ => {}
    }
    match error.downcast_ref() {
        Some(ProgramError::LoadError { io_error, verifier_log }) => {
            tracing::debug!("{verifier_log}");
            anyhow!("{what}: the kernel refuses the program ({io_error}); -v logs its reasons")
        }
        _ => error.context(what),
    }
}

/// Asks the kernel in which mode a program is attached to the interface.
async fn granted_mode(index: u32) -> Result<Mode> {
    let (connection, handle, _) =
        rtnetlink::new_connection().context("cannot open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let answer = handle.link().get().match_index(index).execute().try_next().await;
    connection.abort();
    let link = answer.context("cannot ask for the interface")?.context("the interface is gone")?;
    let attached = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|part| match part {
            LinkXdp::Attached(attached) => Some(*attached),
            _ => None,
        }),
        _ => None,
    });
    match attached {
        Some(XdpAttached::Driver) => Ok(Mode::Native),
        Some(XdpAttached::SocketBuffer) => Ok(Mode::Generic),
        other => bail!("the kernel reports XDP mode {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_next_step() {
        let refusal = |errno: Errno| {
            explain(std::io::Error::from(errno).into(), "eth1", Mode::Native).to_string()
        };
        assert_eq!(
            refusal(Errno::PERM),
            "cannot attach native XDP to eth1: no right to; \
             run as root or with CAP_BPF and CAP_NET_ADMIN"
        );
        assert!(refusal(Errno::BUSY).ends_with("`ip link set dev eth1 xdp off` removes it"));
        assert!(refusal(Errno::OPNOTSUPP).ends_with("try --xdp auto"));
        assert_eq!(refusal(Errno::NODEV), "cannot attach native XDP to eth1");
    }
}
