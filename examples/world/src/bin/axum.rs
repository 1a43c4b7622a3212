//! A router of axum, served by hyper: HTTP/1 and HTTP/2, a coroutine a connection.
//!
//! ```text
//! axum 127.0.0.1:3000
//! curl -d 'buy milk' http://127.0.0.1:3000/notes    # prints the note's number
//! curl http://127.0.0.1:3000/notes/0
//! ```
//!
//! There is no runtime of futures here: the coroutine of a connection polls hyper's future, by `wait`. It may be suspended
//! in a poll, too. So a handler may wait as any code of a coroutine does, and need not be `async` all the way down.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use coro::chan::{Receiver, bounded};
use coro::net::{self, TcpListener, TcpStream};
use coro::sync::RwLock;
use coro::{select, signal, sleep, wait};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use world::hyper_runtime::Coroutines;

/// For requests that are under way when the server ends.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Notes {
    texts: RwLock<Vec<String>>,
}

fn main() -> std::io::Result<()> {
    let router = Router::new()
        .route("/notes", post(add))
        .route("/notes/{number}", get(show))
        .route("/sleep/{milliseconds}", get(sleep_for))
        .with_state(Arc::new(Notes::default()));

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let (end, ending) = bounded::<()>(0);
    let server = net::serve(listener, move |stream, from| {
        serve_connection(stream, from, router.clone(), &ending);
    });
    signal::ctrl_c()?;
    drop(end);
    let cancelled = server.shutdown(GRACE);
    println!("ended, {cancelled} connections were cancelled");
    Ok(())
}

fn serve_connection(stream: TcpStream, from: SocketAddr, router: Router, ending: &Receiver<()>) {
    let mut http = Builder::new(Coroutines);
    // With a timer, hyper limits the time that a client takes for its headers.
    http.http1().timer(Coroutines);
    http.http2().timer(Coroutines);
    let connection = http.serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let served = select! {
        wait(connection.as_mut()) -> served => served,
        recv(ending) -> _ => {
            // Requests that have begun are answered. A client that has none is not waited for.
            connection.as_mut().graceful_shutdown();
            wait(connection)
        }
    };
    if let Err(error) = served {
        eprintln!("{from}: {error}");
    }
}

async fn add(State(notes): State<Arc<Notes>>, text: String) -> String {
    let mut texts = notes.texts.write();
    texts.push(text);
    format!("{}\n", texts.len() - 1)
}

async fn show(
    State(notes): State<Arc<Notes>>,
    Path(number): Path<usize>,
) -> Result<String, StatusCode> {
    notes.texts.read().get(number).cloned().ok_or(StatusCode::NOT_FOUND)
}

/// It sleeps as a function does: the coroutine is suspended, though it polls a future.
async fn sleep_for(Path(milliseconds): Path<u64>) -> &'static str {
    sleep(Duration::from_millis(milliseconds));
    "good morning\n"
}
