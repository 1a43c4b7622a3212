//! The registers of a coroutine that is suspended.
//!
//! corosensei saves three words on the coroutine's stack, and keeps the stack pointer in its `Coroutine`, in a field that
//! is not public:
//!
//! ```text
//!   high  |  frames                     |  <- the stack pointer when the coroutine goes on
//!         +-----------------------------+
//!         |  RBP                        |  [sp + 16]
//!         |  RBX                        |  [sp + 8]
//!         |  where it goes on           |  [sp]
//!   low   +-----------------------------+  <- sp, in the `Coroutine`
//! ```
//!
//! The function that switches saves all other registers that its caller wants back. Its unwind table is right at the
//! place where the coroutine goes on, with the three words popped.

use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};

use corosensei::Coroutine;
use corosensei::stack::StackPointer;

use super::engine::{Bounds, Engine};
use crate::frames::Registers;

/// How many words a `Coroutine` is.
const fn words<In, Out>() -> usize {
    const { size_of::<Coroutine<In, Out, (), Bounds>>() / size_of::<usize>() }
}

/// Which word of a `Coroutine` the stack pointer is.
pub(crate) struct StackPointerPlace<In, Out> {
    word: usize,
    of: PhantomData<fn(In) -> Out>,
}

impl<In, Out> Clone for StackPointerPlace<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out> Copy for StackPointerPlace<In, Out> {}

impl<In, Out> StackPointerPlace<In, Out> {
    /// Finds it by what changes when a coroutine is marked as completed: that, and nothing else. All values of a type
    /// have one layout. `None`: this is another corosensei than the one that is described above.
    pub(crate) fn find() -> Option<Self> {
        let mut stack = [const { MaybeUninit::<u128>::uninit() }; 64];
        let limit = stack.as_mut_ptr().expose_provenance();
        // SAFETY: addresses of a local are not zero.
        let bounds = unsafe {
            Bounds::new(
                StackPointer::new_unchecked(limit + size_of_val(&stack)),
                StackPointer::new_unchecked(limit),
            )
        };
        // SAFETY: C1, this stack is its own. It is not resumed, and its function holds nothing.
        let mut probe = unsafe {
            Coroutine::<In, Out, (), Bounds>::with_stack_unchecked(bounds, |_, _| unreachable!())
        };
        let before = snapshot(&probe);
        // SAFETY: nothing on its stack wants to be dropped.
        unsafe { probe.force_reset() };
        let after = snapshot(&probe);
        let mut changed = (0..words::<In, Out>()).filter(|&word| before[word] != after[word]);
        let word = changed.next()?;
        let is_it =
            (limit..limit + size_of_val(&stack)).contains(&before[word]) && after[word] == 0;
        (is_it && changed.next().is_none()).then_some(StackPointerPlace { word, of: PhantomData })
    }
}

/// The words of a coroutine.
fn snapshot<In, Out>(coroutine: &Coroutine<In, Out, (), Bounds>) -> Vec<usize> {
    let start = (&raw const *coroutine).cast::<usize>();
    // SAFETY: C7, so many words lie there.
    (0..words::<In, Out>()).map(|word| unsafe { start.add(word).read() }).collect()
}

impl<In, Out> Engine<In, Out> {
    /// Where the coroutine goes on. `None`: it is not suspended.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that resumes it, and does not do so meanwhile. It was resumed once (C2).
    pub(crate) unsafe fn registers(&self, place: StackPointerPlace<In, Out>) -> Option<Registers> {
        const {
            // C7: no padding, whose bytes could not be read.
            assert!(mem::align_of::<Coroutine<In, Out, (), Bounds>>() == align_of::<usize>());
            assert!(words::<In, Out>() * size_of::<usize>() == size_of::<Self>());
        }
        // SAFETY: C2, the caller's word; C7.
        let sp = unsafe { self.inner().cast::<usize>().add(place.word).read() };
        let saved: *const usize = std::ptr::with_exposed_provenance(sp);
        if saved.is_null() {
            return None;
        }
        // SAFETY: C1, its stack is there, and it is suspended.
        let [pc, rbx, rbp] = [0, 1, 2].map(|word| unsafe { saved.add(word).read() });
        Some(Registers::new(pc, sp + 3 * size_of::<usize>(), rbx, rbp))
    }
}
