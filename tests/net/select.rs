//! Descriptors among the arms of a select.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::chan::{self, Select};
use coro::net::TcpStream;

use crate::{common, pair};

/// A timer, a future, a channel and a socket: each comes in its turn, one is taken, and the others lose nothing.
#[test]
fn net_select_over_everything() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = pair();
        let (sender, receiver) = chan::bounded(1);
        let (answer, answered) = chan::bounded(0);
        let looping = runtime.go(move || {
            let mut future = coro::go(coro::park);
            future.cancel();
            let mut future_is_over = false;
            loop {
                let what = coro::select! {
                    readable(server) => {
                        let mut byte = [0];
                        match (&server).read(&mut byte).unwrap() {
                            0 => break,
                            _ => char::from(byte[0]),
                        }
                    }
                    recv(receiver) -> value => value.unwrap(),
                    wait(async { if future_is_over { std::future::pending().await } else { (&mut future).await } }) -> _ => {
                        future_is_over = true;
                        'f'
                    }
                    recv(chan::after(Duration::from_secs(60))) -> _ => panic!("nothing has come"),
                };
                answer.send(what).unwrap();
            }
        });
        let mut seen: Vec<char> = vec![answered.recv().unwrap()];
        for round in 0..100 {
            let byte = b'a' + round % 5;
            match round % 2 {
                0 => (&client).write_all(&[byte]).unwrap(),
                _ => sender.send(char::from(byte)).unwrap(),
            }
            seen.push(answered.recv().unwrap());
        }
        assert_eq!(seen.len(), 101);
        assert_eq!(seen.iter().filter(|&&what| what == 'f').count(), 1);
        drop(client);
        looping.join().unwrap();
    });
}

/// On a plain thread, and by a `Select`; and a select that is cancelled leaves the data to the next.
#[test]
fn net_select_on_threads_and_cancelled() {
    let _watchdog = common::watchdog();
    let (client, server) = pair();
    let server = Arc::new(server);
    let (_sender, receiver) = chan::bounded::<()>(0);
    let wait = |server: Arc<TcpStream>, receiver: chan::Receiver<()>| {
        move || {
            coro::select! {
                readable(server) => {
                    let mut byte = [0];
                    (&*server).read_exact(&mut byte).map(|()| byte[0]).unwrap()
                }
                recv(receiver) -> _ => 0,
            }
        }
    };
    let thread = common::spawn_until_blocked(wait(Arc::clone(&server), receiver.clone()));
    (&client).write_all(b"t").unwrap();
    assert_eq!(thread.join().unwrap(), b't');

    let cancelled = coro::go(wait(Arc::clone(&server), receiver.clone()));
    thread::sleep(Duration::from_millis(2));
    cancelled.cancel();
    common::assert_cancelled(cancelled.join());
    (&client).write_all(b"c").unwrap();
    assert_eq!(coro::go(wait(Arc::clone(&server), receiver.clone())).join().unwrap(), b'c');

    let (reader, mut writer) = io::pipe().unwrap();
    let mut select = Select::new();
    select
        .readable(&*server, || "socket")
        .readable(&reader, || "pipe")
        .writable(&client, || "room");
    assert_eq!(select.select(), "room");
    assert_eq!(select.try_select(), None);
    assert_eq!(select.select_timeout(Duration::from_millis(2)), None);
    writer.write_all(b"x").unwrap();
    assert_eq!(select.select(), "pipe");
    (&client).write_all(b"x").unwrap();
    assert_eq!(select.select(), "socket");
    assert!(select.is_empty());
    drop(select);
    // What is forgotten in between leaves nothing behind that a later descriptor would find.
    let mut select = Select::new();
    select.readable(&reader, || ());
    assert_eq!(select.try_select(), Some(()));
    select.readable(&reader, || ());
    std::mem::forget(select);
    drop(reader);
    let (reader, writer) = io::pipe().unwrap();
    let waiting = coro::go(move || coro::io::wait_readable(&reader));
    thread::sleep(Duration::from_millis(2));
    drop(writer);
    waiting.join().unwrap().unwrap();
}

/// Both sides of one socket, and one side twice.
#[test]
fn net_select_over_one_descriptor() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = pair();
        let which = runtime.go(move || {
            let mut reads = 0;
            let mut writes = 0;
            while reads == 0 || writes == 0 {
                coro::select! {
                    readable(server) => reads += 1,
                    readable(server) => reads += 1,
                    writable(server) => writes += 1,
                }
            }
        });
        (&client).write_all(b"x").unwrap();
        which.join().unwrap();
    });
}
