//! A server that sends back what it is sent: a coroutine for each connection, written as if it had a thread.
//!
//! ```text
//! cargo run --release --example echo -- 127.0.0.1:7777
//! ```

use std::io::{self, Read, Write};
use std::time::Duration;

use coro::net::{TcpListener, TcpStream, serve};

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// Serves until ctrl-c.
pub(crate) fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let server = serve(listener, |stream, from| {
        if let Err(error) = echo(stream) {
            eprintln!("{from}: {error}");
        }
    });
    coro::signal::ctrl_c()?;
    let cancelled = server.shutdown(Duration::from_secs(1));
    println!("{cancelled} connections were still open");
    Ok(())
}

#[cfg_attr(test, allow(dead_code))]
fn main() -> io::Result<()> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into()))
}
