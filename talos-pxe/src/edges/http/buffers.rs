//! Larger send buffers, where the link is faster than the kernel's own serve well.
//!
//! The kernel lets a socket's buffer grow as the connection does, so that all that is in it is under
//! way, and every megabyte that has come through wakes us to send the next. With a large buffer from
//! the start some megabytes always wait there, and the kernel sends them when the client has room:
//! half of the CPU time. What waits are references to pages of the page cache, but the kernel counts
//! them as its memory for TCP, and all connections suffer when that runs short. So there are only so
//! many.

use std::fs;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::edges::ethtool;

/// How much a larger buffer holds, in octets.
const SIZE: usize = 8 << 20;
/// The kernel allows for as much again, for what it keeps with the octets.
const ASKED_FOR: usize = SIZE / 2;
/// Which part of the machine's memory they may take. TCP runs short at one sixteenth
/// (`net.ipv4.tcp_mem`, whose default `tcp_init_mem` in Linux computes).
const PART_OF_MEMORY: u64 = 32;
/// Where a container finds how much memory it may have (cgroup v2).
const CONTAINER_LIMIT: &str = "/sys/fs/cgroup/memory.max";
/// On slower links, in Mb/s, the CPU has nothing to save, and a large buffer takes long to empty.
const FAST: u32 = 10_000;

/// The larger buffers that are left; by default none.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Option<Left>);

#[derive(Clone, Debug)]
struct Left {
    count: Arc<Semaphore>,
    interface: Arc<str>,
}

/// A connection's larger buffer.
#[derive(Debug)]
pub(super) struct Larger {
    /// How much of it has never been filled, in octets.
    empty: usize,
    _permit: OwnedSemaphorePermit,
}

impl Buffers {
    /// As many as this machine has the memory for, for clients on an interface.
    pub(super) fn on(interface: &str) -> Self {
        let limit = fs::read_to_string(CONTAINER_LIMIT).ok();
        let count = Arc::new(Semaphore::new(count(memory(), limit.as_deref())));
        Self(Some(Left { count, interface: interface.into() }))
    }

    /// Gives a connection a larger buffer, if one is left, the link is fast, and the process has the
    /// right to.
    pub(super) fn enlarge(&self, socket: &TcpStream) -> Option<Larger> {
        let Left { count, interface } = self.0.as_ref()?;
        let permit = Arc::clone(count).try_acquire_owned().ok()?;
        if !is_fast(interface) {
            return None;
        }
        if let Err(error) = setsockopt(socket, sockopt::SndBufForce, &ASKED_FOR) {
            debug!(%error, "downloads must do without larger send buffers");
            count.close();
            return None;
        }
        Some(Larger { empty: SIZE, _permit: permit })
    }
}

impl Larger {
    /// How many of `octets` have left the buffer for certain, and tell how fast the link is.
    pub(super) fn passed(&mut self, octets: usize) -> usize {
        let stayed = octets.min(self.empty);
        self.empty -= stayed;
        octets - stayed
    }
}

/// Whether a link gains by larger buffers. Without segmentation offload it loses: the kernel then
/// sends packet by packet while it takes the client's acknowledgements.
fn is_fast(interface: &str) -> bool {
    // Devices of virtual machines may not tell their speed.
    ethtool::speed(interface).is_none_or(|speed| speed >= FAST) && ethtool::segments(interface)
}

/// The machine's memory, in octets.
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// How many buffers there is room for in so much memory, of which a container has no more than
/// `limit` says.
fn count(memory: u64, limit: Option<&str>) -> usize {
    let limit = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    let count = memory.min(limit) / PART_OF_MEMORY / SIZE as u64;
    usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_thirty_second_of_the_memory_is_for_buffers() {
        assert_eq!(count(24 << 30, None), 96);
        assert_eq!(count(24 << 30, Some("max\n")), 96);
        assert_eq!(count(24 << 30, Some("1073741824\n")), 4);
        assert_eq!(count(128 << 20, None), 0);
    }

    #[tokio::test]
    async fn the_last_buffer_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(Buffers::default().enlarge(&socket).is_none());
        let count = Arc::new(Semaphore::new(1));
        let buffers = Buffers(Some(Left { count: Arc::clone(&count), interface: "lo".into() }));
        let Some(mut larger) = buffers.enlarge(&socket) else {
            assert!(count.is_closed(), "without CAP_NET_ADMIN nobody gets one");
            return;
        };
        assert_eq!(SockRef::from(&socket).send_buffer_size().unwrap(), SIZE);
        assert!(buffers.enlarge(&socket).is_none());
        assert_eq!([larger.passed(SIZE - 1), larger.passed(3), larger.passed(4)], [0, 2, 4]);
        drop(larger);
        assert!(buffers.enlarge(&socket).is_some());
    }
}
