//! A limit on what is under way, with a share for each client, so that one cannot take all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what is under way.
#[derive(Clone, Debug)]
pub struct Slots {
    taken: Arc<Mutex<Taken>>,
    /// For all clients together.
    total: usize,
    /// For each client.
    share: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// Something under way; given back on drop.
#[derive(Debug)]
pub struct Slot {
    taken: Arc<Mutex<Taken>>,
    client: IpAddr,
}

impl Slots {
    /// `total` slots, of which a client may have `share`.
    pub fn new(total: usize, share: usize) -> Self {
        Self { taken: Arc::default(), total, share }
    }

    /// A slot for `client`, if there is one left for it.
    pub fn take(&self, client: IpAddr) -> Option<Slot> {
        let mut taken = lock(&self.taken);
        let of_client = taken.by_client.get(&client).copied().unwrap_or(0);
        if taken.all >= self.total || of_client >= self.share {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, of_client + 1);
        Some(Slot { taken: self.taken.clone(), client })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(of_client) = taken.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_all() {
        let slots = Slots::new(3, 2);
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut of_a = vec![slots.take(a).unwrap(), slots.take(a).unwrap()];
        assert!(slots.take(a).is_none(), "its share is used up");
        let of_b = slots.take(b).unwrap();
        assert!(slots.take(c).is_none(), "all are used up");
        drop(of_b);
        assert!(slots.take(a).is_none());
        of_a.pop();
        let again = [slots.take(a), slots.take(c)];
        assert!(again.iter().all(Option::is_some));
        drop((of_a, again));
        assert!(lock(&slots.taken).by_client.is_empty(), "nothing is kept of clients that left");
    }
}
