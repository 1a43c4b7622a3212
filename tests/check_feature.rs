//! `CORO_CHECK` in a build without the feature that it needs.

#![cfg(not(feature = "check"))]

mod common;

#[test]
fn check_without_the_feature_is_a_panic_that_names_it() {
    const NAME: &str = "check_without_the_feature_is_a_panic_that_names_it";
    let _watchdog = common::watchdog();
    if common::child_case().is_some() {
        coro::go(|| ()).join().unwrap();
        std::process::exit(3);
    }
    let run = |value| {
        let output = common::child_command(NAME, "go").env("CORO_CHECK", value).output().unwrap();
        (output.status.code(), common::stderr(&output))
    };
    let (code, report) = run("nesting");
    assert_eq!(code, Some(101), "{report}");
    assert!(report.contains("CORO_CHECK=\"nesting\": expected nothing"), "{report}");
    assert!(report.contains("feature `check` of goexit"), "{report}");
    let (code, report) = run("");
    assert_eq!(code, Some(3), "{report}");
}
