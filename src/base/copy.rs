//! Copies of text for reports, where there may be no memory.

/// A copy of the text, in a block of just its size. `None`: there is no memory for it.
pub(crate) fn copy(text: &str) -> Option<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).ok()?;
    copy.push_str(text);
    Some(copy)
}
