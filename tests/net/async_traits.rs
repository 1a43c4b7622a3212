//! The streams under the traits of tokio and hyper, which are there with the features of these names.

use coro::net::UnixStream;

use crate::{common, pair};

#[cfg(feature = "tokio")]
mod with_tokio {
    use std::io::IoSlice;

    use coro::net::{ReadHalf, Stream, WriteHalf};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

    use super::*;

    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        assert!(stream.is_write_vectored());
        for round in 0..100 {
            let parts =
                [IoSlice::new(b"round "), IoSlice::new(if round % 2 == 0 { b"a" } else { b"b" })];
            assert_eq!(stream.write_vectored(&parts).await.unwrap(), 7);
            let mut back = [0; 7];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, if round % 2 == 0 { b"ROUND A" } else { b"ROUND B" });
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    async fn answer(mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) {
        // What it has room for is not initialised.
        let mut buffer = Vec::with_capacity(256);
        while reader.read_buf(&mut buffer).await.unwrap() > 0 {
            buffer.make_ascii_uppercase();
            writer.write_all(&buffer).await.unwrap();
            buffer.clear();
        }
        writer.flush().await.unwrap();
        writer.shutdown().await.unwrap();
    }

    fn talk<S>(runtime: &coro::Runtime, client: S, server: (ReadHalf<S>, WriteHalf<S>))
    where
        S: Stream + AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
        ReadHalf<S>: AsyncRead + Unpin,
        WriteHalf<S>: AsyncWrite + Unpin,
    {
        let answering = runtime.go(move || coro::wait(answer(server.0, server.1)));
        runtime.go(move || coro::wait(ask(client))).join().unwrap();
        answering.join().unwrap();
    }

    #[test]
    fn net_streams_under_tokios_traits() {
        let _watchdog = common::watchdog();
        common::on_workers(|runtime, _| {
            let (client, server) = pair();
            talk(runtime, client, server.split());
            let (client, server) = UnixStream::pair().unwrap();
            talk(runtime, client, server.split());
        });
    }

    /// More than fits into the buffers of the kernel.
    #[test]
    fn net_tokios_copy_loses_nothing() {
        let _watchdog = common::watchdog();
        common::on_workers(|runtime, _| {
            let (mut client, mut server) = UnixStream::pair().unwrap();
            let data: Vec<u8> = (0..4 << 20).map(|i: u32| (i * 31 % 251) as u8).collect();
            let sent = data.clone();
            let sending = runtime.go(move || coro::wait(client.write_all(&sent)));
            let received = runtime.go(move || {
                coro::wait(async {
                    let mut all = Vec::new();
                    tokio::io::copy(&mut server, &mut all).await.unwrap();
                    all
                })
            });
            sending.join().unwrap().unwrap();
            assert!(received.join().unwrap() == data);
        });
    }
}

#[cfg(feature = "hyper")]
mod with_hyper {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::pin::Pin;

    use hyper::body::{Body, Incoming};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};

    use super::*;

    /// Gives back what was posted, in capital letters.
    async fn capitals(request: Request<Incoming>) -> hyper::Result<Response<String>> {
        let mut body = request.into_body();
        let mut text = String::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Ok(data) = frame?.into_data() {
                text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
        Ok(Response::new(text.to_uppercase()))
    }

    fn serve(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + 'static) {
        assert!(stream.is_write_vectored());
        let served = http1::Builder::new().serve_connection(stream, service_fn(capitals));
        coro::wait(served).unwrap();
    }

    /// Two requests on one connection, the second with more than fits into the buffers of the kernel.
    fn ask(mut stream: impl Read + Write) {
        let long = "x".repeat(4 << 20);
        for (text, connection) in [("hello", "keep-alive"), (&long[..], "close")] {
            let length = text.len();
            let head = format!(
                "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: {connection}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            let head = String::from_utf8(answer).unwrap().to_lowercase();
            assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
            assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            assert!(body == text.to_uppercase().as_bytes());
        }
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn net_hyper_serves_connections() {
        let _watchdog = common::watchdog();
        common::on_workers(|runtime, _| {
            let (client, server) = pair();
            let serving = runtime.go(move || serve(server));
            runtime.go(move || ask(client)).join().unwrap();
            serving.join().unwrap();
            let (client, server) = UnixStream::pair().unwrap();
            let serving = runtime.go(move || serve(server));
            ask(client);
            serving.join().unwrap();
        });
    }
}
