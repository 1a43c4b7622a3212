//! A service to look on at: clients that wait for requests, requests that wait for a database, and one that was
//! forgotten. It goes on until its input ends.
//!
//! ```text
//! CORO_INSPECT=/tmp/shop.sock cargo run -p coro-top --example shop
//! cargo run -p coro-top -- top --socket /tmp/shop.sock
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coro::chan::{Receiver, Sender, bounded};
use coro::sync::Semaphore;
use coro::{Builder, Place, go, inspect};

const CLIENTS: usize = 240;
const ORDERS: usize = 12;
const CONNECTIONS: usize = 2;

/// Serves one client: adds up what it sends.
fn serve_client(requests: &Receiver<u64>) -> u64 {
    inspect::label("route", "GET /basket");
    requests.iter().sum()
}

/// Waits for a connection to the database.
fn place_order(database: &Semaphore) {
    drop(database.acquire());
}

/// Has what it waits for sent by nobody.
fn wait_for_a_receipt() {
    coro::park();
}

/// A request for each client in turn, some hundred a second, and now and then a client that comes and goes.
fn send_requests(clients: &[Sender<u64>]) {
    for (number, client) in clients.iter().cycle().enumerate() {
        client.send(number as u64).expect("it is served");
        if number.is_multiple_of(8) {
            go(|| std::hint::black_box((0..150_000u64).sum::<u64>()));
            coro::sleep(Duration::from_millis(10));
        }
    }
}

fn main() -> io::Result<()> {
    let client = || {
        let (send, requests) = bounded(1);
        let client = Builder::new().name("client").place(Place::Balanced);
        client.spawn(move || serve_client(&requests)).map(|_| send)
    };
    let clients = (0..CLIENTS).map(|_| client()).collect::<io::Result<Vec<_>>>()?;
    let database = Arc::new(Semaphore::new(CONNECTIONS));
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| database.acquire()).collect();
    for number in 0..ORDERS {
        let database = Arc::clone(&database);
        go(move || {
            inspect::label("order", number);
            place_order(&database);
        });
    }
    Builder::new().name("receipt").spawn(wait_for_a_receipt)?;
    Builder::new().name("requests").spawn(move || send_requests(&clients))?;
    println!("it runs");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    drop(connections);
    Ok(())
}
