//! A number that is one word while nobody waits, and is kept under a lock while somebody does.
//!
//! Whoever has to wait takes the lock and moves the number out of the word. From then on all others find [`AWAITED`] there,
//! and take the lock too. When nobody waits any more, the number is moved back. It is moved, either way, by whoever has
//! the lock, so it is in one place.

use crate::base::atomics::{AtomicUsize, Ordering};

/// In place of the number. A number that is as large stays under the lock.
const AWAITED: usize = usize::MAX;

pub(super) struct PermitCount(AtomicUsize);

impl PermitCount {
    #[cfg(not(coro_loom))]
    pub(super) const fn new(permits: usize) -> PermitCount {
        PermitCount(AtomicUsize::new(permits))
    }

    #[cfg(coro_loom)]
    pub(super) fn new(permits: usize) -> PermitCount {
        PermitCount(AtomicUsize::new(permits))
    }

    /// Takes so many, if they are in the word.
    #[inline]
    pub(super) fn try_take(&self, need: usize) -> bool {
        // Acquire: pairs with `try_give` and `move_back`, so that what was done with the permits is over.
        self.change(Ordering::Acquire, |word| word.checked_sub(need))
    }

    /// Gives so many back, if the others are in the word, and there is room for them.
    #[inline]
    pub(super) fn try_give(&self, permits: usize) -> bool {
        self.change(Ordering::Release, |word| word.checked_add(permits))
    }

    #[inline]
    fn change(&self, order: Ordering, to: impl Fn(usize) -> Option<usize>) -> bool {
        let change = |word| to(word).filter(|&changed| word != AWAITED && changed != AWAITED);
        self.0.fetch_update(order, Ordering::Relaxed, change).is_ok()
    }

    /// The number, unless it is under the lock. It may be moved at once, unless the caller has the lock.
    pub(super) fn get(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&word| word != AWAITED)
    }

    /// Moves the number to `count`, which the lock guards, if it is not there. By whoever has the lock.
    pub(super) fn move_to(&self, count: &mut usize) {
        // Acquire: as in `try_take`.
        match self.0.swap(AWAITED, Ordering::Acquire) {
            AWAITED => {}
            word => *count = word,
        }
    }

    /// Moves it back. By whoever has the lock, and while nobody waits.
    pub(super) fn move_back(&self, count: usize) {
        // Release: as in `try_give`, for all who gave permits back under the lock.
        self.0.store(count, Ordering::Release);
    }
}

#[cfg(all(test, coro_loom))]
mod tests {
    use std::sync::Arc;

    use loom::thread;

    use super::PermitCount;
    use crate::base::atomics::{Checked, explore};
    use crate::base::lock::ShortLock;

    const TAKEN: u32 = 0;
    const REFUSED: u32 = 1;

    struct Model {
        count: PermitCount,
        locked: ShortLock<usize>,
        value: Checked<u32>,
    }

    impl Model {
        /// Uses what the one permit is for, and gives that back.
        fn use_permit(&self) {
            self.value.write(|value| *value += 1);
            if !self.count.try_give(1) {
                let mut locked = self.locked.lock();
                self.count.move_to(&mut locked);
                *locked += 1;
                self.count.move_back(*locked);
            }
        }
    }

    /// One who takes the permit from the word races one who moves the number under the lock and leaves it there for a
    /// while, as one who waits does. Never have both the permit, and in the end it is there.
    #[test]
    fn loom_permits_are_in_one_place() {
        explore(Some(3), &[TAKEN, REFUSED], |seen| {
            let (count, locked) = (PermitCount::new(1), ShortLock::new(0));
            let model = Arc::new(Model { count, locked, value: Checked::new(0) });
            let takes = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let taken = model.count.try_take(1);
                    if taken {
                        model.use_permit();
                    }
                    taken
                })
            };
            {
                let mut locked = model.locked.lock();
                model.count.move_to(&mut locked);
            }
            let taken = {
                let mut locked = model.locked.lock();
                model.count.move_to(&mut locked);
                let taken = *locked > 0;
                *locked -= usize::from(taken);
                model.count.move_back(*locked);
                taken
            };
            if taken {
                model.use_permit();
            }
            seen.note(if takes.join().unwrap() { TAKEN } else { REFUSED });
            assert_eq!(model.count.get(), Some(1));
        });
    }
}
