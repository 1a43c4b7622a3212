//! What the kernel says of the memory of coroutines' stacks.
//!
//! It looks at the stacks alone. The mappings and the resident pages of the whole process are also those of
//! the allocator, which makes an arena for each thread, and of the threads' own stacks: how many these are
//! depends on the machine, and on when a thread begins.

// Every test file that has this uses a part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use coro::inspect;

const PAGE: usize = 4096;

/// The environment asks for guards by `mprotect`.
pub(crate) fn mprotect_forced() -> bool {
    std::env::var_os("CORO_GUARD").is_some_and(|value| value == "mprotect")
}

/// This kernel knows guard markers, and the environment allows them. Else each guard is a mapping.
pub(crate) fn markers_work() -> bool {
    const MADV_GUARD_INSTALL: i32 = 102;
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a page of our own, for this one call.
    let known = unsafe {
        let page = libc::mmap(std::ptr::null_mut(), PAGE, access, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        let result = libc::madvise(page, PAGE, MADV_GUARD_INSTALL);
        libc::munmap(page, PAGE);
        result == 0
    };
    known && !mprotect_forced()
}

/// The addresses that a line of `/proc/self/maps` is about, or the first line of an entry of `smaps`.
fn range_of(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

/// The entries of `/proc/self/maps` or `smaps`, by one look, with the addresses that each is about.
pub(crate) fn mappings(file: &str) -> Vec<(Range<usize>, String)> {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let mut entries: Vec<(Range<usize>, String)> = Vec::new();
    for line in text.lines() {
        match range_of(line) {
            Some(range) => entries.push((range, format!("{line}\n"))),
            None => entries.last_mut().unwrap().1 += &format!("{line}\n"),
        }
    }
    entries
}

/// The slot of the running coroutine, which begins with the guard, and where its stack begins.
fn my_slot() -> (Range<usize>, usize) {
    let bounds = inspect::stack_bounds().unwrap();
    let size = (bounds.len() + 1).next_power_of_two();
    let start = bounds.start & !(size - 1);
    (start..start + size, bounds.start)
}

/// Stacks that coroutines have noted.
#[derive(Default)]
pub(crate) struct Stacks(Mutex<Vec<(Range<usize>, usize)>>);

impl Stacks {
    /// None so far.
    pub(crate) const fn new() -> Stacks {
        Stacks(Mutex::new(Vec::new()))
    }

    /// Notes the stack of the running coroutine.
    pub(crate) fn note_mine(&self) {
        let mine = my_slot();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mine);
    }

    /// From the guard of the lowest that was noted to the end of the highest.
    pub(crate) fn extent(&self) -> Range<usize> {
        let noted = self.0.lock().unwrap();
        let start = noted.iter().map(|(slot, _)| slot.start).min().unwrap();
        start..noted.iter().map(|(slot, _)| slot.end).max().unwrap()
    }

    /// How many of them, each counted once, have a page of memory.
    pub(crate) fn with_pages(&self) -> usize {
        // One word for each page of the address space; its highest bits say "present" and "swapped".
        const HAS_MEMORY: u64 = 0b11 << 62;
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut noted = self.0.lock().unwrap();
        noted.sort_by_key(|(slot, _)| slot.start);
        noted.dedup();
        let mut words = Vec::new();
        let has_pages = |(slot, start): &&(Range<usize>, usize)| {
            words.resize((slot.end - start) / PAGE * size_of::<u64>(), 0);
            let offset = start / PAGE * size_of::<u64>();
            pagemap.read_exact_at(&mut words, offset as u64).unwrap();
            words
                .chunks_exact(size_of::<u64>())
                .any(|word| u64::from_ne_bytes(word.try_into().unwrap()) & HAS_MEMORY != 0)
        };
        noted.iter().filter(has_pages).count()
    }
}
