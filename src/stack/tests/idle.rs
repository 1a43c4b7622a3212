//! Pools and shelves: which slot comes next, what is counted, when pages go back.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;

use super::*;

#[test]
fn stack_pool_gives_the_slot_used_last() {
    let mut pool = Pool::new();
    let mut seen = HashSet::new();
    for _ in 0..2_000 {
        let slot = pool.take(Class::DEFAULT).unwrap();
        seen.insert(slot.end());
        pool.give(slot);
    }
    assert_eq!(seen.len(), 1);
    let (first, second) = (pool.take(Class::DEFAULT).unwrap(), pool.take(Class::DEFAULT).unwrap());
    let ends = (first.end(), second.end());
    pool.give(first);
    pool.give(second);
    assert_eq!(pool.take(Class::DEFAULT).unwrap().end(), ends.1);
    assert_eq!(pool.take(Class::DEFAULT).unwrap().end(), ends.0);
}

#[test]
fn stack_pool_keeps_classes_apart() {
    let mut pool = Pool::new();
    for round in 0..3 {
        let slots: Vec<Slot> = Class::all().map(|class| pool.take(class).unwrap()).collect();
        for (slot, class) in slots.into_iter().zip(Class::all()) {
            assert_eq!(slot.class(), class, "round {round}");
            pool.give(slot);
        }
    }
}

#[test]
fn stack_no_slot_has_two_owners() {
    let output = in_child(stack_no_slot_has_two_owners, || {
        let mut pools = [Pool::new(), Pool::new()];
        let mut owned: Vec<Slot> = Vec::new();
        let mut ends = HashSet::new();
        let mut random = 7_u64;
        for step in 0..200_000 {
            let dice = next_random(&mut random);
            let class = Class::for_size((16 << 10) << (dice % 5)).unwrap();
            // Grows to some thousands and shrinks again, over and over.
            let growing = (step / 10_000) % 2 == 0;
            if (dice / 8) % 4 < if growing { 3 } else { 1 } || owned.is_empty() {
                let slot = match dice % 7 {
                    0 => take(class).unwrap(),
                    n => pools[n % 2].take(class).unwrap(),
                };
                assert!(ends.insert(slot.end()), "{slot:x?}");
                owned.push(slot);
            } else {
                let slot = owned.swap_remove(dice % owned.len());
                assert!(ends.remove(&slot.end()));
                match dice % 7 {
                    0 => give(slot),
                    n => pools[n % 2].give(slot),
                }
            }
            assert!(!dice.is_multiple_of(1_999) || usage().in_use == owned.len());
        }
        pools[0].flush();
        assert_eq!(usage().in_use, owned.len());
        drop(pools);
        assert_eq!(usage().in_use, owned.len());
    });
    assert_success(&output);
}

#[test]
fn stack_usage_counts_each_slot_once() {
    let output = in_child(stack_usage_counts_each_slot_once, || {
        let counts = || (usage().in_use, usage().pooled);
        let mut pool = Pool::new();
        let slots: Vec<Slot> = (0..3_000).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        let apart = take(Class::DEFAULT).unwrap();
        assert_eq!(counts(), (3_001, 0));
        for (given, slot) in slots.into_iter().enumerate() {
            assert_eq!(counts(), (3_001 - given, given));
            pool.give(slot);
        }
        assert_eq!(counts(), (1, 3_000));
        give(apart);
        assert_eq!(counts(), (0, 3_001));
        let taken = pool.take(Class::DEFAULT).unwrap();
        assert_eq!(counts(), (1, 3_000));
        pool.flush();
        assert_eq!(counts(), (1, 3_000));
        pool.give(taken);
        drop(pool);
        assert_eq!(counts(), (0, 3_001));
        // 11 TiB, if nothing rations the addresses; a power of two for each class in any case.
        let reserved = usage().reserved_bytes;
        assert!(reserved.is_multiple_of(11) && (reserved / 11).is_power_of_two(), "{reserved}");
    });
    assert_success(&output);
}

#[test]
fn stack_flushed_slots_serve_other_workers() {
    let output = in_child(stack_flushed_slots_serve_other_workers, || {
        let mut first = Pool::new();
        let slots: Vec<Slot> = (0..500).map(|_| first.take(Class::DEFAULT).unwrap()).collect();
        let known: HashSet<usize> = slots.iter().map(Slot::end).collect();
        slots.into_iter().for_each(|slot| first.give(slot));
        let mut second = Pool::new();
        let fresh = second.take(Class::DEFAULT).unwrap();
        assert!(!known.contains(&fresh.end()));
        first.flush();
        for _ in 0..500 {
            assert!(known.contains(&second.take(Class::DEFAULT).unwrap().end()));
        }
        assert!(!known.contains(&second.take(Class::DEFAULT).unwrap().end()));
    });
    assert_success(&output);
}

/// A pool that took a batch would keep the others' stacks from them.
#[test]
fn stack_pool_takes_no_more_than_it_needs_in_a_shortage() {
    let output = in_child(stack_pool_takes_no_more_than_it_needs_in_a_shortage, || {
        let idle: Vec<Slot> = (0..10).map(|_| take(Class::DEFAULT).unwrap()).collect();
        idle.into_iter().for_each(give);
        stack_pressure::announce(Class::DEFAULT);
        let issued = slot::issued(Class::DEFAULT);
        let mut pool = Pool::new();
        let mine = pool.take(Class::DEFAULT).unwrap();
        let others: Vec<Slot> = (0..9).map(|_| take(Class::DEFAULT).unwrap()).collect();
        assert_eq!(slot::issued(Class::DEFAULT), issued, "they were all on the shelf");
        pool.give(mine);
        others.into_iter().for_each(give);
    });
    assert_success(&output);
}

#[test]
fn stack_maker_and_ender_trade_over_the_shelf() {
    let output = in_child(stack_maker_and_ender_trade_over_the_shelf, || {
        // One thread only takes, the other only gives; a full channel holds the first one back.
        let (sender, receiver) = mpsc::sync_channel::<Slot>(100);
        let ender = thread::spawn(move || {
            let mut pool = Pool::new();
            receiver.into_iter().for_each(|slot| pool.give(slot));
        });
        let mut pool = Pool::new();
        for _ in 0..100_000 {
            sender.send(pool.take(Class::DEFAULT).unwrap()).unwrap();
        }
        drop(sender);
        ender.join().unwrap();
        drop(pool);
        let Usage { in_use, pooled, .. } = usage();
        assert_eq!(in_use, 0);
        // A full pool, a batch on its way, what the channel held: not a hundred thousand.
        assert!(pooled < 1_500, "{pooled}");
    });
    assert_success(&output);
}

#[test]
fn stack_residence_falls_after_a_burst() {
    let output = in_child(stack_residence_falls_after_a_burst, || {
        // With guards by mprotect there cannot be as many.
        let count = if markers_work() { 100_000 } else { 25_000 };
        let mut pool = Pool::new();
        let slots: Vec<Slot> = (0..count).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        slots.iter().for_each(|slot| write_byte(slot.ceiling() - 1, 1));
        let places: Vec<_> = slots.iter().map(|slot| slot.limit()..slot.end()).collect();
        assert_eq!(count_with_pages(places.iter().cloned()), count);
        slots.into_iter().for_each(|slot| pool.give(slot));
        // Those of the shelf and of the pool stay warm, and each may be a batch over its limit.
        let kept = count_with_pages(places.iter().cloned());
        assert!(kept <= 6_144 + 64 + 1_024, "{kept} of {count} keep their pages");
        assert_eq!(usage().pooled - usage().cold, kept);
        // The next burst uses the same slots, the cold ones too.
        let again: Vec<Slot> = (0..count).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
        assert_eq!((usage().in_use, usage().pooled), (again.len(), 0));
        // What was cold is not counted as cold for good.
        again.iter().for_each(|slot| write_byte(slot.ceiling() - 1, 1));
        again.into_iter().for_each(|slot| pool.give(slot));
        assert_eq!(usage().pooled - usage().cold, count_with_pages(places.into_iter()));
    });
    assert_success(&output);
}

#[test]
fn stack_usage_counts_bytes_by_class() {
    let output = in_child(stack_usage_counts_bytes_by_class, || {
        let mut pool = Pool::new();
        let (mut owned, mut bytes) = (Vec::new(), 0);
        for (class, count) in Class::all().zip([300, 200, 100, 50, 20, 10, 5, 4, 3, 2, 1]) {
            owned.extend((0..count).map(|_| pool.take(class).unwrap()));
            bytes += count * class.slot_size();
            assert_eq!((usage().in_use, usage().in_use_bytes), (owned.len(), bytes));
        }
        assert_eq!((usage().pooled, usage().pooled_bytes), (0, 0));
        let count = owned.len();
        // Every third to a shelf, the others to the pool.
        for (i, slot) in owned.into_iter().enumerate() {
            let size = slot.class().slot_size();
            let before = usage();
            if i % 3 == 0 {
                give(slot)
            } else {
                pool.give(slot)
            }
            assert_eq!(usage().pooled_bytes, before.pooled_bytes + size);
            assert_eq!(usage().in_use_bytes, before.in_use_bytes - size);
        }
        drop(pool);
        let Usage { in_use, in_use_bytes, pooled, pooled_bytes, .. } = usage();
        assert_eq!((in_use, in_use_bytes, pooled, pooled_bytes), (0, 0, count, bytes));
        for class in Class::all() {
            let before = usage();
            give(take(class).unwrap());
            assert_eq!(usage(), before);
        }
    });
    assert_success(&output);
}

#[test]
fn stack_few_idle_slots_keep_their_pages() {
    let mut pool = Pool::new();
    let slots: Vec<Slot> = (0..1_000).map(|_| pool.take(Class::DEFAULT).unwrap()).collect();
    slots.iter().for_each(|slot| write_byte(slot.ceiling() - 1, 1));
    slots.into_iter().for_each(|slot| pool.give(slot));
    for _ in 0..1_000 {
        let slot = pool.take(Class::DEFAULT).unwrap();
        assert_eq!(read_byte(slot.ceiling() - 1), 1);
    }
}

#[test]
fn stack_large_idle_slots_give_pages_back_sooner() {
    let output = in_child(stack_large_idle_slots_give_pages_back_sooner, || {
        let class = Class::for_size(64 << 20).unwrap();
        let mut pool = Pool::new();
        let slots: Vec<Slot> = (0..200).map(|_| pool.take(class).unwrap()).collect();
        let before = status_kib("VmRSS");
        for slot in slots {
            for page in (slot.ceiling() - (1 << 20)..slot.ceiling()).step_by(4096) {
                write_byte(page, 1);
            }
            pool.give(slot);
        }
        let after = status_kib("VmRSS");
        assert!(after < before + 50 * 1024, "{before} -> {after}");
    });
    assert_success(&output);
}
