//! redis' way to its server, by coro: a connection, a pool of them, and a subscription.
//!
//! The commands, their encoding and that of the answers are redis' own. A connection has to send bytes and read answers.

use std::io::Write;
use std::ops::{Deref, DerefMut};

use coro::chan::{Receiver, Sender, bounded};
use coro::net::TcpStream;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ConnectionLike, ErrorKind, Msg, Parser,
    RedisResult, Value, cmd,
};

pub struct Connection {
    stream: TcpStream,
    parser: Parser,
    db: i64,
    /// All that was asked was answered. It is false after an error, and also after a cancellation or a timeout in the
    /// midst of a request: the answer would be taken for that of the next one.
    is_idle: bool,
}

impl Connection {
    pub fn open(info: &ConnectionInfo) -> RedisResult<Connection> {
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err((ErrorKind::InvalidClientConfig, "it is reached by TCP only").into());
        };
        let stream = TcpStream::connect((host.as_str(), *port))?;
        stream.set_nodelay(true)?;
        let settings = info.redis_settings();
        let parser = Parser::new();
        let mut connection = Connection { stream, parser, db: settings.db(), is_idle: true };
        if let Some(password) = settings.password() {
            cmd("AUTH").arg(settings.username()).arg(password).exec(&mut connection)?;
        }
        if settings.db() != 0 {
            cmd("SELECT").arg(settings.db()).exec(&mut connection)?;
        }
        Ok(connection)
    }

    /// What is published on a channel, from now on.
    pub fn subscribe(mut self, channel: &str) -> RedisResult<Messages> {
        self.req_command(Cmd::new().arg("SUBSCRIBE").arg(channel))?.extract_error()?;
        Ok(Messages { connection: self })
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        let mut answers = self.req_packed_commands(command, 0, 1)?;
        Ok(answers.pop().expect("there is one answer to a command"))
    }

    /// The first `skipped` answers say that the commands of a transaction are queued.
    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        skipped: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.is_idle = false;
        self.stream.write_all(commands)?;
        let mut answer = || self.parser.parse_value(&mut self.stream);
        let queued = (0..skipped).map(|_| answer()).collect::<RedisResult<Vec<Value>>>()?;
        let answers = (0..count).map(|_| answer()).collect::<RedisResult<Vec<Value>>>()?;
        self.is_idle = true;
        queued.into_iter().try_for_each(|value| value.extract_error().map(drop))?;
        Ok(answers)
    }

    fn get_db(&self) -> i64 {
        self.db
    }

    fn check_connection(&mut self) -> bool {
        cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.is_idle
    }
}

/// Made by [`Connection::subscribe`]. It has no end.
pub struct Messages {
    connection: Connection,
}

impl Iterator for Messages {
    type Item = RedisResult<Msg>;

    fn next(&mut self) -> Option<RedisResult<Msg>> {
        let Connection { parser, stream, .. } = &mut self.connection;
        loop {
            match parser.parse_value(&mut *stream).map(Msg::from_owned_value).transpose() {
                None => {} // it is about the subscription
                message => return message,
            }
        }
    }
}

/// So many connections, for any number of coroutines. A channel holds the places: one that is empty is for a connection
/// that is to be opened.
pub struct Pool {
    info: ConnectionInfo,
    free: Sender<Option<Connection>>,
    places: Receiver<Option<Connection>>,
}

impl Pool {
    pub fn new(url: &str, size: usize) -> RedisResult<Pool> {
        let info = Client::open(url)?.get_connection_info().clone();
        let (free, places) = bounded(size);
        (0..size).for_each(|_| free.send(None).expect("there is a receiver"));
        Ok(Pool { info, free, places })
    }

    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Waits for a place, and connects if nobody did before.
    pub fn get(&self) -> RedisResult<Pooled<'_>> {
        let connection = self.places.recv().expect("there is a sender");
        // From here on the place is given back, also if this is cancelled while it connects.
        let mut pooled = Pooled { pool: self, connection };
        if pooled.connection.is_none() {
            pooled.connection = Some(Connection::open(&self.info)?);
        }
        Ok(pooled)
    }
}

/// A connection, which goes back to its pool when this is dropped; made by [`Pool::get`].
pub struct Pooled<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

const OPEN: &str = "it is there from `get` to the drop";

impl Deref for Pooled<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect(OPEN)
    }
}

/// By this it is `ConnectionLike` too.
impl DerefMut for Pooled<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect(OPEN)
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take().filter(Connection::is_open);
        // The channel has room: it has as many places as the pool.
        let _ = self.pool.free.try_send(connection);
    }
}
