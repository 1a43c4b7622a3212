//! How far a walk has come.

use std::fmt;

/// Where a walk has ended, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum WalkEnd {
    /// At the root of the stack.
    Root,
    /// Nobody has walked: the coroutine runs.
    Running,
    /// Nobody has walked: the library was built without, or no frames are asked for.
    NotBuilt,
    /// The switch of stacks is another than the one that this library knows.
    #[cfg_attr(not(feature = "dump"), expect(dead_code))]
    UnknownSwitch,
    /// There are more frames than a walk gives.
    #[cfg_attr(not(feature = "dump"), expect(dead_code))]
    TooDeep,
    /// No unwind table covers the address.
    #[cfg_attr(not(feature = "dump"), expect(dead_code))]
    NoTable(usize),
    /// What the table says of the address is not to be understood, or leads nowhere.
    #[cfg_attr(not(feature = "dump"), expect(dead_code))]
    BadTable(usize),
    /// The table leads out of the coroutine's stack.
    #[cfg_attr(not(feature = "dump"), expect(dead_code))]
    LeavesStack(usize),
}

impl WalkEnd {
    /// Whether all frames are there.
    pub(crate) fn is_root(self) -> bool {
        self == WalkEnd::Root
    }
}

impl fmt::Display for WalkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalkEnd::Root => f.write_str("the root of the stack"),
            WalkEnd::Running => f.write_str("it runs"),
            WalkEnd::NotBuilt => {
                f.write_str("built without backtraces: enable the Cargo feature `dump` of goexit")
            }
            WalkEnd::UnknownSwitch => f.write_str("the place of the stack pointer is not known"),
            WalkEnd::TooDeep => f.write_str("there are more frames"),
            WalkEnd::NoTable(at) => write!(f, "no unwind table covers {at:#x}"),
            WalkEnd::BadTable(at) => write!(f, "the unwind table at {at:#x} leads nowhere"),
            WalkEnd::LeavesStack(at) => {
                write!(f, "the unwind table at {at:#x} leads out of the stack")
            }
        }
    }
}
