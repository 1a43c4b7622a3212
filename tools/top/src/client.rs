//! One request, one answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};

use crate::process;
use crate::report::{Counts, Dump, Snapshot};

/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// No answer is longer: the process bounds what it tells.
const LONGEST: u64 = 1 << 30;

/// Asks one process.
pub(crate) struct Client {
    /// The process, if it was named by its id.
    pub(crate) pid: Option<u32>,
    /// The directory that the socket is in, kept open: its path may be longer than the address of a socket has room for.
    directory: OwnedFd,
    name: PathBuf,
}

impl Client {
    /// # Errors
    ///
    /// Why there is no such directory.
    pub(crate) fn new(path: &Path, pid: Option<u32>) -> Result<Client, String> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let name = path.file_name().ok_or_else(|| format!("{}: no file", path.display()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())
            .map_err(|error| format!("{}: {}", path.display(), io::Error::from(error)))?;
        Ok(Client { pid, directory, name: name.into() })
    }

    /// The answer to this request.
    pub(crate) fn ask(&self, request: &str) -> io::Result<String> {
        let directory = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        let mut stream = UnixStream::connect(Path::new(&directory).join(&self.name))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        writeln!(stream, "{request}")?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}"))
            }
            _ => error,
        })?;
        if answer.is_empty() {
            // It has ended, or has no room for a client, or we are somebody else.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
        }
        Ok(answer)
    }

    /// What the process does at the moment.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub(crate) fn look(&self, groups: u16) -> Result<Snapshot, Failure> {
        let look = || -> io::Result<Snapshot> {
            let counts: Counts = serde_json::from_str(&self.ask("metrics")?)?;
            let dump: Dump = serde_json::from_str(&self.ask(&format!("dump {groups}"))?)?;
            Ok(Snapshot { counts, dump })
        };
        look().map_err(|error| self.failure(&error))
    }

    /// What an error means.
    pub(crate) fn failure(&self, error: &io::Error) -> Failure {
        let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
        if nobody.contains(&error.kind()) || self.pid.is_some_and(process::has_ended) {
            Failure::HasEnded
        } else {
            Failure::NoAnswer(error.to_string())
        }
    }
}

/// Why it is not known what the process does.
pub(crate) enum Failure {
    /// Nobody will answer any more.
    HasEnded,
    NoAnswer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::HasEnded => {
                "nobody serves this socket: the process has ended, or has not used a coroutine yet"
            }
            Failure::NoAnswer(why) => why,
        })
    }
}
