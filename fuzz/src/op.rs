//! Programs: lists of steps of two bytes, what to do and with what.
//!
//! The format is written out here by hand rather than derived, so that it stays as it is when a step is
//! added, and so that a dictionary can name steps (`steps.dict`). The first byte of an
//! input is the program's mode, which each target reads in its own way.

use arbitrary::{Arbitrary, Result, Unstructured};

/// Steps beyond this many are not read: a longer program finds nothing that two shorter ones do not.
const LONGEST: usize = 400;

/// What a value is stored under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    /// A `u32`.
    Number(u8),
    /// A `String`.
    Word(u8),
    /// One of the player's `local!` statics.
    Local(u8),
}

/// What a value does when it is dropped, a handler when it is run, a wild key when it is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Nothing.
    Calm,
    /// Panics.
    Panics,
    /// Goes on with so many steps of the program.
    Plays(u8),
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `tls::set`.
    Set(Key, Mood),
    /// `tls::set` of a value of another type.
    SetOther(Key, Mood),
    /// `tls::set_inheritable`.
    SetInheritable(Key),
    /// `tls::get` with the right type and with the wrong one.
    Get(Key),
    /// `tls::take`.
    Take(Key),
    /// `tls::del`.
    Del(Key),
    /// `tls::get`, and the `Data` is held until [`Op::Release`] or the end of the function.
    Hold(Key),
    /// Drops the `Data` that was held last.
    Release,
    /// `tls::get`, and the `Data` is held by the thread, beyond the coroutine's end.
    Keep(Key),
    /// Drops the `Data` that the thread has held for longest.
    Unkeep,
    /// `LocalKey::try_with` on one of four statics, and so many steps inside.
    Local(u8, u8),
    /// `tls::at_exit`.
    AtExit(Mood),
    /// `tls::at_exit` of a handler whose panic carries a payload that panics too.
    AtExitExplosive,
    /// `tls::scope` with a value of this mood, and so many steps inside.
    Scope(Key, Mood, u8),
    /// `tls::inherit`, called in place, and so many steps inside.
    Inherit(u8),
    /// `tls::reset`.
    Reset,
    /// `tls::unload`.
    Unload,
    /// Looks every key up.
    Audit,
    /// Suspends whoever runs, where that can be done.
    Suspend,
    /// Panics, as planned.
    Panic,
    /// Returns from whatever function plays this step.
    End,
    /// Makes a raw coroutine in this place. It swallows so many unwindings when it is dropped.
    Create(u8, u8),
    /// Resumes the raw coroutine in this place.
    Resume(u8),
    /// Drops the raw coroutine in this place.
    Drop(u8),
}

impl Mood {
    fn from(bits: u8) -> Mood {
        match bits & 7 {
            0..=2 => Mood::Calm,
            3 => Mood::Panics,
            calls => Mood::Plays(calls - 3),
        }
    }
}

impl Key {
    fn from(bits: u8) -> Key {
        match bits & 15 {
            number @ 0..=7 => Key::Number(number),
            word => Key::Word(word - 8),
        }
    }

    /// Every key there is.
    pub fn all() -> impl Iterator<Item = Key> {
        let numbers = (0..8).map(Key::Number);
        numbers.chain((0..8).map(Key::Word)).chain((0..4).map(Key::Local))
    }
}

impl Op {
    fn from(what: u8, with: u8) -> Op {
        let (key, mood, few) = (Key::from(with), Mood::from(with >> 4), with >> 6);
        match what % 32 {
            0..=2 => Op::Set(key, mood),
            3 => Op::SetOther(key, mood),
            4 => Op::SetInheritable(key),
            5 => Op::Get(key),
            6 => Op::Take(key),
            7 => Op::Del(key),
            8 => Op::Hold(key),
            9 => Op::Release,
            10 => Op::Keep(key),
            11 => Op::Unkeep,
            12 => Op::Local(with & 3, with >> 6),
            13 | 14 => Op::AtExit(mood),
            15 => Op::AtExitExplosive,
            16 => Op::Scope(key, mood, few + 1),
            17 => Op::Inherit(few),
            18 => Op::Reset,
            19 => Op::Unload,
            20 => Op::Audit,
            21..=23 => Op::Suspend,
            24 => Op::Panic,
            25 => Op::End,
            26 | 27 => Op::Create(with & 7, if with >> 3 < 24 { 0 } else { (with >> 3) - 12 }),
            28..=30 => Op::Resume(with & 7),
            _ => Op::Drop(with & 7),
        }
    }
}

/// A whole input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// For the target to read.
    pub mode: u8,
    /// The steps, in order.
    pub steps: Vec<Op>,
}

impl<'a> Arbitrary<'a> for Program {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mode = u.arbitrary()?;
        let length = (u.len() / 2).min(LONGEST);
        let steps = u.bytes(2 * length)?.chunks_exact(2).map(|step| Op::from(step[0], step[1]));
        Ok(Program { mode, steps: steps.collect() })
    }

    fn size_hint(_depth: usize) -> (usize, Option<usize>) {
        (1, None)
    }
}
