//! What can be asked.

use crate::base::json::Json;

/// So many groups are listed if nobody says how many.
const GROUPS: usize = 100;

/// So many groups are listed at most.
const MOST_GROUPS: usize = 1000;

/// The longest line.
pub(super) const LONGEST: usize = 256;

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// The counts, of the process and of each worker, as JSON.
    Metrics,
    /// A dump as JSON, with so many groups at most, and so many coroutines of each.
    Dump(usize),
    /// The same as text.
    Text(usize),
}

impl Request {
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<Request, &'static str> {
        const UNKNOWN: &str =
            "expected one line: metrics, dump or text; or dump N or text N, for N groups";
        let mut words = str::from_utf8(line).map_err(|_| UNKNOWN)?.split_ascii_whitespace();
        let request: fn(usize) -> Request = match words.next() {
            Some("metrics") => |_| Request::Metrics,
            Some("dump") => Request::Dump,
            Some("text") => Request::Text,
            _ => return Err(UNKNOWN),
        };
        let groups = match words.next() {
            None => GROUPS,
            Some(_) if request(0) == Request::Metrics => return Err(UNKNOWN),
            Some(word) => match word.parse() {
                Ok(groups @ 1..=MOST_GROUPS) => groups,
                _ => return Err("the number of groups is 1 to 1000"),
            },
        };
        if words.next().is_some() { Err(UNKNOWN) } else { Ok(request(groups)) }
    }
}

/// The answer to what is no request.
pub(super) fn refusal(why: &str) -> String {
    let mut json = Json::new();
    json.object(|json| json.text_member("error", Some(why)));
    json.into_text()
}

#[cfg(all(test, not(coro_loom)))]
mod tests {
    use super::*;

    #[test]
    fn inspect_requests_are_a_word_and_a_number() {
        assert_eq!(Request::parse(b"metrics"), Ok(Request::Metrics));
        assert_eq!(Request::parse(b" metrics \r"), Ok(Request::Metrics));
        assert_eq!(Request::parse(b"dump"), Ok(Request::Dump(GROUPS)));
        assert_eq!(Request::parse(b"dump 7"), Ok(Request::Dump(7)));
        assert_eq!(Request::parse(b"text 1000"), Ok(Request::Text(MOST_GROUPS)));
        for line in [
            "",
            " ",
            "metric",
            "METRICS",
            "metrics 1",
            "dump 0",
            "dump 1001",
            "dump -1",
            "dump x",
            "text 1 2",
            "dump 99999999999999999999",
            "GET / HTTP/1.1",
            "{}",
        ] {
            assert!(Request::parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(Request::parse(b"dump \xff").is_err());
    }
}
