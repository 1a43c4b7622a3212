//! The servers of a greeting, each written as its library wants it.

use std::convert::Infallible;
use std::net::TcpListener;

use super::tell;

#[allow(dead_code, unreachable_pub)]
#[path = "../../../../examples/httpd/main.rs"]
mod httpd;

const GREETING: &str = "hello\n";

/// Whether there is such a server. It serves for ever.
pub fn serve(peer: &str, workers: usize) -> bool {
    match peer {
        "coro" => coro(workers),
        "hyper" => per_core(workers, hyper),
        "axum" => per_core(workers, axum),
        "may_minihttp" => may_minihttp(workers),
        _ => return false,
    }
    true
}

fn coro(workers: usize) {
    let runtime = coro::Runtime::builder().workers(workers).build().expect("workers");
    runtime.go(|| httpd::run("127.0.0.1:0")).join().expect("no panic").expect("no error");
}

/// A runtime of tokio for each core, with a listener of its own at the same address.
fn per_core<F: Future<Output = ()>>(workers: usize, serve: fn(tokio::net::TcpListener) -> F) {
    let first = listener(([127, 0, 0, 1], 0).into());
    let address = first.local_addr().expect("an address");
    let others: Vec<_> = (1..workers).map(|_| listener(address)).collect();
    tell(Ok(address));
    std::thread::scope(|scope| {
        for listener in std::iter::once(first).chain(others) {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    serve(tokio::net::TcpListener::from_std(listener).expect("a listener")).await;
                });
            });
        }
    });
}

fn listener(address: std::net::SocketAddr) -> TcpListener {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)
            .expect("a socket");
    socket.set_reuse_port(true).expect("an option");
    socket.bind(&address.into()).expect("an address");
    socket.listen(4096).expect("a listener");
    socket.into()
}

async fn hyper(listener: tokio::net::TcpListener) {
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("no delay");
                let answer = |_| async {
                    let body = http_body_util::Full::new(hyper::body::Bytes::from_static(
                        GREETING.as_bytes(),
                    ));
                    Ok::<_, Infallible>(hyper::Response::new(body))
                };
                let connection = hyper::server::conn::http1::Builder::new()
                    .pipeline_flush(true)
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::task::spawn_local(async { connection.await.unwrap_or(()) });
            }
        })
        .await;
}

async fn axum(listener: tokio::net::TcpListener) {
    use axum::serve::ListenerExt;

    let router = axum::Router::new().route("/", axum::routing::get(async || GREETING));
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("no delay"));
    axum::serve(listener, router).await.expect("it serves for ever");
}

#[derive(Clone)]
struct Greeting;

impl may_minihttp::HttpService for Greeting {
    fn call(
        &mut self,
        _request: may_minihttp::Request<'_, '_, '_>,
        response: &mut may_minihttp::Response<'_>,
    ) -> std::io::Result<()> {
        response.body(GREETING);
        Ok(())
    }
}

fn may_minihttp(workers: usize) {
    may::config().set_workers(workers);
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = address.expect("an address");
    let server = may_minihttp::HttpServer(Greeting).start(address).expect("a server");
    tell(Ok(address));
    server.join().expect("it serves for ever");
}
