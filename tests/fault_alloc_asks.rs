//! A global allocator that asks the crate who allocates, and what there is: `tls::id` and
//! `inspect::metrics` take no lock and allocate nothing, so they answer in the middle of everything.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use coro::{Runtime, inspect, tls};

static ASKED: AtomicU64 = AtomicU64::new(0);

struct Asking;

#[global_allocator]
static ASKING: Asking = Asking;

fn ask() {
    let metrics = inspect::metrics();
    assert!(metrics.fresh <= metrics.spawned && tls::id().get() != 0);
    ASKED.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: it is the system's allocator, which asks first.
unsafe impl GlobalAlloc for Asking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ask();
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ask();
        // SAFETY: the caller's word.
        unsafe { System.dealloc(block, layout) }
    }
}

#[test]
fn fault_allocator_asks_for_the_counts() {
    // In a child, for a watchdog would need the allocator that hangs.
    const NAME: &str = "fault_allocator_asks_for_the_counts";
    common::in_child(NAME, common::CHILDS_LIMIT, || {
        // More workers each time, so that there are new ones whenever a runtime starts.
        for workers in 1..6 {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            let tasks: Vec<_> = (0..200)
                .map(|i| {
                    runtime.go(move || {
                        for key in 0..8 {
                            tls::set(key, vec![i]);
                        }
                        tls::at_exit(|| drop(Box::new(1)));
                        coro::yield_now();
                        tls::inherit(|| ())();
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        }
        assert!(ASKED.load(Ordering::Relaxed) > 10_000);
        assert_eq!(inspect::metrics().spawned, 1000);
    });
}
