//! Reading one request of HTTP/1.1 out of what a client has sent so far (RFC 9112), by the `httparse` crate.

use std::mem::MaybeUninit;

/// A request line with its headers may be so long, and a body; a longer one is refused before it is read.
pub(crate) const MAX_HEAD: usize = 16 << 10;
pub(crate) const MAX_BODY: usize = 1 << 20;
const MAX_HEADERS: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// The connection stays open for another request.
    pub(crate) keep_alive: bool,
    /// How many bytes all of it has taken.
    pub(crate) length: usize,
}

/// What is in `buffer`: a whole request, or the beginning of one (`Ok(None)`), or what is to be refused with this status.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<Request<'_>>, u16> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let head_length = match head.parse_with_uninit_headers(buffer, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if buffer.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(_) => return Err(400),
    };
    let (mut length, mut traceparent, mut has_host) = (None, None, false);
    let mut keep_alive = head.version == Some(1);
    for header in &*head.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let text = || std::str::from_utf8(header.value).map_err(|_| 400u16);
        if is("content-length") {
            let stated = digits(header.value).ok_or(400u16)?;
            // Two that differ may hide a second request from one who reads the other.
            if length.replace(stated).is_some_and(|before| before != stated) {
                return Err(400);
            }
        } else if is("transfer-encoding") {
            return Err(501);
        } else if is("connection") {
            let asks = |what: &str| {
                let mut options = text().unwrap_or("").split(',');
                options.any(|option| option.trim().eq_ignore_ascii_case(what))
            };
            keep_alive = !asks("close") && (keep_alive || asks("keep-alive"));
        } else if is("traceparent") {
            traceparent = Some(text()?);
        } else if is("host") {
            has_host = true;
        }
    }
    if head.version == Some(1) && !has_host {
        return Err(400);
    }
    let body_length = length.unwrap_or(0);
    if body_length > MAX_BODY {
        return Err(413);
    }
    let Some(body) = buffer[head_length..].get(..body_length) else { return Ok(None) };
    Ok(Some(Request {
        method: head.method.unwrap_or(""),
        path: head.path.unwrap_or(""),
        traceparent,
        body,
        keep_alive,
        length: head_length + body_length,
    }))
}

/// A number of digits only: no sign, no space.
fn digits(value: &[u8]) -> Option<usize> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if is_plain { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}
