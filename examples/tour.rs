//! A first look: identity, storage, exit handlers, the hijacked return address, a panic, a join.

use coro::inspect::exit_target;
use coro::{JoinError, go, tls};

/// Says where the running coroutine's function is going to return to.
fn show_exit(when: &str) {
    println!("  {when}: returns to {:?}", exit_target().expect("we are in a coroutine"));
}

/// Anywhere below a coroutine, without an argument passed along.
fn user() -> String {
    tls::get::<String>("user").map_or(String::from("nobody"), |name| name.to_string())
}

/// Says when it is dropped.
struct Connection;

impl Drop for Connection {
    fn drop(&mut self) {
        println!("  connection closed");
    }
}

fn main() {
    println!("a coroutine with storage");
    let handle = go(|| {
        show_exit("at first");
        tls::set("user", String::from("Ada"));
        show_exit("something stored");
        tls::at_exit(|| println!("  handler registered first, {} is still there", user()));
        tls::at_exit(|| println!("  handler registered last"));
        println!("  hello, {}", user());
        tls::id()
    });
    let id = handle.id();
    let told = handle.join().expect("it does not panic");
    println!("joined, the same id inside and outside: {}", told == id);

    println!("another one");
    let other = go(|| {
        println!("  hello, {}", user());
        tls::set("user", String::from("Grace"));
        tls::unload();
        show_exit("all unloaded");
    });
    let other_id = other.id();
    other.join().expect("it does not panic");
    println!("joined, an id of its own: {}", other_id != id);

    println!("one that panics");
    let panicked = go(|| {
        tls::set("connection", Connection);
        tls::at_exit(|| println!("  handler"));
        // As `panic!`, but without the panic hook's message on stderr.
        std::panic::resume_unwind(Box::new("out of luck"));
    });
    match panicked.join() {
        Err(JoinError::Panicked(why)) => println!("joined: {:?}", why.downcast_ref::<&str>()),
        other => println!("joined: {other:?}"),
    }
    println!("and here, on the main thread: hello, {}", user());
}
