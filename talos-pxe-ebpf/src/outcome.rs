//! What the program did with a frame, and why.

/// Declares [`Outcome`] with its names, so that no name can be forgotten.
macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $outcome:ident = $name:literal,)+) => {
        /// What became of a frame. All but the answers and [`Outcome::Broken`] leave the frame
        /// as it was and pass it to the kernel's network stack, where the daemon sees it.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[doc = $doc])+ $outcome,)+
        }

        impl Outcome {
            /// All outcomes, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$outcome,)+];
            /// How many there are.
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// A name for logs and metrics, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$outcome => $name,)+ }
            }
        }
    };
}

outcomes! {
    /// A DISCOVER answered with an OFFER.
    Offered = "offered",
    /// A REQUEST answered with an ACK.
    Acknowledged = "acknowledged",
    /// A request to the boot server's port answered with an ACK.
    BootServer = "boot_server",
    /// Not UDP over IPv4 to one of our ports: VLAN-tagged frames and IP options included.
    Other = "other",
    /// A fragment.
    Fragment = "fragment",
    /// The lengths of frame, IP packet and UDP datagram do not fit each other.
    BadLength = "bad_length",
    /// The IPv4 header checksum is wrong.
    BadChecksum = "bad_checksum",
    /// To another Ethernet or IP address than ours or a broadcast.
    NotForUs = "not_for_us",
    /// No DHCP request over Ethernet.
    NotARequest = "not_a_request",
    /// Options go on in the `file` or `sname` field (option 52).
    Overload = "overload",
    /// An option stands more than once.
    DuplicateOption = "duplicate_option",
    /// An option of a wrong length.
    OptionLength = "option_length",
    /// The options do not end before the message does.
    UnendedOptions = "unended_options",
    /// A message type that only the daemon handles, or none.
    OtherKind = "other_kind",
    /// The relay agent is outside the subnet.
    OtherSubnet = "other_subnet",
    /// The client deals with another DHCP server, or does not say with which.
    OtherServer = "other_server",
    /// The client asks for another address than its own.
    OtherAddress = "other_address",
    /// No machine that the program knows.
    UnknownMachine = "unknown_machine",
    /// The lease would outlast what has been stored for the machine.
    Horizon = "horizon",
    /// What the client is takes more to find out than the program does.
    UnusualClient = "unusual_client",
    /// The daemon answers nothing to such a client, or nothing that fits a template.
    NoTemplate = "no_template",
    /// The reply would be longer than a frame, or echo more than the program copies.
    TooLong = "too_long",
    /// The event could not be recorded: the daemon is behind in reading them.
    EventsFull = "events_full",
    /// The frame could not be made long enough for the reply.
    NoRoom = "no_room",
    /// The reply could not be written, which the checks before rule out. The frame is dropped.
    Broken = "broken",
}

impl Outcome {
    /// Whether the frame was answered.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Offered | Self::Acknowledged | Self::BootServer)
    }
}

/// How many frames had each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; Outcome::COUNT as usize],
}

impl Counters {
    /// Counts `frames` more with this outcome.
    pub fn add(&mut self, outcome: Outcome, frames: u64) {
        if let Some(count) = self.counts.get_mut(outcome as usize) {
            *count = count.wrapping_add(frames);
        }
    }

    /// How many frames had this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.counts.get(outcome as usize).copied().unwrap_or_default()
    }

    /// How many frames were answered.
    pub fn answered(&self) -> u64 {
        self.iter().filter(|(outcome, _)| outcome.is_answer()).map(|(_, count)| count).sum()
    }

    /// All outcomes with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.iter().copied().zip(self.counts)
    }
}
