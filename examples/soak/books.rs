//! What the process has of the system: threads, file descriptors, mappings, memory.
//!
//! Descriptors are compared to the last one. The rest cannot be: the allocator and the pools keep what
//! they may need again, and how much that is depends on how many coroutines happened to live at once.
//! What they keep levels off; a leak does not, and at thousands of acts a second it soon exceeds what is
//! allowed here.

use std::fs;
use std::path::PathBuf;
use std::process;

/// So many mappings more than at the first stop are allowed.
const MAPPINGS_ALLOWED: u64 = 64;
/// So many bytes of the heap more.
const HEAP_ALLOWED: u64 = 2 << 20;
/// And so many resident bytes more, the pages of idle stacks included.
const RESIDENT_ALLOWED: u64 = 32 << 20;

/// What is counted when all stand still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Books {
    descriptors: u64,
    mappings: u64,
    heap: u64,
    resident: u64,
}

impl Books {
    pub(crate) fn read() -> Books {
        let maps = fs::read_to_string("/proc/self/maps").expect("Linux has a /proc");
        let statm = fs::read_to_string("/proc/self/statm").expect("Linux has a /proc");
        let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        // SAFETY: it takes nothing, and locks what it reads.
        let heap = unsafe { libc::mallinfo2() };
        Books {
            descriptors: entries("/proc/self/fd").count() as u64,
            mappings: maps.lines().count() as u64,
            heap: (heap.uordblks + heap.hblkhd) as u64,
            resident: pages.expect("the second number is the resident pages") * 4096,
        }
    }

    /// Compares with what was counted at first.
    pub(crate) fn check(&self, first: &Books) {
        let within = |now: u64, then: u64, more: u64, what: &str| {
            assert!(now <= then + more, "{what} were leaked: {self:?}, at first {first:?}");
        };
        assert_eq!(self.descriptors, first.descriptors, "file descriptors were leaked");
        within(self.mappings, first.mappings, MAPPINGS_ALLOWED, "mappings");
        within(self.heap, first.heap, HEAP_ALLOWED, "bytes of the heap");
        within(self.resident, first.resident, RESIDENT_ALLOWED, "pages");
    }
}

fn entries(path: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).expect("Linux has a /proc");
    entries.map_while(|entry| entry.ok().map(|entry| entry.path()))
}

/// How many threads there are, without those of the pool for blocking calls: it keeps them for a while.
pub(crate) fn threads() -> u64 {
    // A thread may end while we look.
    let name = |thread: PathBuf| fs::read_to_string(thread.join("comm")).ok();
    let names = entries("/proc/self/task").filter_map(name);
    names.filter(|name| !name.starts_with("blocking-")).count() as u64
}

/// Whether every thread but the calling one, the main thread, sleeps. One that is ready to run and gets
/// no CPU does not sleep, so this holds good on an overloaded machine as well.
pub(crate) fn others_sleep() -> bool {
    let main = process::id().to_string();
    let others = entries("/proc/self/task").filter(|thread| !thread.ends_with(&main));
    others.map(|thread| fs::read_to_string(thread.join("stat"))).all(|stat| {
        // "id (name) state ..", and a name may hold anything. One that has just ended did not sleep.
        stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')))
    })
}
