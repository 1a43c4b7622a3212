//! The peers that are programs of other languages: they are compiled here, if their compilers are there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether a peer's program could be built, and otherwise why.
pub type Built = BTreeMap<&'static str, Result<(), String>>;

/// Packages that add storage to Go, by the paths under which Go knows them.
const GLS: [(&str, &str); 4] = [
    ("go-tls", "github.com/huandu/go-tls"),
    ("mgkanani/gls", "github.com/mgkanani/gls"),
    ("jtolds/gls", "github.com/jtolds/gls"),
    ("plz/gls", "github.com/v2pro/plz/gls"),
];

/// The directory whose folders are named by such paths, where the Go command cannot get them.
const SOURCES: &str = "PEERS_GO_SRC";

/// Where the program of this peer is, if it is one.
pub fn path(peer: &str) -> Option<PathBuf> {
    let is_program = ["go", "boost"].contains(&peer) || GLS.iter().any(|(name, _)| *name == peer);
    is_program.then(|| directory().join(file_name(peer)))
}

fn file_name(peer: &str) -> String {
    peer.replace(['/', '-'], "_")
}

/// Beside this program, in the directory of its build.
fn directory() -> PathBuf {
    let own = std::env::current_exe().expect("this program");
    own.parent().expect("a directory").join("side-by-side-peers")
}

fn sources(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Builds those of these peers that are programs.
pub fn build(wanted: &[&'static str]) -> Built {
    fs::create_dir_all(directory()).expect("a directory for what is built");
    let wanted = wanted.iter().filter_map(|peer| Some((*peer, path(peer)?)));
    wanted
        .map(|(peer, program)| {
            // What is there may be of other sources.
            _ = fs::remove_file(&program);
            let built = match GLS.iter().find(|(name, _)| *name == peer) {
                Some((_, package)) => build_gls(peer, package, &program),
                None if peer == "go" => build_go(&program),
                None => build_boost(&program),
            };
            (peer, built)
        })
        .collect()
}

fn go() -> Command {
    let mut go = Command::new("go");
    // The compiler that is there, and no other that it would get.
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    go
}

fn build_go(program: &Path) -> Result<(), String> {
    run(go().arg("build").arg("-o").arg(program).arg(".").current_dir(sources("go")))
}

/// From its sources in a workspace of the kind before modules, for not each of these packages is a module; or from where
/// the Go command gets them.
fn build_gls(peer: &str, package: &str, program: &Path) -> Result<(), String> {
    let home = directory().join(format!("{}.src", file_name(peer)));
    _ = fs::remove_dir_all(&home);
    let own = home.join("own");
    fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let files = [sources("go-gls"), sources("go")].map(|folder| {
        let all = fs::read_dir(folder).expect("the sources");
        all.flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    });
    // Of ../go the protocol only.
    let of_go = files[1].iter().filter(|file| file.ends_with("each.go"));
    for file in files[0].iter().chain(of_go) {
        let name = file.file_name().expect("a file");
        fs::copy(file, own.join(name)).map_err(|error| error.to_string())?;
    }
    let mut build = go();
    build.args(["build", "-tags", &file_name(peer), "-o"]).arg(program).current_dir(&own);
    if let Some(sources) = std::env::var_os(SOURCES) {
        let sources = fs::canonicalize(sources).map_err(|error| format!("{SOURCES}: {error}"))?;
        if !sources.join(package).is_dir() {
            return Err(format!("{SOURCES} has no folder {package}"));
        }
        symlink(sources, home.join("src")).map_err(|error| error.to_string())?;
        return run(build.env("GO111MODULE", "off").env("GOPATH", &home));
    }
    run(go().args(["mod", "init", "peer"]).current_dir(&own))?;
    run(go().args(["get", package]).current_dir(&own))
        .map_err(|_| format!("the Go command cannot get it; {SOURCES} may name its sources"))?;
    run(&mut build)
}

fn build_boost(program: &Path) -> Result<(), String> {
    let source = sources("boost").join("main.cpp");
    run(Command::new("c++")
        .args(["-std=c++17", "-O3", "-DNDEBUG"])
        .arg(source)
        .arg("-o")
        .arg(program)
        .args(["-lboost_fiber", "-lboost_context", "-lpthread"]))
}

/// Runs it to its end. What it says is the reason, if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|_| format!("there is no `{name}` on PATH"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(reason(&output.stderr).unwrap_or_else(|| format!("`{name}` fails: {}", output.status)))
}

/// The line of an error's text that says most, cut to one line of a table.
pub fn reason(text: &[u8]) -> Option<String> {
    const LENGTH: usize = 120;

    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Rust says first where it panics, and on the next line why.
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let why = panic.and_then(|index| lines.get(index + 1));
    let tells = |line: &&&str| ["error:", "panic:"].iter().any(|word| line.contains(word));
    let line = why.or_else(|| lines.iter().find(tells)).or_else(|| lines.last())?;
    Some(line.chars().take(LENGTH).collect())
}

/// The versions of what compiles them, and of what they are compiled with.
pub fn versions() -> Vec<(String, String)> {
    let said = |command: &mut Command| {
        let output = command.output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let boost = fs::read_to_string("/usr/include/boost/version.hpp").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("#define BOOST_LIB_VERSION"))?;
        Some(line.split('"').nth(1)?.replace('_', "."))
    });
    [
        ("go", said(go().arg("version"))),
        ("c++", said(Command::new("c++").arg("--version"))),
        ("boost", boost),
    ]
    .into_iter()
    .map(|(name, version)| (name.to_owned(), version.unwrap_or_else(|| "not there".to_owned())))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_line_that_tells_of_an_error() {
        let text =
            b"main.cpp: In function\nmain.cpp:1:1: fatal error: boost/fiber: No such file\n^\n";
        assert_eq!(
            reason(text).as_deref(),
            Some("main.cpp:1:1: fatal error: boost/fiber: No such file")
        );
        assert_eq!(reason(b"one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(reason(b"\n"), None);
        assert_eq!(
            reason(b"thread 'main' panicked at src/x.rs:1:1:\nout of stacks\n").as_deref(),
            Some("out of stacks")
        );
    }

    #[test]
    fn programs_have_paths_and_others_have_none() {
        assert!(path("go").is_some_and(|path| path.ends_with("side-by-side-peers/go")));
        assert!(path("jtolds/gls").is_some_and(|path| path.ends_with("jtolds_gls")));
        assert_eq!(path("tokio"), None);
    }
}
