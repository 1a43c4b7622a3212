#![no_main]
//! The arithmetic from an address to its stack, through the public functions alone.
//!
//! At the start, before any other stack, one raw coroutine of each class is made. By the picture in the
//! crate each stands at the very beginning of its class's span, so eleven of them must agree on where
//! the region begins:
//!
//! ```text
//!   base + class * span  ==  start of the first slot of that class
//! ```
//!
//! After that a program makes and drops stacks of arbitrary sizes, and asks whose stack an arbitrary
//! address is on. A model, which knows this picture and which coroutine was the last on each slot, says
//! what the answer must be.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, OnceLock};

use arbitrary::Arbitrary;
use coro::raw::{Coroutine, State};
use coro::{Builder, inspect, tls};
use goexit_fuzz::harness::{self, Input};
use goexit_fuzz::ids;
use libfuzzer_sys::fuzz_target;

const CLASSES: usize = 11;
const SMALLEST: usize = 128 << 10;
const LARGEST: usize = 64 << 20;
const GUARD: usize = 80 << 10;
/// Bytes of a slot that are no coroutine's: the guard, and what is reserved at the top.
const TAKEN: usize = GUARD + (8 << 10);
const COLOURS: usize = 16;
const COLOUR_STEP: usize = 192;

/// How many raw coroutines there are at a time.
const PLACES: usize = 8;

/// Steps beyond this many are not played.
const LONGEST: usize = 100;

/// A step of a program.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    /// Makes a raw coroutine with a stack of this size, or is refused.
    Raw { place: u8, size: Size },
    /// Drops what is in a place.
    Drop { place: u8 },
    /// Resumes what is in a place until it ends.
    Finish { place: u8 },
    /// Spawns and joins a task with a stack of this size, or is refused.
    Task { size: Size },
    /// Asks whose stack an address is on.
    Ask { address: usize },
    /// Asks about an address near the stack of a place.
    AskNear { place: u8, offset: i32 },
    /// Asks about an address near a slot of the region, or beyond its end.
    AskInside { class: u8, slot: u8, offset: i32 },
}

/// A size of stack.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Bytes(usize),
    /// What a class has for its coroutines, give or take a few bytes.
    About(u8, i8),
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Size::Bytes(bytes) => bytes,
            Size::About(class, more) => {
                (slot_size(usize::from(class) % CLASSES) - TAKEN).wrapping_add_signed(more.into())
            }
        }
    }
}

/// What a coroutine found out about itself.
#[derive(Clone, Copy, Debug)]
struct Found {
    id: tls::Id,
    record: usize,
    /// The stack, from the guard's end to where the colour begins.
    limit: usize,
    ceiling: usize,
    /// An address in a frame.
    frame: usize,
}

fn look_around() -> Found {
    let on_stack = 0u8;
    let frame = &raw const on_stack as usize;
    let bounds = inspect::stack_bounds().expect("a coroutine has a stack");
    let record = inspect::record_address().expect("and a record");
    Found { id: tls::id(), record, limit: bounds.start, ceiling: bounds.end, frame }
}

/// A raw coroutine that has looked around and is suspended.
struct Live {
    raw: Coroutine<(), Found, ()>,
    found: Found,
}

impl Live {
    fn new(size: usize) -> io::Result<Live> {
        // SAFETY: each is run to its end, by the thread that has made it.
        let raw = unsafe { Coroutine::new(size, |yielder, ()| yielder.suspend(look_around())) }?;
        let State::Yielded(found) = raw.resume(()) else { unreachable!("it suspends first") };
        Ok(Live { raw, found })
    }

    fn finish(self) {
        assert_eq!(self.raw.resume(()), State::Done(()));
    }
}

/// Two states that are equal, for `finish`: a `Found` is never compared.
impl PartialEq for Found {
    fn eq(&self, other: &Found) -> bool {
        self.id == other.id
    }
}

/// Where the region is, and who was last on each slot.
struct Model {
    base: usize,
    span: usize,
    record_size: usize,
    /// By the slot's start.
    last: Mutex<HashMap<usize, tls::Id>>,
}

static MODEL: OnceLock<Model> = OnceLock::new();

fn slot_size(class: usize) -> usize {
    SMALLEST << class
}

/// The class that a stack of this size should have; `None` if it should be refused.
fn class_of(size: usize) -> Option<usize> {
    (1..=LARGEST).contains(&size).then(|| {
        (0..CLASSES)
            .find(|class| slot_size(*class) >= size + TAKEN)
            .expect("the largest has that much")
    })
}

impl Model {
    /// The first stacks of all classes.
    fn new() -> Model {
        let first: Vec<Live> = (0..CLASSES)
            .map(|class| Live::new(LARGEST.min(slot_size(class) - TAKEN)).expect("a stack"))
            .collect();
        let reserved = usize::try_from(inspect::metrics().stacks_reserved_bytes).expect("64 bits");
        assert_eq!(reserved % CLASSES, 0, "eleven spans");
        let span = reserved / CLASSES;
        let start = |class: usize| first[class].found.limit - GUARD;
        let base = start(0);
        let record_size = first[0].found.ceiling - first[0].found.record;
        let model = Model { base, span, record_size, last: Mutex::default() };
        for (class, live) in first.into_iter().enumerate() {
            assert_eq!(start_of(base, span, class, 0), live.found.limit - GUARD);
            model.meet(live.found, class);
            live.finish();
        }
        model
    }

    /// The class of an address and the start of its slot.
    fn slot_of(&self, address: usize) -> Option<(usize, usize)> {
        let offset = address.checked_sub(self.base)?;
        let class = offset / self.span;
        (class < CLASSES).then(|| (class, address - offset % slot_size(class)))
    }

    /// Checks all that a new coroutine found against the picture.
    fn meet(&self, found: Found, class: usize) {
        ids::claim(found.id);
        let (slot_class, start) = self.slot_of(found.frame).expect("a stack is in the region");
        assert_eq!(slot_class, class, "{found:x?}");
        let colour = start / slot_size(class) % COLOURS * COLOUR_STEP;
        assert_eq!(found.limit, start + GUARD, "{found:x?}");
        assert_eq!(found.ceiling, start + slot_size(class) - colour, "{found:x?}");
        assert_eq!(found.ceiling - found.record, self.record_size, "{found:x?}");
        assert!(found.record.is_multiple_of(64), "{found:x?}");
        assert!((found.limit..found.record).contains(&found.frame), "{found:x?}");
        for closed in [start, start + GUARD / 2, found.limit - 1] {
            assert!(!is_readable(closed), "{closed:x} of the guard, {found:x?}");
        }
        assert!(is_readable(found.limit), "{found:x?}");
        self.last.lock().expect("no panic").insert(start, found.id);
        for address in [start, found.limit, found.frame, found.record, found.ceiling - 1] {
            assert_eq!(inspect::id_at(address), Some(found.id), "{address:x}, {found:x?}");
        }
    }

    /// Asks whose stack an address is on, and compares.
    fn ask(&self, address: usize) {
        let start = self.slot_of(address).map(|(_, start)| start);
        let last = self.last.lock().expect("no panic");
        let expected = start.and_then(|start| last.get(&start).copied());
        assert_eq!(inspect::id_at(address), expected, "{address:x}");
    }
}

/// Asks the kernel, without a fault, whether a byte can be read.
fn is_readable(address: usize) -> bool {
    static PIPE: OnceLock<[libc::c_int; 2]> = OnceLock::new();
    let [reader, writer] = *PIPE.get_or_init(|| {
        let mut ends = [0; 2];
        // SAFETY: a live local of the right type.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        ends
    });
    let mut byte = 0_u8;
    // SAFETY: the kernel checks the address itself; the byte is a live local.
    unsafe {
        libc::write(writer, address as *const _, 1) == 1
            && libc::read(reader, (&raw mut byte).cast(), 1) == 1
    }
}

fn start_of(base: usize, span: usize, class: usize, slot: usize) -> usize {
    base.wrapping_add(class.wrapping_mul(span)).wrapping_add(slot << class << 17)
}

/// Checks that a size is refused if it should be; gives what was made, and its class.
fn made<T>(size: usize, outcome: io::Result<T>) -> Option<(T, usize)> {
    match (class_of(size), outcome) {
        (Some(class), Ok(made)) => Some((made, class)),
        (None, Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(&format!("stack_size = {size}: ")), "{error}");
            None
        }
        (class, outcome) => panic!("{size} bytes, class {class:?}: {:?}", outcome.err()),
    }
}

fn init() {
    harness::init();
    // Here, where nothing else has made a stack yet.
    MODEL.get_or_init(Model::new);
}

fuzz_target!(init: init(), |steps: Vec<Step>| {
    let _input = Input::begin();
    let model = MODEL.get().expect("made at the start");
    let mut places: [Option<Live>; PLACES] = [const { None }; PLACES];
    for step in steps.into_iter().take(LONGEST) {
        match step {
            Step::Raw { place, size } => {
                let place = &mut places[usize::from(place) % PLACES];
                if let Some((live, class)) = made(size.bytes(), Live::new(size.bytes())) {
                    model.meet(live.found, class);
                    *place = Some(live);
                }
            }
            Step::Drop { place } => drop(places[usize::from(place) % PLACES].take()),
            Step::Finish { place } => {
                let live = places[usize::from(place) % PLACES].take();
                live.into_iter().for_each(Live::finish);
            }
            Step::Task { size } => {
                let task = Builder::new().stack_size(size.bytes()).spawn(look_around);
                if let Some((task, class)) = made(size.bytes(), task) {
                    model.meet(task.join().expect("it only looks around"), class);
                }
            }
            Step::Ask { address } => model.ask(address),
            Step::AskNear { place, offset } => {
                if let Some(live) = &places[usize::from(place) % PLACES] {
                    model.ask(live.found.frame.wrapping_add_signed(offset as isize));
                }
            }
            Step::AskInside { class, slot, offset } => {
                let class = usize::from(class) % (CLASSES + 2);
                let start = start_of(model.base, model.span, class, slot.into());
                model.ask(start.wrapping_add_signed(offset as isize));
            }
        }
        // Who is suspended is still the one on its stack, whatever was made and dropped beside it.
        for live in places.iter().flatten() {
            model.ask(live.found.limit);
            assert_eq!(inspect::id_at(live.found.frame), Some(live.found.id));
        }
    }
    drop(places);
    harness::settle();
});
