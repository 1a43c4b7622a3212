//! A crawler on ureq, with a progress bar by indicatif: visits all pages of a site, once each.
//!
//! ```text
//! crawler https://example.org/
//! crawler https://localhost:8443/ ca.pem   # trusts this certificate
//! ```
//!
//! `CRAWLER_LIMIT=60` is the time for a page, in seconds.
//!
//! ureq leaves to others how a connection is made: here it is one of coro's, and TLS goes on top of it. So a request
//! suspends its coroutine, and one thread has as many requests under way as one likes. Ctrl-c cancels them.

use std::collections::HashSet;
use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use coro::chan::{Receiver, bounded};
use coro::sync::Semaphore;
use coro::{JoinSet, go, select, signal};
use indicatif::ProgressBar;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::{Connector, RustlsConnector};
use ureq::{Agent, Error};
use world::ureq_transport::{Connect, Resolve};

/// Requests at a time.
const AT_ONCE: usize = 16;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(start) = arguments.next() else {
        eprintln!("crawler URL [CERTIFICATE]");
        return ExitCode::FAILURE;
    };
    let roots = arguments.next().map_or(RootCerts::WebPki, |path| {
        let pem = std::fs::read(path).expect("the certificate can be read");
        RootCerts::from([Certificate::from_pem(&pem).expect("a certificate in PEM")].into_iter())
    });
    let (cancel, cancelled) = bounded::<()>(0);
    go(move || signal::ctrl_c().map(|()| drop(cancel)));

    match crawl(&agent(roots), start, &cancelled) {
        Ok(pages) => println!("{pages} pages"),
        Err(Cancelled) => {
            println!("cancelled");
            return ExitCode::from(130);
        }
    }
    ExitCode::SUCCESS
}

struct Cancelled;

struct Page {
    status: Result<u16, Error>,
    links: Vec<String>,
}

/// Visits whatever can be reached from `start` on its site. Gives how many pages that is.
fn crawl(agent: &Agent, start: String, cancelled: &Receiver<()>) -> Result<usize, Cancelled> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let (mut seen, mut found) = (HashSet::new(), vec![start]);
    let mut visits = JoinSet::new();
    let bar = ProgressBar::new(0);
    loop {
        // A coroutine for each page, however many there are. Each waits for its turn.
        for url in found.drain(..).filter(|url| seen.insert(url.clone())) {
            let (agent, permits) = (agent.clone(), Arc::clone(&permits));
            visits.spawn(move || {
                let _permit = permits.acquire();
                let page = visit(&agent, &url);
                (url, page)
            });
        }
        bar.set_length(seen.len() as u64);
        select! {
            wait(poll_fn(|context| visits.poll_join_next(context))) -> visited => {
                let Some(visited) = visited else { return Ok(seen.len()) };
                let (url, page) = visited.expect("a visit does not panic");
                bar.suspend(|| match page.status {
                    Ok(status) => println!("{status} {url}"),
                    Err(error) => println!("{error}: {url}"),
                });
                bar.inc(1);
                found = page.links;
            }
            recv(cancelled) -> _ => {
                // Each ends where it waits, and closes its connection.
                visits.cancel_all();
                while visits.join_next().is_some() {}
                return Err(Cancelled);
            }
        }
    }
}

fn visit(agent: &Agent, url: &str) -> Page {
    let fetch = || {
        let mut response = agent.get(url).call()?;
        let moved = response.headers().get("location").and_then(|to| to.to_str().ok());
        let mut links: Vec<String> = moved.and_then(|to| on_site(url, to)).into_iter().collect();
        let html = response.body_mut().with_config().lossy_utf8(true).read_to_string()?;
        let attributes = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        links.extend(attributes.filter_map(|link| on_site(url, link)));
        Ok((response.status().as_u16(), links))
    };
    match fetch() {
        Ok((status, links)) => Page { status: Ok(status), links },
        Err(error) => Page { status: Err(error), links: Vec::new() },
    }
}

/// The URL of a link of this page, if it is of the same site.
fn on_site(page: &str, link: &str) -> Option<String> {
    let page: Uri = page.parse().ok()?;
    let site = format!("{}://{}/", page.scheme()?, page.authority()?);
    let path = link.strip_prefix(&site).or_else(|| link.strip_prefix('/'))?;
    let path = path.split('#').next()?;
    (!path.starts_with('/')).then(|| site + path)
}

/// ureq, on coro.
fn agent(roots: RootCerts) -> Agent {
    let seconds = std::env::var("CRAWLER_LIMIT").map_or(60, |seconds| seconds.parse().unwrap());
    let config = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_global(Some(Duration::from_secs(seconds)))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(AT_ONCE)
        .max_idle_connections_per_host(AT_ONCE)
        .build();
    Agent::with_parts(config, Connect.chain(RustlsConnector::default()), Resolve::default())
}
