//! A chat on tungstenite: what one client says, all are told.
//!
//! ```text
//! websocket 127.0.0.1:9000
//! ```
//!
//! A WebSocket of tungstenite is one value that both reads and writes, so it cannot be split between two coroutines.
//! It need not be: one coroutine a client waits for its client and for the others at once, by `select!`. For that the
//! socket gives `WouldBlock` in place of waits, which tungstenite is made for.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coro::chan::{Receiver, Sender, bounded, tick};
use coro::net::{self, TcpListener, TcpStream};
use coro::sync::Mutex;
use coro::{select, timeout, tls};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, Result, WebSocket};

/// For a client to say that it is one.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Between two pings. A client that is gone without a word is noticed by them.
const PING: Duration = Duration::from_secs(30);

/// Messages that a client may have before it. One that is further behind is told to leave.
const BEHIND: usize = 1024;

/// Bytes of a message, and of those that the kernel has not taken yet. With more of them tungstenite gives an error.
const LONGEST: usize = 64 * 1024;
const UNSENT: usize = 1024 * 1024;

/// Who is there, and how to reach them.
#[derive(Default)]
struct Room {
    members: Mutex<HashMap<tls::Id, Sender<Message>>>,
}

impl Room {
    /// Until the calling coroutine ends, however it does.
    fn enter(self: &Arc<Room>) -> Receiver<Message> {
        let (inbox, messages) = bounded(BEHIND);
        self.members.lock().insert(tls::id(), inbox);
        let room = Arc::clone(self);
        tls::at_exit(move || drop(room.members.lock().remove(&tls::id())));
        messages
    }

    /// Never waits. A member whose inbox is full has none afterwards, and finds that out.
    fn tell(&self, message: &Message) {
        self.members.lock().retain(|_, inbox| inbox.try_send(message.clone()).is_ok());
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let room = Arc::new(Room::default());
    net::serve(listener, move |stream, from| match serve_client(stream, from, &room) {
        Ok(()) | Err(Error::ConnectionClosed) => {}
        Err(error) => eprintln!("{from}: {error}"),
    })
    .join()
}

fn serve_client(stream: TcpStream, from: SocketAddr, room: &Arc<Room>) -> Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(UNSENT)
        .max_message_size(Some(LONGEST));
    // Here the socket waits, as any other: there is nothing to do besides.
    let accept = || tungstenite::accept_with_config(stream, Some(config)).ok();
    let Ok(Some(mut socket)) = timeout(HANDSHAKE, accept) else { return Ok(()) };
    socket.get_ref().set_nonblocking(true)?;
    let messages = room.enter();
    room.tell(&format!("{from} has come").into());
    let talked = talk(&mut socket, from, &messages, room);
    room.tell(&format!("{from} has left").into());
    talked
}

fn talk(
    socket: &mut WebSocket<TcpStream>,
    from: SocketAddr,
    messages: &Receiver<Message>,
    room: &Room,
) -> Result<()> {
    let ping = tick(PING);
    loop {
        for message in messages.try_iter() {
            unless_blocked(socket.write(message))?;
        }
        let all_sent = unless_blocked(socket.flush())?.is_some();
        // tungstenite reads ahead: before it says that there is nothing, it makes no sense to wait for the socket.
        if let Some(message) = unless_blocked(socket.read())? {
            if let Message::Text(text) = message {
                room.tell(&format!("{from}: {text}").into());
            }
            continue;
        }
        let stream = socket.get_ref();
        let message = if all_sent {
            select! {
                readable(stream) => continue,
                recv(messages) -> message => message,
                recv(ping) -> _ => Ok(Message::Ping("".into())),
            }
        } else {
            select! {
                readable(stream) => continue,
                writable(stream) => continue,
                recv(messages) -> message => message,
            }
        };
        let Ok(message) = message else { return Ok(()) }; // it is too far behind
        unless_blocked(socket.write(message))?;
    }
}

/// `None`: it is to be done again when the socket is ready. tungstenite keeps what it has read or written by halves.
fn unless_blocked<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}
