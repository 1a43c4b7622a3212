//! The public functions on plain threads, which have the same store as coroutines. Each test has a
//! thread of its own, and so a store of its own.

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::{local, tls};

/// Sends its word when it is dropped.
struct Sent(&'static str, Sender<&'static str>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.1.send(self.0).expect("the test listens");
    }
}

/// What `f` sends on a thread of its own until that thread is gone.
fn sent_by(f: impl FnOnce(Sender<&'static str>) + Send + 'static) -> Vec<&'static str> {
    let (sender, receiver) = channel();
    thread::spawn(move || f(sender)).join().expect("no panic");
    receiver.iter().collect()
}

fn drain<T>(receiver: &Receiver<T>) -> Vec<T> {
    receiver.try_iter().collect()
}

#[test]
fn a_thread_is_cleaned_up_when_it_ends() {
    let sent = sent_by(|sender| {
        tls::set(1, Sent("first value", sender.clone()));
        tls::set(2, Sent("second value", sender.clone()));
        let last = sender.clone();
        tls::at_exit(move || {
            assert!(tls::get::<Sent>(1).is_some());
            last.send("last handler").unwrap();
        });
        tls::at_exit(move || sender.send("first handler").unwrap());
    });
    assert_eq!(sent, ["first handler", "last handler", "second value", "first value"]);
}

#[test]
fn threads_share_nothing() {
    tls::set("key", 1);
    let other = thread::spawn(|| {
        let found = tls::get::<i32>("key").is_some();
        tls::set("key", 2);
        (found, tls::id())
    });
    let (found, id) = other.join().unwrap();
    assert!(!found);
    assert_ne!(id, tls::id());
    assert_eq!(tls::take("key"), Some(1));
}

#[test]
fn a_value_of_another_type_is_told_from_none() {
    let told = |found: Result<Option<tls::Data<u32>>, _>| found.map(|found| found.map(|n| *n));
    assert_eq!(told(tls::try_get("retries")), Ok(None));
    tls::set("retries", 3u32);
    assert_eq!(told(tls::try_get("retries")), Ok(Some(3)));
    tls::set("retries", 3);
    let error = told(tls::try_get("retries")).unwrap_err();
    assert_eq!((error.stored(), error.wanted()), ("i32", "u32"));
    // To ask for the wrong type changes nothing, and the store is the only one that holds the value.
    assert!(tls::get::<u32>("retries").is_none() && tls::take::<u32>("retries").is_none());
    tls::scope("retries", 4u32, || assert_eq!(told(tls::try_get("retries")), Ok(Some(4))));
    tls::scope("retries", "four", || {
        let error = told(tls::try_get("retries")).unwrap_err();
        assert_eq!(error.to_string(), "the value stored under this key is of type &str, not u32");
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        assert!(error.is::<tls::WrongType>());
    });
    assert_eq!(tls::take("retries"), Some(3));
    assert_eq!(told(tls::try_get("retries")), Ok(None));
    // Beyond the first few, values are found by their hash.
    (0..20).for_each(|n| tls::set(n, n));
    assert!((0..20).all(|n| tls::try_get::<i32>(n).is_ok_and(|found| found.is_some())));
    assert!((0..20).all(|n| tls::try_get::<u32>(n).is_err()));
    // An inherited value keeps its type.
    tls::set_inheritable("depth", 1u8);
    let inherits = tls::inherit(|| tls::try_get::<i8>("depth").map(|_| ()).unwrap_err().stored());
    assert_eq!(thread::spawn(inherits).join().unwrap(), "u8");
}

#[test]
fn unload_forgets_everything_and_changes_the_id() {
    let (sender, receiver) = channel();
    let id = tls::id();
    tls::set(1, Sent("value", sender.clone()));
    let captured = Sent("captured", sender);
    tls::at_exit(move || {
        let _captured = captured;
        unreachable!("unloaded");
    });
    tls::unload();
    assert_eq!(drain(&receiver), ["captured", "value"]);
    assert_ne!(tls::id(), id);
    assert_eq!(tls::id(), tls::id());
}

#[test]
fn a_key_that_panics_when_it_is_dropped_costs_no_value() {
    #[derive(PartialEq, Eq, Hash)]
    struct Brittle(bool);
    impl Drop for Brittle {
        fn drop(&mut self) {
            assert!(!BREAK.take(), "a key's Drop that panics");
        }
    }
    thread_local!(static BREAK: Cell<bool> = const { Cell::new(false) });
    let breaks = |f: &dyn Fn()| {
        BREAK.set(true);
        catch_unwind(AssertUnwindSafe(f)).is_err()
    };
    let (sender, receiver) = channel();
    tls::set(Brittle(true), Sent("one", sender.clone()));
    assert!(breaks(&|| drop(tls::get::<Sent>(Brittle(true)))));
    assert!(breaks(&|| drop(tls::try_get::<Sent>(Brittle(true)))));
    assert!(breaks(&|| assert!(!tls::del(Brittle(false)))));
    assert_eq!(drain(&receiver), [""; 0]);
    // Nobody holds it, or this would be `None`.
    assert!(tls::take::<Sent>(Brittle(true)).is_some());
    assert_eq!(drain(&receiver), ["one"]);
    tls::set(Brittle(true), Sent("two", sender.clone()));
    assert!(breaks(&|| drop(tls::take::<Sent>(Brittle(true)))));
    assert_eq!(drain(&receiver), ["two"]);
    tls::set(Brittle(true), Sent("three", sender.clone()));
    assert!(breaks(&|| tls::set(Brittle(true), Sent("four", sender.clone()))));
    assert_eq!(drain(&receiver), ["three"]);
    assert!(tls::del(Brittle(true)));
    assert_eq!(drain(&receiver), ["four"]);
}

#[test]
fn a_scope_ends_with_a_panic_too() {
    let (sender, receiver) = channel();
    tls::set("key", "before");
    let scoped = Sent("scoped", sender.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        tls::scope("key", scoped, || {
            tls::set("key", Sent("replaced", sender.clone()));
            tls::scope("key", 3, || panic!("in the scope"))
        })
    }));
    assert!(outcome.is_err());
    assert_eq!(*tls::get::<&str>("key").unwrap(), "before");
    assert_eq!(drain(&receiver), ["scoped", "replaced"]);
}

#[test]
fn a_scope_swallows_a_second_panic() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a value's Drop that panics");
        }
    }
    let unwinding = catch_unwind(|| tls::scope("key", Bomb, || panic!("the first")));
    assert_eq!(unwinding.unwrap_err().downcast_ref::<&str>(), Some(&"the first"));
    let returning = catch_unwind(|| tls::scope("key", Bomb, || ()));
    assert_eq!(returning.unwrap_err().downcast_ref::<&str>(), Some(&"a value's Drop that panics"));
    assert!(!tls::del("key"));
}

#[test]
fn a_scope_survives_unload() {
    tls::set("key", "before");
    tls::scope("key", "scoped", tls::unload);
    assert_eq!(*tls::get::<&str>("key").unwrap(), "before");
}

#[test]
fn inheritance_needs_no_coroutine() {
    tls::set_inheritable("handed down", String::from("handed on"));
    tls::set("kept", 1);
    let look = || {
        let word = tls::get::<String>("handed down").map(|word| word.to_string());
        (word, tls::get::<i32>("kept").is_some())
    };
    let inherited = thread::spawn(tls::inherit(look)).join().unwrap();
    assert_eq!(inherited, (Some(String::from("handed on")), false));
    assert_eq!(thread::spawn(look).join().unwrap(), (None, false));
}

local! {
    /// With attributes and a visibility.
    pub(crate) static COUNTED: Cell<u32> = const { Cell::new(7) };
    static WORDS: RefCell<Vec<&'static str>> = RefCell::new(vec!["a"]);
    static RECURSIVE: u32 = {
        if tls::get::<()>("inner").is_none() {
            tls::set("inner", ());
            assert_eq!(RECURSIVE.with(|inner| *inner), 1);
            2
        } else {
            1
        }
    };
    static TEXT: String = String::from("text")
}
local! {}
local!(static LAST: Cell<bool> = const { Cell::new(false) });

#[test]
fn a_local_is_initialised_once_in_each_store() {
    assert_eq!((COUNTED.get(), COUNTED.replace(8), COUNTED.take()), (7, 7, 8));
    assert_eq!(thread::spawn(|| COUNTED.get()).join().unwrap(), 7);
    assert_eq!(COUNTED.get(), 0);
    tls::reset();
    assert_eq!(COUNTED.get(), 7);
    LAST.set(true);
    assert!(LAST.get());
}

#[test]
fn a_local_may_use_itself_in_its_initialiser() {
    assert_eq!(RECURSIVE.with(|outer| *outer), 2);
    assert_eq!(RECURSIVE.with(|outer| *outer), 2);
}

#[test]
fn a_local_whose_initialiser_panics_is_initialised_anew() {
    local!(static FRAGILE: u32 = tls::take::<u32>("number").expect("a number"));
    assert!(catch_unwind(|| FRAGILE.with(|_| ())).is_err());
    tls::set("number", 5u32);
    assert_eq!(FRAGILE.with(|number| *number), 5);
}

#[test]
fn the_value_of_a_local_stays_while_it_is_used() {
    let length = TEXT.with(|text| {
        tls::unload();
        assert!(TEXT.with(|fresh| !std::ptr::eq(fresh, text)));
        text.len()
    });
    assert_eq!(length, 4);
}

#[test]
fn a_local_that_is_borrowed_panics_as_std_does() {
    WORDS.with_borrow(|words| {
        assert!(catch_unwind(|| WORDS.set(vec![])).is_err());
        assert!(catch_unwind(|| WORDS.take()).is_err());
        assert_eq!(words, &["a"]);
    });
    assert_eq!(WORDS.replace(vec!["b"]), ["a"]);
    assert_eq!(WORDS.with_borrow_mut(Vec::pop), Some("b"));
}

/// Uses everything when it is dropped by its thread, which is after the thread's cleanup.
struct Late(Sender<&'static str>);

impl Drop for Late {
    fn drop(&mut self) {
        let say = |word| self.0.send(word).unwrap();
        assert_eq!(tls::id(), tls::id());
        tls::set("key", Sent("dropped at once", self.0.clone()));
        assert!(tls::get::<Sent>("key").is_none() && tls::get::<i32>("early").is_none());
        assert!(tls::take::<i32>("early").is_none() && !tls::del("early"));
        let at_exit = self.0.clone();
        tls::at_exit(move || at_exit.send("run at once").unwrap());
        tls::scope("key", 1, || assert!(tls::get::<i32>("key").is_none()));
        assert_eq!(tls::inherit(|| 5)(), 5);
        tls::reset();
        tls::unload();
        assert_eq!(TEXT.try_with(|_| ()), Err(tls::AccessError));
        let denied = catch_unwind(|| COUNTED.set(1)).unwrap_err();
        assert_eq!(denied.downcast_ref::<String>().unwrap(), &tls::AccessError.to_string());
        say("done");
    }
}

#[test]
fn after_cleanup_nothing_is_kept_and_nothing_panics() {
    thread_local!(static LATE: OnceCell<Late> = const { OnceCell::new() });
    let sent = sent_by(|sender| {
        // Registered before our own, so dropped after it.
        LATE.with(|late| assert!(late.set(Late(sender)).is_ok()));
        tls::set("early", 1);
        TEXT.with(|_| ());
    });
    assert_eq!(sent, ["dropped at once", "run at once", "done"]);
}

#[test]
fn what_a_destructor_of_the_thread_stores_first_is_cleaned_up() {
    struct Storing(Sender<&'static str>);
    impl Drop for Storing {
        fn drop(&mut self) {
            tls::set("key", Sent("cleaned up", self.0.clone()));
            self.0.send("stored").unwrap();
        }
    }
    thread_local!(static STORING: OnceCell<Storing> = const { OnceCell::new() });
    let sent = sent_by(|sender| {
        STORING.with(|storing| assert!(storing.set(Storing(sender)).is_ok()));
    });
    assert_eq!(sent, ["stored", "cleaned up"]);
}
