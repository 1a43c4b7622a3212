//! What few tasks have, behind one pointer of the header.

use std::cell::Cell;

use super::carry::Carry;

#[derive(Default)]
pub(crate) struct Extras {
    pub(super) name: Option<Box<str>>,
    /// What the task inherits; of whoever starts or discards it (T5).
    carries: Cell<Vec<Box<dyn Carry + Send>>>,
}

impl Extras {
    pub(crate) fn of_name(name: String) -> Box<Extras> {
        Box::new(Extras { name: Some(name.into_boxed_str()), carries: Cell::default() })
    }

    pub(super) fn of_carries(carries: Vec<Box<dyn Carry + Send>>) -> Box<Extras> {
        Box::new(Extras { name: None, carries: Cell::new(carries) })
    }

    /// With the carries of `other`.
    pub(super) fn merge(&mut self, other: &Extras) {
        self.carries.set(other.take_carries());
    }

    pub(super) fn take_carries(&self) -> Vec<Box<dyn Carry + Send>> {
        self.carries.take()
    }
}
