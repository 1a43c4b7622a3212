//! A chat: whatever a client says, all others hear. One coroutine for each client waits for both: what the client says,
//! and what it is to hear.
//!
//! ```text
//! cargo run --release --example chat -- 127.0.0.1:7000
//! nc 127.0.0.1 7000
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coro::chan::{Sender, TrySendError, bounded};
use coro::net::{TcpListener, TcpStream, serve};
use coro::sync::Mutex;

/// How many lines a client may be behind. One that is slower is sent away, so that nobody has to wait for it.
const BEHIND: usize = 1000;
const LONGEST_LINE: usize = 4096;

/// Who is there, and how each of them is told.
#[derive(Default)]
struct Room(Mutex<HashMap<SocketAddr, Sender<Arc<str>>>>);

impl Room {
    fn tell(&self, line: &str, except: SocketAddr) {
        let line: Arc<str> = line.into();
        self.0.lock().retain(|address, client| {
            let is_full = || matches!(client.try_send(line.clone()), Err(TrySendError::Full(_)));
            *address == except || !is_full()
        });
    }
}

/// Its drop says good-bye, however the client's coroutine ends.
struct Presence<'a>(&'a Room, SocketAddr);

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
        self.0.tell(&format!("* {} has left\n", self.1), self.1);
    }
}

fn talk(mut stream: TcpStream, address: SocketAddr, room: &Room) -> io::Result<()> {
    let (sender, lines) = bounded(BEHIND);
    room.0.lock().insert(address, sender);
    let _presence = Presence(room, address);
    room.tell(&format!("* {address} has come\n"), address);
    writeln!(stream, "* you are {address}, one of {}", room.0.lock().len())?;
    let mut said = Vec::new();
    loop {
        coro::select! {
            readable(stream) => {
                let mut part = [0; 1024];
                let length = stream.read(&mut part)?;
                said.extend_from_slice(&part[..length]);
                while let Some(end) = said.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = said.drain(..=end).collect();
                    room.tell(&format!("{address}: {}", String::from_utf8_lossy(&line)), address);
                }
                if length == 0 || said.len() > LONGEST_LINE {
                    return Ok(());
                }
            }
            recv(lines) -> line => match line {
                Ok(line) => stream.write_all(line.as_bytes())?,
                Err(_) => return stream.write_all(b"* you are too slow\n"),
            },
        }
    }
}

/// Serves until ctrl-c.
pub(crate) fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let room = Room::default();
    let server = serve(listener, move |stream, address| {
        let _ = stream.set_write_timeout(Some(Duration::from_secs(10)));
        // An error is the end of a connection, of which the others are told.
        let _ = talk(stream, address, &room);
    });
    coro::signal::ctrl_c()?;
    server.shutdown(Duration::ZERO);
    Ok(())
}

#[cfg_attr(test, allow(dead_code))]
fn main() -> io::Result<()> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".into()))
}
