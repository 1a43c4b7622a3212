//! What the variable says.

use std::path::PathBuf;
use std::process;

/// The longest path that the address of a socket has room for.
const LONGEST: usize = 107;

pub(super) const EXPECTED: &str = "a path of at most 107 bytes, in which %p stands for the process's id, and %% for a percent sign";

/// The path, with what stands for something else replaced. `None`: it is too long, or there is another `%`.
pub(super) fn parse(value: &str) -> Option<PathBuf> {
    let mut parts = value.split('%');
    let mut path = String::from(parts.next()?);
    while let Some(part) = parts.next() {
        if let Some(rest) = part.strip_prefix('p') {
            path += &process::id().to_string();
            path += rest;
        } else if part.is_empty() {
            // What follows the second of two.
            path.push('%');
            path += parts.next()?;
        } else {
            return None;
        }
    }
    (path.len() <= LONGEST).then(|| path.into())
}

#[cfg(all(test, not(coro_loom)))]
mod tests {
    use super::*;

    #[test]
    fn inspect_path_has_the_process_in_it() {
        let pid = process::id();
        let path =
            |value: &str| parse(value).map(|path| path.into_os_string().into_string().unwrap());
        assert_eq!(path("/run/one"), Some("/run/one".into()));
        assert_eq!(path("%p"), Some(pid.to_string()));
        assert_eq!(path("a/%p.%p.sock"), Some(format!("a/{pid}.{pid}.sock")));
        assert_eq!(path("100%%"), Some("100%".into()));
        assert_eq!(path("%%p%p"), Some(format!("%p{pid}")));
        for nonsense in ["%", "a%", "%d", "%%%", "%P", "% p"] {
            assert_eq!(path(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn inspect_path_fits_into_an_address() {
        assert!(EXPECTED.contains(&LONGEST.to_string()));
        let longest = "x".repeat(LONGEST);
        assert!(rustix::net::SocketAddrUnix::new(&*parse(&longest).unwrap()).is_ok());
        assert_eq!(parse(&(longest + "x")), None);
        // It is what comes out that counts.
        let value = "x".repeat(LONGEST - 2);
        assert_eq!(parse(&(value.clone() + "%p")).is_some(), process::id() < 100);
        assert!(parse(&(value + "%%")).is_some());
    }
}
