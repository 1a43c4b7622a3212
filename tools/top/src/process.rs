//! From a process to its socket.
//!
//! The path may be relative, and the process may have another root, as in a container, and another id of its own there.
//! `/proc` has all three.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::client::Client;

/// A client of this process.
///
/// # Errors
///
/// Why there is none, and what to do about it.
pub(crate) fn client(pid: u32) -> Result<Client, String> {
    let home = PathBuf::from(format!("/proc/{pid}"));
    let environment = fs::read(home.join("environ")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no process {pid}"),
        io::ErrorKind::PermissionDenied => {
            format!("process {pid} is another user's: run this as that user, or as root")
        }
        _ => format!("process {pid}: {error}"),
    })?;
    let value = variable(&environment).ok_or_else(|| {
        format!(
            "process {pid} was started without CORO_INSPECT; start it with \
             CORO_INSPECT=/tmp/coro-%p.sock, say. If it sets that variable itself: --socket PATH"
        )
    })?;
    let path = expand(value, &own_id(&home).unwrap_or_else(|| pid.to_string()));
    let client = Client::new(&under(&home, Path::new(OsStr::from_bytes(&path))), Some(pid))?;
    // An answer, or why there is none.
    client.ask("metrics").map_err(|error| {
        let path = String::from_utf8_lossy(&path);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
                "process {pid} does not serve {path}: it has not used a coroutine yet, or says why on its stderr"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("process {pid} serves {path} to its own user alone: run this as that user, or as root")
            }
            _ => format!("process {pid}, {path}: {error}"),
        }
    })?;
    Ok(client)
}

/// The value of `CORO_INSPECT` in an environment, as `/proc` has it.
fn variable(environment: &[u8]) -> Option<&[u8]> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"CORO_INSPECT="))?;
    (!value.is_empty()).then_some(value)
}

/// The path, as the process has made it of the variable.
fn expand(value: &[u8], id: &str) -> Vec<u8> {
    let (mut path, mut rest) = (Vec::new(), value);
    while let Some((first, others)) = rest.split_first() {
        match (first, others.first()) {
            (b'%', Some(b'p')) => path.extend_from_slice(id.as_bytes()),
            (b'%', Some(b'%')) => path.push(b'%'),
            _ => {
                path.push(*first);
                rest = others;
                continue;
            }
        }
        rest = &others[1..];
    }
    path
}

/// The id that the process itself sees.
fn own_id(home: &Path) -> Option<String> {
    let status = fs::read_to_string(home.join("status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().last().map(str::to_owned)
}

/// The path, seen from here.
fn under(home: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        // Who may read the environment may go through these.
        Ok(below) => home.join("root").join(below),
        Err(_) => home.join("cwd").join(path),
    }
}

/// The name of the process.
pub(crate) fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Whether it is no more. One that nobody has waited for has no memory, and is none.
pub(crate) fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/statm")).map_or(true, |sizes| sizes.starts_with("0 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_reads_the_variable_as_the_process_does() {
        let environment = b"HOME=/\0XCORO_INSPECT=no\0CORO_INSPECT=/tmp/%p\0PATH=/bin\0";
        assert_eq!(variable(environment), Some(&b"/tmp/%p"[..]));
        assert_eq!(variable(b"CORO_INSPECT=\0A=b\0"), None);
        assert_eq!(variable(b""), None);
        for (value, path) in [
            ("/tmp/%p", "/tmp/7"),
            ("a%%p", "a%p"),
            ("%p%p", "77"),
            ("%%%p", "%7"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(value.as_bytes(), "7"), path.as_bytes(), "{value}");
        }
        let home = Path::new("/proc/7");
        assert_eq!(under(home, Path::new("/run/s")), Path::new("/proc/7/root/run/s"));
        assert_eq!(under(home, Path::new("run/s")), Path::new("/proc/7/cwd/run/s"));
    }

    #[test]
    fn top_says_what_is_wrong_with_a_process() {
        let said = |pid| client(pid).err().unwrap();
        assert_eq!(said(u32::MAX), format!("there is no process {}", u32::MAX));
        assert!(said(std::process::id()).contains("start it with CORO_INSPECT=/tmp/coro-%p.sock"));
    }
}
