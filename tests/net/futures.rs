//! The `poll_*` methods: under `wait`, on a plain thread, and under another library's executor.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use coro::net::{TcpListener, TcpStream};

use crate::{common, pair};

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> usize {
    poll_fn(|context| stream.poll_read(context, buffer)).await.unwrap()
}

async fn write_all(stream: &TcpStream, mut buffer: &[u8]) {
    while !buffer.is_empty() {
        let written = poll_fn(|context| stream.poll_write(context, buffer)).await.unwrap();
        buffer = &buffer[written..];
    }
}

async fn echo(stream: TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match read(&stream, &mut buffer).await {
            0 => return,
            length => write_all(&stream, &buffer[..length]).await,
        }
    }
}

async fn talk(stream: TcpStream) {
    let data: Vec<u8> = (0..200_000).map(|i| i as u8).collect();
    for part in data.chunks(10_000) {
        write_all(&stream, part).await;
        let mut back = vec![0; part.len()];
        let mut length = 0;
        while length < back.len() {
            length += read(&stream, &mut back[length..]).await;
        }
        assert_eq!(back, part);
    }
}

/// Polls a future on a plain thread, as other libraries do.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn net_futures_under_wait_on_a_thread_and_elsewhere() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = pair();
        let answering = runtime.go(move || coro::wait(echo(server)));
        runtime.go(move || coro::wait(talk(client))).join().unwrap();
        answering.join().unwrap();

        let (client, server) = pair();
        let answering = thread::spawn(move || block_on(echo(server)));
        coro::wait(talk(client));
        answering.join().unwrap();
    });
}

/// A future that is polled on a thread first, and then by coroutines of one runtime after another, which end.
#[test]
fn net_a_future_wanders() {
    let _watchdog = common::watchdog();
    let (client, server) = pair();
    let (client, server) = (Arc::new(client), Arc::new(server));
    let poll_once = |context: &mut Context<'_>| {
        let mut byte = [0];
        Poll::Ready(server.poll_read(context, &mut byte).is_pending())
    };
    assert!(block_on(poll_fn(poll_once)));
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        let begun = common::Counter::default();
        let reading = {
            let (server, begun) = (Arc::clone(&server), begun.clone());
            runtime.go(move || {
                begun.add();
                let mut byte = [0];
                coro::wait(read(&server, &mut byte));
                byte[0]
            })
        };
        begun.wait_for(1);
        let writing = {
            let client = Arc::clone(&client);
            thread::spawn(move || block_on(write_all(&client, &[workers as u8])))
        };
        assert_eq!(reading.join().unwrap(), workers as u8);
        writing.join().unwrap();
        runtime.shutdown();
        assert!(block_on(poll_fn(poll_once)));
    }
}

#[test]
fn net_accept_as_a_future() {
    let _watchdog = common::watchdog();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = thread::spawn(move || {
        block_on(poll_fn(|context| listener.poll_accept(context))).map(|(_, from)| from).unwrap()
    });
    let client = coro::go(move || TcpStream::connect(address).unwrap()).join().unwrap();
    assert_eq!(accepting.join().unwrap(), client.local_addr().unwrap());
}
