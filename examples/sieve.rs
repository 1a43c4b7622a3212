//! Go's prime sieve: a chain of filters, each a coroutine of its own, and a channel between two of them.
//!
//! ```text
//! cargo run --release --example sieve             # the first 20 primes
//! cargo run --release --example sieve -- 2000     # the 2,000th prime is the last that is printed
//! ```
//!
//! The first number that comes out of a filter's channel is a prime. It makes the next filter, which lets through what
//! that prime does not divide. The channels are rendezvous, so the whole chain works on demand: when `main` has its
//! primes, it drops its receiver, each filter finds its channel closed, and the chain ends from its end.

use std::env;
use std::process::ExitCode;

use coro::chan::{Receiver, bounded};
use coro::{Runtime, go};

/// The numbers from 2 on.
fn generate() -> Receiver<u64> {
    let (sender, numbers) = bounded(0);
    go(move || (2..).try_for_each(|number| sender.send(number)));
    numbers
}

/// Those of `numbers` that `prime` does not divide.
fn filter(numbers: Receiver<u64>, prime: u64) -> Receiver<u64> {
    let (sender, left) = bounded(0);
    go(move || {
        numbers.iter().filter(|number| number % prime != 0).try_for_each(|n| sender.send(n))
    });
    left
}

/// The first `count` primes.
fn primes(count: usize) -> Vec<u64> {
    let mut numbers = generate();
    let mut primes = Vec::with_capacity(count);
    while primes.len() < count {
        let prime = numbers.recv().expect("there is always a next prime");
        primes.push(prime);
        numbers = filter(numbers, prime);
    }
    primes
}

fn main() -> ExitCode {
    let count = match env::args().nth(1).map(|count| count.parse()) {
        None => 20,
        Some(Ok(count)) => count,
        Some(Err(error)) => {
            eprintln!("sieve: how many primes? {error}");
            return ExitCode::FAILURE;
        }
    };
    // A chain is passed through one number at a time, so a second thread would only be in the way.
    let runtime = Runtime::builder().workers(1).build().expect("a worker thread");
    let primes = runtime.go(move || primes(count)).join().expect("it does not panic");
    let primes: Vec<_> = primes.iter().map(u64::to_string).collect();
    println!("{}", primes.join(" "));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_primes() {
        assert_eq!(super::primes(10), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert_eq!(super::primes(0), []);
    }
}
