//! The programs, and those of other people, as child processes.

use std::io::{BufRead, BufReader, Read, Write, stderr};
use std::ops::{Deref, DerefMut};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

/// For whatever hangs. Nothing that is tested takes so long.
const LIMIT: Duration = Duration::from_secs(120);

/// For all tests together, so that one that waits for ever by itself is ended too. The harness has said which.
const WATCHDOG: Duration = Duration::from_secs(300);

/// The processes that run. They have the harness's stderr: while one of them is left, its reader waits for more.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

pub fn start_watchdog() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        thread::spawn(|| {
            thread::sleep(WATCHDOG);
            // Not by `eprintln`, which the harness captures.
            let _ = writeln!(stderr(), "the tests have not ended within {WATCHDOG:?}");
            let children = CHILDREN.lock().unwrap();
            let _ = Command::new("kill")
                .arg("-KILL")
                .args(children.iter().map(u32::to_string))
                .status();
            std::process::exit(1);
        });
    });
}

/// A child process, which ends with the test.
pub struct Running(Child);

impl Running {
    /// # Panics
    ///
    /// When there is no such program, with the name of the Debian package that has it.
    pub fn start(command: &mut Command, package: &str) -> Running {
        start_watchdog();
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}; install {package}", name.display())
        });
        CHILDREN.lock().unwrap().push(child.id());
        Running(child)
    }

    /// As ctrl-c does.
    pub fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.id().to_string()]).status();
        assert!(status.expect("`kill` is there; install procps").success());
    }

    /// Waits until it has ended, with what it has written to the pipes that it has.
    pub fn output(mut self) -> Output {
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.map(|mut pipe| pipe.read_to_end(&mut bytes)).transpose().unwrap();
                bytes
            })
        };
        let stdout = read(self.stdout.take().map(|pipe| Box::new(pipe) as _));
        let stderr = read(self.stderr.take().map(|pipe| Box::new(pipe) as _));
        let mut status = None;
        until("a child's end", || {
            status = self.try_wait().unwrap();
            status.is_some()
        });
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        Output { status: status.unwrap(), stdout, stderr }
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CHILDREN.lock().unwrap().retain(|id| *id != self.id());
        let _ = self.kill();
        let _ = self.wait();
    }
}

/// One of the programs of this package that serves, and its address.
pub struct Server {
    pub address: String,
    pub running: Running,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    pub fn start(command: &mut Command) -> Server {
        let mut running = Running::start(command.stdout(Stdio::piped()), "nothing: it is ours");
        let mut stdout = BufReader::new(running.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("it tells its address");
        Server { address: address.to_owned(), running, stdout }
    }

    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// What it prints before it ends.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command, package: &str) -> Output {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(command, package).output()
}

/// What a program prints, if it succeeds.
pub fn printed(command: &mut Command, package: &str) -> String {
    let output = run(command, package);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Asks again and again. Only for what can be asked, and cannot be waited for.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "{what} has not come within {LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
