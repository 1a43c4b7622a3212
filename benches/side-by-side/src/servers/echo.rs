//! The servers, each written as its library wants it.

use std::io::{Read, Write};

use super::tell;

const BUFFER: usize = 4096;

/// Whether there is such a server. It serves for ever.
pub fn serve(peer: &str, workers: usize) -> bool {
    match peer {
        "coro" => coro(workers),
        "epoll" => epoll(),
        "tokio" => tokio(workers),
        "smol" => smol(),
        "may" => may(workers),
        "std" => threads(),
        _ => return false,
    }
    true
}

fn coro(workers: usize) {
    let runtime = coro::Runtime::builder().workers(workers).build().expect("workers");
    let listener = coro::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    tell(listener.local_addr());
    let serving = runtime.go(move || {
        coro::net::serve(listener, |mut stream, _| {
            let mut buffer = [0; BUFFER];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(length) => stream.write_all(&buffer[..length]).unwrap_or(()),
                }
            }
        })
        .join()
    });
    serving.join().expect("it serves for ever").expect("it accepts");
}

/// As little as there can be: a loop around edge-triggered epoll, with a read and a write for each message.
fn epoll() {
    use rustix::buffer::spare_capacity;
    use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    tell(listener.local_addr());
    listener.set_nonblocking(true).expect("non-blocking");
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
    const LISTENER: u64 = u64::MAX;
    let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), flags).expect("a place in it");
    let mut streams: Vec<std::net::TcpStream> = Vec::new();
    let mut events: Vec<Event> = Vec::with_capacity(256);
    let mut buffer = [0; BUFFER];
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None).expect("events");
        for event in &events {
            if event.data.u64() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("non-blocking");
                    let data = EventData::new_u64(streams.len() as u64);
                    epoll::add(&epoll, &stream, data, flags).expect("a place in it");
                    streams.push(stream);
                }
                continue;
            }
            let stream = &mut streams[event.data.u64() as usize];
            if let Ok(length @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write(&buffer[..length]);
            }
        }
    }
}

fn tokio(workers: usize) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(workers).enable_io().build().expect("workers");
    let serve = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        tell(listener.local_addr());
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut buffer = [0; BUFFER];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(length) => {
                            stream.write_all(&buffer[..length]).await.unwrap_or(());
                        }
                    }
                }
            });
        }
    };
    match workers {
        1 => runtime.block_on(serve),
        _ => runtime.block_on(async { tokio::spawn(serve).await.expect("it serves for ever") }),
    }
}

/// With as many threads as `SMOL_THREADS` says.
fn smol() {
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    let serve = async {
        let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        tell(listener.local_addr());
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let talk = async move {
                let mut buffer = [0; BUFFER];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(length) => {
                            stream.write_all(&buffer[..length]).await.unwrap_or(());
                        }
                    }
                }
            };
            smol::spawn(talk).detach();
        }
    };
    smol::block_on(smol::spawn(serve))
}

fn may(workers: usize) {
    may::config().set_workers(workers);
    let listener = may::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    tell(listener.local_addr());
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        may::go!(move || {
            let mut buffer = [0; BUFFER];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(length) => stream.write_all(&buffer[..length]).unwrap_or(()),
                }
            }
        });
    }
}

/// A thread for each connection.
fn threads() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    tell(listener.local_addr());
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        std::thread::spawn(move || {
            let mut buffer = [0; BUFFER];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(length) => stream.write_all(&buffer[..length]).unwrap_or(()),
                }
            }
        });
    }
}
