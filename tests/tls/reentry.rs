//! User code in the middle of the store's own: every place where `tls` calls a `Hash`, an `Eq`, a
//! `Clone`, a `Drop`, an initialiser or a handler, times everything that may happen there. It may wait
//! for another coroutine of the same worker that does just the same, it may be cancelled while it
//! waits, and it may unload the store that is about to store something.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use coro::inspect::{ExitTarget, exit_target};
use coro::raw::State;
use coro::{JoinError, Runtime, tls};

use crate::common::{self, Counter, Gate, OnDrop, on_workers, watchdog};

/// Where user code runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In the hash of a key that is stored, when the store has a table.
    HashInSet,
    EqInSet,
    EqInSetInheritable,
    EqInGet,
    EqInTake,
    EqInDel,
    EqInScope,
    /// At a scope's end, when the scoped value was replaced.
    EqAfterScope,
    CloneOfKey,
    CloneOfValue,
    DropOfReplaced,
    DropOfDeleted,
    DropOfKey,
    DropInReset,
    DropInUnload,
    /// Of what a handler has captured.
    DropOfHandler,
    DropOfScoped,
    DropOfReplacedByHeirloom,
    DropInCleanup,
    Handler,
    Initialiser,
}

const PLACES: [Place; 21] = [
    Place::HashInSet,
    Place::EqInSet,
    Place::EqInSetInheritable,
    Place::EqInGet,
    Place::EqInTake,
    Place::EqInDel,
    Place::EqInScope,
    Place::EqAfterScope,
    Place::CloneOfKey,
    Place::CloneOfValue,
    Place::DropOfReplaced,
    Place::DropOfDeleted,
    Place::DropOfKey,
    Place::DropInReset,
    Place::DropInUnload,
    Place::DropOfHandler,
    Place::DropOfScoped,
    Place::DropOfReplacedByHeirloom,
    Place::DropInCleanup,
    Place::Handler,
    Place::Initialiser,
];

type Action = Box<dyn FnOnce() + Send>;

/// What user code does, once; and what counts the values that it is all about.
#[derive(Clone)]
struct Hook {
    /// Taken by the one that runs.
    action: Arc<Mutex<Option<Action>>>,
    values: Counter,
    made: Counter,
}

impl Hook {
    fn new(action: impl FnOnce() + Send + 'static) -> Hook {
        let action: Action = Box::new(action);
        Hook {
            action: Arc::new(Mutex::new(Some(action))),
            values: Counter::default(),
            made: Counter::default(),
        }
    }

    /// Runs the action if it has not run yet.
    fn run(&self) {
        let action = self.action.lock().unwrap().take();
        if let Some(action) = action {
            action();
        }
    }

    fn has_run(&self) -> bool {
        self.action.lock().unwrap().is_none()
    }

    fn value(&self) -> OnDrop {
        self.made.add();
        self.values.on_drop()
    }

    fn key(&self, number: u32, calls: Calls) -> Key {
        Key { number, calls, hook: self.clone() }
    }

    /// A value that runs the hook when it is dropped.
    fn acting(&self) -> Acting {
        Acting { hook: self.clone(), _value: self.value(), in_drop: true }
    }

    /// A value that runs the hook when it is cloned.
    fn cloning(&self) -> Acting {
        Acting { hook: self.clone(), _value: self.value(), in_drop: false }
    }
}

/// Which of its methods a key runs the hook in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Calls {
    Never,
    InHash,
    InEq,
    InClone,
    InDrop,
}

struct Key {
    number: u32,
    calls: Calls,
    hook: Hook,
}

impl Key {
    fn call(&self, calls: Calls) {
        if self.calls == calls {
            self.hook.run();
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call(Calls::InHash);
        self.number.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.call(Calls::InEq);
        other.call(Calls::InEq);
        self.number == other.number
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Key {
        self.call(Calls::InClone);
        self.hook.key(self.number, Calls::Never)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.call(Calls::InDrop);
    }
}

struct Acting {
    hook: Hook,
    _value: OnDrop,
    in_drop: bool,
}

impl Drop for Acting {
    fn drop(&mut self) {
        if self.in_drop {
            self.hook.run();
        }
    }
}

impl Clone for Acting {
    fn clone(&self) -> Acting {
        self.hook.run();
        Acting { hook: self.hook.clone(), _value: self.hook.value(), in_drop: false }
    }
}

coro::local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static MADE: OnDrop = {
        let hook = HOOK.with_borrow(|hook| hook.clone().unwrap());
        hook.run();
        hook.value()
    };
}

/// Inheritable, and counted.
#[derive(Clone)]
struct Heir(#[allow(dead_code)] Arc<OnDrop>);

impl Place {
    /// Does what leads there, in the middle of a store that is in use.
    fn visit(self, hook: &Hook) {
        let key = |number, calls| hook.key(number, calls);
        tls::set("bystander", hook.value());
        let handler = hook.value();
        tls::at_exit(move || drop(handler));
        match self {
            Place::HashInSet => {
                (0..8).for_each(|n: i32| tls::set(n, hook.value()));
                tls::set(key(1, Calls::InHash), hook.value());
            }
            Place::EqInSet => {
                tls::set(key(1, Calls::InEq), hook.value());
                tls::set(key(1, Calls::Never), hook.value());
            }
            Place::EqInSetInheritable => {
                tls::set(key(1, Calls::InEq), hook.value());
                tls::set_inheritable(key(1, Calls::Never), Heir(Arc::new(hook.value())));
            }
            Place::EqInGet => {
                tls::set(key(1, Calls::InEq), hook.value());
                drop(tls::get::<OnDrop>(key(1, Calls::Never)));
            }
            Place::EqInTake => {
                tls::set(key(1, Calls::InEq), hook.value());
                drop(tls::take::<OnDrop>(key(1, Calls::Never)));
            }
            Place::EqInDel => {
                tls::set(key(1, Calls::InEq), hook.value());
                tls::del(key(1, Calls::Never));
            }
            Place::EqInScope => {
                tls::set(key(1, Calls::InEq), hook.value());
                tls::scope(key(1, Calls::Never), hook.value(), || ());
            }
            Place::EqAfterScope => {
                tls::set(key(1, Calls::Never), hook.value());
                tls::scope(key(1, Calls::Never), hook.value(), || {
                    assert!(tls::del(key(1, Calls::Never)));
                    tls::set(key(1, Calls::InEq), hook.value());
                });
            }
            Place::CloneOfKey => {
                tls::set_inheritable(key(1, Calls::InClone), Heir(Arc::new(hook.value())));
                tls::inherit(|| ())();
            }
            Place::CloneOfValue => {
                tls::set_inheritable(1, hook.cloning());
                tls::inherit(|| ())();
            }
            Place::DropOfReplaced => {
                tls::set(1, hook.acting());
                tls::set(1, hook.value());
            }
            Place::DropOfDeleted => {
                tls::set(1, hook.acting());
                tls::del(1);
            }
            Place::DropOfKey => {
                tls::set(key(1, Calls::Never), hook.value());
                tls::set(key(1, Calls::InDrop), hook.value());
            }
            Place::DropInReset => {
                tls::set(1, hook.acting());
                tls::reset();
            }
            Place::DropInUnload => {
                tls::set(1, hook.acting());
                tls::unload();
            }
            Place::DropOfHandler => {
                let captured = hook.acting();
                tls::at_exit(move || drop(captured));
                tls::unload();
            }
            Place::DropOfScoped => tls::scope("bystander", hook.acting(), || ()),
            Place::DropOfReplacedByHeirloom => {
                tls::set_inheritable(1, Heir(Arc::new(hook.value())));
                tls::set_inheritable(2, Heir(Arc::new(hook.value())));
                let install = tls::inherit(|| ());
                tls::set(1, hook.acting());
                install();
            }
            Place::DropInCleanup => tls::set(1, hook.acting()),
            Place::Handler => {
                let inside = hook.clone();
                tls::at_exit(move || inside.run());
            }
            Place::Initialiser => {
                HOOK.set(Some(hook.clone()));
                MADE.with(|_| ());
            }
        }
        tls::set("last", hook.value());
        assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
    }
}

/// Fails unless every value that was made was dropped, once, and the hook has run.
#[track_caller]
fn check(hook: &Hook, place: Place) {
    assert!(hook.has_run(), "{place:?}: nobody was there");
    assert!(hook.made.get() >= 2);
    assert_eq!(hook.values.get(), hook.made.get(), "{place:?}");
}

/// A coroutine waits in the middle, and all others of its worker use their stores there as well.
#[test]
fn tls_user_code_may_suspend_anywhere() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        for place in PLACES {
            let (inside, gate) = (Counter::default(), Gate::default());
            let waiters: Vec<_> = (0..3).map(|_| waiter(runtime, place, &inside, &gate)).collect();
            // All three are in the middle. They could not be if one of them had locked anything.
            inside.wait_for(3);
            let other = Hook::new(coro::yield_now);
            let visitor = other.clone();
            runtime.go(move || place.visit(&visitor)).join().unwrap();
            check(&other, place);
            assert!(waiters.iter().all(|(_, handle)| !handle.is_finished()), "{place:?}");
            gate.open();
            for (hook, handle) in waiters {
                handle.join().unwrap();
                check(&hook, place);
            }
        }
    });
}

/// Spawns a coroutine that goes to `place` and waits there for the gate.
fn waiter(
    runtime: &Runtime,
    place: Place,
    inside: &Counter,
    gate: &Gate,
) -> (Hook, coro::JoinHandle<()>) {
    let (inside, gate) = (inside.clone(), gate.clone());
    let hook = Hook::new(move || {
        let id = tls::id();
        inside.add();
        gate.pass();
        assert_eq!(tls::id(), id);
    });
    let visitor = hook.clone();
    (hook, runtime.go(move || place.visit(&visitor)))
}

#[test]
fn tls_user_code_may_be_cancelled_anywhere() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        for place in PLACES {
            let (inside, gate) = (Counter::default(), Gate::default());
            let (hook, handle) = waiter(runtime, place, &inside, &gate);
            inside.wait_for(1);
            handle.cancel();
            // It is never opened: the cancellation must get everybody out.
            let outcome = handle.join();
            // After the body's end the cancellation is caught where it belongs, in cleanup; and so it is
            // in the functions that let no panic out.
            let quiet = matches!(
                place,
                Place::DropInCleanup
                    | Place::Handler
                    | Place::DropInReset
                    | Place::DropInUnload
                    | Place::DropOfHandler
                    | Place::EqAfterScope
            );
            match outcome {
                Ok(()) => assert!(quiet, "{place:?}"),
                Err(JoinError::Cancelled) => assert!(!quiet, "{place:?}"),
                Err(error) => panic!("{place:?}: {error}"),
            }
            check(&hook, place);
        }
    });
}

/// To unload in the middle leaves nothing armed, and yet what is stored afterwards is cleaned up.
#[test]
fn tls_user_code_may_unload_anywhere() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        for place in PLACES {
            for twice in [false, true] {
                let hook = Hook::new(move || {
                    tls::unload();
                    if twice {
                        tls::set("in between", 1);
                        tls::unload();
                    }
                });
                let visitor = hook.clone();
                runtime.go(move || place.visit(&visitor)).join().unwrap();
                check(&hook, place);
            }
        }
    });
}

/// As above, and nothing is stored after the operation in the middle of which it was unloaded.
#[test]
fn tls_what_an_unloaded_operation_stores_is_cleaned_up() {
    let _watchdog = watchdog();
    type Operation = fn(&Hook);
    let operations: [(&str, Operation); 6] = [
        ("set", |hook| tls::set(hook.key(1, Calls::InEq), hook.value())),
        ("set_inheritable", |hook| {
            tls::set_inheritable(hook.key(1, Calls::InEq), Heir(Arc::new(hook.value())));
        }),
        ("scope", |hook| {
            tls::scope(hook.key(1, Calls::InEq), hook.value(), || {
                tls::set("inside", hook.value());
            });
        }),
        ("local", |hook| {
            HOOK.set(Some(hook.clone()));
            MADE.with(|_| ());
        }),
        ("heirlooms", |hook| {
            let source = hook.clone();
            let heir = common::raw::<(), (), _>(64 << 10, move |_, ()| {
                tls::set_inheritable(1, Heir(Arc::new(source.value())));
                tls::set_inheritable(2, Heir(Arc::new(source.value())));
                let install: Action = Box::new(tls::inherit(|| ()));
                install
            })
            .unwrap();
            let State::Done(install) = heir.resume(()) else { unreachable!() };
            tls::set(1, hook.acting());
            install();
        }),
        ("replace by set", |hook| {
            tls::set(1, hook.acting());
            tls::set(1, hook.value());
        }),
    ];
    on_workers(|runtime, _| {
        for (name, operate) in operations {
            let hook = Hook::new(tls::unload);
            let inside = hook.clone();
            runtime
                .go(move || {
                    // What the key is compared with.
                    tls::set(inside.key(1, Calls::Never), inside.value());
                    operate(&inside);
                })
                .join()
                .unwrap();
            assert!(hook.has_run(), "{name}");
            assert_eq!(hook.values.get(), hook.made.get(), "{name}");
        }
    });
}

#[test]
fn tls_code_in_a_raw_coroutine_suspends_its_task() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        for place in PLACES {
            let (inside, gate) = (Counter::default(), Gate::default());
            let (arrived, door) = (inside.clone(), gate.clone());
            let hook = Hook::new(move || {
                arrived.add();
                door.pass();
            });
            let visitor = hook.clone();
            let task = runtime.go(move || {
                tls::set("bystander", "of the task");
                let raw = common::raw::<(), (), ()>(64 << 10, move |_, ()| place.visit(&visitor));
                assert_eq!(raw.unwrap().resume(()), State::Done(()));
                assert_eq!(*tls::get::<&str>("bystander").unwrap(), "of the task");
            });
            inside.wait_for(1);
            let opened = gate.clone();
            runtime.go(move || opened.open()).join().unwrap();
            task.join().unwrap();
            check(&hook, place);
        }
    });
}
