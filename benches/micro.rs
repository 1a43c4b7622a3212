//! What the operations that programs use most cost in instructions, which unlike times are the same from run to run.
//!
//!     cargo bench --bench micro              # counts, beside those of benches/micro.txt
//!     cargo bench --bench micro -- --check   # fails where one has grown by more than 3 %
//!     cargo bench --bench micro -- --write   # writes the file anew
//!
//! The counts do not depend on the machine's speed. They do depend on the compiler, on the C library, whose `memcpy`
//! is one or another by what the CPU can do, and on valgrind. So the file begins with a line that names these. Where
//! they differ, `--check` says so and passes: there is nothing to compare with.
//!
//! Each operation is run 1,000 times and 11,000 times under `valgrind --tool=callgrind`, and the difference tells what
//! one takes, on the thread that did them: what the library's monitor does meanwhile depends on the clock.

use std::env;
use std::ffi::CStr;
use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use coro::net::UnixStream;
use coro::raw::{self, Yielder};
use coro::sync::Mutex;
use coro::{Runtime, chan, local, tls};

const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

/// By how much a count may grow, in per cent.
const GROWTH: f64 = 3.0;

/// How often an operation is counted before it has grown. A worker looks round by the clock, so on a busy machine it may
/// count for more than it takes.
const LOOKS: u32 = 3;

/// Where the counts are kept.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/micro.txt");

/// Repeats an operation so many times.
type Operation = fn(u64);

/// The operations, in the order in which they are shown.
const OPERATIONS: [(&str, Operation); 19] = [
    ("tls::id", id),
    ("tls::get, the key a type", get_by_type),
    ("tls::get, the key a &str", get_by_word),
    ("tls::set of a key that is there", set),
    ("local!, with", with_local),
    ("raw: resume and suspend", switch),
    ("yield_now, two coroutines", take_turns),
    ("park and unpark, a round trip", ping_pong),
    ("go and join", spawn),
    ("go and join, with a set and an at_exit", spawn_and_clean_up),
    ("wait on a future that is ready", wait),
    ("timeout that does not elapse", time_out),
    ("channel: send and recv, room for it", queue),
    ("channel: a rendezvous and back", hand_over),
    ("select! over four, one ready", choose),
    ("Mutex: lock and unlock", lock),
    ("Mutex: handed to one that waits", hand_lock_over),
    ("UnixStream: write and read, 64 bytes", send_bytes),
    ("UnixStream: an echo, among 64", echo),
];

/// Runs `f` in a raw coroutine: on this thread, and without a runtime's threads.
fn in_raw(f: impl FnOnce()) {
    raw::with(64 << 10, |_: &Yielder<(), ()>, ()| f(), |coroutine| _ = coroutine.resume(()))
        .unwrap();
}

/// Runs `f` in a coroutine of a runtime with one worker.
fn in_task(f: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(1).build().unwrap().go(f).join().unwrap();
}

fn id(times: u64) {
    in_raw(|| (0..times).for_each(|_| _ = black_box(tls::id())));
}

fn get_by_type(times: u64) {
    #[derive(PartialEq, Eq, Hash)]
    struct Key;
    in_raw(|| {
        tls::set(Key, 5u64);
        (0..times).for_each(|_| _ = black_box(tls::get::<u64>(Key).as_deref()));
    });
}

fn get_by_word(times: u64) {
    in_raw(|| {
        tls::set("a key", 5u64);
        (0..times).for_each(|_| _ = black_box(tls::get::<u64>("a key").as_deref()));
    });
}

fn set(times: u64) {
    in_raw(|| (0..times).for_each(|value| tls::set("a key", value)));
}

fn with_local(times: u64) {
    local! {
        static COUNT: std::cell::Cell<u64> = std::cell::Cell::new(0);
    }
    in_raw(|| (0..times).for_each(|_| COUNT.with(|count| count.set(black_box(count.get() + 1)))));
}

fn switch(times: u64) {
    let body = |yielder: &Yielder<bool, ()>, mut goes_on: bool| {
        while goes_on {
            goes_on = yielder.suspend(());
        }
    };
    let resumes = |coroutine: &raw::Coroutine<bool, (), ()>| {
        (0..times).for_each(|_| _ = black_box(coroutine.resume(true)));
        coroutine.resume(false);
    };
    raw::with(64 << 10, body, resumes).unwrap();
}

fn take_turns(times: u64) {
    let turns = move || (0..times).for_each(|_| coro::yield_now());
    in_task(move || {
        let other = coro::go(turns);
        turns();
        other.join().unwrap();
    });
}

fn ping_pong(times: u64) {
    in_task(move || {
        let me = coro::current().unwrap();
        let other = coro::go(move || {
            for _ in 0..times {
                me.unpark();
                coro::park();
            }
        });
        let handle = other.handle();
        for _ in 0..times {
            coro::park();
            handle.unpark();
        }
        other.join().unwrap();
    });
}

fn spawn(times: u64) {
    in_task(move || (0..times).for_each(|_| coro::go(|| ()).join().unwrap()));
}

fn spawn_and_clean_up(times: u64) {
    let stores = || {
        tls::set("a key", 1u32);
        tls::at_exit(|| ());
    };
    in_task(move || (0..times).for_each(|_| coro::go(stores).join().unwrap()));
}

fn wait(times: u64) {
    let wait = |value| _ = black_box(coro::wait(std::future::ready(black_box(value))));
    in_task(move || (0..times).for_each(wait));
}

fn time_out(times: u64) {
    const LONG: Duration = Duration::from_secs(3600);
    in_task(move || (0..times).for_each(|_| _ = coro::timeout(LONG, || black_box(1))));
}

fn queue(times: u64) {
    in_task(move || {
        let (sender, receiver) = chan::bounded(16);
        for value in 0..times {
            sender.send(value).unwrap();
            black_box(receiver.recv().unwrap());
        }
    });
}

fn hand_over(times: u64) {
    in_task(move || {
        let (there, here) = (chan::bounded(0), chan::bounded(0));
        let (questions, answers) = (there.1, here.0);
        let other =
            coro::go(move || questions.iter().for_each(|value| answers.send(value).unwrap()));
        for value in 0..times {
            there.0.send(value).unwrap();
            black_box(here.1.recv().unwrap());
        }
        drop(there.0);
        other.join().unwrap();
    });
}

fn choose(times: u64) {
    in_task(move || {
        let channels: [_; 4] = std::array::from_fn(|_| chan::bounded::<u64>(1));
        let [a, b, c, d] = &channels;
        for value in 0..times {
            c.0.send(value).unwrap();
            let value = coro::select! {
                recv(a.1) -> value => value,
                recv(b.1) -> value => value,
                recv(c.1) -> value => value,
                recv(d.1) -> value => value,
            };
            black_box(value.unwrap());
        }
    });
}

fn lock(times: u64) {
    in_task(move || {
        let count = Mutex::new(0);
        (0..times).for_each(|_| *count.lock() += black_box(1));
    });
}

/// Two coroutines hold the lock by turns, and each waits for it while the other has it.
fn hand_lock_over(times: u64) {
    in_task(move || {
        let count = Arc::new(Mutex::new(0));
        let turns = move || {
            for _ in 0..times {
                let mut count = count.lock();
                *count += 1;
                coro::yield_now();
            }
        };
        let other = coro::go(turns.clone());
        turns();
        other.join().unwrap();
    });
}

/// The kernel's part is not counted.
fn send_bytes(times: u64) {
    in_task(move || {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let mut buffer = [0; 64];
        for _ in 0..times {
            here.write_all(&buffer).unwrap();
            there.read_exact(&mut buffer).unwrap();
        }
    });
}

/// Of a round over 64 of them: who echoes waits for the descriptor each time. The kernel's part is not counted.
fn echo(times: u64) {
    in_task(move || {
        let mut streams: Vec<UnixStream> = (0..64).map(|_| echoing()).collect();
        let mut buffer = [0; 64];
        for _ in 0..times / 64 {
            streams.iter_mut().for_each(|stream| stream.write_all(&buffer).unwrap());
            streams.iter_mut().for_each(|stream| stream.read_exact(&mut buffer).unwrap());
        }
    });
}

/// A stream to a coroutine that sends back what it reads.
fn echoing() -> UnixStream {
    let (here, mut there) = UnixStream::pair().unwrap();
    coro::go(move || {
        let mut buffer = [0; 64];
        while there.read_exact(&mut buffer).is_ok() {
            there.write_all(&buffer).unwrap();
        }
    });
    here
}

/// How many instructions each thread takes for so many operations, in the order in which they were started.
fn count(name: &str, times: u64) -> Vec<u64> {
    let place = env::temp_dir().join(format!("coro-micro-{}", std::process::id()));
    fs::create_dir_all(&place).expect("a directory for valgrind's files");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "-q"])
        .arg(format!("--callgrind-out-file={}", place.join("out").display()))
        .arg(env::current_exe().expect("the benchmark's own executable"))
        .args(["--run", name, &times.to_string()])
        .status()
        .expect("valgrind can be run");
    assert!(status.success(), "{name}: {status}");
    let files = fs::read_dir(&place).expect("valgrind's files");
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let counts = paths.iter().filter_map(|path| {
        let text = fs::read_to_string(path).expect("a text");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
        total.trim().parse().ok()
    });
    let counts = counts.collect();
    fs::remove_dir_all(&place).expect("its own directory");
    counts
}

/// How many instructions one operation takes: on the thread that did them.
fn count_each(name: &str) -> f64 {
    let (few, many) = (count(name, FEW), count(name, MANY));
    let more = many.iter().zip(few).map(|(many, few)| many.saturating_sub(few));
    more.max().expect("a thread") as f64 / (MANY - FEW) as f64
}

/// What a command prints for `--version`.
fn version_of(command: &str) -> String {
    let output = Command::new(command).arg("--version").output().expect("it can be run");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What the counts depend on, besides the code and Cargo.lock.
fn made_with() -> String {
    // SAFETY: libc's function gives a string that stays.
    let libc = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    // What valgrind lets the program see of the CPU depends on this alone.
    let cpu = match (is_x86_feature_detected!("avx2"), is_x86_feature_detected!("avx")) {
        (true, _) => "AVX2",
        (false, true) => "AVX",
        (false, false) => "no AVX",
    };
    let libc = libc.to_string_lossy();
    format!("made with {}, glibc {libc}, {}, {cpu}", version_of("rustc"), version_of("valgrind"))
}

/// The kept counts, by the operation's name.
fn kept_counts(text: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [run, name, times] = &arguments[..]
        && run == "--run"
    {
        let (_, operation) = OPERATIONS.iter().find(|(known, _)| known == name).expect("a name");
        operation(times.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let is_asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let made_with = made_with();
    let text = fs::read_to_string(Path::new(KEPT)).unwrap_or_default();
    let kept = kept_counts(&text);
    let kept_with = text.lines().next().unwrap_or_default();
    let (mut text, mut has_grown) = (format!("{made_with}\n"), false);
    println!("{:>8} {:>8}  instructions", "now", "kept");
    for (name, _) in OPERATIONS {
        let before = kept.iter().find(|(known, _)| known == name).map(|(_, count)| *count);
        let growth = |each| before.map_or(0.0, |before| 100.0 * (each / before - 1.0));
        let mut each = count_each(name);
        for _ in 1..LOOKS {
            if growth(each) > GROWTH {
                each = each.min(count_each(name));
            }
        }
        text += &format!("{each:8.1} {name}\n");
        let growth = growth(each);
        let grown = growth > GROWTH;
        has_grown |= grown;
        let mark = if grown { format!("  grown by {growth:.1} %") } else { String::new() };
        println!(
            "{each:8.1} {:>8}  {name}{mark}",
            before.map_or_else(|| "-".into(), |n| n.to_string())
        );
    }
    if is_asked("--write") {
        fs::write(KEPT, text).expect("benches/micro.txt can be written");
    }
    if kept_with != made_with {
        println!("not comparable:\n  kept: {kept_with}\n  now:  {made_with}");
        return ExitCode::SUCCESS;
    }
    if is_asked("--check") && has_grown { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
