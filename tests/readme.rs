//! The README keeps its word: what it shows are the examples, its output is what they print, and every test that it
//! or docs/guarantees.md names exists.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const README: &str = include_str!("../README.md");
const GUARANTEES: &str = include_str!("../docs/guarantees.md");
const HELLO: &str = include_str!("../examples/hello.rs");
const CHANNELS: &str = include_str!("../examples/channels.rs");
const TOUR: &str = include_str!("../examples/tour.rs");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What follows a heading of `text`, up to the next of its kind.
fn section(text: &'static str, heading: &str) -> &'static str {
    let (_, rest) = text
        .split_once(&format!("\n## {heading}"))
        .unwrap_or_else(|| panic!("there is no section {heading:?}"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The first block of a language in a text.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, rest) = text
        .split_once(&format!("\n```{language}\n"))
        .unwrap_or_else(|| panic!("there is no block of {language}"));
    rest.split_once("```").expect("a block has an end").0
}

/// All Rust files below a directory.
fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The names of the functions below `directory` that are marked as tests.
fn tests_below(directory: &str) -> HashSet<String> {
    let mut files = Vec::new();
    rust_files(&root().join(directory), &mut files);
    let mut names = HashSet::new();
    for file in files {
        let mut marked = false;
        for line in fs::read_to_string(file).unwrap().lines().map(str::trim) {
            if line == "#[test]" {
                marked = true;
            } else if let Some(rest) = line.strip_prefix("fn ") {
                let name = rest.split('(').next().unwrap_or_default();
                if std::mem::take(&mut marked) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
}

/// The last column of a table: the name between backquotes in each row.
fn named_tests(table: &str) -> Vec<&str> {
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default().trim();
        cell.strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'))
            .unwrap_or_else(|| panic!("no test is named in the row {row:?}"))
    })
    .collect()
}

/// A section shows the code of an example, and what it prints.
fn assert_shown(section: &str, source: &str) {
    let (_, body) = source.split_once("\n\n").expect("the essay ends with an empty line");
    assert_eq!(block(section, "rust"), body);
}

/// What an example prints.
fn output_of(example: &str) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    // The example is built without the feature that it needs.
    cargo.env_remove("CORO_CHECK");
    cargo.current_dir(root()).args(["run", "--quiet", "--example", example]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("Cargo, which has built this test");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn readme_shows_the_examples() {
    let _watchdog = common::watchdog();
    assert_shown(README, HELLO);
    assert_shown(section(README, "Channels"), CHANNELS);
    assert_shown(section(README, "Tour"), TOUR);
    assert!(TOUR.lines().count() < 80, "a tour is short");
}

#[test]
#[cfg_attr(coro_asan, ignore = "the examples are built without AddressSanitizer")]
fn readme_examples_print_what_it_says() {
    // Long, because Cargo may have to build the examples, and may have to wait for another to build.
    let _watchdog = common::watchdog_for(Duration::from_secs(600));
    assert_eq!(output_of("hello"), block(README, "text"));
    assert_eq!(output_of("channels"), block(section(README, "Channels"), "text"));
    assert_eq!(output_of("tour"), block(section(README, "Tour"), "text"));
}

#[test]
fn readme_names_tests_that_exist() {
    let _watchdog = common::watchdog();
    let mut tests = tests_below("tests");
    tests.extend(tests_below("src"));
    for (text, heading) in
        [(README, "Guarantees"), (GUARANTEES, "Guarantees"), (GUARANTEES, "Limits")]
    {
        let named = named_tests(section(text, heading));
        assert!(!named.is_empty(), "the section {heading:?} has no table");
        for name in named {
            assert!(
                tests.contains(name),
                "the section {heading:?} names {name}, and there is no such test"
            );
        }
    }
}
