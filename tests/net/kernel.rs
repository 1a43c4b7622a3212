//! A kernel that refuses: too many open files, no `epoll_pwait2`, a process that was forked.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use coro::net::{TcpListener, TcpStream};

use crate::{common, echo, pair};

const LIMIT: Duration = Duration::from_secs(60);

/// Where `epoll_pwait2` is refused, sleeps still end, sockets still work, and an idle worker still sleeps.
#[test]
fn net_without_epoll_pwait2() {
    common::in_child("net_without_epoll_pwait2", LIMIT, || {
        for errno in [libc::ENOSYS, libc::EPERM] {
            refuse(libc::SYS_epoll_pwait2, errno);
            let runtime = common::runtime(2);
            let (mut client, server) = pair();
            let answering = runtime.go(move || echo(&server));
            let words = runtime.go(move || {
                for round in 0..50u32 {
                    let word = round.to_le_bytes();
                    client.write_all(&word).unwrap();
                    let mut back = [0; 4];
                    client.read_exact(&mut back).unwrap();
                    assert_eq!(back, word);
                    let start = Instant::now();
                    coro::sleep(Duration::from_millis(1));
                    assert!(start.elapsed() >= Duration::from_millis(1));
                }
            });
            words.join().unwrap();
            answering.join().unwrap().unwrap();
        }
    });
}

/// From now on this system call is refused, with this error, in threads that this one starts.
pub(crate) fn refuse(call: i64, errno: i32) {
    let rule = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut rules = [
        rule(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        rule(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        rule(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        rule(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: rules.len() as u16, filter: rules.as_mut_ptr() };
    // SAFETY: two system calls, the second with a live local.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// With too many open files each call says so, and what is open goes on.
#[test]
fn net_too_many_open_files() {
    common::in_child("net_too_many_open_files", LIMIT, || {
        let (mut client, server) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = common::runtime(1);
        let few = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: a live local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
        let open = || std::fs::File::open("/dev/null");
        let _all: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
        let refused = move || {
            let many = Some(libc::EMFILE);
            assert_eq!(TcpStream::connect(address).unwrap_err().raw_os_error(), many);
            assert_eq!(TcpListener::bind("127.0.0.1:0").unwrap_err().raw_os_error(), many);
            assert_eq!(client.try_clone().unwrap_err().raw_os_error(), many);
            client
        };
        client = runtime.go(refused).join().unwrap();
        // No poller can be made, and the wait says so.
        let waiting = runtime.go(move || {
            let error = (&server).read(&mut [0]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            server
        });
        let server = waiting.join().unwrap();
        // A plain thread needs none.
        client.write_all(b"x").unwrap();
        (&server).read_exact(&mut [0]).unwrap();
        drop(listener);
    });
}

/// In a forked process a socket that is dropped leaves the parent's waits alone, and plain code can use it.
#[test]
fn net_a_forked_process_leaves_the_parents_waits() {
    common::in_child("net_a_forked_process_leaves_the_parents_waits", LIMIT, || {
        let runtime = common::runtime(1);
        let (client, server) = pair();
        let server = std::sync::Arc::new(server);
        let reading = {
            let server = std::sync::Arc::clone(&server);
            runtime.go(move || {
                let mut byte = [0];
                (&*server).read_exact(&mut byte).unwrap();
                (&*server).read_exact(&mut byte).unwrap();
                byte[0]
            })
        };
        (&client).write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(10));
        // SAFETY: the child leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let (one, other) = pair();
                (&one).write_all(b"z").unwrap();
                (&other).read_exact(&mut [0]).unwrap();
                // As if the last user had gone.
                // SAFETY: the parent's counts are not ours.
                unsafe { std::ptr::drop_in_place(std::sync::Arc::as_ptr(&server).cast_mut()) };
            }));
            // SAFETY: takes a number.
            unsafe { libc::_exit(i32::from(all.is_err())) };
        }
        assert_eq!(common::wait_for_forked(pid), 0);
        (&client).write_all(b"y").unwrap();
        assert_eq!(reading.join().unwrap(), b'y');
    });
}
