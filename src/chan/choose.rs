//! Doing one of several operations: the first that can be done.
//!
//! First each is tried by itself, from a random one on. If none can be done, the channels are locked, all of them and in
//! the order of their addresses, the operations are tried once more, and a node of each is linked. So no sender and no
//! receiver comes in between, and two that choose among the same channels cannot block each other. The nodes have one
//! [`Claim`]: the first channel that takes one of them has it, and the others pass over the rest. (After Go's
//! `selectgo`, whose channels are locked in one order too.)
//!
//! A future is polled while no lock is held and no node is linked.

use std::panic::Location;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::channel::wake;
use super::operation::{AnyChannel, Operation};
use crate::base::random;
use crate::task::{Caller, Claim, ParkReason, PollTurn, WaitNode, WaitSubject, spend_budget};

/// A future, whatever its output is, which is kept when it is ready.
pub(super) trait Polled {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

pub(super) enum Choice<'a> {
    Operation(&'a dyn Operation),
    Future(&'a mut dyn Polled),
}

/// One of those among which is chosen.
pub struct Arm<'a> {
    choice: Choice<'a>,
    node: Option<WaitNode>,
    /// The index of the arm at this place, in the order in which the channels are locked.
    ordered: usize,
}

impl<'a> Arm<'a> {
    pub(super) fn new(choice: Choice<'a>) -> Arm<'a> {
        Arm { choice, node: None, ordered: 0 }
    }

    fn operation(&self) -> Option<&dyn Operation> {
        match self.choice {
            Choice::Operation(operation) => Some(operation),
            Choice::Future(_) => None,
        }
    }

    fn is_future(&self) -> bool {
        matches!(self.choice, Choice::Future(_))
    }
}

/// How long one waits for an arm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For as long as it takes.
    Endless,
    /// Not at all.
    Zero,
    /// For so long.
    Within(Duration),
}

impl Patience {
    /// For so long, which may be not at all.
    pub fn within(limit: Duration) -> Patience {
        if limit.is_zero() { Patience::Zero } else { Patience::Within(limit) }
    }

    /// Until when that is from now on, if it is a time that ends.
    fn deadline(self) -> Option<Instant> {
        match self {
            Patience::Endless | Patience::Zero => None,
            Patience::Within(limit) => Instant::now().checked_add(limit),
        }
    }
}

/// Does one of the arms, and tells which. `None`: none of them could be done in time.
#[track_caller]
pub(super) fn choose(arms: &mut [Arm<'_>], patience: Patience) -> Option<usize> {
    spend_budget();
    let location = Location::caller();
    let polls = arms.iter().any(Arm::is_future);
    // Not known before it is needed, for an arm that is ready needs no clock. But a poll may take its time.
    let mut deadline = polls.then(|| patience.deadline());
    loop {
        let turn = polls.then(PollTurn::begin);
        let first = if arms.len() < 2 { 0 } else { random::below(arms.len() as u32) as usize };
        let chosen =
            from(first, arms.len()).find(|&index| try_arm(&mut arms[index], turn.as_ref()));
        if chosen.is_some() {
            return chosen;
        }
        if patience == Patience::Zero {
            return None;
        }
        let caller = Caller::begin(WaitSubject::MadeAt(location));
        let until = match deadline {
            None => *deadline.insert(patience.deadline()),
            Some(Some(until)) if until <= Instant::now() => return None,
            Some(until) => until,
        };
        let chosen = wait(&caller, arms, first, turn.as_ref(), until);
        if chosen.is_some() {
            return chosen;
        }
        caller.interrupt();
    }
}

/// All indexes below `count`, from `first` on.
fn from(first: usize, count: usize) -> impl Iterator<Item = usize> {
    (first..count).chain(0..first)
}

fn try_arm(arm: &mut Arm<'_>, turn: Option<&PollTurn>) -> bool {
    match (&mut arm.choice, turn) {
        (Choice::Operation(operation), _) => operation.try_now(),
        (Choice::Future(future), Some(turn)) => {
            turn.poll(|waker| future.poll(&mut Context::from_waker(waker))).is_ready()
        }
        (Choice::Future(_), None) => false,
    }
}

/// Waits until one of the arms is done, a future is woken, or it is time to try again. May return early.
fn wait(
    caller: &Caller,
    arms: &mut [Arm<'_>],
    first: usize,
    turn: Option<&PollTurn>,
    deadline: Option<Instant>,
) -> Option<usize> {
    let claim = Claim::new();
    for arm in &mut *arms {
        arm.node = arm.operation().map(|operation| caller.node_of(&claim, operation.slot()));
    }
    order_by_address(arms);
    // From here on the arms are shared: whoever takes a node writes into its operation.
    let arms = &*arms;
    let lock = Locked::all(arms);
    let attempt = |index: usize| {
        // SAFETY: all are locked, and no node is linked.
        let wakeup = unsafe { arms[index].operation()?.attempt() }?;
        Some((index, wakeup))
    };
    if let Some((index, wakeup)) = from(first, arms.len()).find_map(attempt) {
        drop(lock);
        wake(wakeup);
        return Some(index);
    }
    let link = |index: usize| {
        let (operation, node) = (arms[index].operation()?, arms[index].node.as_ref()?);
        // SAFETY: all are locked; Q1, the node is told or given up below, and nothing unwinds before.
        unsafe { operation.link(node) }
    };
    let until = from(first, arms.len()).filter_map(link).chain(deadline).min();
    drop(lock);
    match turn {
        None => caller.wait_for_claim(&claim, ParkReason::SELECT, until),
        Some(turn) => caller.wait_for_claim_or_poll(&claim, turn, ParkReason::SELECT_FUTURE, until),
    }
    let mut chosen = None;
    for (index, arm) in arms.iter().enumerate() {
        let (Some(operation), Some(node)) = (arm.operation(), &arm.node) else { continue };
        // SAFETY: it was linked to this channel.
        if let Some(end) = unsafe { operation.give_up(node) } {
            operation.finish(end);
            chosen = Some(index);
        }
    }
    chosen
}

/// Puts the indexes of the arms in the order of their channels' addresses. There are few of them, as a rule.
fn order_by_address(arms: &mut [Arm<'_>]) {
    let address = |arms: &[Arm<'_>], index: usize| {
        arms[index].operation().map(|operation| operation.channel().address())
    };
    for index in 0..arms.len() {
        let mut place = index;
        while place > 0 && address(arms, arms[place - 1].ordered) > address(arms, index) {
            arms[place].ordered = arms[place - 1].ordered;
            place -= 1;
        }
        arms[place].ordered = index;
    }
}

/// The channels of some arms, locked.
struct Locked<'a, 'b>(&'a [Arm<'b>]);

impl<'a, 'b> Locked<'a, 'b> {
    fn all(arms: &'a [Arm<'b>]) -> Locked<'a, 'b> {
        let locked = Locked(arms);
        locked.channels().for_each(AnyChannel::lock);
        locked
    }

    /// Each channel once, in the order in which they are locked.
    fn channels(&self) -> impl Iterator<Item = &'a dyn AnyChannel> {
        let arms = self.0;
        let operations = arms.iter().filter_map(|place| arms[place.ordered].operation());
        let mut before = None;
        operations
            .map(Operation::channel)
            .filter(move |channel| before.replace(channel.address()) != Some(channel.address()))
    }
}

impl Drop for Locked<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: all were locked by us.
        self.channels().for_each(|channel| unsafe { channel.unlock() });
    }
}

#[cfg(all(test, not(coro_loom)))]
mod tests {
    use std::mem::ManuallyDrop;

    use proptest::prelude::*;

    use super::{Arm, Choice, Locked, order_by_address};
    use crate::chan::bounded;
    use crate::chan::operation::{AnyChannel, Receiving};

    proptest! {
        /// Whatever the order of the arms, their channels are locked in that of the addresses, each once.
        #[test]
        fn channels_are_locked_in_one_order(places in prop::collection::vec(0_usize..8, 0..8)) {
            let receivers: Vec<_> = (0..8).map(|_| bounded::<()>(0).1).collect();
            let operations: Vec<_> =
                places.iter().map(|&place| Receiving::new(receivers[place].channel())).collect();
            let mut arms: Vec<_> =
                operations.iter().map(|operation| Arm::new(Choice::Operation(operation))).collect();
            order_by_address(&mut arms);
            // Not locked, so not to be unlocked: a wrong order would lock one of them twice.
            let locked = ManuallyDrop::new(Locked(&arms));
            let order: Vec<_> = locked.channels().map(AnyChannel::address).collect();
            let mut expected: Vec<_> =
                operations.iter().map(|operation| operation.channel.address()).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(order, expected);
        }
    }
}
