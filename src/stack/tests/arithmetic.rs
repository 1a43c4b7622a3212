//! From sizes to classes and from addresses to slots.

use std::io::ErrorKind;
use std::num::NonZeroUsize;

use super::super::class::GUARD;
use super::super::line::Line;
use super::super::slot;
use super::*;

#[test]
fn stack_sizes_are_rounded_or_refused() {
    for wrong in [0, Class::LARGEST_SIZE + 1, usize::MAX / 2 + 2, usize::MAX] {
        let error = Class::for_size(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let expected = format!("stack_size = {wrong}: the limits are 1 byte and 64 MiB");
        assert_eq!(error.to_string(), expected);
    }
    let slot_for = |bytes| Class::for_size(bytes).unwrap().slot_size();
    let around = 88 << 10;
    for slot in [128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        assert_eq!(slot_for(slot - around), slot);
        assert_eq!(slot_for(slot - around + 1), 2 * slot);
    }
    assert_eq!(slot_for(1), 128 << 10);
    assert_eq!(slot_for(Class::LARGEST_SIZE), 128 << 20);
    assert_eq!(Class::for_size(168 << 10).unwrap(), Class::DEFAULT);
}

#[test]
fn stack_classes_double() {
    let sizes: Vec<usize> = Class::all().map(Class::slot_size).collect();
    assert_eq!(sizes.len(), Class::COUNT);
    assert_eq!((sizes[0], sizes[10]), (128 << 10, 128 << 20));
    assert!(sizes.windows(2).all(|pair| pair[1] == 2 * pair[0]));
}

#[test]
fn stack_every_address_of_a_slot_finds_it() {
    let mut random = 1_u64;
    for class in Class::all() {
        // More than there are colours.
        let slots: Vec<Slot> = (0..20).map(|_| take(class).unwrap()).collect();
        for slot in &slots {
            assert_eq!(slot.class(), class);
            assert_eq!(slot.end() % class.slot_size(), 0);
            assert_eq!(slot.start(), slot.end() - class.slot_size());
            assert_eq!(slot.limit(), slot.start() + GUARD);
            assert_eq!(slot.ceiling() % 64, 0);
            assert!((0..3 * 1024).contains(&(slot.end() - slot.ceiling())));

            let edges = [slot.start(), slot.limit() - 1, slot.limit(), slot.ceiling() - 1];
            let beyond = [slot.end() - 1];
            let step = class.slot_size() / 1021;
            let regular = (slot.start()..slot.end()).step_by(step);
            let somewhere =
                (0..1000).map(|_| slot.start() + next_random(&mut random) % class.slot_size());
            for addr in edges.into_iter().chain(beyond).chain(regular).chain(somewhere) {
                let found = ceiling_of(addr).map(NonZeroUsize::get);
                assert_eq!(found, Some(slot.ceiling()), "{addr:#x} of {slot:x?}");
                assert_eq!(bounds_of(addr), Some(slot.limit()..slot.ceiling()));
            }
        }
        slots.into_iter().for_each(give);
    }
}

#[test]
fn stack_other_addresses_find_nothing() {
    init().unwrap();
    let smallest = Class::all().next().unwrap();
    let base = slot::start_of(smallest, 0);
    let after = base + slot::region_length();
    let local = 0_u8;
    let boxed = Box::new(0_u8);
    let here = (&raw const local as usize, &raw const *boxed as usize);
    for addr in [0, 1, base - 1, after, after + 1, here.0, here.1, 1 << 63, usize::MAX] {
        assert_eq!(ceiling_of(addr), None, "{addr:#x}");
        assert_eq!(bounds_of(addr), None, "{addr:#x}");
    }
    // Inside, but nobody has come that far.
    let unused = slot::start_of(Class::DEFAULT, slot::capacity(Class::DEFAULT) - 1);
    assert_eq!(bounds_of(unused), None);
    assert_eq!(bounds_of(after - 1), None);
}

#[test]
fn stack_before_the_region_exists_no_address_is_inside() {
    let output = in_child(stack_before_the_region_exists_no_address_is_inside, || {
        for addr in [0, 1, 0x40_0000, 1 << 40, 1 << 46, 1 << 63, usize::MAX] {
            assert_eq!(ceiling_of(addr), None, "{addr:#x}");
            assert_eq!(bounds_of(addr), None, "{addr:#x}");
        }
        assert_eq!(usage(), Usage::default());
    });
    assert_success(&output);
}

#[test]
fn stack_neighbours_differ_in_colour() {
    let output = in_child(stack_neighbours_differ_in_colour, || {
        for class in Class::all() {
            let slots: Vec<Slot> = (0..16).map(|_| take(class).unwrap()).collect();
            assert!(slots.windows(2).all(|pair| pair[0].end() == pair[1].start()));
            let mut colours: Vec<usize> =
                slots.iter().map(|slot| slot.end() - slot.ceiling()).collect();
            colours.sort_unstable();
            colours.dedup();
            assert_eq!(colours.len(), 16);
        }
    });
    assert_success(&output);
}

#[test]
fn stack_line_writes_numbers_and_cuts_between_characters() {
    let mut line = Line::new();
    line.push_u64(0);
    line.push_str(" ");
    line.push_u64(u64::MAX);
    assert_eq!(line.as_bytes(), b"0 18446744073709551615");

    // Two bytes each, and an odd place to begin at.
    let mut line = Line::new();
    line.push_str("x");
    line.push_str(&"\u{e9}".repeat(1000));
    let described = std::str::from_utf8(line.as_bytes()).unwrap().len();
    line.push_str("\u{e9}");
    assert_eq!(line.as_bytes().len(), described);
    line.open_tail();
    line.push_str(" overflowed its stack (256 KiB)\n");
    assert!(line.as_bytes().ends_with(b"KiB)\n"));
}
