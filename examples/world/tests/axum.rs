use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::common::{Server, printed, until};

fn start() -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_axum"));
    // On one thread, so that no request waits for another because of a thread that is blocked.
    Server::start(command.arg("127.0.0.1:0").env("CORO_WORKERS", "1"))
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn curl(arguments: &[&str], urls: &[String]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "100"]).args(arguments).args(urls);
    printed(&mut curl, "curl")
}

#[test]
fn axum_serves_several_requests_on_one_connection_of_http_1() {
    let server = start();
    assert_eq!(curl(&["--http1.1", "-d", "milk"], &[server.url("/notes")]), "0\n");
    assert_eq!(curl(&["--http1.1", "-d", "bread"], &[server.url("/notes")]), "1\n");
    let told = curl(
        &["--http1.1", "--write-out", " %{http_code} %{http_version} %{num_connects}\n"],
        &[server.url("/notes/0"), server.url("/notes/1"), server.url("/notes/2")],
    );
    assert_eq!(told, "milk 200 1.1 1\nbread 200 1.1 0\n 404 1.1 0\n");
}

#[test]
fn axum_serves_http_2() {
    let server = start();
    let prior = "--http2-prior-knowledge";
    assert_eq!(curl(&[prior, "-d", "milk"], &[server.url("/notes")]), "0\n");
    let long = "x".repeat(1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &long).unwrap();
    let body = format!("@{}", file.path().display());
    assert_eq!(curl(&[prior, "--data-binary", &body], &[server.url("/notes")]), "1\n");
    assert_eq!(curl(&[prior], &[server.url("/notes/1")]), long);
    let told = curl(&[prior, "--write-out", " %{http_version}"], &[server.url("/notes/0")]);
    assert_eq!(told, "milk 2");
}

/// One after another they would take longer than there is time.
#[test]
fn axum_serves_many_at_once_on_one_thread() {
    let server = start();
    let parallel = ["--http1.1", "--parallel", "--parallel-immediate", "--parallel-max", "300"];
    let told = curl(&parallel, &[server.url("/sleep/500?[1-300]")]);
    assert_eq!(told, "good morning\n".repeat(300));

    // Not by curl: Debian 12's cannot use a connection of HTTP/2 again (its issue 10634).
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", "300", "-c", "3", "-m", "100", &server.url("/sleep/500")]);
    let told = printed(&mut h2load, "nghttp2-client");
    assert!(told.contains("Application protocol: h2c\n"), "{told}");
    assert!(told.contains("\nstatus codes: 300 2xx, 0 3xx, 0 4xx, 0 5xx\n"), "{told}");
}

#[test]
fn axum_ends_when_what_has_begun_is_answered() {
    let mut server = start();
    let connect = || BufReader::new(TcpStream::connect(&server.address).unwrap());
    let line = |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line
    };
    let (mut idle, mut busy) = (connect(), connect());
    idle.get_mut().write_all(b"GET /notes/0 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(line(&mut idle), "HTTP/1.1 404 Not Found\r\n");
    let head =
        "POST /notes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    busy.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(line(&mut busy), "HTTP/1.1 100 Continue\r\n");
    assert_eq!(line(&mut busy), "\r\n");

    server.running.interrupt();
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("content-length: 0"), "{rest}");
    until("a refusal", || TcpStream::connect(&server.address).is_err());

    busy.get_mut().write_all(b"milk").unwrap();
    let mut rest = String::new();
    busy.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n0\n"), "{rest}");
    assert_eq!(server.rest(), "ended, 0 connections were cancelled\n");
}
