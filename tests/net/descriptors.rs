//! Descriptors that are no sockets: pipes, terminals, a child's output, inotify, timers; and those that cannot be waited
//! for.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::io::{Async, wait_readable, wait_writable};

use crate::common;

fn is_nonblocking(fd: impl AsFd) -> bool {
    // SAFETY: an open descriptor.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK != 0 }
}

/// The descriptor that a system call has given.
fn owned(fd: i32) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: it is new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn net_pipes_in_both_directions() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (reader, writer) = io::pipe().unwrap();
        let (mut reader, mut writer) = (Async::new(reader).unwrap(), Async::new(writer).unwrap());
        let written = runtime.go(move || writer.write_all(&vec![7; 1 << 20]));
        let read = runtime.go(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        written.join().unwrap().unwrap();
        let all = read.join().unwrap().unwrap();
        assert!(all.len() == 1 << 20 && all.iter().all(|&byte| byte == 7));
    });
}

#[test]
fn net_waiting_for_any_descriptor() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = Arc::new(reader);
        // Two that wait for the same descriptor, and a thread.
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let reader = Arc::clone(&reader);
                runtime.go(move || wait_readable(&reader))
            })
            .collect();
        let thread = {
            let reader = Arc::clone(&reader);
            common::spawn_until_blocked(move || wait_readable(&reader))
        };
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        writer.write_all(b"x").unwrap();
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap().unwrap());
        thread.join().unwrap().unwrap();

        // It has been ready, and somebody has read that by other means.
        (&*reader).read_exact(&mut [0]).unwrap();
        let late = {
            let reader = Arc::clone(&reader);
            runtime.go(move || {
                coro::timeout(Duration::from_millis(5), || wait_readable(&reader)).is_err()
            })
        };
        assert!(late.join().unwrap());
        wait_writable(&writer).unwrap();
        drop(writer);
        runtime.go(move || wait_readable(&reader)).join().unwrap().unwrap();
    });
}

/// `O_NONBLOCK` belongs to whoever shares the file: it is put back as it was found.
#[test]
fn net_async_restores_the_mode() {
    let (reader, _writer) = io::pipe().unwrap();
    let shared = reader.try_clone().unwrap();
    let pipe = Async::new(reader).unwrap();
    assert!(is_nonblocking(&shared));
    let reader = pipe.into_inner().unwrap();
    assert!(!is_nonblocking(&shared));
    drop(Async::new(reader).unwrap());
    assert!(!is_nonblocking(&shared));
}

#[test]
fn net_what_cannot_be_waited_for_is_refused() {
    let path = std::env::current_exe().unwrap();
    let file = Async::new(File::open(&path).unwrap()).unwrap_err();
    assert_eq!(file.kind(), ErrorKind::InvalidInput);
    assert!(file.to_string().contains("a regular file"), "{file}");
    let directory = Async::new(File::open(path.parent().unwrap()).unwrap()).unwrap_err();
    assert!(directory.to_string().contains("a directory"), "{directory}");
    // Always ready, so there is nothing to wait for.
    coro::go(move || wait_readable(File::open(path).unwrap())).join().unwrap().unwrap();
}

#[test]
fn net_a_childs_output() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mut child = Command::new("sh")
            .args(["-c", "read line; sleep 0.02; echo got $line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = Async::new(child.stdin.take().unwrap()).unwrap();
        let mut output = Async::new(child.stdout.take().unwrap()).unwrap();
        let said = runtime.go(move || {
            input.write_all(b"it\n").unwrap();
            let mut said = String::new();
            output.read_to_string(&mut said).map(|_| said)
        });
        assert_eq!(said.join().unwrap().unwrap(), "got it\n");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn net_a_terminal() {
    let _watchdog = common::watchdog();
    let (mut master, mut slave) = (0, 0);
    let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: two places for the descriptors, and nothing else.
    let made = unsafe { libc::openpty(&mut master, &mut slave, name, settings, size) };
    assert_eq!(made, 0);
    let (master, slave) = (File::from(owned(master)), File::from(owned(slave)));
    let (master, slave) = (Async::new(master).unwrap(), Async::new(slave).unwrap());
    let line = coro::go(move || {
        let mut line = [0; 64];
        let length = (&slave).read(&mut line).unwrap();
        (&slave).write_all(b"done").unwrap();
        line[..length].to_vec()
    });
    thread::sleep(Duration::from_millis(5));
    (&master).write_all(b"a line\n").unwrap();
    assert_eq!(line.join().unwrap(), b"a line\n");
    let mut seen = String::new();
    while !seen.contains("done") {
        let mut buffer = [0; 64];
        // When the other side is closed, a terminal gives an error.
        let Ok(length) = (&master).read(&mut buffer) else { break };
        seen.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert!(seen.contains("a line") && seen.contains("done"), "{seen}");
}

#[test]
fn net_timers_and_inotify() {
    let _watchdog = common::watchdog();
    // SAFETY: a number and a flag.
    let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) });
    let after = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let once = libc::itimerspec { it_interval: never, it_value: after };
    // SAFETY: an open descriptor and a live local.
    let set = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &once, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let timer = Async::new(File::from(timer)).unwrap();
    let expired = coro::go(move || {
        let mut count = [0; 8];
        (&timer).read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    });
    assert_eq!(expired.join().unwrap(), 1);

    // SAFETY: a flag.
    let inotify = owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) });
    let directory = std::env::temp_dir().join(format!("coro-inotify-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = std::ffi::CString::new(directory.to_str().unwrap()).unwrap();
    // SAFETY: an open descriptor and a string.
    let watch =
        unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_CREATE) };
    assert!(watch >= 0);
    let inotify = Async::new(File::from(inotify)).unwrap();
    let event = coro::go(move || {
        let mut buffer = [0; 4096];
        let length = (&inotify).read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    thread::sleep(Duration::from_millis(5));
    std::fs::write(directory.join("news"), "").unwrap();
    let event = event.join().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(event.contains("news"), "{event:?}");
}
