//! Blocks without page tables: what becomes of them, and of slots that come out of them again.

use std::collections::HashSet;

use super::super::cold::Cold;
use super::*;

/// Enough for whole blocks to be retired, beside what stays warm.
const MANY: usize = 40_000;

/// Takes so many slots, touches them all, and gives them back in the order of `shuffled`.
fn burst(pool: &mut Pool, count: usize, shuffled: bool) -> HashSet<usize> {
    let mut slots: Vec<Slot> = (0..count).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
    slots.iter().for_each(|slot| write_byte(slot.ceiling() - 1, 1));
    let ends = slots.iter().map(Slot::end).collect();
    if shuffled {
        let mut random = 7_u64;
        for last in (1..count).rev() {
            slots.swap(last, next_random(&mut random) % (last + 1));
        }
    }
    slots.into_iter().for_each(|slot| pool.give(slot));
    ends
}

#[test]
fn stack_page_tables_go_back_after_a_burst() {
    if !markers_work() {
        return;
    }
    let output = in_child(stack_page_tables_go_back_after_a_burst, || {
        for shuffled in [false, true] {
            let mut pool = Pool::new();
            let before = status_kib("VmPTE");
            let slots: Vec<Slot> = (0..MANY).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
            slots.iter().for_each(|slot| write_byte(slot.ceiling() - 1, 1));
            let peak = status_kib("VmPTE") - before;
            slots.into_iter().for_each(|slot| pool.give(slot));
            burst(&mut pool, MANY, shuffled);
            let kept = status_kib("VmPTE").saturating_sub(before);
            // A page of tables for eight slots. Where they ended at random, each of the warm ones keeps one.
            let warm = if shuffled { (6_144 + 1_024) * 4 } else { 0 };
            assert!(kept < peak / 2 + warm, "{shuffled}: {kept} of {peak} KiB");
        }
    });
    assert_success(&output);
}

#[test]
fn stack_retired_slots_are_used_again() {
    let output = in_child(stack_retired_slots_are_used_again, || {
        let mut pool = Pool::new();
        let count = if markers_work() { MANY } else { 10_000 };
        for round in 0..4 {
            let known = burst(&mut pool, count, round % 2 == 1);
            assert_eq!((usage().in_use, usage().pooled), (0, count));
            // A profiler may ask for any of them.
            known.iter().for_each(|&end| _ = read_byte(end - 1));
            let slots: Vec<Slot> = (0..count).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
            let again: HashSet<usize> = slots.iter().map(Slot::end).collect();
            assert!(again == known, "each once, and no new ones");
            assert_eq!((usage().in_use, usage().pooled), (count, 0));
            slots.iter().step_by(11).for_each(assert_guarded);
            slots.iter().for_each(|slot| write_byte(slot.limit(), 1));
            slots.into_iter().for_each(|slot| pool.give(slot));
        }
    });
    assert_success(&output);
}

#[test]
fn stack_retired_blocks_keep_the_mappings_few() {
    if !markers_work() {
        return;
    }
    let output = in_child(stack_retired_blocks_keep_the_mappings_few, || {
        let mut pool = Pool::new();
        burst(&mut pool, MANY, true);
        // Of every ninth block one slot is in use, so none of these can go.
        let slots: Vec<Slot> = (0..MANY).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        let (mut kept, mut given) = (Vec::new(), Vec::new());
        for slot in slots {
            let is_kept = (slot.end() >> 18).is_multiple_of(8 * 9);
            if is_kept { kept.push(slot) } else { given.push(slot) }
        }
        given.into_iter().for_each(|slot| pool.give(slot));
        let (before, _) = count_mappings();
        assert!(before < 2 * 256 + 200, "{before}");
        kept.iter().for_each(assert_guarded);
        kept.into_iter().for_each(|slot| pool.give(slot));
    });
    assert_success(&output);
}

/// The kernel refuses to open what was retired: no slot is lost, and they are there when it grants it.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn stack_retired_slots_that_are_refused_stay() {
    if !markers_work() {
        return;
    }
    let output = in_child(stack_retired_slots_that_are_refused_stay, || {
        let mut pool = Pool::new();
        let known = burst(&mut pool, MANY, false);
        let limit = (status_kib("VmData") + (64 << 10)) << 10;
        let before = set_limit(libc::RLIMIT_DATA, limit as u64);
        let mut slots = Vec::with_capacity(MANY);
        let error = loop {
            match pool.take(Class::DEFAULT) {
                Ok(slot) => slots.push(slot),
                Err(error) => break error,
            }
        };
        assert!(slots.len() < MANY && error.to_string().contains("ulimit -d"), "{error}");
        set_limit(libc::RLIMIT_DATA, before);
        // Some that were never handed out were ready.
        slots.extend((slots.len()..MANY + 512).map(|_| pool.take(Class::DEFAULT).unwrap()));
        let again: HashSet<usize> = slots.iter().map(Slot::end).collect();
        assert!(again.len() == slots.len() && again.is_superset(&known));
        slots.iter().step_by(11).for_each(assert_guarded);
        slots.into_iter().for_each(|slot| pool.give(slot));
    });
    assert_success(&output);
}

/// Whatever comes and goes, each slot is in one place, and the runs are counted as they are.
#[test]
fn stack_cold_slots_are_each_in_one_place() {
    let output = in_child(stack_cold_slots_are_each_in_one_place, || {
        let class = Class::for_size(1).unwrap();
        let mut cold = Cold::new();
        let mut owned: Vec<Slot> = (0..20_000).map(|_| take(class).unwrap()).collect();
        let all = owned.len();
        let (mut idle, mut retired) = (0, Vec::new());
        let mut random = 11_u64;
        for step in 0..400_000 {
            let dice = next_random(&mut random);
            let is_giving = (step / 50_000) % 2 == 0;
            match dice % 64 {
                0 => {
                    for run in cold.take_runs(class) {
                        idle -= run.slots().len();
                        if dice & 64 == 0 {
                            retired.push(run)
                        } else {
                            idle += run.slots().len();
                            cold.put_back(run);
                        }
                    }
                    for run in retired.drain(..) {
                        cold.add_retired(run);
                    }
                }
                1 => {
                    if let Some(run) = cold.take_retired(class, dice % 1_000) {
                        let (ready, rest) = run.split(dice % 100);
                        idle += ready.slots().len();
                        // SAFETY: nobody uses the slots.
                        unsafe { ready.into_ready() }.for_each(|slot| cold.push(slot));
                        if !rest.slots().is_empty() {
                            cold.add_retired(rest);
                        }
                    }
                }
                n if (n % 8 < 6) == is_giving && !owned.is_empty() => {
                    cold.push(owned.swap_remove(dice % owned.len()));
                    idle += 1;
                }
                _ => {
                    let slot = cold.pop(class);
                    assert_eq!(slot.is_some(), idle > 0);
                    idle -= usize::from(slot.is_some());
                    owned.extend(slot);
                }
            }
            if step % 500 == 0 {
                cold.assert_runs();
            }
        }
        while let Some(run) = cold.take_retired(class, usize::MAX) {
            // SAFETY: as above.
            owned.extend(unsafe { run.into_ready() });
        }
        owned.extend(std::iter::from_fn(|| cold.pop(class)));
        assert_eq!(owned.len(), all);
        assert_eq!(owned.iter().map(Slot::end).collect::<HashSet<_>>().len(), all);
        owned.into_iter().for_each(give);
    });
    assert_success(&output);
}
