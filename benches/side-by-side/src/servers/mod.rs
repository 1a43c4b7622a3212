//! Servers, each in a process of its own, and the clients that load them.
//!
//! With one worker the server has the first CPU and its clients the second; with more, all share all of them.

mod clients;
mod echo;
mod http;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::programs;
use crate::statistics::percentile;
use clients::Clients;

/// How a server is loaded.
#[derive(Clone, Copy)]
pub struct Load {
    pub asking: Asking,
    pub connections: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Asking {
    /// 64 bytes that come back.
    Echo,
    /// A request, and the next one when it has been answered.
    OneByOne,
    /// 16 of them at a time.
    Pipelined,
    /// Each on a connection of its own.
    Alone,
    /// At times that are fixed beforehand, at half the highest rate.
    Paced,
}

/// Serves for ever, and tells the address on stdout.
pub fn serve(peer: &str, echo: bool, workers: usize) {
    let known = if echo { echo::serve(peer, workers) } else { http::serve(peer, workers) };
    assert!(known, "there is no server called {peer}");
}

fn tell(address: io::Result<SocketAddr>) {
    println!("{}", address.expect("an address"));
}

/// A server in a process of its own, which ends with this.
struct Server {
    process: Child,
    address: SocketAddr,
    output: std::path::PathBuf,
}

impl Server {
    fn start(peer: &str, echo: bool, workers: usize) -> Server {
        let kind = if echo { "echo" } else { "http" };
        let mut command = match programs::path(peer) {
            Some(program) => Command::new(program),
            None => Command::new(std::env::current_exe().expect("this program")),
        };
        // Not a pipe, which somebody would have to empty: one of the servers writes an access log.
        let output = std::env::temp_dir().join(format!("side-by-side-{}", std::process::id()));
        let process = command
            .args(["serve", kind, peer, &workers.to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .spawn()
            .expect("a process");
        let mut server = Server { process, address: ([127, 0, 0, 1], 0).into(), output };
        let limit = Instant::now() + Duration::from_secs(10);
        while server.address.port() == 0 {
            assert!(Instant::now() < limit, "the server of {peer} does not tell its address");
            thread::sleep(Duration::from_millis(2));
            let told = std::fs::read_to_string(&server.output).unwrap_or_default();
            if let Some((line, _)) = told.split_once('\n') {
                server.address =
                    line.trim_start_matches("http://").parse().expect("an address is told");
            }
        }
        server
    }

    /// The CPU time that it has used.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))
            .expect("what the kernel says of it");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        // SAFETY: takes a number.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
        Duration::from_millis(ticks * 1000 / per_second)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}

/// Measures a server under a load for six times `goal`. The values are those of the rows.
pub fn measure(peer: &str, workers: usize, load: Load, goal: Duration) -> Vec<f64> {
    if workers == 1 {
        pin(0);
    }
    let server = Server::start(peer, load.asking == Asking::Echo, workers);
    if workers == 1 {
        pin(1);
    }
    let mut clients = Clients::new(server.address, load);
    clients.ask(goal);
    let before = server.cpu();
    let (begin, answers) = (Instant::now(), clients.ask(goal * 6));
    let rate = answers as f64 / begin.elapsed().as_secs_f64();
    if load.asking != Asking::Paced {
        let cpu = (server.cpu() - before).as_nanos() as f64;
        return vec![rate, cpu / answers as f64];
    }
    let mut latencies = clients.keep_schedule(rate / 2.0, goal * 6);
    latencies.sort_unstable();
    let nanoseconds = |part| percentile(&latencies, part).as_nanos() as f64;
    vec![nanoseconds(0.99), nanoseconds(0.5), rate]
}

/// Loads the server at an address for two seconds, with 100 connections.
pub fn load(address: SocketAddr, echo: bool) {
    let asking = if echo { Asking::Echo } else { Asking::OneByOne };
    let limit = Duration::from_secs(2);
    let answers = Clients::new(address, Load { asking, connections: 100 }).ask(limit);
    println!("{:.0} answers a second", answers as f64 / limit.as_secs_f64());
}

/// Has this thread, and those that it starts, run on one CPU. Where there is no such CPU, nothing is done.
pub fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    _ = rustix::thread::sched_setaffinity(None, &set);
}
