//! What hyper wants of a runtime, by coro: to run futures, and to be told the time. (The third thing is a connection.
//! That is coro's `TcpStream` itself, by its feature `hyper`.)

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use coro::{chan, go, wait};
use hyper::rt::{Executor, Sleep, Timer};

#[derive(Clone, Copy, Debug)]
pub struct Coroutines;

/// A coroutine for each future. With HTTP/2 that is one for each request.
impl<F: Future + Send + 'static> Executor<F> for Coroutines {
    fn execute(&self, future: F) {
        go(move || drop(wait(future)));
    }
}

impl Timer for Coroutines {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let time = chan::at(deadline);
        Box::pin(Sleeping(Box::pin(async move { _ = time.recv_async().await })))
    }
}

struct Sleeping(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for Sleeping {}
