//! From the survey to the dump.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::coroutine::{CoroutineState, DumpedCoroutine};
use super::dump::Dump;
use super::fresh::FreshTasks;
use super::names::Names;
use super::notes::Notes;
use super::survey::{SurveyLimits, WorkerNotes, survey};
use super::traces::TraceSet;
use crate::base::copy::copy;
use crate::base::id::RuntimeId;
use crate::base::lock::lock;
use crate::task::{Header, Mailbox, ParkReason, WaitList, current_task, wait_until, wake_all};
use crate::{fork, thread};

/// Whose coroutines a dump is of.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    All,
    /// Those of one runtime.
    Of(RuntimeId),
}

/// Takes a dump. `fresh` tells of the tasks that no worker has started. The names of functions take more stack than a
/// coroutine may have, so for a coroutine a thread does it.
///
/// An interruption unwinds out of it.
pub(crate) fn take<F: Fn() -> FreshTasks + Clone + Send + 'static>(which: Which, fresh: F) -> Dump {
    if fork::is_child() {
        let mut dump = Dump::nothing();
        dump.remark = Some("this process was forked, and has none of its parent's workers".into());
        return dump;
    }
    if current_task().is_none() {
        return collect(which, &fresh, Names::find);
    }
    let on_thread = fresh.clone();
    match call_on_thread(move || collect(which, &on_thread, Names::find)) {
        Ok(dump) => dump,
        Err(error) => {
            let mut dump = collect(which, &fresh, Names::none);
            dump.remark = Some(format!("functions have no names, for there is no thread: {error}"));
            dump
        }
    }
}

fn collect(
    which: Which,
    fresh: &impl Fn() -> FreshTasks,
    names: impl FnOnce(&TraceSet) -> Names,
) -> Dump {
    let is_asked = |mailbox: &Mailbox<Header>| match which {
        Which::All => true,
        Which::Of(runtime) => mailbox.is_of(runtime),
    };
    let mut dump = assemble(survey(is_asked, new_notes(), SurveyLimits::DUMP));
    dump.fresh = fresh();
    dump.names = names(&dump.traces);
    dump
}

/// What makes the notes for each worker.
#[cfg(feature = "dump")]
fn new_notes() -> impl Fn() -> Notes {
    use crate::frames::{Tables, Walker};
    use crate::task::TaskWalker;

    let tables = Arc::new(Tables::loaded());
    move || Notes::new(TaskWalker::new(Walker::new(Arc::clone(&tables))))
}

#[cfg(not(feature = "dump"))]
fn new_notes() -> impl Fn() -> Notes {
    || Notes::without_frames(usize::MAX)
}

/// One list of what all workers have noted.
fn assemble(answers: Vec<WorkerNotes>) -> Dump {
    let now = Instant::now();
    let mut dump = Dump::nothing();
    for WorkerNotes { mailbox, notes, held_up } in answers {
        if let Some(notes) = notes {
            dump.without_memory += notes.unlisted;
            for mut coroutine in notes.coroutines {
                let trace = dump.traces.add(notes.traces.get(coroutine.trace));
                let (Some(trace), Ok(())) = (trace, dump.coroutines.try_reserve(1)) else {
                    dump.without_memory += 1;
                    continue;
                };
                coroutine.trace = trace;
                if coroutine.state == CoroutineState::Parked {
                    coroutine.parked_for = mailbox.turn_times().since(coroutine.parked_in, now);
                }
                dump.coroutines.push(coroutine);
            }
        }
        if let Some(held_up) = held_up {
            dump.add_running(&held_up);
            dump.held_up.push(held_up);
        }
    }
    // What was noted twice is here twice.
    dump.coroutines.sort_unstable_by_key(DumpedCoroutine::id);
    dump.coroutines.dedup_by_key(|coroutine| coroutine.id());
    name_spawners(&mut dump.coroutines);
    dump.total = dump.coroutines.len() + dump.unlisted();
    dump
}

/// Notes by whose names they were spawned, of those that are among them. They stand in the order of their ids.
fn name_spawners(coroutines: &mut [DumpedCoroutine]) {
    for index in 0..coroutines.len() {
        let Some(id) = coroutines[index].spawned_by else { continue };
        let place = coroutines.binary_search_by_key(&id, DumpedCoroutine::id);
        let name = place.ok().and_then(|place| copy(coroutines[place].name()?));
        coroutines[index].spawners_name = name;
    }
}

/// Runs `f` on a thread of its own, and waits for it.
///
/// An interruption unwinds out of it, and the thread goes on.
fn call_on_thread(f: impl FnOnce() -> Dump + Send + 'static) -> io::Result<Dump> {
    #[derive(Default)]
    struct DumpCall {
        outcome: Option<std::thread::Result<Dump>>,
        waiters: WaitList,
    }
    let call: Arc<Mutex<DumpCall>> = Arc::default();
    let to_answer = Arc::clone(&call);
    thread::spawn("dump", move || {
        let outcome = catch_unwind(AssertUnwindSafe(f));
        lock(&to_answer).outcome = Some(outcome);
        wake_all(&to_answer, |call| &mut call.waiters);
    })?;
    let is_over = |call: &mut DumpCall| call.outcome.is_some();
    wait_until(&call, |call| &mut call.waiters, None, ParkReason::DUMP, is_over);
    let outcome = lock(&call).outcome.take();
    Ok(outcome.expect("it is over").unwrap_or_else(|payload| resume_unwind(payload)))
}
