use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use coro::Runtime;
use ureq::Agent;
use world::ureq_transport::{Connect, Resolve};

use crate::common::{Running, Server, printed};

fn crawler(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crawler"));
    // On one thread, so that no page waits for another because of a thread that is blocked.
    command.env("CORO_WORKERS", "1").arg(url);
    command
}

/// A small site.
#[derive(Default)]
struct Site {
    pages: HashMap<String, String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    visits: HashMap<String, usize>,
    connections: usize,
    /// Pages that begin with `/slow` and were asked for, and not answered.
    waiting: usize,
    /// Pages that begin with `/slow` are answered when so many wait.
    gate: usize,
}

impl Site {
    fn start(
        pages: impl IntoIterator<Item = (String, String)>,
        gate: usize,
    ) -> (Arc<Site>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let state = Mutex::new(State { gate, ..State::default() });
        let pages = pages.into_iter().collect();
        let site = Arc::new(Site { pages, state, changed: Condvar::new() });
        let for_listener = Arc::clone(&site);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let site = Arc::clone(&for_listener);
                site.state.lock().unwrap().connections += 1;
                thread::spawn(move || site.serve(stream.unwrap()));
            }
        });
        (site, url)
    }

    fn serve(&self, stream: TcpStream) {
        let mut lines = BufReader::new(&stream).lines();
        while let Some(Ok(request)) = lines.next() {
            while lines.next().is_some_and(|header| header.is_ok_and(|header| !header.is_empty())) {
            }
            let path = request.split(' ').nth(1).unwrap();
            self.wait_for_others(path);
            let answer = match self.pages.get(path) {
                Some(to) if path.starts_with("/moved") => {
                    format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                }
                Some(body) => format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                None => "404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            if (&stream).write_all(format!("HTTP/1.1 {answer}").as_bytes()).is_err() {
                break;
            }
        }
    }

    fn wait_for_others(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        *state.visits.entry(path.to_owned()).or_default() += 1;
        if !path.starts_with("/slow") {
            return;
        }
        state.waiting += 1;
        if state.waiting >= state.gate {
            // It stays open.
            state.gate = 0;
        }
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.gate > 0).unwrap();
        state.waiting -= 1;
    }

    fn wait_until(&self, is_so: impl Fn(&State) -> bool) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| !is_so(state)).unwrap());
    }
}

fn page(path: &str, links: impl IntoIterator<Item = String>) -> (String, String) {
    let links = links.into_iter().map(|link| format!("<a href=\"{link}\">there</a>\n"));
    (path.to_owned(), links.collect())
}

#[test]
fn crawler_visits_each_page_of_a_site_once() {
    // A tree of 200 pages. Each links to its parent too, to itself, and to another site.
    let pages = (1..=200).map(|i| {
        let children = [2 * i, 2 * i + 1].into_iter().filter(|child| *child <= 200);
        let others = [format!("/{}", i / 2), format!("/{i}#top"), "http://127.0.0.1:1/".into()];
        page(&format!("/{i}"), children.map(|child| format!("/{child}")).chain(others))
    });
    let extra = [
        page("/", ["/1".into(), "/moved".into(), "/missing".into(), "//elsewhere/".into()]),
        ("/moved".to_owned(), "/moved-here".to_owned()),
        ("/moved-here".to_owned(), "/7".to_owned()),
    ];
    let (site, url) = Site::start(pages.chain(extra), 0);
    let told = printed(&mut crawler(&url), "");
    assert!(told.contains(&format!("404 {url}missing\n")), "{told}");
    assert!(told.contains(&format!("302 {url}moved\n")), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("200 ")).count(), 201, "{told}");
    // The tree's root links to a page 0, which is not there either.
    assert!(told.ends_with("\n205 pages\n"), "{told}");
    let state = site.state.lock().unwrap();
    assert!(state.visits.values().all(|visits| *visits == 1), "{:?}", state.visits);
    assert!(state.connections <= 16, "connections are used again: {}", state.connections);
}

/// They are all answered when sixteen have been asked for; so one after another would never end.
#[test]
fn crawler_asks_for_sixteen_pages_at_once_on_one_thread() {
    let slow = |i| format!("/slow{i}");
    let pages = (0..100).map(|i| page(&slow(i), []));
    let root = page("/", (0..100).map(slow));
    let (_, url) = Site::start(pages.chain([root]), 16);
    let told = printed(&mut crawler(&url), "");
    assert!(told.ends_with("\n101 pages\n"), "{told}");
    // With fewer at once, those that wait would be given up in the end, and others would come.
    assert_eq!(told.lines().filter(|line| line.starts_with("200 ")).count(), 101, "{told}");
}

#[test]
fn crawler_asks_for_no_more_at_once_and_is_cancelled_by_ctrl_c_meanwhile() {
    let slow = |i| format!("/slow{i}");
    let root = page("/", (0..100).map(slow));
    // Nobody is ever answered.
    let (site, url) = Site::start([root], usize::MAX);
    let running = Running::start(crawler(&url).stdout(Stdio::piped()), "");
    site.wait_until(|state| state.waiting >= 16);
    // If there was a seventeenth, it would come now.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(site.state.lock().unwrap().waiting, 16);
    running.interrupt();
    let output = running.output();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("\ncancelled\n"));
}

/// A coroutine that does so much lets others go first now and then. It must not do so with the lock of ureq's pool.
#[test]
fn crawler_an_agent_that_coroutines_of_one_thread_share_never_blocks_the_thread() {
    let (_, url) = Site::start([page("/", [])], 0);
    crate::common::start_watchdog();
    let agent = Agent::with_parts(Agent::config_builder().build(), Connect, Resolve::default());
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let fetch =
        |agent: &Agent| agent.get(&url).call().unwrap().into_body().read_to_string().unwrap();
    runtime.scope(|scope| {
        for _ in 0..3 {
            scope.go(|| (0..1000).for_each(|_| assert_eq!(fetch(&agent), "")));
        }
    });
}

#[test]
fn crawler_says_what_is_wrong_with_a_page() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = printed(&mut crawler(&format!("http://{unused}/")), "");
    assert!(told.contains("refused"), "{told}");
    // A listener that nobody accepts from: it answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let told = printed(crawler(&url).env("CRAWLER_LIMIT", "1"), "");
    assert!(told.starts_with("timeout"), "{told}");
}

#[test]
fn crawler_reads_a_site_of_rustls() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = directory.path().join("ca.pem");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_https"));
    let server = Server::start(serve.args(["serve", "127.0.0.1:0"]).arg(&certificate));
    let url = format!("https://localhost:{}/", server.port());
    let told = printed(crawler(&url).arg(&certificate), "");
    assert_eq!(told, format!("200 {url}\n1 pages\n"));
}
