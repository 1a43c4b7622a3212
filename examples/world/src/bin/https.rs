//! HTTPS on rustls: a server, and a client.
//!
//! ```text
//! https serve 127.0.0.1:8443 ca.pem           # makes a certificate, and writes it to ca.pem
//! https get https://localhost:8443/ ca.pem    # trusts that one, and no other
//! ```
//!
//! rustls reads and writes no socket. `StreamOwned` has it do so with anything that is `Read + Write`, and a
//! `coro::net::TcpStream` is: where rustls waits for bytes, the coroutine is suspended, and not its thread.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coro::net::{self, TcpListener, TcpStream};
use coro::timeout;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Tls = StreamOwned<ServerConnection, TcpStream>;

/// For a request; for the first one with the handshake.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of a request.
const LONGEST: u64 = 16 * 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address, certificate] => serve(address, certificate),
        ["get", url, certificate] => {
            print!("{}", get(url, certificate)?);
            Ok(())
        }
        _ => Err("https serve ADDRESS CERTIFICATE | https get URL CERTIFICATE".into()),
    }
}

fn serve(address: &str, certificate: &str) -> Result<()> {
    let names = ["localhost", "127.0.0.1"].map(String::from);
    let own = rcgen::generate_simple_self_signed(names)?;
    std::fs::write(certificate, own.cert.pem())?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der())?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;

    let config = Arc::new(config);
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let server = net::serve(listener, move |stream, from| {
        if let Err(error) = serve_connection(&config, stream, from) {
            eprintln!("{from}: {error}");
        }
    });
    Ok(server.join()?)
}

/// One request after another, until the client has no more. The handshake is part of the first read.
fn serve_connection(config: &Arc<ServerConfig>, stream: TcpStream, from: SocketAddr) -> Result<()> {
    let tls = ServerConnection::new(Arc::clone(config))?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    // The limit is that of all reads of a request together: a client that sends byte by byte is cut off, too.
    while let Some(head) = timeout(LIMIT, || read_head(&mut stream))?? {
        let request = head.lines().next().unwrap_or_default();
        respond(stream.get_mut(), &format!("{from} asked: {request}\n"))?;
        if head.lines().any(|header| header.eq_ignore_ascii_case("connection: close")) {
            break;
        }
    }
    let tls = stream.get_mut();
    tls.conn.send_close_notify();
    Ok(tls.flush()?)
}

/// A request's first line and its headers. `None`: the client has no more.
fn read_head(stream: &mut BufReader<Tls>) -> io::Result<Option<String>> {
    let (mut head, mut stream) = (String::new(), stream.take(LONGEST));
    while stream.read_line(&mut head)? > 0 {
        if head.ends_with("\r\n\r\n") {
            return Ok(Some(head));
        }
    }
    if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn respond(stream: &mut Tls, body: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

/// What the server has at a URL.
fn get(url: &str, certificate: &str) -> Result<String> {
    let rest = url.strip_prefix("https://").ok_or("the URL begins with https://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    let tls = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = StreamOwned::new(tls, TcpStream::connect((host, port.parse()?))?);
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (_, body) = response.split_once("\r\n\r\n").ok_or("that is no HTTP")?;
    Ok(body.to_owned())
}
