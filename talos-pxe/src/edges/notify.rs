//! What a service manager is told of us, by the protocol of `sd_notify(3)`. Without one that
//! listens (`NOTIFY_SOCKET`), nothing happens.

use sd_notify::NotifyState;
use tracing::warn;

/// We serve; `status` is a line for people.
pub fn serving(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// We started, and cannot serve as long as there is no interface `name`.
pub fn waiting_for(name: &str) {
    tell(&[NotifyState::Status(&format!("waiting for an interface {name}"))]);
}

/// We have stopped serving and clean up, then end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// A manager that cannot be told would wait, then end us, and nobody would know why.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell the service manager how far we are");
    }
}
