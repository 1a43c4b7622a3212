//! Labels: texts that a coroutine gives itself, for those who look at it from outside.

use super::{get, set};
use crate::base::copy::copy;
use crate::locals::Keyed;
use crate::record::Record;

/// What the labels are stored under. Its `Hash` and `Eq` are no code of the user's, so a worker may look.
#[derive(PartialEq, Eq, Hash)]
struct LabelsKey;

/// The labels of a coroutine, in the order in which they came. Never changed, but replaced: a worker may look at any
/// time.
struct Labels(Vec<(&'static str, String)>);

/// Gives the running coroutine a label, in place of the one of the same name.
pub(crate) fn set_label(name: &'static str, text: String) {
    let mut labels = get::<Labels>(LabelsKey).map(|labels| labels.0.clone()).unwrap_or_default();
    match labels.iter_mut().find(|label| label.0 == name) {
        Some(label) => label.1 = text,
        None => labels.push((name, text)),
    }
    set(LabelsKey, Labels(labels));
}

/// The labels of the coroutine with this record. `None`: there is no memory for them. By its worker, while the coroutine
/// is suspended.
pub(crate) fn labels_of(record: &Record) -> Option<Vec<(&'static str, String)>> {
    let mut copies = Vec::new();
    if record.locals().is_empty() {
        return Some(copies);
    }
    if let Some(labels) = record.locals().get::<_, Labels>(&Keyed(LabelsKey)) {
        let labels = &labels.value().0;
        copies.try_reserve_exact(labels.len()).ok()?;
        for (name, text) in labels {
            copies.push((*name, copy(text)?));
        }
    }
    Some(copies)
}
