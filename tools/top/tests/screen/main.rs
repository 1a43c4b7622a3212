//! The program against a real process: `coro top` on a terminal, which tmux keeps, and `coro dump`.
//!
//! `CORO_WRITE_PICTURE=1 cargo test -p coro-top` draws docs/top.svg again.

mod picture;
mod tmux;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use picture::Picture;
use tmux::Terminal;

const CORO: &str = env!("CARGO_BIN_EXE_coro");

/// How long something may take to appear that never does if it is missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks, again and again, until something is so, and gives what it looks like then.
#[track_caller]
fn wait_for(what: &str, look: impl Fn() -> String, is_so: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let seen = look();
        if is_so(&seen) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come: {what}\n{seen}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The example `shop`, which serves at a socket in a directory of its own.
struct Shop {
    child: Child,
    directory: PathBuf,
}

impl Shop {
    fn start(test: &str) -> Shop {
        let directory = std::env::temp_dir().join(format!("coro-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = Path::new(CORO).with_file_name("examples").join("shop");
        let mut child = Command::new(&program)
            .env("CORO_INSPECT", directory.join("%p"))
            .env("CORO_WORKERS", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; cargo build -p coro-top --examples", program.display())
            });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "it runs\n");
        Shop { child, directory }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn coro(arguments: &[&str]) -> Output {
    Command::new(CORO).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether the screen shows the four groups of the shop, with rates, and nothing that comes and goes.
fn is_settled(screen: &str) -> bool {
    let is_group = |line: &&str| line.split_whitespace().nth(1) == Some("parked");
    let groups: Vec<_> = screen.lines().filter(is_group).collect();
    let has = |count: &str| groups.iter().any(|line| line.trim_start().starts_with(count));
    let is_rated = screen.lines().any(|line| line.starts_with("per second") && !line.contains('-'));
    let comes_and_goes = ["ready", "running"].iter().any(|state| screen.contains(state));
    has("240 parked") && has("12 parked") && groups.len() == 4 && is_rated && !comes_and_goes
}

#[test]
fn top_shows_a_process_on_a_terminal() {
    if !tmux::is_there() {
        eprintln!("skipped: there is no tmux");
        return;
    }
    let mut shop = Shop::start("top");
    let top = format!("{CORO} top {}", shop.pid());
    let terminal =
        Terminal::start(108, 30, &format!("{top}; echo \"it ended with $?\"; read line"));
    terminal.wait_for("it is there", is_settled);

    // The group of twelve is the second.
    terminal.keys(&["Down", "Enter"]);
    let screen = terminal.wait_for("unfolded", |screen| {
        is_settled(screen) && screen.contains("place_order") && screen.contains("order=")
    });
    let colours = terminal.colours();
    assert!(screen.contains("coroutine "), "{screen}");
    assert!(screen.contains("functions of libraries"), "{screen}");
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/top.svg");
    if std::env::var_os("CORO_WRITE_PICTURE").is_some() {
        fs::write(&picture, Picture::of(&colours).svg()).unwrap();
    }
    let shown = fs::read_to_string(&picture).unwrap();
    picture::assert_alike(&picture::lines_of(&shown), &screen);

    terminal.keys(&["f"]);
    terminal.wait_for("all frames", |screen| screen.contains("switch_yield"));
    terminal.keys(&["f", "Enter"]);
    terminal.wait_for("folded", |screen| !screen.contains("place_order   "));

    terminal.keys(&["s"]);
    terminal.wait_for("sorted by age", |screen| {
        let mut groups = screen.lines().skip_while(|line| !line.contains("oldest\u{2193}"));
        groups.nth(1).is_some_and(|first| !first.contains("240 parked"))
    });
    terminal.keys(&["p"]);
    terminal.wait_for("paused", |screen| screen.contains("paused"));
    terminal.keys(&["p"]);
    terminal.wait_for("goes on", |screen| screen.contains("every 1s"));

    // The screen stays readable when the process has ended.
    shop.end();
    let ended = terminal.wait_for("ended", |screen| screen.contains("the process has ended"));
    assert!(ended.contains("240 parked"), "{ended}");
    assert!(terminal.is_in_use());
    terminal.keys(&["q"]);
    let left = terminal.wait_for("left", |screen| screen.contains("it ended with 0"));
    assert!(!left.contains("parked"), "the screen is as it was before: {left}");
    assert!(!terminal.is_in_use());
}

#[test]
fn dump_prints_what_the_process_does() {
    let shop = Shop::start("dump");
    let dump = || stdout(&coro(&["dump", &shop.pid()]));
    // Not all have started when it begins to serve.
    let said = wait_for("all clients wait", dump, |said| {
        said.contains("\n240 parked, waiting for a value from a channel made at")
            && said.contains(", 0 are fresh\n")
    });
    assert!(said.starts_with("coro: "), "{said}");
    assert!(said.contains("shop::serve_client"), "{said}");
    let socket = shop.directory.join(shop.pid());
    let json =
        stdout(&coro(&["dump", "--json", "--groups", "1", "--socket", socket.to_str().unwrap()]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["groups"].as_array().unwrap().len(), 1);
    assert!(json["more_groups"].as_u64().unwrap() >= 3, "{json}");
    // Whoever reads may have enough.
    let head = Command::new("sh")
        .args(["-c", &format!("{CORO} dump {} | head -n 1", shop.pid())])
        .output();
    assert_eq!(stderr(&head.unwrap()), "");
    let said = stderr(&coro(&["top", &shop.pid()]));
    assert!(said.contains("coro top needs a terminal; coro dump prints"), "{said}");
}

#[test]
fn dump_says_what_is_wrong() {
    let own = std::process::id().to_string();
    let missing = std::env::temp_dir().join(format!("coro-none-{own}"));
    let missing = missing.to_str().unwrap();
    let nobody = "nobody serves this socket";
    for (arguments, why) in [
        (&["dump", "4294967295"][..], "coro: there is no process 4294967295\n"),
        (&["dump", &own], "start it with CORO_INSPECT=/tmp/coro-%p.sock"),
        (&["dump", "--socket", missing], nobody),
        (&["dump", "--socket", &format!("{missing}/s")], "No such file or directory"),
        (&["dump"], "required arguments"),
        (&["dump", "--socket", missing, &own], "cannot be used with"),
        (&["dump", "--groups", "1001", &own], "1001 is not in 1..=1000"),
        (&["top", "--interval", "0", &own], "a number from 0.1 to 3600 is expected"),
    ] {
        let output = coro(arguments);
        let said = stderr(&output);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
}
