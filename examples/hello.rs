//! The first example of the README: a coroutine, what it stores, and what happens when it ends.

use coro::{go, tls};

fn main() {
    let handle = go(|| {
        tls::set("user", "Ada");
        tls::at_exit(|| println!("goodbye, {}", *tls::get::<&str>("user").unwrap()));
        println!("hello, {}", *tls::get::<&str>("user").unwrap());
        6 * 7
    });
    println!("it returned {}", handle.join().unwrap());
}
