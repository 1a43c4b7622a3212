use std::process::Command;

use tempfile::TempDir;

use crate::common::{Server, printed, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_https");

struct Site {
    server: Server,
    /// Where its certificate is.
    directory: TempDir,
}

impl Site {
    fn start() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let certificate = directory.path().join("ca.pem");
        let server =
            Server::start(Command::new(PROGRAM).args(["serve", "127.0.0.1:0"]).arg(certificate));
        Site { server, directory }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.port())
    }

    fn certificate(&self) -> String {
        self.directory.path().join("ca.pem").to_str().unwrap().to_owned()
    }

    fn curl(&self, certificate: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--cacert", certificate]);
        curl
    }
}

#[test]
fn https_serves_its_own_client() {
    let site = Site::start();
    let (url, certificate) = (site.url("/a/b?c"), site.certificate());
    let body = printed(Command::new(PROGRAM).args(["get", &url, &certificate]), "");
    assert!(body.ends_with(" asked: GET /a/b?c HTTP/1.1\n"), "{body}");
}

#[test]
fn https_serves_curl_with_several_requests_on_one_connection() {
    let site = Site::start();
    let mut curl = site.curl(&site.certificate());
    let body = printed(curl.args([site.url("/one"), site.url("/two")]), "curl");
    let lines: Vec<(&str, &str)> =
        body.lines().map(|line| line.split_once(" asked: ").unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line.1).collect::<Vec<_>>(),
        ["GET /one HTTP/1.1", "GET /two HTTP/1.1"]
    );
    assert_eq!(lines[0].0, lines[1].0, "both have come from one port");
}

#[test]
fn https_serves_many_at_once() {
    let site = Site::start();
    let mut curl = site.curl(&site.certificate());
    let curl = curl.args(["--parallel", "--parallel-immediate", "--parallel-max", "100"]);
    let body = printed(curl.arg(site.url("/[1-300]")), "curl");
    assert_eq!(body.lines().count(), 300);
}

#[test]
fn https_is_refused_by_clients_that_do_not_trust_its_certificate_and_serves_on() {
    let (site, other) = (Site::start(), Site::start());
    let curl = run(site.curl(&other.certificate()).arg(site.url("/")), "curl");
    assert_eq!(curl.status.code(), Some(60), "curl: the certificate cannot be verified");
    let own = run(Command::new(PROGRAM).args(["get", &site.url("/"), &other.certificate()]), "");
    assert!(String::from_utf8_lossy(&own.stderr).contains("InvalidCertificate"), "{own:?}");
    printed(site.curl(&site.certificate()).arg(site.url("/")), "curl");
}
