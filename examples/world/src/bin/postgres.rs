//! PostgreSQL by tokio-postgres, without a runtime of tokio.
//!
//! ```text
//! postgres 'host=127.0.0.1 user=me password=secret dbname=test'
//! ```
//!
//! tokio-postgres makes two things of a connection: a client, of which one asks, and a future, which moves the bytes.
//! A coroutine of its own waits for that future, and each query is a `wait` in straight-line code. By coro's feature
//! `tokio`, its `TcpStream` is the stream that tokio-postgres takes.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use coro::chan::{Receiver, Sender, unbounded};
use coro::net::TcpStream;
use coro::{Elapsed, Wait, go, scope, timeout, wait};
use tokio_postgres::config::Host;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, Notification};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const ACCOUNTS: i32 = 10;

fn main() -> Result<()> {
    let options = std::env::args().nth(1).unwrap_or_else(|| "host=127.0.0.1 user=postgres".into());
    let config: Config = options.parse()?;
    let (client, notices) = connect(&config)?;
    client
        .batch_execute(
            "drop table if exists accounts;
             create table accounts (id int primary key, balance int not null);
             listen transfers",
        )
        .wait()?;

    // Coroutines share a client. Their queries are under way at the same time, on the one connection.
    let insert = client.prepare("insert into accounts values ($1, 100)").wait()?;
    scope(|scope| {
        let (client, insert) = (&client, &insert);
        let rows = (0..ACCOUNTS).map(|id| scope.go(move || client.execute(insert, &[&id]).wait()));
        let rows: Vec<_> = rows.collect();
        rows.into_iter().try_for_each(|row| row.join().expect("it does not panic").map(drop))
    })?;

    // A transaction has a connection to itself.
    scope(|scope| {
        let config = &config;
        let transfers: Vec<_> = (1..ACCOUNTS)
            .map(|from| scope.go(move || transfer(&mut connect(config)?.0, from, 0, 10 * from)))
            .collect();
        transfers.into_iter().try_for_each(|done| done.join().expect("it does not panic"))
    })?;
    let mut told: Vec<String> =
        (1..ACCOUNTS).map(|_| Ok(notices.recv()?.payload().to_owned())).collect::<Result<_>>()?;
    told.sort();
    println!("{}", told.join(", "));

    for row in client.query("select id, balance from accounts order by id", &[]).wait()? {
        println!("{}: {}", row.get::<_, i32>(0), row.get::<_, i32>(1));
    }
    println!("{:?}", give_up(&config, &client)?);
    Ok(())
}

/// A client, and what the server says unasked.
fn connect(config: &Config) -> Result<(Client, Receiver<Notification>)> {
    let (client, connection) = config.connect_raw(dial(config)?, NoTls).wait()?;
    let (sender, notices) = unbounded();
    go(move || drive(connection, &sender));
    Ok((client, notices))
}

fn dial(config: &Config) -> io::Result<TcpStream> {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let stream = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => TcpStream::connect((name.as_str(), port))?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "host=NAME is needed")),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Until the client is dropped, or the connection breaks, which the client's queries say as well.
fn drive(mut connection: Connection<TcpStream, NoTlsStream>, notices: &Sender<Notification>) {
    while let Some(Ok(message)) = wait(poll_fn(|context| connection.poll_message(context))) {
        if let AsyncMessage::Notification(notice) = message {
            // If nobody listens, it is for nobody.
            let _ = notices.send(notice);
        }
    }
}

/// All of it, or nothing: a coroutine that is cancelled in here drops the transaction, which rolls it back.
fn transfer(client: &mut Client, from: i32, to: i32, amount: i32) -> Result<()> {
    let transaction = client.transaction().wait()?;
    let change = transaction.prepare("update accounts set balance = balance + $2 where id = $1");
    let change = change.wait()?;
    transaction.execute(&change, &[&from, &-amount]).wait()?;
    transaction.execute(&change, &[&to, &amount]).wait()?;
    let notice = format!("{from} to {to}");
    transaction.execute("select pg_notify('transfers', $1)", &[&notice]).wait()?;
    transaction.commit().wait()?;
    Ok(())
}

/// A query that takes too long. To give up waiting for it is not enough: the server would go on.
fn give_up(config: &Config, client: &Client) -> Result<Option<String>> {
    let limit = Duration::from_millis(100);
    let mut slow = std::pin::pin!(client.execute("select pg_sleep(3600)", &[]));
    let Err(Elapsed) = timeout(limit, || wait(slow.as_mut())) else { return Ok(None) };
    client.cancel_token().cancel_query_raw(dial(config)?, NoTls).wait()?;
    let cancelled: Result<u64, Error> = wait(slow);
    Ok(cancelled.err().and_then(|error| Some(error.as_db_error()?.message().to_owned())))
}
