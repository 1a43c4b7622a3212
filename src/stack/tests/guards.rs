//! The guard stops everybody, always.

use std::io;

use super::*;

#[test]
fn stack_guard_covers_its_range_in_every_class() {
    for class in Class::all() {
        // Several, so that they come from more than one chunk.
        let slots: Vec<Slot> = (0..40).map(|_| take(class).unwrap()).collect();
        slots.iter().for_each(assert_guarded);
        slots.into_iter().for_each(give);
    }
}

#[test]
fn stack_a_write_below_the_limit_dies() {
    let output = in_child(stack_a_write_below_the_limit_dies, || {
        let slot = take(Class::DEFAULT).unwrap();
        write_byte(slot.limit(), 1);
        assert_eq!(read_byte(slot.limit()), 1);
        eprintln!("so far so good");
        write_byte(slot.limit() - 1, 1);
        eprintln!("too far");
    });
    assert_signal(&output, libc::SIGSEGV);
    assert!(stderr_of(&output).contains("so far so good"));
    assert!(!stderr_of(&output).contains("too far"));
}

#[test]
fn stack_guard_survives_reuse_and_pages_given_back() {
    let output = in_child(stack_guard_survives_reuse_and_pages_given_back, || {
        // Enough for the shelf to give pages back.
        let count = 10_000;
        let mut pool = Pool::new();
        let slots: Vec<Slot> = (0..count).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        for slot in slots {
            write_byte(slot.ceiling() - 1, 1);
            pool.give(slot);
        }
        pool.flush();
        let slots: Vec<Slot> = (0..count).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        let given_back = slots.iter().filter(|slot| read_byte(slot.ceiling() - 1) == 0).count();
        assert!((1000..count).contains(&given_back), "{given_back}");
        slots.iter().step_by(7).for_each(assert_guarded);
    });
    assert_success(&output);
}

#[test]
fn stack_guard_survives_fork() {
    let output = in_child(stack_guard_survives_fork, || {
        let slot = take(Class::DEFAULT).unwrap();
        write_byte(slot.ceiling() - 1, 5);
        // SAFETY: the new process makes system calls and memory accesses, and ends by _exit.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            let kept = read_byte(slot.ceiling() - 1) == 5;
            let guarded = !is_writable(slot.start()) && !is_writable(slot.limit() - 1);
            // SAFETY: ends this process only.
            unsafe { libc::_exit(if kept && guarded { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: our own child and a live local.
        while unsafe { libc::waitpid(forked, &mut status, 0) } != forked {
            assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted);
        }
        assert_eq!(status, 0);
        assert_guarded(&slot);
    });
    assert_success(&output);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer's mlockall and munlock do nothing")]
fn stack_locked_memory_gets_the_other_guard() {
    let output = in_child(stack_locked_memory_gets_the_other_guard, || {
        let smallest = Class::for_size(1).unwrap();
        let before = take(smallest).unwrap();
        // What later chunks will be cut from, small enough for any `ulimit -l`.
        let ahead = before.end() + 16 * smallest.slot_size();
        // SAFETY: locking changes no contents.
        let locked = unsafe { libc::mlock2(ahead as *const _, 4 << 20, libc::MLOCK_ONFAULT as _) };
        assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
        let (_, mappings) = count_mappings();
        let slots: Vec<Slot> = (0..100).map(|_| take(smallest).unwrap()).collect();
        slots.iter().for_each(assert_guarded);
        // Every locked slot's guard is a mapping of its own: the markers were indeed refused.
        let (_, locked) = count_mappings();
        assert!(locked > mappings + 100, "{mappings} -> {locked}");
        slots.into_iter().for_each(give);
        // Back to markers, where memory is not locked.
        // SAFETY: as above.
        unsafe { libc::munlock(ahead as *const _, 4 << 20) };
        let slots: Vec<Slot> = (0..1000).map(|_| take(smallest).unwrap()).collect();
        slots.iter().for_each(assert_guarded);
        if markers_work() {
            let (_, unlocked) = count_mappings();
            assert!(unlocked < mappings + 300, "{mappings} -> {unlocked}");
        }
    });
    assert_success(&output);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer's mlockall and munlock do nothing")]
fn stack_works_under_mlockall() {
    let output = in_child(stack_works_under_mlockall, || {
        // SAFETY: locking changes no contents.
        let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
        match take(Class::DEFAULT) {
            Ok(slot) => {
                assert_guarded(&slot);
                use_both_ends(&slot);
                give(slot);
            }
            // Without the privilege 13 TiB cannot be locked. Then it has to be said.
            Err(error) => {
                assert_eq!(locked, 0);
                assert!(error.to_string().contains("ulimit -l"), "{error}");
            }
        }
    });
    assert_success(&output);
}

fn use_both_ends(slot: &Slot) {
    write_byte(slot.limit(), 3);
    write_byte(slot.ceiling() - 1, 4);
    assert_eq!((read_byte(slot.limit()), read_byte(slot.ceiling() - 1)), (3, 4));
}

#[test]
fn stack_guard_kind_follows_the_environment() {
    let test = stack_guard_kind_follows_the_environment;
    let body = || {
        let (_, mappings) = count_mappings();
        let slots: Vec<Slot> = (0..100).map(|_| take(Class::DEFAULT).unwrap()).collect();
        slots.iter().for_each(assert_guarded);
        let more = count_mappings().1 - mappings;
        // Two for each, or the class's own.
        assert!(if mprotect_forced() { more >= 200 } else { more <= 2 }, "{more}");
    };
    assert_success(&in_child_with(test, &[("CORO_GUARD", "mprotect")], body));
    if markers_work() {
        assert_success(&in_child_with(test, &[("CORO_GUARD", "madvise")], body));
        assert_success(&in_child_with(test, &[("CORO_GUARD", "")], body));
    }
}

#[test]
fn stack_nonsense_in_the_environment_is_named() {
    let test = stack_nonsense_in_the_environment_is_named;
    let output = in_child_with(test, &[("CORO_GUARD", "madvize")], || {
        for _ in 0..2 {
            let payload = std::panic::catch_unwind(|| take(Class::DEFAULT)).unwrap_err();
            let text = payload.downcast::<String>().unwrap();
            assert_eq!(*text, "CORO_GUARD=\"madvize\": expected madvise or mprotect");
        }
    });
    assert_success(&output);
}
