//! Descriptors: whether they are ready, and waiting for that.
//!
//! Each open descriptor that is used here has a [`Source`](state), found by its number in a [`table`]. The files below
//! stand in the order in which they use each other.

mod state;
mod table;

mod poll;

mod user;

mod wait;

use crate::driver::Events;
use crate::task::{Header, Mailbox};

pub(crate) use state::{Readiness, Side};
pub(crate) use user::{Polled, SourceUser, WeakSource};

/// Wakes whoever waits for what has become ready. By the worker that has the events, which lends nothing out meanwhile:
/// a waker is anybody's code.
pub(crate) fn dispatch(events: &Events) {
    for event in events.iter() {
        let (generation, fd) = ((event.token >> 32) as u32, event.token as i32);
        if let Some(source) = table::look_up(fd) {
            source.note(generation, event);
        }
    }
}

/// The worker of this mailbox ends, and nobody takes its events any more.
pub(crate) fn abandon(mailbox: &Mailbox<Header>) {
    if mailbox.sleep().poller().is_some() {
        table::all().for_each(|(fd, source)| source.abandon(fd, mailbox));
    }
}

/// Whether somebody waits for a descriptor.
pub(crate) fn any_waited_for() -> bool {
    table::all().any(|(_, source)| source.is_waited_for())
}
