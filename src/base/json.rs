//! JSON (RFC 8259), as it is written.

use std::fmt::{self, Write as _};

/// JSON in the making.
pub(crate) struct Json(String);

impl Json {
    pub(crate) fn new() -> Json {
        Json(String::new())
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    pub(crate) fn object(&mut self, members: impl FnOnce(&mut Json)) {
        self.0.push('{');
        members(self);
        self.0.push('}');
    }

    pub(crate) fn array<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Json, T),
    ) {
        self.0.push('[');
        for item in items {
            self.separate();
            write(self, item);
        }
        self.0.push(']');
    }

    /// A comma, unless this is the first.
    fn separate(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        self.separate();
        self.text(key);
        self.0.push(':');
    }

    /// A member whose value is written as it is: a number, or `null`.
    pub(crate) fn member(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        // Writing to a string does not fail.
        let _ = write!(self.0, "{value}");
    }

    pub(crate) fn number_member(&mut self, key: &str, number: Option<impl fmt::Display>) {
        match number {
            Some(number) => self.member(key, number),
            None => self.member(key, "null"),
        }
    }

    pub(crate) fn text_member(&mut self, key: &str, text: Option<impl fmt::Display>) {
        match text {
            Some(text) => {
                self.key(key);
                self.text(text);
            }
            None => self.member(key, "null"),
        }
    }

    pub(crate) fn text(&mut self, text: impl fmt::Display) {
        self.0.push('"');
        let _ = write!(Escaped(&mut self.0), "{text}");
        self.0.push('"');
    }
}

/// Writes the inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '"' | '\\' => self.0.extend(['\\', char]),
                '\0'..='\u{1f}' => write!(self.0, "\\u{:04x}", char as u32)?,
                _ => self.0.push(char),
            }
        }
        Ok(())
    }
}
