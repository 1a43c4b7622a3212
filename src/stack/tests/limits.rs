//! What the kernel refuses, and what the process' mappings look like.

use std::io::ErrorKind;
use std::num::NonZeroUsize;

use super::super::class::GUARD;
use super::super::limits::share_of_mappings;
use super::*;

#[test]
fn stack_200_000_slots_are_one_mapping() {
    if !markers_work() {
        return;
    }
    let output = in_child(stack_200_000_slots_are_one_mapping, || {
        let mut pool = Pool::new();
        // Of the class, what is open and what is not.
        let first = pool.take(Class::DEFAULT).unwrap();
        let (_, before) = count_mappings();
        let slots: Vec<Slot> = (0..200_000).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        slots.iter().step_by(100).for_each(|slot| write_byte(slot.ceiling() - 1, 1));
        assert_eq!(count_mappings().1, before, "it has grown, and no other has come");
        assert_guarded(&first);
        slots.iter().step_by(9_973).for_each(assert_guarded);
    });
    assert_success(&output);
}

#[test]
fn stack_region_has_no_huge_pages() {
    if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
        return eprintln!("stack_region_has_no_huge_pages: skipped, this kernel has none");
    }
    let slot = take(Class::DEFAULT).unwrap();
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    let mut flags = None;
    for line in text.lines() {
        if let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-'))
            && let (Ok(start), Ok(end)) =
                (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        {
            inside = (start..end).contains(&slot.limit());
        } else if inside && let Some(found) = line.strip_prefix("VmFlags:") {
            flags = Some(found.to_owned());
        }
    }
    assert!(flags.unwrap().split_whitespace().any(|flag| flag == "nh"));
    give(slot);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_region_shrinks_to_the_limit_on_addresses() {
    let output = in_child(stack_region_shrinks_to_the_limit_on_addresses, || {
        let limit = 4 << 30;
        set_limit(libc::RLIMIT_AS, limit);
        let slot = take(Class::DEFAULT).unwrap();
        assert_guarded(&slot);
        // Half is left to the heap, and no smaller span than needed was chosen.
        let reserved = usage().reserved_bytes as u64;
        assert!(reserved <= limit / 2 && reserved > limit / 4, "{reserved}");
        // Spans of 128 MiB: one of the largest slots.
        let largest = Class::for_size(Class::LARGEST_SIZE).unwrap();
        let slot = take(largest).unwrap();
        assert_guarded(&slot);
        let error = take(largest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let text = error.to_string();
        let cause = "no stack of 128 MiB: the region for this size is full (1 slots)";
        assert!(text.starts_with(cause) && text.contains("ulimit -v"), "{text}");
        give(slot);
        give(take(largest).unwrap());
    });
    assert_success(&output);
}

#[test]
fn stack_region_shrinks_to_the_largest_hole() {
    let output = in_child(stack_region_shrinks_to_the_largest_hole, || {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // After this no 2 TiB are left in one piece, so no eleven spans of 256 GiB.
        // SAFETY: new mappings at addresses of the kernel's choice harm nobody.
        while unsafe { libc::mmap(std::ptr::null_mut(), 2 << 40, libc::PROT_NONE, flags, -1, 0) }
            != libc::MAP_FAILED
        {}
        assert_guarded(&take(Class::DEFAULT).unwrap());
        let reserved = usage().reserved_bytes;
        assert!((11 << 24..2 << 40).contains(&reserved), "{reserved}");
        assert_eq!(reserved % 11, 0);
    });
    assert_success(&output);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_smallest_region_has_no_slots_larger_than_a_span() {
    let output = in_child(stack_smallest_region_has_no_slots_larger_than_a_span, || {
        set_limit(libc::RLIMIT_AS, 512 << 20);
        for class in Class::all() {
            match take(class) {
                Ok(slot) => {
                    assert_eq!(slot.class(), class);
                    let ceiling = ceiling_of(slot.limit()).map(NonZeroUsize::get);
                    assert_eq!(ceiling, Some(slot.ceiling()));
                    assert_guarded(&slot);
                }
                Err(error) => {
                    assert!(class.slot_size() > 16 << 20, "{error}");
                    assert!(error.to_string().contains("full (0 slots)"), "{error}");
                }
            }
        }
        assert_eq!(usage().reserved_bytes, 11 * (16 << 20));
        assert!(take(Class::for_size(64 << 20).unwrap()).is_err());
    });
    assert_success(&output);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_no_addresses_is_an_error_that_can_pass() {
    let output = in_child(stack_no_addresses_is_an_error_that_can_pass, || {
        let before = set_limit(libc::RLIMIT_AS, 150 << 20);
        for _ in 0..2 {
            let error = init().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("ulimit -v = 153600"), "{error}");
        }
        set_limit(libc::RLIMIT_AS, before);
        init().unwrap();
        assert_guarded(&take(Class::DEFAULT).unwrap());
    });
    assert_success(&output);
}

/// Takes stacks until one is refused, and tells why.
fn take_all(slots: &mut Vec<Slot>) -> std::io::Error {
    loop {
        match take(Class::DEFAULT) {
            Ok(slot) => slots.push(slot),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutOfMemory);
                return error;
            }
        }
    }
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_where_bytes_are_counted_half_are_the_programs() {
    let output = in_child(stack_where_bytes_are_counted_half_are_the_programs, || {
        let limit = 64 << 20;
        let before = set_limit(libc::RLIMIT_DATA, limit);
        let mut slots = Vec::with_capacity(1 << 10);
        let error = take_all(&mut slots).to_string();
        assert!(error.starts_with("no stack of 256 KiB: stacks have their half"), "{error}");
        assert!(error.contains(&format!("ulimit -d = {}", limit >> 10)), "{error}");
        assert_eq!(slots.len() as u64, limit / 2 / (256 << 10));
        // The other half is there for the heap.
        let mut heap = vec![1_u8; 24 << 20];
        heap.fill(2);
        slots.iter().for_each(assert_guarded);
        give(slots.pop().unwrap());
        slots.push(take(Class::DEFAULT).unwrap());
        set_limit(libc::RLIMIT_DATA, before);
        slots.push(take(Class::DEFAULT).unwrap());
        slots.iter().for_each(assert_guarded);
    });
    assert_success(&output);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_where_the_kernel_counts_bytes_every_stack_that_fits_is_given() {
    let test = stack_where_the_kernel_counts_bytes_every_stack_that_fits_is_given;
    let output = in_child(test, || {
        init().unwrap();
        // The program has taken more than half for itself, so the kernel refuses before the share is used up.
        let heap = Mapping::new(1 << 30);
        let now = status_kib("VmData") << 10;
        let limit = now + 100 * Class::DEFAULT.slot_size();
        let before = set_limit(libc::RLIMIT_DATA, limit as u64);
        let mut slots = Vec::new();
        let error = take_all(&mut slots).to_string();
        // No other would have fitted, but for what the message has taken from the heap and given back.
        let left = limit.saturating_sub(status_kib("VmData") << 10);
        let size = Class::DEFAULT.slot_size();
        assert!(left < size + size / 2, "{left} bytes are left, after {} stacks", slots.len());
        assert!(error.contains("mprotect: Cannot allocate memory"), "{error}");
        assert!(error.contains(&format!("ulimit -d = {}", limit >> 10)), "{error}");
        slots.iter().for_each(assert_guarded);
        give(slots.pop().unwrap());
        slots.push(take(Class::DEFAULT).unwrap());
        drop(heap);
        set_limit(libc::RLIMIT_DATA, before);
        slots.push(take(Class::DEFAULT).unwrap());
        slots.iter().for_each(assert_guarded);
    });
    assert_success(&output);
}

/// `vm.max_map_count`, if it can be used up: the kernel has some 200 bytes for each mapping.
fn usable_map_count() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let count = text.trim().parse().unwrap();
    if count > 1 << 20 {
        eprintln!("skipped, vm.max_map_count = {count} is too much to use up");
        return None;
    }
    Some(count)
}

/// Memory of the program's that takes so many mappings: every other page of it is closed.
fn use_mappings(count: usize) -> Mapping {
    let memory = Mapping::new(count * 4096);
    for page in (memory.0..memory.0 + memory.1).step_by(2 * 4096) {
        // SAFETY: our own memory, which nobody uses.
        assert_eq!(unsafe { libc::mprotect(page as *mut _, 4096, libc::PROT_NONE) }, 0);
    }
    memory
}

#[test]
fn stack_shares_of_mappings() {
    for (max, share) in [(65_530, 57_339), (16_000, 14_000), (10_000, 8_000), (3_000, 1_500)] {
        assert_eq!(share_of_mappings(max), share);
    }
}

#[test]
fn stack_of_the_mappings_the_program_keeps_its_share() {
    let test = stack_of_the_mappings_the_program_keeps_its_share;
    let output = in_child_with(test, &[("CORO_GUARD", "mprotect")], || {
        let Some(allowed) = usable_map_count() else { return };
        let mut slots = Vec::with_capacity(allowed);
        let error = take_all(&mut slots).to_string();
        let share = share_of_mappings(allowed);
        assert!(error.starts_with("no stack of 256 KiB: stacks have "), "{error}");
        assert!(error.contains(&format!("of vm.max_map_count = {allowed} mappings")), "{error}");
        // As many as they may have, and so far from the kernel's limit that the program can go on.
        assert_eq!(slots.len(), share / 2);
        let (_, inside) = count_mappings();
        assert!(inside.abs_diff(2 * slots.len()) <= 4, "{inside} for {} stacks", slots.len());
        let kept: Vec<Mapping> = (0..1_000).map(|_| Mapping::new(4096)).collect();
        std::thread::spawn(|| ()).join().unwrap();
        drop(kept);
        assert_eq!(usage().in_use, slots.len());
        slots.iter().rev().take(20).for_each(assert_guarded);
        // One that is given up is found.
        give(slots.pop().unwrap());
        slots.push(take(Class::DEFAULT).unwrap());
        take(Class::DEFAULT).unwrap_err();
        // Stacks of other sizes come out of the same share.
        take(Class::for_size(1).unwrap()).unwrap_err();
    });
    assert_success(&output);
}

#[test]
fn stack_at_the_limit_of_mappings_nothing_is_lost() {
    let test = stack_at_the_limit_of_mappings_nothing_is_lost;
    let output = in_child_with(test, &[("CORO_GUARD", "mprotect")], || {
        let Some(allowed) = usable_map_count() else { return };
        // The program has taken more than it is left, so the kernel refuses before the share is used up.
        let programs = use_mappings(2 * (allowed - share_of_mappings(allowed)));
        // All memory for bookkeeping beforehand: later there are no mappings left for it.
        let mut slots = Vec::with_capacity(allowed);
        let mut pool = Pool::new();
        let error = loop {
            match pool.take(Class::DEFAULT) {
                Ok(slot) => slots.push(slot),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let text = error.to_string();
        let cause = "no stack of 256 KiB: mprotect: Cannot allocate memory";
        let knob = format!("vm.max_map_count = {allowed}, raise it");
        assert!(text.starts_with(cause) && text.contains(&knob), "{text}");
        // It was the limit that refused, and the stacks have two mappings each and no more: what the
        // program has besides is its own business. A guard needs two more than there are.
        let (all, inside) = count_mappings();
        assert!(all + 4 >= allowed, "refused at {all} mappings of {allowed}");
        assert!(inside.abs_diff(2 * slots.len()) <= 4, "{inside} for {} stacks", slots.len());
        assert_eq!(usage().in_use, slots.len());
        slots.iter().rev().take(20).for_each(assert_guarded);
        // One that another worker gives up is found.
        give(slots.pop().unwrap());
        slots.push(pool.take(Class::DEFAULT).unwrap());
        assert!(pool.take(Class::DEFAULT).is_err());
        // The kernel has mappings again, once some others go: here the guard of a slot that no
        // test uses any more.
        let old = slots.swap_remove(1_000);
        // SAFETY: the slot is ours, and never goes back.
        let merged = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mprotect(old.start() as *mut _, GUARD, access)
        };
        assert_eq!(merged, 0);
        let fresh = pool.take(Class::DEFAULT).unwrap();
        assert!(slots.iter().all(|slot| *slot != fresh));
        assert_guarded(&fresh);
        // One piece again: where AddressSanitizer is told of so much memory that goes, it takes a mapping.
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: our own memory, which nobody uses.
        assert_eq!(unsafe { libc::mprotect(programs.0 as *mut _, programs.1, access) }, 0);
    });
    assert_success(&output);
}
