//! Waiting for a lock, whose holder the reports name.
//!
//! - **N1** A task's stack names a [`LockHolder`] only during [`Caller::wait_for_holder`], which borrows it. A task
//!   that is suspended stays in the call that suspends it. So the worker of a suspended task may follow the pointer.

use std::ptr;
use std::time::Instant;

use super::holder::LockHolder;
use super::stack::ParkReason;
use super::wait::Caller;
use super::wait_list::{WaitEnd, WaitNode};

impl Caller {
    /// As [`wait`](Caller::wait), for what `holder` holds.
    pub(crate) fn wait_for_holder(
        &self,
        node: &WaitNode,
        reason: ParkReason,
        deadline: Option<Instant>,
        holder: &LockHolder,
    ) -> Option<WaitEnd> {
        let Caller::Task(task) = self else { return self.wait(node, reason, deadline) };
        let named = &task.task_stack().holder;
        named.set(ptr::from_ref(holder));
        // It does not unwind.
        let end = self.wait(node, reason, deadline);
        named.set(ptr::null());
        end
    }
}
