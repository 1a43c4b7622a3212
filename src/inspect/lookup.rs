//! Which coroutine is it, and where does it stand: for those who run on its stack.

use std::ops::Range;

use crate::goexit::ExitTarget;
use crate::record::{self, stack_pointer};
use crate::stack;

/// Where the function of the running coroutine is going to return to. `None` on a plain thread.
///
/// While the exit handlers run, it is [`ExitTarget::Goexit`]: that is what comes after them.
///
/// # Examples
///
/// ```
/// use coro::inspect::{ExitTarget, exit_target};
///
/// coro::go(|| {
///     assert_eq!(exit_target(), Some(ExitTarget::Goexit));
///     coro::tls::at_exit(|| assert_eq!(exit_target(), Some(ExitTarget::Goexit)));
///     assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
/// })
/// .join()
/// .unwrap();
/// ```
pub fn exit_target() -> Option<ExitTarget> {
    record::with(|record| record.exit_target())
}

/// The stack of the running coroutine: from the guard's end to where its colour begins. `None` on
/// any other stack.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     let on_stack = 0u8;
///     let bounds = coro::inspect::stack_bounds().unwrap();
///     assert!(bounds.contains(&(&raw const on_stack as usize)));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(coro::inspect::stack_bounds(), None);
/// ```
pub fn stack_bounds() -> Option<Range<usize>> {
    stack::bounds_of(stack_pointer())
}

/// The address of the hidden record of the running coroutine. `None` on any other stack.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     let record = coro::inspect::record_address().unwrap();
///     assert!(coro::inspect::stack_bounds().unwrap().contains(&record));
/// })
/// .join()
/// .unwrap();
/// ```
pub fn record_address() -> Option<usize> {
    stack::ceiling_of(stack_pointer()).map(|ceiling| record::record_below(ceiling.get()).addr())
}
