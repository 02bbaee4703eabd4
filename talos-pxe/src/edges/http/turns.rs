//! Turns at downloading: [`Transfers`] decides, connections wait here until they are called.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::time::Sleep;

use crate::decisions::transfers::{Id, Limit, SHORTEST, Transfers, Turn};
use crate::time::BootTime;

/// The line of those who wait for an image; none where nobody ever waits.
#[derive(Clone, Debug, Default)]
pub struct Turns(Option<Line>);

type Line = Arc<Mutex<Waiting>>;

#[derive(Debug)]
struct Waiting {
    transfers: Transfers,
    /// Whom to tell when its turn comes.
    wakers: BTreeMap<Id, Waker>,
}

/// One transfer's place in line, given up on drop.
#[derive(Debug)]
pub(super) struct Ticket {
    id: Id,
    line: Line,
}

impl Turns {
    /// With so many transfers at a time.
    pub fn new(limit: Limit) -> Self {
        let line = |transfers| Arc::new(Mutex::new(Waiting { transfers, wakers: BTreeMap::new() }));
        Self(Transfers::new(limit).map(line))
    }

    /// A transfer of `octets` to a client begins. What is short needs no ticket.
    pub(super) fn ticket(&self, client: IpAddr, octets: u64) -> Option<Ticket> {
        let line = self.0.as_ref().filter(|_| octets >= SHORTEST)?;
        let id = change(line, |waiting| waiting.transfers.begin(BootTime::now(), client));
        Some(Ticket { id, line: Arc::clone(line) })
    }
}

impl Ticket {
    /// How many octets may be sent now. Until then `clock` keeps the time.
    pub(super) fn poll(
        &self,
        clock: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<usize> {
        loop {
            let now = BootTime::now();
            let turn = change(&self.line, |waiting| {
                let turn = waiting.transfers.turn(now, self.id);
                if matches!(turn, Turn::Wait(_)) {
                    waiting.wakers.insert(self.id, context.waker().clone());
                }
                turn
            });
            match turn {
                Turn::Go => return Poll::Ready(usize::MAX),
                Turn::Morsel(octets) => return Poll::Ready(octets),
                Turn::Wait(until) => {
                    let clock = clock.insert(Box::pin(tokio::time::sleep(until.since(now))));
                    ready!(clock.as_mut().poll(context));
                }
            }
        }
    }

    /// So many octets were sent.
    pub(super) fn sent(&self, octets: usize) {
        let now = BootTime::now();
        change(&self.line, |waiting| waiting.transfers.sent(now, self.id, octets as u64));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        change(&self.line, |waiting| {
            waiting.transfers.end(BootTime::now(), self.id);
            waiting.wakers.remove(&self.id);
        });
    }
}

/// Does something to the line, and wakes those whose turn has come by that.
fn change<T>(line: &Line, change: impl FnOnce(&mut Waiting) -> T) -> T {
    let mut waiting = line.lock().unwrap_or_else(PoisonError::into_inner);
    let result = change(&mut waiting);
    let called = waiting.transfers.called();
    let wakers: Vec<Waker> = called.iter().filter_map(|id| waiting.wakers.remove(id)).collect();
    drop(waiting);
    wakers.into_iter().for_each(Waker::wake);
    result
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_next_is_woken_when_its_turn_comes() {
        let turns = Turns::new(Limit::Most(1));
        let client = |number| [10, 0, 0, number].into();
        assert!(turns.ticket(client(1), SHORTEST - 1).is_none());
        let [first, second] = [1, 2].map(|number| turns.ticket(client(number), SHORTEST).unwrap());
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let (waker, mut clock) = (Waker::from(Arc::clone(&woken)), None);
        let mut context = Context::from_waker(&waker);
        assert_eq!(first.poll(&mut clock, &mut context), Poll::Ready(usize::MAX));
        let morsel = second.poll(&mut clock, &mut context);
        assert!(matches!(morsel, Poll::Ready(1..=4096)), "{morsel:?}");
        first.sent(1 << 20);
        assert!(second.poll(&mut clock, &mut context).is_pending());
        assert!(!woken.0.load(Ordering::Relaxed));
        drop(first);
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(second.poll(&mut clock, &mut context), Poll::Ready(usize::MAX));
    }
}
