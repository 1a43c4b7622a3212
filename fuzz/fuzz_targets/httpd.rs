#![no_main]
//! The reading of requests in the example `httpd`: whatever comes, it is read or refused, within the limits, and where the
//! parts of a request come one by one, it is read as if they had come at once.

use goexit_fuzz::harness::{self, Input};
use libfuzzer_sys::fuzz_target;

#[path = "../../examples/httpd/request.rs"]
mod request;

use request::{MAX_BODY, MAX_HEAD, parse};

fuzz_target!(init: harness::init(), |bytes: &[u8]| {
    let _input = Input::begin();
    let mut rest = bytes;
    while let Ok(Some(request)) = parse(rest) {
        let length = request.length;
        assert!(length > 0 && length <= rest.len() && length <= MAX_HEAD + MAX_BODY);
        assert!(request.body.len() <= MAX_BODY);
        // Of no beginning of it more is known than that it goes on, and what follows does not change it.
        for end in 0..length {
            assert_eq!(parse(&rest[..end]), Ok(None), "of {end} bytes of {length}");
        }
        assert_eq!(parse(&rest[..length]), Ok(Some(request)));
        rest = &rest[length..];
    }
});
