//! Clients, each within its limits.
//!
//! No client is waited for: the thread waits for whoever is ready first, and takes a few clients at a time. A client has a
//! while to send its request, and to take its answer. So one that hangs holds up no other, and is forgotten.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SendFlags, send};

use super::request::{LONGEST, Request, refusal};

/// How many clients are served at a time. Others wait until one of these has gone.
const CLIENTS: usize = 8;

/// How long a client may take to ask, and then to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client is not accepted where the process has no descriptor for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever.
pub(super) fn serve(listener: &UnixListener, answer: fn(Request) -> String) {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let has_room = clients.len() < CLIENTS;
        let is_asked_for = wait(listener, &clients, has_room);
        if has_room && is_asked_for {
            match accept(listener) {
                Ok(client) => clients.extend(client),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        clients.retain_mut(|client| client.go_on(answer) == Progress::Waits);
    }
}

/// Waits until something can be done. True: somebody may be there to be accepted.
fn wait(listener: &UnixListener, clients: &[Client], has_room: bool) -> bool {
    let listening = if has_room { PollFlags::IN } else { PollFlags::empty() };
    let mut waited_for = vec![PollFd::new(listener, listening)];
    waited_for.extend(clients.iter().map(|client| PollFd::new(&client.stream, client.waits_for())));
    let first = clients.iter().map(|client| client.deadline).min();
    let left = first.map(|first| first.saturating_duration_since(Instant::now()));
    let limit = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut waited_for, limit.as_ref()) {
        Ok(_) => !waited_for[0].revents().is_empty(),
        Err(Errno::INTR) => false,
        Err(_) => {
            std::thread::sleep(PAUSE); // no memory
            true
        }
    }
}

/// The next client, if there is one and it is the process's own user, or root.
fn accept(listener: &UnixListener) -> io::Result<Option<Client>> {
    let stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_nonblocking(true)?;
    // SAFETY: S8, it takes nothing.
    let own = unsafe { libc::geteuid() };
    let peer = socket_peercred(&stream)?.uid.as_raw();
    let is_allowed = peer == own || peer == 0;
    let client = Client {
        stream,
        state: ClientState::Asks(Vec::new()),
        deadline: Instant::now() + PATIENCE,
    };
    Ok(is_allowed.then_some(client))
}

struct Client {
    stream: UnixStream,
    state: ClientState,
    /// Then it is forgotten.
    deadline: Instant,
}

enum ClientState {
    /// It has sent this part of its request.
    Asks(Vec<u8>),
    /// It has taken so many bytes of its answer.
    Takes(String, usize),
}

/// What becomes of a client.
#[derive(PartialEq)]
enum Progress {
    Waits,
    HasEnded,
}

impl Client {
    fn waits_for(&self) -> PollFlags {
        match self.state {
            ClientState::Asks(_) => PollFlags::IN,
            ClientState::Takes(..) => PollFlags::OUT,
        }
    }

    /// Does what can be done without waiting.
    fn go_on(&mut self, answer: fn(Request) -> String) -> Progress {
        let outcome = match &mut self.state {
            ClientState::Asks(part) => match read(&self.stream, part) {
                Ok(true) => {
                    let text = Self::answer(part, answer);
                    self.state = ClientState::Takes(text + "\n", 0);
                    self.deadline = Instant::now() + PATIENCE;
                    return self.go_on(answer);
                }
                Ok(false) => Ok(Progress::HasEnded),
                Err(error) => Err(error),
            },
            ClientState::Takes(text, taken) => write(&self.stream, text.as_bytes(), taken),
        };
        match outcome {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < self.deadline =>
            {
                Progress::Waits
            }
            Ok(Progress::Waits) => Progress::Waits,
            _ => {
                self.end();
                Progress::HasEnded
            }
        }
    }

    fn end(&self) {
        // The answer would end with an error if there was something left to read.
        let (mut left, mut buffer) = (&self.stream, [0; 4096]);
        for _ in 0..16 {
            if !matches!(left.read(&mut buffer), Ok(1..)) {
                break;
            }
        }
        // A process that was forked meanwhile has the descriptor too, and must not keep the client waiting.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn answer(asked: &[u8], answer: fn(Request) -> String) -> String {
        let line = asked.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.len() > LONGEST {
            return refusal(&format!("a request is at most {LONGEST} bytes"));
        }
        match Request::parse(line) {
            Ok(request) => answer(request),
            Err(why) => refusal(why),
        }
    }
}

/// Reads until a line is there, or more than one may be long, or the end. False: the client has gone and has asked
/// nothing.
fn read(mut stream: &UnixStream, part: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; LONGEST + 1];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(!part.is_empty()),
            Ok(length) => part.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if part.contains(&b'\n') || part.len() > LONGEST {
            return Ok(true);
        }
    }
}

/// Writes what the client takes.
fn write(stream: &UnixStream, text: &[u8], taken: &mut usize) -> io::Result<Progress> {
    while *taken < text.len() {
        // Without the signal that a client's end would be otherwise.
        match send(stream, &text[*taken..], SendFlags::NOSIGNAL) {
            Ok(length) => *taken += length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Progress::HasEnded)
}
