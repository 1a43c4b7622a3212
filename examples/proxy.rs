//! A TCP proxy: what comes on one side goes out on the other, in both directions, each of which ends by itself.
//!
//! ```text
//! cargo run --release --example proxy -- 127.0.0.1:8081 127.0.0.1:8080     # listens at the first, connects to the second
//! ```

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use coro::net::{TcpListener, TcpStream, serve};

/// How long it may take to connect.
const LIMIT: Duration = Duration::from_secs(5);

/// Moves what `from` sends to `to`, and then the end of it. On an error both directions end.
fn forward(from: &TcpStream, to: &TcpStream) -> io::Result<u64> {
    let moved = coro::io::copy(from, to);
    match moved {
        Ok(_) => to.shutdown(Shutdown::Write)?,
        Err(_) => drop(Connected(from, to)),
    }
    moved
}

/// Ends both connections when it is dropped, however the coroutine that has it ends; so the other one ends too.
struct Connected<'a>(&'a TcpStream, &'a TcpStream);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        for stream in [self.0, self.1] {
            // It is refused where the connection is gone.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn proxy(client: TcpStream, upstream: SocketAddr) -> io::Result<(u64, u64)> {
    let server = TcpStream::connect_timeout(&upstream, LIMIT)?;
    coro::scope(|scope| {
        let _connected = Connected(&client, &server);
        let up = scope.go(|| forward(&client, &server));
        let down = forward(&server, &client)?;
        Ok((up.join().expect("it does not panic")?, down))
    })
}

/// Serves until ctrl-c.
pub(crate) fn run(address: &str, upstream: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let server = serve(listener, move |client, from| match proxy(client, upstream) {
        Ok((up, down)) => println!("{from}: {up} bytes up, {down} bytes down"),
        Err(error) => eprintln!("{from}: {error}"),
    });
    coro::signal::ctrl_c()?;
    server.shutdown(LIMIT);
    Ok(())
}

#[cfg_attr(test, allow(dead_code))]
fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, upstream] = &arguments[..] else {
        eprintln!("usage: proxy ADDRESS UPSTREAM");
        std::process::exit(2);
    };
    run(address, upstream.parse().map_err(io::Error::other)?)
}
