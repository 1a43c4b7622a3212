//! Waiting for descriptors: the epoll instance of one worker.
//!
//! Every interest is edge-triggered: an event tells that a descriptor has become ready, once, and who wants to know
//! later has to keep it. (Linux man-pages, epoll(7).) The kernel's clock for timeouts is that of `epoll_pwait2`, which
//! knows nanoseconds. Where it is refused, by an old kernel or by a filter of system calls, a timer descriptor ends the
//! wait.

#[cfg(coro_loom)]
pub(crate) use self::model::Poller;
#[cfg(not(coro_loom))]
pub(crate) use self::real::Poller;

use rustix::event::epoll::{Event, EventFlags};

/// How many events are taken at a time, so that a flood of them does not keep a worker from its tasks.
const BATCH: usize = 256;

/// What a descriptor is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    #[cfg_attr(coro_loom, allow(dead_code))]
    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::ET;
        if self.read {
            // Urgent data is told of because a read stops short of it.
            flags |= EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI;
        }
        if self.write {
            flags |= EventFlags::OUT;
        }
        flags
    }
}

/// The events that a wait has brought.
#[derive(Default)]
pub(crate) struct Events(Vec<Event>);

/// What has happened to a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PollEvent {
    /// The number that the descriptor was added with.
    pub(crate) token: u64,
    /// A read may have something to give, if only an end or an error.
    pub(crate) read: bool,
    /// A write may find room, or an error.
    pub(crate) write: bool,
    /// A read that gives less than it could take may have left something.
    pub(crate) read_more: bool,
}

/// The token of what the poller has for itself.
const OWN: u64 = u64::MAX;

impl Events {
    pub(crate) fn iter(&self) -> impl Iterator<Item = PollEvent> {
        let others = self.0.iter().filter(|event| event.data.u64() != OWN);
        others.map(|event| {
            let (flags, token) = (event.flags, event.data.u64());
            let ended = EventFlags::HUP | EventFlags::ERR;
            let unread = EventFlags::RDHUP | EventFlags::PRI;
            PollEvent {
                token,
                read: flags.intersects(EventFlags::IN | unread | ended),
                write: flags.intersects(EventFlags::OUT | ended),
                read_more: flags.intersects(unread | ended),
            }
        })
    }
}

#[cfg(not(coro_loom))]
mod real {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use rustix::buffer::spare_capacity;
    use rustix::event::epoll::{self, Event, EventData, EventFlags};
    use rustix::event::{EventfdFlags, Timespec, eventfd};
    use rustix::io::Errno;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    };

    use super::{BATCH, Events, Interest, OWN};

    /// What one worker waits in for descriptors, and what ends that wait.
    pub(crate) struct Poller {
        epoll: OwnedFd,
        wakeup: OwnedFd,
        /// A timer that ends a wait, once `epoll_pwait2` was refused.
        alarm: OnceLock<OwnedFd>,
    }

    impl Poller {
        /// # Errors
        ///
        /// What the kernel says if it refuses a descriptor.
        pub(crate) fn new() -> io::Result<Poller> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            // Edge-triggered, so each write is told of and nobody has to read.
            epoll::add(&epoll, &wakeup, EventData::new_u64(OWN), EventFlags::IN | EventFlags::ET)?;
            Ok(Poller { epoll, wakeup, alarm: OnceLock::new() })
        }

        /// Has events of `fd` come with this token. What is ready already is told of once.
        pub(crate) fn add(
            &self,
            fd: BorrowedFd<'_>,
            interest: Interest,
            token: u64,
        ) -> io::Result<()> {
            Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token), interest.flags())?)
        }

        /// Changes what `fd` is waited for. What is ready already is told of once more.
        pub(crate) fn modify(
            &self,
            fd: BorrowedFd<'_>,
            interest: Interest,
            token: u64,
        ) -> io::Result<()> {
            Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token), interest.flags())?)
        }

        /// No more events of `fd`. Some may be on their way.
        pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
            // It can be refused only if the descriptor is not there, and then nothing is left to do.
            let _ = epoll::delete(&self.epoll, fd);
        }

        /// Ends the present wait, or the next one.
        pub(crate) fn wake(&self) {
            // It can be refused only if the counter is full, and then the wait ends anyhow.
            let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
        }

        /// Waits for events until `deadline`. May return early, and without any.
        pub(crate) fn wait(&self, events: &mut Events, deadline: Option<Instant>) {
            let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.wait_for(events, limit);
        }

        /// Takes the events that are there.
        pub(crate) fn poll(&self, events: &mut Events) {
            self.wait_for(events, Some(Duration::ZERO));
        }

        fn wait_for(&self, events: &mut Events, limit: Option<Duration>) {
            events.0.clear();
            events.0.reserve_exact(BATCH);
            if let Some(alarm) = self.alarm.get() {
                return self.wait_by_alarm(alarm, events, limit);
            }
            let limit_spec = limit.and_then(|limit| Timespec::try_from(limit).ok());
            let waited =
                epoll::wait(&self.epoll, spare_capacity(&mut events.0), limit_spec.as_ref());
            if let Err(Errno::NOSYS | Errno::PERM) = waited {
                match self.make_alarm() {
                    Ok(alarm) => self.wait_by_alarm(alarm, events, limit),
                    // Later than asked for, but not never.
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }

        fn make_alarm(&self) -> io::Result<&OwnedFd> {
            let alarm = timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?;
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&self.epoll, &alarm, EventData::new_u64(OWN), flags)?;
            Ok(self.alarm.get_or_init(|| alarm))
        }

        fn wait_by_alarm(&self, alarm: &OwnedFd, events: &mut Events, limit: Option<Duration>) {
            let is_poll = limit.is_some_and(|limit| limit.is_zero());
            if let (Some(limit), false) = (limit, is_poll) {
                let it_value =
                    Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
                let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
                let once = Itimerspec { it_interval, it_value };
                // A time that is too far off is refused; then the wait has no limit.
                let _ = timerfd_settime(alarm, TimerfdTimerFlags::empty(), &once);
            }
            let buffer = events.0.spare_capacity_mut();
            let (start, length) = (buffer.as_mut_ptr(), buffer.len());
            // SAFETY: S8, as many events as there is room for; the kernel's layout is that of `Event`.
            let count = unsafe {
                libc::epoll_wait(
                    self.epoll.as_raw_fd(),
                    start.cast(),
                    length as i32,
                    if is_poll { 0 } else { -1 },
                )
            };
            // SAFETY: S8, the kernel has written so many.
            unsafe { events.0.set_len(count.max(0) as usize) };
        }
    }

    const _: () = assert!(size_of::<Event>() == size_of::<libc::epoll_event>());
}

#[cfg(coro_loom)]
mod model {
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::time::Instant;

    use super::{Events, Interest};
    use crate::base::atomics::Ordering;
    use crate::base::futex::Futex;

    /// As much of a poller as the models need: a wait, and what ends it.
    pub(crate) struct Poller(Futex);

    impl Poller {
        pub(crate) fn new() -> io::Result<Poller> {
            Ok(Poller(Futex::new(0)))
        }

        pub(crate) fn wake(&self) {
            self.0.store(1, Ordering::Release);
            self.0.wake();
        }

        // No model has a descriptor.
        pub(crate) fn add(&self, _: BorrowedFd<'_>, _: Interest, _: u64) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn modify(&self, _: BorrowedFd<'_>, _: Interest, _: u64) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn remove(&self, _: BorrowedFd<'_>) {}

        pub(crate) fn poll(&self, _events: &mut Events) {}

        pub(crate) fn wait(&self, _events: &mut Events, _deadline: Option<Instant>) {
            self.0.wait(0, None);
            self.0.store(0, Ordering::Relaxed);
        }
    }
}
