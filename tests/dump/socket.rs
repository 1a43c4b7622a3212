//! `CORO_INSPECT`.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::common::{self, child_command};
use crate::signals::park_and_wait;

/// A directory of the calling test, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("coro-{test}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child of the calling test that serves, and ends when its input does.
struct Served {
    child: Child,
    stderr: BufReader<ChildStderr>,
    socket: PathBuf,
}

impl Served {
    fn start(test: &str, socket: &Path) -> Served {
        Served::start_with(test, socket, |_| ())
    }

    fn start_with(test: &str, socket: &Path, prepare: impl FnOnce(&mut Command)) -> Served {
        let mut command = child_command(test, test);
        command.env("CORO_INSPECT", socket).stdin(Stdio::piped()).stderr(Stdio::piped());
        command.stdout(Stdio::null());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut served = Served { child, stderr, socket: socket.to_owned() };
        served.wait_for("parked");
        served
    }

    /// Reads what it says until this line.
    fn wait_for(&mut self, line: &str) -> String {
        let mut before = String::new();
        loop {
            let mut next = String::new();
            assert_ne!(self.stderr.read_line(&mut next).unwrap(), 0, "it has ended: {before}");
            if next.trim_end() == line {
                return before;
            }
            before += &next;
        }
    }

    fn ask(&self, request: &str) -> String {
        ask(&self.socket, request).unwrap()
    }

    fn json(&self, request: &str) -> Value {
        let answer = self.ask(request);
        assert!(answer.ends_with('\n'), "{answer}");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    #[track_caller]
    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What is answered to this request.
fn ask(socket: &Path, request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn inspect_socket_tells_what_there_is() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_tells_what_there_is";
    if common::is_child(TEST) {
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let served = Served::start_with(TEST, &directory.0.join("%p.%%"), |_| ());
    let socket = directory.0.join(format!("{}.%", served.child.id()));
    let served = Served { socket: socket.clone(), ..served };

    let counts = served.json("metrics\n");
    assert_eq!(counts["process"], served.child.id());
    assert_eq!(counts["metrics"]["live"], 2, "{counts}");
    assert_eq!(counts["metrics"]["parked"], 2, "{counts}");
    let [worker] = &counts["workers"].as_array().unwrap()[..] else { panic!("{counts}") };
    assert_eq!(worker["thread_name"], "coro-0");
    assert_eq!((&worker["started"], &worker["parked"]), (&2.into(), &2.into()), "{counts}");
    assert!(worker["turns"].as_u64().unwrap() >= 2, "{counts}");

    let dump = served.json("dump\n");
    assert_eq!((&dump["started"], &dump["groups"][0]["count"]), (&2.into(), &2.into()), "{dump}");
    assert_eq!(dump["groups"][0]["coroutines"].as_array().unwrap().len(), 2, "{dump}");
    assert!(!dump["groups"][0]["frames"].as_array().unwrap().is_empty(), "{dump}");
    let limited = served.json("dump 1\n");
    assert_eq!(limited["groups"][0]["coroutines"].as_array().unwrap().len(), 1, "{limited}");
    let text = served.ask("text\n");
    assert!(text.starts_with("coro: 2 coroutines have started, 0 are fresh\n"), "{text}");
    assert!(text.contains("\n2 parked, waiting for park\n"), "{text}");

    // The time goes on.
    let time = |counts: &Value| counts["time_ms"].as_u64().unwrap();
    while time(&served.json("metrics\n")) == time(&counts) {}
    served.end();
    assert!(!socket.exists(), "the file goes with its process");
}

#[test]
fn inspect_socket_is_for_its_user_alone() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_is_for_its_user_alone";
    if common::is_child(TEST) {
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let socket = directory.socket();
    let prepare = |command: &mut Command| {
        let no_mask = || {
            // SAFETY: a system call that is allowed between fork and exec.
            unsafe { libc::umask(0) };
            Ok(())
        };
        // SAFETY: `no_mask` allocates nothing and takes no lock.
        unsafe { command.pre_exec(no_mask) };
    };
    let served = Served::start_with(TEST, &socket, prepare);
    let metadata = fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);

    // Somebody opens it to all: it still answers its own user alone. To be somebody else one has to be root.
    let everybody = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    everybody(&socket, 0o666).unwrap();
    everybody(&directory.0, 0o755).unwrap();
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        assert_eq!(asked_by(65534, &socket), Some(0), "another user has no answer");
        assert_eq!(asked_by(0, &socket), Some(1), "root has one");
    }
    served.end();
}

/// How many bytes a process of this user is answered: none, or some. `None`: it failed otherwise.
fn asked_by(user: libc::uid_t, socket: &Path) -> Option<i32> {
    // SAFETY: what the child calls takes no lock and no memory.
    match unsafe { libc::fork() } {
        0 => {
            let status = || {
                // SAFETY: takes a number.
                if unsafe { libc::setuid(user) } != 0 {
                    return 2;
                }
                let Ok(mut stream) = UnixStream::connect(socket) else { return 3 };
                // If it is closed at once, this may fail.
                let _ = stream.write(b"metrics\n");
                i32::from(matches!(stream.read(&mut [0; 64]), Ok(1..)))
            };
            let status = status();
            // SAFETY: takes a number.
            unsafe { libc::_exit(status) }
        }
        child => {
            let status = common::wait_for_forked(child);
            (libc::WIFEXITED(status) && libc::WEXITSTATUS(status) < 2)
                .then(|| libc::WEXITSTATUS(status))
        }
    }
}

#[test]
fn inspect_socket_refuses_what_is_no_request() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_refuses_what_is_no_request";
    if common::is_child(TEST) {
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let served = Served::start(TEST, &directory.socket());
    let too_long = "x".repeat(257);
    let far_too_long = "metrics ".repeat(1000);
    for request in [
        "\n",
        "what\n",
        "dump 0\n",
        "dump 1001\n",
        "metrics 1\n",
        &too_long,
        &far_too_long,
        "\u{e4}\n",
    ] {
        let answer = served.json(request);
        let expected = if request.len() > 256 { "a request is at most 256 bytes" } else { "" };
        assert!(answer["error"].as_str().unwrap().contains(expected), "{request}: {answer}");
        assert_eq!(answer.as_object().unwrap().len(), 1);
    }
    // Bytes that are no text.
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(&[0xff, 0, b'\n']).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("{\"error\":"), "{answer}");
    // No request is no answer. Half a request and the end of what is sent is a whole one, and what follows is not looked at.
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(b"metr").unwrap();
    stream.write_all(b"ics").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer: Value = serde_json::from_reader(stream).unwrap();
    assert_eq!(answer["metrics"]["live"], 2);
    assert_eq!(served.json("metrics\nmetrics\nquit\n")["metrics"]["live"], 2);
    served.end();
}

#[test]
fn inspect_socket_a_client_that_hangs_holds_up_nobody() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_a_client_that_hangs_holds_up_nobody";
    if common::is_child(TEST) {
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let served = Served::start(TEST, &directory.socket());
    // On a busy machine they may be forgotten before somebody else has asked.
    loop {
        let mut hanging: Vec<_> =
            (0..7).map(|_| UnixStream::connect(&served.socket).unwrap()).collect();
        hanging[1].write_all(b"met").unwrap();
        hanging[2].write_all(b"dump").unwrap();
        assert_eq!(served.json("metrics\n")["metrics"]["live"], 2);
        let still_there = |mut stream: &UnixStream| {
            stream.set_nonblocking(true).unwrap();
            stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        if hanging.iter().all(still_there) {
            break;
        }
    }
    // More than are served at a time: they are forgotten, and others have their turn.
    let mut hanging: Vec<_> =
        (0..12).map(|_| UnixStream::connect(&served.socket).unwrap()).collect();
    assert_eq!(served.json("metrics\n")["metrics"]["live"], 2);
    for stream in &mut hanging[..8] {
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "it has asked nothing");
    }
    served.end();
}

#[test]
fn inspect_socket_of_a_process_that_has_died_is_replaced() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_of_a_process_that_has_died_is_replaced";
    if common::is_child(TEST) {
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let socket = directory.socket();
    Served::start(TEST, &socket).kill();
    assert!(socket.exists(), "it could not remove it");
    let served = Served::start(TEST, &socket);
    assert_eq!(served.json("metrics\n")["process"], served.child.id());
    served.end();
    assert!(!socket.exists());
}

#[test]
fn inspect_socket_of_another_process_is_left_alone() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_of_another_process_is_left_alone";
    if common::is_child(TEST) {
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let served = Served::start(TEST, &directory.socket());
    let second = child_command(TEST, TEST)
        .env("CORO_INSPECT", &served.socket)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = common::stderr(&second);
    assert!(second.status.success(), "it goes on: {said}");
    let expected = format!(
        "coro: CORO_INSPECT={:?}: another process listens there; %p gives each its own path; \
         nothing is served there\n",
        served.socket
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(served.json("metrics\n")["process"], served.child.id());
    served.end();
}

#[test]
fn inspect_socket_that_cannot_be_had_is_a_line() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_that_cannot_be_had_is_a_line";
    if common::is_child(TEST) {
        // Each of them tries no more.
        drop((common::runtime(1), common::runtime(1)));
        park_and_wait();
    }
    let directory = Directory::new(TEST);
    let (file, link) = (directory.0.join("file"), directory.0.join("link"));
    fs::write(&file, "kept").unwrap();
    std::os::unix::fs::symlink(directory.0.join("nothing"), &link).unwrap();
    let no_socket = "there is a file that is no socket";
    for (path, why) in [
        (&file, no_socket),
        (&link, no_socket),
        (&directory.0, no_socket),
        (&directory.0.join("none/s"), "No such file or directory"),
        (&file.join("s"), "Not a directory"),
    ] {
        let output = child_command(TEST, TEST)
            .env("CORO_INSPECT", path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = common::stderr(&output);
        assert!(output.status.success(), "{said}");
        let beginning = format!("coro: CORO_INSPECT={path:?}: {why}");
        assert_eq!(said.matches("coro: ").count(), 1, "{said}");
        assert!(said.contains(&beginning), "{beginning}: {said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn inspect_socket_nonsense_is_a_panic() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_nonsense_is_a_panic";
    if common::is_child(TEST) {
        coro::go(|| ()).join().unwrap();
        process::exit(0);
    }
    let too_long = format!("/tmp/{}", "x".repeat(103));
    for value in [&too_long, "/tmp/%d", "%"] {
        let output = child_command(TEST, TEST).env("CORO_INSPECT", value).output().unwrap();
        let said = common::stderr(&output) + &common::stdout(&output);
        assert!(!output.status.success(), "{value}: {said}");
        let expected = format!("CORO_INSPECT={value:?}: expected a path of at most 107 bytes");
        assert!(said.contains(&expected), "{value}: {said}");
    }
    let output = child_command(TEST, TEST).env("CORO_INSPECT", "").output().unwrap();
    assert!(output.status.success());
}

/// Forks twice: one that ends as a process does, and one that stays until the end of its input.
fn fork_and_wait() -> ! {
    let runtime = common::runtime(1);
    let parked = [runtime.go(coro::park), runtime.go(coro::park)];
    drop(crate::dump_when_parked(&parked));
    // SAFETY: the child ends at once.
    match unsafe { libc::fork() } {
        // SAFETY: runs what was registered for an exit, which is what the test is about.
        0 => unsafe { libc::exit(0) },
        child => assert_eq!(common::wait_for_forked(child), 0),
    }
    // SAFETY: the child calls nothing but the system.
    if unsafe { libc::fork() } == 0 {
        let mut byte = 0u8;
        // SAFETY: a live local; and a number.
        unsafe {
            while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
            libc::_exit(0)
        }
    }
    common::say(format_args!("parked"));
    loop {
        std::thread::park();
    }
}

#[test]
fn inspect_socket_is_not_a_forked_process_s() {
    let _watchdog = common::watchdog();
    const TEST: &str = "inspect_socket_is_not_a_forked_process_s";
    if common::is_child(TEST) {
        fork_and_wait();
    }
    let directory = Directory::new(TEST);
    let mut served = Served::start(TEST, &directory.socket());
    assert_eq!(served.json("metrics\n")["process"], served.child.id(), "one has ended");
    // The other goes on until its input ends.
    let input = served.child.stdin.take();
    let socket = served.socket.clone();
    served.kill();
    let error = UnixStream::connect(&socket).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    drop(input);
}
