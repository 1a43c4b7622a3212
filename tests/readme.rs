//! The README keeps its word: the tour is the example, its output is what the example prints, and
//! every test that it names exists.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const README: &str = include_str!("../README.md");
const TOUR: &str = include_str!("../examples/tour.rs");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What follows a heading, up to the next of its kind.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README
        .split_once(&format!("\n## {heading}"))
        .unwrap_or_else(|| panic!("the README has no section {heading:?}"));
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

#[test]
fn readme_tour_is_the_example() {
    let _watchdog = common::watchdog();
    let (_, body) = TOUR.split_once("\n\n").expect("the essay ends with an empty line");
    assert_eq!(block(section("Tour"), "rust"), body);
    assert!(TOUR.lines().count() < 80, "a tour is short");
}

#[test]
#[cfg_attr(coro_asan, ignore = "the example is built without AddressSanitizer")]
fn readme_tour_prints_what_it_says() {
    // Long, because Cargo may have to build the example, and may have to wait for another to build.
    let _watchdog = common::watchdog_for(Duration::from_secs(600));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["run", "--quiet", "--example", "tour"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("Cargo, which has built this test");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), block(section("Tour"), "text"));
}

#[test]
fn readme_names_tests_that_exist() {
    let _watchdog = common::watchdog();
    let mut tests = tests_below("tests");
    tests.extend(tests_below("src"));
    for heading in ["Guarantees", "Limits"] {
        let named = named_tests(section(heading));
        assert!(!named.is_empty(), "the section {heading:?} has no table");
        for name in named {
            assert!(tests.contains(name), "the README names {name}, and there is no such test");
        }
    }
}
