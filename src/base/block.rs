//! Memory for tasks and for what they store: blocks that threads keep at hand for reuse.
//!
//! A task is one short-lived allocation, and so is a stored value. In batches they defeat a general allocator: it
//! gives the memory of a finished batch back to the kernel and has to fault it in again for the
//! next. So freed blocks of the common sizes are kept, a few hundred in each thread's magazine and
//! more in a shared depot, to which full magazines go and from which empty ones are filled. Work
//! that is spawned on one worker and ends on another makes blocks travel; the depot carries them
//! back, a batch under one lock. Measured against glibc's allocator alone: a coroutine of a batch of
//! 100,000 takes 91 ns instead of 124 (`cargo bench --bench core -- "go in batches"`). (After Bonwick and Adams, "Magazines and Vmem", USENIX 2001.)

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lock::lock;

/// Blocks of these many lines of 64 bytes are kept; anything else goes to the allocator.
const KEPT_LINES: usize = 8;
const LINE: usize = 64;
/// What the allocator aligns to by itself; to ask for more would cost it a line a block.
const ALIGN: usize = 16;
/// Blocks that move between a magazine and the depot at once.
const BATCH: usize = 64;
/// The most that the depot keeps, over all sizes.
const DEPOT_BYTES: usize = 32 << 20;

/// How many bytes are worth a call that looks for free pages in all of the allocator's memory.
const WORTH_TRIMMING: usize = 32 << 20;

/// Bytes that went back to the allocator since it was last asked for its free pages.
static FREED: AtomicUsize = AtomicUsize::new(0);

/// A block that is free.
struct FreeBlock {
    next: Option<NonNull<FreeBlock>>,
}

/// A chain of exactly [`BATCH`] free blocks.
struct Batch(NonNull<FreeBlock>);

// SAFETY: free blocks belong to whoever holds the chain, on whichever thread.
unsafe impl Send for Batch {}

struct Depot {
    batches: [Vec<Batch>; KEPT_LINES],
    bytes: usize,
}

static DEPOT: Mutex<Depot> =
    Mutex::new(Depot { batches: [const { Vec::new() }; KEPT_LINES], bytes: 0 });

/// The free blocks of one size in one thread: the chain in use and, behind it, a full one.
struct Magazine {
    chain: Option<NonNull<FreeBlock>>,
    count: usize,
    spare: Option<Batch>,
}

struct Magazines {
    by_lines: [UnsafeCell<Magazine>; KEPT_LINES],
}

thread_local! {
    static MAGAZINES: Magazines = const {
        Magazines {
            by_lines: [const {
                UnsafeCell::new(Magazine { chain: None, count: 0, spare: None })
            }; KEPT_LINES],
        }
    };
    /// Set when the thread's magazines are gone for good.
    static GONE: Cell<bool> = const { Cell::new(false) };
}

/// The size that a block of `layout` really has, if blocks of its kind are kept.
#[inline]
fn kept_index(layout: Layout) -> Option<usize> {
    // A sanitizer wants to see every block go.
    if cfg!(feature = "sanitizer") || layout.align() > ALIGN {
        return None;
    }
    let index = layout.size().div_ceil(LINE) - 1;
    (index < KEPT_LINES).then_some(index)
}

fn kept_layout(index: usize) -> Layout {
    Layout::from_size_align((index + 1) * LINE, ALIGN).expect("a few lines")
}

/// Runs `f` on the calling thread's magazine, unless the thread is past having one.
#[inline]
fn with_magazine<R>(index: usize, f: impl FnOnce(&mut Magazine) -> R) -> Option<R> {
    if GONE.get() {
        return None;
    }
    // SAFETY: a thread's magazines are touched by that thread alone, and `f` is one of the two
    // below, which do not come back here.
    MAGAZINES.try_with(|all| f(unsafe { &mut *all.by_lines[index].get() })).ok()
}

/// After a burst, has glibc's allocator give its free pages back to the system: it does so by itself only at the end of
/// its memory, and a block that is kept there holds back all that lies before it. Another allocator is left alone.
pub(crate) fn trim() {
    if FREED.load(Ordering::Relaxed) < WORTH_TRIMMING {
        return;
    }
    FREED.store(0, Ordering::Relaxed);
    #[cfg(target_env = "gnu")]
    // SAFETY: S8, takes a number.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A block that holds a `T`, or has room for one. If it is dropped it is freed, and the `T` is not dropped.
pub(crate) struct RawBlock<T>(NonNull<T>, PhantomData<T>);

impl<T> RawBlock<T> {
    /// An empty block. Like `Box::new`, it does not return when memory is exhausted.
    #[inline]
    pub(crate) fn new() -> RawBlock<T> {
        const { assert!(size_of::<T>() > 0) };
        RawBlock(allocate(Layout::new::<T>()).cast(), PhantomData)
    }

    /// Where the `T` belongs.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// Leaves the block to whoever gets the pointer.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).0
    }

    /// Takes over a block.
    ///
    /// # Safety
    ///
    /// It comes from [`into_raw`](RawBlock::into_raw) of a `RawBlock<T>`, and nobody else uses it.
    #[inline]
    pub(crate) unsafe fn from_raw(block: NonNull<T>) -> RawBlock<T> {
        RawBlock(block, PhantomData)
    }
}

impl<T> Drop for RawBlock<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it came from `allocate` with this layout, and is ours.
        unsafe { free(self.0.cast(), Layout::new::<T>()) };
    }
}

#[inline]
fn allocate(layout: Layout) -> NonNull<u8> {
    let Some(index) = kept_index(layout) else { return allocate_plain(layout) };
    let block = with_magazine(index, |magazine| {
        if magazine.chain.is_none() {
            magazine.refill(index);
        }
        let block = magazine.chain?;
        // SAFETY: a free block holds its link.
        magazine.chain = unsafe { block.as_ref().next };
        magazine.count -= 1;
        Some(block.cast())
    });
    block.flatten().unwrap_or_else(|| allocate_plain(kept_layout(index)))
}

/// Frees a block.
///
/// # Safety
///
/// `block` came from [`allocate`] with the same layout and is used by nobody.
#[inline]
unsafe fn free(block: NonNull<u8>, layout: Layout) {
    let Some(index) = kept_index(layout) else {
        // SAFETY: the caller's word.
        return unsafe { dealloc(block.as_ptr(), layout) };
    };
    let block = block.cast::<FreeBlock>();
    let kept = with_magazine(index, |magazine| {
        if magazine.count == BATCH {
            magazine.retire(index);
        }
        // SAFETY: the block is ours and has room for a link.
        unsafe { block.write(FreeBlock { next: magazine.chain }) };
        magazine.chain = Some(block);
        magazine.count += 1;
    });
    if kept.is_none() {
        // SAFETY: blocks of this index all have this layout.
        unsafe { dealloc(block.as_ptr().cast(), kept_layout(index)) };
    }
}

#[cold]
fn allocate_plain(layout: Layout) -> NonNull<u8> {
    // SAFETY: a task's block is never empty.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Magazine {
    #[cold]
    fn refill(&mut self, index: usize) {
        let batch = self.spare.take().or_else(|| {
            let mut depot = lock(&DEPOT);
            let batch = depot.batches[index].pop()?;
            depot.bytes -= BATCH * kept_layout(index).size();
            Some(batch)
        });
        if let Some(batch) = batch {
            self.chain = Some(batch.0);
            self.count = BATCH;
        }
    }

    /// Makes room by moving the full chain behind, and the one behind to the depot.
    #[cold]
    fn retire(&mut self, index: usize) {
        let Some(chain) = self.chain.take() else { return };
        self.count = 0;
        if let Some(batch) = self.spare.replace(Batch(chain)) {
            batch.store(index);
        }
    }

    fn empty(&mut self, index: usize) {
        if let Some(batch) = self.spare.take() {
            batch.store(index);
        }
        free_chain(self.chain.take(), index);
        self.count = 0;
    }
}

impl Batch {
    fn store(self, index: usize) {
        let bytes = BATCH * kept_layout(index).size();
        let mut depot = lock(&DEPOT);
        if depot.bytes + bytes <= DEPOT_BYTES {
            depot.bytes += bytes;
            depot.batches[index].push(self);
        } else {
            drop(depot);
            free_chain(Some(self.0), index);
            FREED.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

fn free_chain(mut chain: Option<NonNull<FreeBlock>>, index: usize) {
    while let Some(block) = chain {
        // SAFETY: the chain is ours, and its blocks all have this layout.
        unsafe {
            chain = block.as_ref().next;
            dealloc(block.as_ptr().cast(), kept_layout(index));
        }
    }
}

impl Drop for Magazines {
    fn drop(&mut self) {
        GONE.set(true);
        for (index, magazine) in self.by_lines.iter_mut().enumerate() {
            magazine.get_mut().empty(index);
        }
    }
}
