use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{Running, printed, until};

const PACKAGE: &str = "postgresql";

/// `nobody`, by Debian's numbers: the server does not run as root.
const NOBODY: u32 = 65534;

struct Server {
    port: u16,
    directory: TempDir,
    running: Option<Running>,
}

/// A program of PostgreSQL's. Debian keeps those of the server out of the path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let programs = versions.map(|version| version.unwrap().path().join("bin").join(name));
    programs.filter(|path| path.exists()).max().unwrap_or_else(|| name.into())
}

impl Server {
    fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server { port: 0, directory, running: None };
        if server.is_root() {
            chown(server.directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let password = server.directory.path().join("password");
        fs::write(&password, "secret").unwrap();
        fs::set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
        let mut init = server.command("initdb");
        init.args(["--username=ada", "--auth=scram-sha-256", "--no-sync", "--locale=C"]);
        init.arg("--pwfile").arg(&password).arg(server.data());
        printed(&mut init, PACKAGE);
        // Between the choice of a port and its use somebody else may take it.
        until("a server of PostgreSQL", || server.run());
        server
    }

    fn is_root(&self) -> bool {
        fs::metadata("/proc/self").unwrap().uid() == 0
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        if self.is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(self.directory.path());
        command
    }

    /// Runs it at a free port. False: it has ended at once.
    fn run(&mut self) -> bool {
        self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path());
        postgres.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-F"]);
        // What it says of its connections is of no use, and what is wrong is told to the client as well.
        let mut running = Running::start(postgres.stderr(Stdio::null()), PACKAGE);
        let mut is_up = false;
        until("an answer of PostgreSQL", || {
            let mut ready = Command::new(program("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            is_up = ready.status().expect("pg_isready is there; install postgresql").success();
            is_up || running.try_wait().unwrap().is_some()
        });
        self.running = is_up.then_some(running);
        is_up
    }

    fn example(&self, password: &str) -> Command {
        let mut example = Command::new(env!("CARGO_BIN_EXE_postgres"));
        let options = "host=127.0.0.1 user=ada dbname=postgres connect_timeout=60";
        example.arg(format!("{options} port={} password={password}", self.port));
        example
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that is killed would leave its shared memory behind.
        if let Some(running) = self.running.take() {
            running.interrupt();
            running.output();
        }
    }
}

#[test]
fn postgres_transfers_and_is_told_of_it() {
    let server = Server::start();
    // Twice: it finds what it has left.
    for _ in 0..2 {
        let told = printed(&mut server.example("secret"), "");
        let transfers: Vec<String> = (1..10).map(|from| format!("{from} to 0")).collect();
        let balances = (1..10).map(|id| format!("{id}: {}\n", 100 - 10 * id)).collect::<String>();
        let given_up = "Some(\"canceling statement due to user request\")\n";
        assert_eq!(told, format!("{}\n0: 550\n{balances}{given_up}", transfers.join(", ")));
    }
    let mut psql = Command::new(program("psql"));
    psql.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "ada", "-tA", "postgres"]);
    psql.env("PGPASSWORD", "secret").args(["-c", "select sum(balance), count(*) from accounts"]);
    assert_eq!(printed(&mut psql, PACKAGE), "1000|10\n");
}

#[test]
fn postgres_says_that_the_password_is_wrong() {
    let server = Server::start();
    let output = crate::common::run(&mut server.example("guess"), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("password authentication failed for user \\\"ada\\\""), "{stderr}");
}
