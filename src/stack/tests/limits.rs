//! What the kernel refuses, and what the process' mappings look like.

use std::io::ErrorKind;
use std::num::NonZeroUsize;

use super::*;

#[test]
fn stack_200_000_slots_are_one_mapping() {
    if !markers_work() {
        return;
    }
    let output = in_child(stack_200_000_slots_are_one_mapping, || {
        let before = count_mappings();
        let mut pool = Pool::new();
        let slots: Vec<Slot> = (0..200_000).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        slots.iter().step_by(100).for_each(|slot| write_byte(slot.ceiling() - 1, 1));
        assert!(count_mappings() < before + 10, "{before} -> {}", count_mappings());
        slots.iter().step_by(9_973).for_each(assert_guarded);
    });
    assert_success(&output);
}

#[test]
fn stack_region_has_no_huge_pages() {
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

/// Sets a soft limit and tells the one before.
fn set_limit(resource: libc::__rlimit_resource_t, bytes: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live local of the right type.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = bytes;
        assert_eq!(libc::setrlimit(resource, &limit), 0);
        before
    }
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
        // Spans of 128 MiB: two of the largest slots.
        let largest = Class::for_size(Class::LARGEST_SIZE).unwrap();
        let pair = [take(largest).unwrap(), take(largest).unwrap()];
        pair.iter().for_each(assert_guarded);
        let error = take(largest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let text = error.to_string();
        let cause = "no stack of 64 MiB: the region for this size is full (2 slots)";
        assert!(text.starts_with(cause) && text.contains("ulimit -v"), "{text}");
        pair.into_iter().for_each(give);
        give(take(largest).unwrap());
    });
    assert_success(&output);
}

#[test]
fn stack_region_shrinks_to_the_largest_hole() {
    let output = in_child(stack_region_shrinks_to_the_largest_hole, || {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // After this no 2 TiB are left in one piece, so no thirteen spans of 256 GiB.
        // SAFETY: new mappings at addresses of the kernel's choice harm nobody.
        while unsafe { libc::mmap(std::ptr::null_mut(), 2 << 40, libc::PROT_NONE, flags, -1, 0) }
            != libc::MAP_FAILED
        {}
        assert_guarded(&take(Class::DEFAULT).unwrap());
        let reserved = usage().reserved_bytes;
        assert!((13 << 24..2 << 40).contains(&reserved), "{reserved}");
        assert_eq!(reserved % 13, 0);
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
        assert_eq!(usage().reserved_bytes, 13 * (16 << 20));
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

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_where_bytes_are_counted_every_stack_that_fits_is_given() {
    let test = stack_where_bytes_are_counted_every_stack_that_fits_is_given;
    let output = in_child(test, || {
        init().unwrap();
        let room = 100;
        let now = status_kib("VmData") << 10;
        let limit = now + room * Class::DEFAULT.slot_size();
        let before = set_limit(libc::RLIMIT_DATA, limit as u64);
        let mut slots = Vec::new();
        let error = loop {
            match take(Class::DEFAULT) {
                Ok(slot) => slots.push(slot),
                Err(error) => break error,
            }
        };
        // The heap takes a little of it, and gives some back.
        assert!((room - 20..=room + 20).contains(&slots.len()), "{}", slots.len());
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.to_string().contains(&format!("ulimit -d = {}", limit >> 10)), "{error}");
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
fn stack_at_the_limit_of_mappings_nothing_is_lost() {
    let test = stack_at_the_limit_of_mappings_nothing_is_lost;
    let output = in_child_with(test, &[("CORO_GUARD", "mprotect")], || {
        let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
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
        assert!((allowed / 2 - 100..allowed / 2).contains(&slots.len()), "{}", slots.len());
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
            libc::mprotect(old.start() as *mut _, old.class().guard_size(), access)
        };
        assert_eq!(merged, 0);
        let fresh = pool.take(Class::DEFAULT).unwrap();
        assert!(slots.iter().all(|slot| *slot != fresh));
        assert_guarded(&fresh);
    });
    assert_success(&output);
}
