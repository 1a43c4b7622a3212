use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use coro::{Elapsed, go, scope, timeout};
use redis::{Commands, cmd, pipe};
use tempfile::TempDir;
use world::redis_connection::{Connection, Pool};

use crate::common::{Running, printed, run, until};

const PACKAGE: &str = "redis-server";

struct Server {
    port: u16,
    directory: TempDir,
    running: Option<Running>,
}

impl Server {
    fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server { port: 0, directory, running: None };
        // Between the choice of a port and its use somebody else may take it.
        until("a server of redis", || {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            server.run()
        });
        server
    }

    /// Runs it at its port. False: it has ended at once.
    fn run(&mut self) -> bool {
        self.running = None;
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--requirepass", "secret"]);
        command.args(["--save", "", "--dir"]).arg(self.directory.path());
        let mut running = Running::start(command.stdout(Stdio::null()), PACKAGE);
        let mut is_up = false;
        until("an answer of redis", || {
            is_up = self.cli(&["ping"]) == "PONG\n";
            is_up || running.try_wait().unwrap().is_some()
        });
        self.running = is_up.then_some(running);
        is_up
    }

    fn url(&self) -> String {
        format!("redis://:secret@127.0.0.1:{}/2", self.port)
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string(), "-n", "2"]).env("REDISCLI_AUTH", "secret");
        String::from_utf8(run(cli.args(arguments), PACKAGE).stdout).unwrap()
    }

    /// How many have connected, this one included.
    fn connected(&self) -> usize {
        let stats = self.cli(&["info", "stats"]);
        let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().trim().parse().unwrap()
    }
}

#[test]
fn redis_counts_a_thousand_visits_by_eight_connections() {
    let server = Server::start();
    let before = server.connected();
    let told = printed(Command::new(env!("CARGO_BIN_EXE_redis")).arg(server.url()), "");
    let expected = "milestones: [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]\n\
                    home: 334\nnews: 333\nhelp: 333\n";
    assert_eq!(told, expected);
    assert_eq!(server.cli(&["get", "visits"]), "1000\n");
    assert_eq!(server.cli(&["zscore", "pages", "home"]), "334\n");
    // Those of the pool, and the listener; then the three that asked.
    let connected = server.connected() - before;
    assert!((2..=9 + 3).contains(&connected), "{connected} connections");
}

#[test]
fn redis_answers_of_every_kind_arrive() {
    let server = Server::start();
    let pool = Pool::new(&server.url(), 1).unwrap();
    let mut redis = pool.get().unwrap();
    let long = "x".repeat(10_000_000);
    redis.set::<_, _, ()>("long", &long).unwrap();
    assert_eq!(redis.get::<_, String>("long").unwrap(), long);
    assert_eq!(redis.get::<_, Option<String>>("none").unwrap(), None);
    let error = redis.incr::<_, _, u64>("long", 1).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");

    // An error in the midst of a pipeline is told when all of it is answered.
    let error = pipe().set("a", 1).incr("long", 1).incr("a", 1).exec(&mut redis).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");
    assert_eq!(redis.get::<_, u64>("a").unwrap(), 2);
    // And one in a transaction.
    pipe().atomic().incr("a", 1).cmd("NONSENSE").exec(&mut redis).unwrap_err();
    assert_eq!(redis.get::<_, u64>("a").unwrap(), 2);

    let mut many = pipe();
    for i in 0..10_000 {
        many.rpush("list", i).ignore();
    }
    many.lrange("list", 0, -1);
    let (list,): (Vec<u64>,) = many.query(&mut redis).unwrap();
    assert!(list.into_iter().eq(0..10_000));
}

/// A connection that still owes an answer must not go back to the pool: the next one would get that answer.
#[test]
fn redis_a_request_that_is_cut_short_takes_its_connection_with_it() {
    let server = Server::start();
    let pool = Pool::new(&server.url(), 1).unwrap();
    let wait_for_ever = || {
        let mut redis = pool.get().unwrap();
        cmd("BLPOP").arg("nothing").arg(0).exec(&mut redis).unwrap();
    };
    scope(|scope| {
        let cut = scope.go(|| timeout(Duration::from_millis(20), wait_for_ever));
        assert_eq!(cut.join().unwrap(), Err(Elapsed));
        let cancelled = scope.go(wait_for_ever);
        until("the request", || server.cli(&["info", "clients"]).contains("blocked_clients:1"));
        cancelled.cancel();
        assert!(cancelled.join().is_err());
    });
    let answers = |i: u64| pool.get().unwrap().set::<_, _, String>("i", i).unwrap() == "OK";
    assert!((0..10).all(answers));
}

#[test]
fn redis_the_pool_connects_again_when_the_server_was_away() {
    let mut server = Server::start();
    let pool = Pool::new(&server.url(), 2).unwrap();
    let ping = || pool.get().and_then(|mut redis| cmd("PING").query::<String>(&mut redis));
    (0..4).for_each(|_| assert_eq!(ping().unwrap(), "PONG"));
    drop(server.running.take());
    (0..4).for_each(|_| assert!(ping().is_err()));
    until("the port", || server.run());
    (0..4).for_each(|_| assert_eq!(ping().unwrap(), "PONG"));
}

#[test]
fn redis_a_subscription_hears_what_others_publish() {
    let server = Server::start();
    let pool = Pool::new(&server.url(), 1).unwrap();
    let messages = Connection::open(pool.info()).unwrap().subscribe("news").unwrap();
    let heard = go(move || {
        let texts = messages.map(|message| message.unwrap().get_payload::<String>().unwrap());
        texts.take_while(|text| text != "end").collect::<Vec<_>>()
    });
    for text in ["one", "two", "three", "end"] {
        assert_eq!(server.cli(&["publish", "news", text]), "1\n");
    }
    assert_eq!(heard.join().unwrap(), ["one", "two", "three"]);
}
