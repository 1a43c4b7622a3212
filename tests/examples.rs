//! The servers among the examples, each in a process of its own, and their clients: hand-written ones, and curl and wrk
//! where they are there. And the profiler.

mod common;

#[path = "../examples/chat.rs"]
mod chat;
#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/flamegraph.rs"]
mod flamegraph;
#[path = "../examples/httpd/main.rs"]
mod httpd;
#[path = "../examples/proxy.rs"]
mod proxy;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

const ANY: &str = "127.0.0.1:0";

/// An example that runs in a child of the calling test.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    /// In the child, runs the example and does not return.
    fn start(test: &str, run: impl FnOnce() -> std::io::Result<()>) -> Server {
        Server::start_with(test, |_| (), run)
    }

    fn start_with(
        test: &str,
        prepare: impl FnOnce(&mut Command),
        run: impl FnOnce() -> std::io::Result<()>,
    ) -> Server {
        if common::is_child(test) {
            println!("\nit runs");
            let outcome = run();
            println!("it ends with {outcome:?}");
            std::process::exit(0);
        }
        let mut command = common::child_command(test, test);
        prepare(&mut command);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        // The harness has its say first.
        while line.trim() != "it runs" {
            line.clear();
            assert_ne!(output.read_line(&mut line).expect("output"), 0, "it has ended");
        }
        line.clear();
        output.read_line(&mut line).expect("its address");
        let address = line.trim().trim_start_matches("http://").to_owned();
        Server { child, output, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(common::PATIENCE)).expect("a limit");
        stream
    }

    /// As by ctrl-c. Gives what it has printed since its address.
    fn interrupt(mut self) -> String {
        // SAFETY: our own child, which was not waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("output");
        assert!(self.child.wait().expect("its end").success());
        assert!(rest.contains("it ends with Ok(())"), "{rest}");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has ended, this is refused.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a client of others is there. CI installs them.
fn has(tool: &str) -> bool {
    let is_there = Command::new(tool).arg("--version").output().is_ok();
    if !is_there {
        eprintln!("{tool} is not installed, and its part of the test is left out");
    }
    is_there
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "-m", "20"]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn examples_echo() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_echo", || echo::run(ANY));
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
    }
    for client in &mut clients {
        let mut word = [0; 5];
        client.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hello");
    }
    drop(clients.split_off(2));
    assert!(server.interrupt().contains("connections were still open"));
}

#[test]
fn examples_chat() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_chat", || chat::run(ANY));
    let wait_for = |client: &mut BufReader<TcpStream>, what: &str| loop {
        let mut line = String::new();
        assert_ne!(client.read_line(&mut line).unwrap(), 0, "it waits for {what}");
        if line.contains(what) {
            return;
        }
    };
    let mut clients = Vec::new();
    for number in 1..=20 {
        let mut client = BufReader::new(server.connect());
        wait_for(&mut client, &format!("one of {number}"));
        clients.push(client);
    }
    let names: Vec<_> =
        clients.iter().map(|client| client.get_ref().local_addr().unwrap()).collect();
    for name in &names[1..] {
        wait_for(&mut clients[0], &format!("{name} has come"));
    }
    for speaker in [0, 7, 19] {
        writeln!(clients[speaker].get_ref(), "I am number {speaker}").unwrap();
        for (index, client) in clients.iter_mut().enumerate() {
            if index != speaker {
                wait_for(client, &format!("{}: I am number {speaker}", names[speaker]));
            }
        }
    }
    drop(clients.pop());
    for client in &mut clients {
        wait_for(client, &format!("{} has left", names[19]));
    }
    server.interrupt();
}

/// The first client to be too far behind is sent away, and nobody has to wait for it.
#[test]
fn examples_chat_waits_for_nobody() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_chat_waits_for_nobody", || chat::run(ANY));
    let (slow, mut speaker) = (server.connect(), server.connect());
    let line = [b'x'; 4000];
    for _ in 0..3000 {
        speaker.write_all(&line).unwrap();
        speaker.write_all(b"\n").unwrap();
    }
    // It has come to its end, though the other has read nothing.
    speaker.shutdown(Shutdown::Write).unwrap();
    speaker.read_to_end(&mut Vec::new()).unwrap();
    drop(slow);
    server.interrupt();
}

#[test]
fn examples_proxy() {
    let _watchdog = common::watchdog();
    const LENGTH: usize = 3 << 20;
    let upstream = common::is_child("examples_proxy").then(|| std::env::var("UPSTREAM").unwrap());
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::start_with(
        "examples_proxy",
        |command| _ = command.env("UPSTREAM", &address),
        || proxy::run(ANY, upstream.unwrap().parse().unwrap()),
    );
    // Upstream answers when it has all, so the directions end one after the other.
    let answering = thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.reverse();
            stream.write_all(&all).unwrap();
        }
        listener.accept().unwrap().0
    });
    for length in [0, 5, LENGTH] {
        let data: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
        let client = server.connect();
        let (mut writer, sent) = (client.try_clone().unwrap(), data.clone());
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&client).read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        back.reverse();
        assert!(back == data, "{length} bytes: {} came back", back.len());
    }
    // One that stays open does not hold the end up for longer than its limit.
    let idle = server.connect();
    let open = answering.join().unwrap();
    let said = server.interrupt();
    assert!(said.contains(&format!("{LENGTH} bytes up, {LENGTH} bytes down")), "{said}");
    drop((idle, open));
}

/// Reads one response, and gives its status line with its body.
fn response(stream: &mut BufReader<TcpStream>) -> (String, String, Vec<String>) {
    let (mut status, mut headers) = (String::new(), Vec::new());
    stream.read_line(&mut status).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "after {status:?}");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        headers.push(line.trim().to_owned());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status.split(' ').nth(1).unwrap_or("").into(), String::from_utf8(body).unwrap(), headers)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// The coroutines of a server, as text and as JSON.
#[test]
fn examples_httpd_shows_its_coroutines() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_httpd_shows_its_coroutines", || httpd::run(ANY));
    let mut stuck: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut stuck {
        client.write_all(get("/stuck").as_bytes()).unwrap();
    }
    let mut client = BufReader::new(server.connect());
    let mut ask = |path| {
        client.get_mut().write_all(get(path).as_bytes()).unwrap();
        let (status, body, _) = response(&mut client);
        assert_eq!(status, "200", "{body}");
        body
    };
    // Each of their connections waits for the request's coroutine, which is parked.
    let text = loop {
        let text = ask("/debug/coroutines");
        if text.contains("\n3 parked, waiting for park\n") {
            break text;
        }
    };
    assert!(text.contains("handle"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&ask("/debug/coroutines.json")).unwrap();
    let groups = json["groups"].as_array().unwrap();
    assert!(
        groups.iter().any(|group| group["count"] == 3 && group["waits_for"] == "park"),
        "{json}"
    );
}

#[test]
fn examples_httpd_keeps_connections_and_answers_in_order() {
    let _watchdog = common::watchdog();
    let server =
        Server::start("examples_httpd_keeps_connections_and_answers_in_order", || httpd::run(ANY));
    let mut client = BufReader::new(server.connect());
    for _ in 0..3 {
        client.get_mut().write_all(get("/").as_bytes()).unwrap();
        let (status, body, _) = response(&mut client);
        assert_eq!((&*status, &*body), ("200", "hello\n"));
    }
    // Many at once, one of them slow and one that panics, and the last cut in two.
    let many = ["/", "/slow", "/panic", "/nope", "/context"].map(get).concat() + &get("/metrics");
    let (first, second) = many.as_bytes().split_at(many.len() - 7);
    client.get_mut().write_all(first).unwrap();
    let statuses: Vec<_> = (0..5).map(|_| response(&mut client).0).collect();
    assert_eq!(statuses, ["200", "200", "500", "404", "200"]);
    client.get_mut().write_all(second).unwrap();
    let metrics = response(&mut client).1;
    assert!(metrics.contains("http_requests_total 8"));
    let number = |name: &str| metrics.split(name).nth(1)?.split_whitespace().next()?.parse().ok();
    let [in_use, resident, reserved]: [Option<u64>; 3] =
        ["stacks_in_use ", "stacks_resident_bytes ", "stacks_reserved_bytes "].map(number);
    assert!(in_use > Some(0) && resident > Some(0) && reserved > resident, "{metrics}");

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = format!(
        "GET /context HTTP/1.1\r\nhost: x\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n\
         POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"
    );
    client.get_mut().write_all(traced.as_bytes()).unwrap();
    let (status, body, _) = response(&mut client);
    assert_eq!(status, "200");
    assert!(body.contains(&format!("traceparent 00-{trace}-")) && !body.contains("00f067aa"));
    let (status, body, headers) = response(&mut client);
    assert_eq!((&*status, &*body), ("200", "body"));
    assert!(headers.contains(&"connection: close".into()));
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "it was to be closed");

    let log = server.interrupt();
    for line in ["GET /slow 200", "GET /panic 500", "GET /nope 404", "POST /echo 200"] {
        assert_eq!(log.matches(line).count(), 1, "{line} in {log}");
    }
    assert!(log.contains(&format!("trace={trace}")), "{log}");
}

/// What breaks the rules is refused, and what is too much is not kept.
#[test]
fn examples_httpd_has_limits() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_httpd_has_limits", || httpd::run(ANY));
    let refused: [(&str, String); 8] = [
        ("400", "\0\0\0\r\n\r\n".into()),
        ("400", "GET / HTTP/1.1\r\n\r\n".into()),
        ("400", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".into()),
        (
            "400",
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".into(),
        ),
        ("413", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n".into()),
        ("501", "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".into()),
        ("431", format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100))),
        ("431", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000))),
    ];
    for (expected, request) in refused {
        let mut client = BufReader::new(server.connect());
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let (status, ..) = response(&mut client);
        assert_eq!(status, expected, "{request:.60}");
        // What it has not read makes the end of the connection a reset.
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
    // A header without end, from a client that does not care.
    let mut endless = server.connect();
    let zeros = [b'0'; 1 << 16];
    let sent = (0..16_000).take_while(|_| endless.write_all(&zeros).is_ok()).count();
    assert!(sent < 16_000, "it has read a gigabyte");
    server.interrupt();
}

/// Idle connections and busy ones at once, and then ctrl-c: requests come to their end, idle connections are closed.
#[test]
fn examples_httpd_with_many_connections_ends_gracefully() {
    let _watchdog = common::watchdog();
    // Ten thousand, or as many as the limit of open files allows beside what other tests open. The server has the same.
    let many = (common::open_files().saturating_sub(500) as usize).clamp(100, 10_000);
    let server =
        Server::start("examples_httpd_with_many_connections_ends_gracefully", || httpd::run(ANY));
    let mut idle: Vec<_> = (0..many).map(|_| server.connect()).collect();
    let busy: Vec<_> = (0..100)
        .map(|_| {
            let mut client = BufReader::new(server.connect());
            thread::spawn(move || {
                for _ in 0..50 {
                    client.get_mut().write_all(get("/").as_bytes()).unwrap();
                    assert_eq!(response(&mut client).0, "200");
                }
            })
        })
        .collect();
    busy.into_iter().for_each(|client| client.join().unwrap());
    let mut slow = BufReader::new(server.connect());
    slow.get_mut().write_all((get("/") + &get("/slow")).as_bytes()).unwrap();
    // The first answer comes with the second, so this is how we know that it has begun.
    let mut probe = BufReader::new(server.connect());
    loop {
        probe.get_mut().write_all(get("/metrics").as_bytes()).unwrap();
        let count = |body: &str| body.split_whitespace().nth(1)?.parse::<u32>().ok();
        if count(&response(&mut probe).1).is_some_and(|count| count > 5000) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let ending = thread::spawn(move || server.interrupt());
    assert_eq!(response(&mut slow).0, "200");
    assert_eq!(response(&mut slow).0, "200");
    for client in &mut idle {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    assert!(ending.join().unwrap().contains("GET /slow 200"));
}

/// A request that does not end is cancelled with its connection, when the server's limit is over, and is logged.
#[test]
fn examples_httpd_cancels_what_does_not_end() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_httpd_cancels_what_does_not_end", || httpd::run(ANY));
    let mut stuck = server.connect();
    stuck.write_all(get("/stuck").as_bytes()).unwrap();
    let mut probe = BufReader::new(server.connect());
    let mut is_there = false;
    while !is_there {
        probe.get_mut().write_all(get("/metrics").as_bytes()).unwrap();
        // The log's, the acceptor's, two connections', and their two requests'.
        is_there = response(&mut probe).1.contains("coroutines 6");
    }
    let log = server.interrupt();
    assert_eq!(log.matches("GET /stuck 500").count(), 1, "{log}");
}

#[test]
fn examples_httpd_serves_curl_and_wrk() {
    let _watchdog = common::watchdog();
    let server = Server::start("examples_httpd_serves_curl_and_wrk", || httpd::run(ANY));
    let url = |path: &str| format!("http://{}{path}", server.address);
    if has("curl") {
        assert_eq!(curl(&[&url("/")]), "hello\n");
        assert_eq!(curl(&["-d", "some words", &url("/echo")]), "some words");
        assert!(curl(&["-i", &url("/nope")]).starts_with("HTTP/1.1 404"));
        // Two over one connection.
        let verbose = ["-v", "-o", "/dev/null", "-o", "/dev/null", &url("/"), &url("/context")];
        let output = Command::new("curl").args(verbose).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Re-using existing"), "{said}");
    }
    if has("wrk") {
        let output = Command::new("wrk")
            .args(["-t1", "-c64", "-d1s", &url("/")])
            .output()
            .expect("wrk can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("Requests/sec"), "{said}");
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    }
    server.interrupt();
}

/// It has the names of coroutines that ended long before it was drawn, and what they did.
#[test]
fn examples_flamegraph_has_the_names_of_coroutines() {
    const TEST: &str = "examples_flamegraph_has_the_names_of_coroutines";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        let path = std::env::temp_dir().join(format!("coro-{}.svg", std::process::id()));
        // Until a sample has come of each of them, however long the kernel takes.
        let drawn = (0..).map(|_| {
            flamegraph::profile(path.to_str().unwrap(), || flamegraph::work(100)).unwrap();
            std::fs::read_to_string(&path).unwrap()
        });
        let is_whole = |drawn: &String| {
            let title = |name: &str| drawn.contains(&format!("<title>{name} ("));
            let hash = drawn.contains("flamegraph::hash (") || title("hash");
            title("hasher") && title("sorter") && hash && drawn.contains("spawned at ")
        };
        assert!(drawn.take(100).any(|drawn| is_whole(&drawn)));
        std::fs::remove_file(path).unwrap();
    });
}
