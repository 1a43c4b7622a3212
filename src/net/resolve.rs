//! From names to addresses.

use std::any::type_name;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use crate::blocking::blocking;

/// The addresses that `names` stands for. To look a name up blocks a thread, which is none of the workers.
///
/// # Errors
///
/// What the look-up says.
pub(super) fn resolve<A: ToSocketAddrs + Send>(names: A) -> io::Result<Vec<SocketAddr>> {
    if is_address::<A>() {
        return Ok(names.to_socket_addrs()?.collect());
    }
    blocking(move || Ok(names.to_socket_addrs()?.collect()))
}

/// The first of the addresses that `name` stands for. Otherwise as [`resolve`].
///
/// # Errors
///
/// What the look-up says, or `InvalidInput` if there is no address.
pub(super) fn resolve_one<A: ToSocketAddrs + Send>(name: A) -> io::Result<SocketAddr> {
    let look_up = move || name.to_socket_addrs()?.next().ok_or_else(no_address);
    match is_address::<A>() {
        true => look_up(),
        false => blocking(look_up),
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address was given")
}

/// Whether an `A` is an address already. If this does not know, one hop to another thread is for nothing.
fn is_address<A>() -> bool {
    let own = type_name::<A>();
    [
        type_name::<SocketAddr>(),
        type_name::<SocketAddrV4>(),
        type_name::<SocketAddrV6>(),
        type_name::<(IpAddr, u16)>(),
        type_name::<(Ipv4Addr, u16)>(),
        type_name::<(Ipv6Addr, u16)>(),
        type_name::<&[SocketAddr]>(),
    ]
    .contains(&own.trim_start_matches('&'))
        || own == type_name::<&[SocketAddr]>()
}

/// What `attempt` gives for the first of the addresses for which it succeeds.
///
/// # Errors
///
/// What it has said last, or `InvalidInput` if there is no address.
pub(super) fn first_of<T>(
    names: impl ToSocketAddrs + Send,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut found = Err(no_address());
    for address in resolve(names)? {
        found = attempt(address);
        if found.is_ok() {
            break;
        }
    }
    found
}
