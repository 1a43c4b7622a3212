//! Locals: what one coroutine, or one thread, has stored, and what runs when it ends.
//!
//! A [`Locals`] lies inside the hidden record at the top of a coroutine's stack, and in a
//! `thread_local!` for a plain thread. Most coroutines store few values or none. So a new `Locals` is 136 zero
//! bytes, and it finds up to five names without a hash.
//!
//! ```text
//!   Locals (136 bytes, in the record)
//!   +-------------------------------------+
//!   | small: 5 x { tag, node }            |---> nodes whose name is found by its tag
//!   | order: newest, cursor               |---> every node, newest first      (order.rs)
//!   | chain: head                         |---> the exit chain, newest first  (chain.rs)
//!   | table: links, mask, len             |---> nodes beyond the first five   (table.rs)
//!   | clock | len, round, refused         |
//!   +-------------------------------------+
//!
//!   node (heap): header | value | name                                        (node.rs)
//! ```
//!
//! # User code runs in the middle of everything
//!
//! A key's `Hash` and `Eq`, the `Drop` of a key or a value, a `Clone`, a handler: each may call back
//! into the same locals, panic, or suspend the coroutine for an hour. Every function here follows three rules:
//!
//! - *Count, then call.* A node that user code is about to look at is held by a [`Ref`].
//! - *Finish, then drop.* A value that is replaced or removed is dropped last, when the locals are
//!   whole again. Its `Drop` finds the state after the operation.
//! - *Look again.* The clock ticks when a name comes, goes, or changes its node. A search that ran
//!   user code, and finds that the clock has moved, starts over. After [`SEARCHES`] attempts it takes
//!   the answer that it has. Only an `Eq` that stores something at each call gets that far, and the worst
//!   result is a second value under an equal key.
//!
//! # Large values
//!
//! In a debug build, a value that is passed through functions and closures is copied into the frame of each, and a
//! coroutine's stack is small. So the public function itself writes a value to its new [`Block`], or a handler to
//! its [`HandlerSlot`], and passes the block on. A value that replaces another in its place is passed by reference.
//!
//! # Invariants
//!
//! - **L1** (life) A node's value lives while its count is above zero. Its block and its name live
//!   while the count is above zero or a `WeakNode` of the node exists. Each `Ref` and each `Held` owns a count, and
//!   the order list owns one for each node in it. Nothing else owns a count. It cannot wrap: `Ref::share` has a limit,
//!   and what is lent for the length of a call is lent on a coroutine's stack, which does not hold as many calls again.
//!   A new block belongs to its `Block` alone, and has no value until it is `filled`.
//! - **L2** (places) `home` says where a node is. Unless it is `Nowhere`, the node is in the order
//!   list of the one `Locals` that it was stored in. So the nodes that the small array, the table and the
//!   list point to are alive. Whoever removes a node empties its place, and then unlinks it from the list, before
//!   any other code runs.
//! - **L3** (types) A node's vtable was made from the types of its block. A name or a value is
//!   used only as a type whose `TypeId` was compared with the vtable's, or whose vtable that is. The value under the
//!   address of a `LocalKey<T>` is a `T`: only that key stores there, and an address is that of one key for ever.
//! - **L4** (one writer) A value is overwritten or moved out only while its count shows that the
//!   list and the writer are the only owners. So no reference to the value exists then.
//! - **L5** (one thread) Nothing here is `Send` or `Sync`. Between two statements of this module no code
//!   runs that the module does not call. So counts and links are plain cells.
//! - **L6** (no borrow) Foreign code, the global allocator included, is called while no
//!   reference into the small array or the table is held. What was read before the call is read again.
//! - **L7** (handlers) A handler's block is owned by its `HandlerSlot`, then by an `AtExit`, then by the chain, and
//!   then by an `AtExit` again: by one of them at a time. It is consumed once.

mod chain;
mod exit;
mod inherited;
mod name;
mod node;
mod order;
mod owner;
mod shadow;
mod table;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ptr::NonNull;

use chain::Chain;
pub(crate) use chain::HandlerSlot;
pub(crate) use name::{Fixed, Keyed, Name};
pub(crate) use node::{Block, Kind};
use node::{Home, Link, NodeHeader, name_in, name_of};
use order::Order;
use owner::Ref;
pub(crate) use owner::{Held, MOST, Unstored};
pub(crate) use shadow::{Removed, Shadow};
use table::Table;

/// How many names are found by their tags. With five, a record is three cache lines.
const SMALL: usize = 5;

/// How often a search starts anew because the user's `Eq` or `Hash` changed what it searched.
const SEARCHES: u32 = 16;

/// The storage of one coroutine or thread. All zero at first; never moved once in use.
///
/// There is no `Drop`. [`cleanup`](Locals::cleanup) ends it, on a stack that handlers and destructors can still use.
pub(crate) struct Locals {
    small: [Cell<Entry>; SMALL],
    order: Order,
    chain: Chain,
    table: Table,
    /// Ticks whenever a name comes, goes, or changes its node.
    clock: Cell<u64>,
    /// How many places of `small` are in use, from the first on.
    len: Cell<u8>,
    /// The round of cleanup that a thing stored now belongs to; see `exit`.
    round: Cell<u8>,
    /// How many refused operations are under way, one inside the other.
    refused: Cell<u8>,
}

const _: () = assert!(size_of::<Locals>() <= 136, "the record grows by a cache line");

/// A place of the small array.
#[derive(Clone, Copy)]
struct Entry {
    /// The name's tag, kept here so that most misses read nothing but the record.
    tag: u64,
    node: Link,
}

impl Entry {
    const EMPTY: Entry = Entry { tag: 0, node: None };
}

/// What a search has found.
pub(crate) struct Found {
    node: Option<Ref>,
    /// The name's hash, if the search has computed it.
    digest: Option<u64>,
}

impl Locals {
    pub(crate) const fn new() -> Locals {
        Locals {
            small: [const { Cell::new(Entry::EMPTY) }; SMALL],
            order: Order::new(),
            chain: Chain::new(),
            table: Table::new(),
            clock: Cell::new(0),
            len: Cell::new(0),
            round: Cell::new(0),
            refused: Cell::new(0),
        }
    }

    /// Whether neither a value nor a handler is stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.chain.is_empty()
    }

    /// The value under `name`, if there is one and it is a `V`.
    #[inline(always)]
    pub(crate) fn get<N: Name, V: 'static>(&self, name: &N) -> Option<Held<V>> {
        let clock = self.clock.get();
        match self.first(name, clock) {
            Ok(held) => Some(held),
            Err(SMALL) if self.has_no_more(clock) => None,
            Err(index) => self.get_from(index, name, clock),
        }
    }

    /// Whether a search that has passed over the small array is over, since there is no table, and the user's code has
    /// changed nothing since the clock was `clock`.
    #[inline(always)]
    fn has_no_more(&self, clock: u64) -> bool {
        self.table.is_empty() && self.clock.get() == clock
    }

    /// The rest of [`get`](Locals::get).
    #[inline(never)]
    fn get_from<N: Name, V: 'static>(&self, index: usize, name: &N, clock: u64) -> Option<Held<V>> {
        self.find_from(index, name, &mut None, clock)?.typed()
    }

    /// The value under `name`, if the first name with its tag is `name`, and the value is a `V`. Most searches end
    /// here, where they are made. Otherwise the place of the small array from which [`find_from`](Locals::find_from)
    /// goes on.
    #[inline(always)]
    fn first<N: Name, V: 'static>(&self, name: &N, clock: u64) -> Result<Held<V>, usize> {
        let (index, node) = self.first_with(name.tag()).ok_or(SMALL)?;
        // SAFETY: L2, the small array points to live nodes.
        if !unsafe { node.as_ref() }.heads::<N, V>() {
            return Err(index);
        }
        // SAFETY: L3, its types were compared.
        let stored = unsafe { name_of::<N, V>(node) };
        // SAFETY: L1, it is alive; no user code runs.
        match name.plainly_equals(unsafe { stored.as_ref() }) {
            // SAFETY: L2 and L3, as above.
            Some(true) => return Ok(unsafe { Held::share(node) }),
            Some(false) => {}
            None => {
                // SAFETY: L2 and L3, as above.
                let held = unsafe { Held::share(node) };
                // SAFETY: L1, we own a count.
                if unsafe { stored.as_ref() } == name && self.clock.get() == clock {
                    return Ok(held);
                }
            }
        }
        Err(index + 1)
    }

    /// The first place of the small array whose name has this tag.
    #[inline(always)]
    fn first_with(&self, tag: u64) -> Option<(usize, NonNull<NodeHeader>)> {
        // A place that is not in use has the tag 0.
        let (index, place) = self.small.iter().enumerate().find(|(_, p)| p.get().tag == tag)?;
        let node = place.get().node;
        // SAFETY: L2, a place with a tag points to a node.
        Some((index, unsafe { node.unwrap_unchecked() }))
    }

    /// As [`get`](Locals::get), but a value that is no `V` is an error: the name of its type.
    pub(crate) fn try_get<N: Name, V: 'static>(
        &self,
        name: &N,
    ) -> Result<Option<Held<V>>, &'static str> {
        let Some(node) = self.find(name, &mut None) else { return Ok(None) };
        let type_name = node.type_name();
        node.typed().map(Some).ok_or(type_name)
    }

    /// As [`get`](Locals::get), for a name among the first five: an address is its own tag, and is found without a look
    /// at names. `None` also where the name is in the table: ask `get` then.
    ///
    /// # Safety
    ///
    /// What is stored under `name` is a `V`, whoever stores it. These are a coroutine's. The answer stays in the frame of
    /// a call on its stack, and is dropped when the call ends.
    #[inline(always)]
    pub(crate) unsafe fn get_fixed<V: 'static>(&self, name: Fixed) -> Option<Held<V>> {
        let (_, node) = self.first_with(name.tag())?;
        // SAFETY: L2, the small array points to live nodes; L3, the caller's word.
        Some(unsafe { Held::lend(node) })
    }

    /// Swaps `value` with the one under `name`, if that is a `V` that nobody else holds. Otherwise gives what was
    /// found, for [`insert_at`](Locals::insert_at).
    #[inline]
    pub(crate) fn replace<N: Name, V: 'static>(
        &self,
        name: &N,
        value: &mut V,
        kind: Kind<N, V>,
    ) -> Result<(), Found> {
        let (mut digest, clock) = (None, self.clock.get());
        let node = match self.first::<N, V>(name, clock) {
            Ok(held) => Some(held.into_ref()),
            Err(SMALL) if self.has_no_more(clock) => None,
            Err(index) => self.find_from(index, name, &mut digest, clock),
        };
        match node {
            // Two owners are the list and ourselves.
            Some(node) if node.count() == 2 && node.holds::<V>() && !self.refuses() => {
                // SAFETY: L3, it holds a `V`; L4, nobody else does.
                unsafe { node.swap(value) };
                let header = node.header();
                header.vtable.set(kind.vtable);
                header.round.set(self.round.get());
                // SAFETY: L2, a node that was found is stored.
                unsafe { self.order.renew(&node) };
                Ok(())
            }
            node => Err(Found { node, digest }),
        }
    }

    /// Stores a node, whose name was looked up. The node that it replaces is dropped last.
    #[inline]
    pub(crate) fn insert_at<N: Name, V: 'static>(&self, found: Found, node: Unstored<N, V>) {
        let Found { node: found, digest } = found;
        let has_room = usize::from(self.len.get()) < SMALL;
        if found.is_none() && has_room && !self.refuses() {
            // Most often. Neither allocates nor runs user code.
            let tag = node.name().tag();
            self.add(tag, node.into_ref());
            return;
        }
        let node = node.into_ref();
        if self.refuses() {
            // First, so that we are no owner: the `Drop` of the refused value may take or delete the found one.
            drop(found);
            self.refuse(node);
        } else {
            self.put::<N>(found, node, digest);
        }
    }

    /// Stores `value` in the place of the one under `name`, or in a new node.
    fn store<N: Name, V: 'static>(&self, name: N, mut value: V, kind: Kind<N, V>) {
        match self.replace(&name, &mut value, kind) {
            Ok(()) => drop(name),
            Err(found) => self.insert_at(found, Unstored::new(name, value, kind)),
        }
    }

    /// Stores a node and hands its value out; `None` where storing is refused.
    pub(crate) fn insert<N: Name, V: 'static>(&self, node: Unstored<N, V>) -> Option<Held<V>> {
        let mut digest = None;
        let found = self.find(node.name(), &mut digest);
        let held = if self.refuses() { None } else { Some(node.hold()) };
        self.insert_at(Found { node: found, digest }, node);
        held
    }

    /// Moves the value under `name` out, if it is a `V` that nobody else holds.
    pub(crate) fn take<N: Name, V: 'static>(&self, name: N) -> Option<V> {
        let node = self.find(&name, &mut None)?;
        if node.count() != 2 || !node.holds::<V>() {
            return None;
        }
        drop(self.detach(&node));
        // Before the value is moved out: if the `Drop` of a name panics while a value is being returned, the
        // value is leaked.
        drop(name);
        // SAFETY: L3, a node found under an `N` that holds a `V`; L4, the list's count is gone.
        Some(unsafe { node.into_value::<N, V>() })
    }

    /// Removes what is stored under `name` and drops it; tells whether there was anything.
    pub(crate) fn del<N: Name>(&self, name: &N) -> bool {
        match self.find(name, &mut None) {
            Some(node) => {
                drop(self.detach(&node));
                true
            }
            None => false,
        }
    }

    /// Stores a new node in the place of `found`, or in a place of its own.
    #[inline(never)]
    fn put<N: Name>(&self, found: Option<Ref>, node: Ref, mut digest: Option<u64>) {
        match self.settle::<N>(found, &node, &mut digest) {
            Some(old) => {
                self.substitute(&old, &node, Home::Nowhere);
                self.enlist(node);
                // SAFETY: L2, it was stored until a moment ago.
                drop(unsafe { self.order.remove(old.as_ptr()) });
            }
            None => self.attach::<N>(node, digest),
        }
    }

    /// What is stored under the name of `node`, after a search that has `found` this. If the node will go into the
    /// table, `digest` has its hash afterwards. The user's `Hash` may store the same name, so it is called
    /// before the answer is final.
    #[inline]
    fn settle<N: Name>(
        &self,
        found: Option<Ref>,
        node: &Ref,
        digest: &mut Option<u64>,
    ) -> Option<Ref> {
        let found = found.filter(Ref::is_stored);
        if found.is_some() || digest.is_some() || usize::from(self.len.get()) < SMALL {
            return found;
        }
        let (name, clock) = (node.name::<N>()?, self.clock.get());
        *digest = Some(name.digest());
        if self.clock.get() == clock { None } else { self.find_again(name, digest) }
    }

    /// The node of `name`. `digest` gets the name's hash if the search needs it.
    #[inline]
    fn find<N: Name>(&self, name: &N, digest: &mut Option<u64>) -> Option<Ref> {
        self.find_from(0, name, digest, self.clock.get())
    }

    /// The node of `name`, after a search that has passed over the places before `index` since the clock was `clock`.
    #[inline]
    fn find_from<N: Name>(
        &self,
        index: usize,
        name: &N,
        digest: &mut Option<u64>,
        clock: u64,
    ) -> Option<Ref> {
        let found = self.look(index, name, digest, clock);
        if self.clock.get() == clock {
            return found;
        }
        drop(found);
        self.find_again(name, digest)
    }

    /// User code changed something while we searched.
    #[cold]
    fn find_again<N: Name>(&self, name: &N, digest: &mut Option<u64>) -> Option<Ref> {
        let mut found = None;
        for _ in 1..SEARCHES {
            let clock = self.clock.get();
            found = self.look(0, name, digest, clock);
            if self.clock.get() == clock {
                break;
            }
        }
        found.filter(Ref::is_stored)
    }

    /// One search, from a place of the small array on. It ends early if the clock leaves `clock`.
    #[inline(always)]
    fn look<N: Name>(
        &self,
        first: usize,
        name: &N,
        digest: &mut Option<u64>,
        clock: u64,
    ) -> Option<Ref> {
        let tag = name.tag();
        for place in self.small.iter().skip(first) {
            let Entry { tag: stored, node: Some(node) } = place.get() else { break };
            if stored == tag {
                // SAFETY: L2, the small array points to live nodes.
                let found = unsafe { Self::if_named(node, name) };
                if found.is_some() {
                    return found;
                }
            }
        }
        if self.table.is_empty() { None } else { self.look_in_table(name, digest, clock) }
    }

    /// The node, if its name equals this one.
    ///
    /// # Safety
    ///
    /// The node is alive (L1).
    #[inline(always)]
    unsafe fn if_named<N: Name>(node: NonNull<NodeHeader>, name: &N) -> Option<Ref> {
        // SAFETY: L1, the caller's word.
        let stored = unsafe { name_in::<N>(node)? };
        // SAFETY: L1, as above; no user code runs.
        match name.plainly_equals(unsafe { stored.as_ref() }) {
            // SAFETY: L1, as above.
            Some(is_equal) => is_equal.then(|| unsafe { Ref::share(node) }),
            None => {
                // SAFETY: L1, as above.
                let node = unsafe { Ref::share(node) };
                // SAFETY: L1, we own a count.
                (unsafe { stored.as_ref() } == name).then_some(node)
            }
        }
    }

    #[inline(never)]
    fn look_in_table<N: Name>(
        &self,
        name: &N,
        digest: &mut Option<u64>,
        clock: u64,
    ) -> Option<Ref> {
        let digest = *digest.get_or_insert_with(|| name.digest());
        let mut link = self.table.first(digest);
        while let Some(node) = link {
            // SAFETY: L2, the table points to live nodes, and no user code ran since `link` was read.
            let node = unsafe { Ref::share(node) };
            let header = node.header();
            let candidate = header.hash.get() == digest;
            if candidate && node.name::<N>().is_some_and(|stored| stored == name) {
                return Some(node);
            }
            link = header.next.get();
            drop(node);
            if candidate && self.clock.get() != clock {
                return None;
            }
        }
        None
    }

    /// Stores a new node under a name that is not there.
    fn attach<N: Name>(&self, node: Ref, digest: Option<u64>) {
        self.place::<N>(&node, digest);
        self.enlist(node);
    }

    /// Stores a new node under a name that is not there, and whose tag is known, in the small array, which has room.
    #[inline(never)]
    fn add(&self, tag: u64, node: Ref) {
        self.place_small(tag, &node);
        self.enlist(node);
    }

    /// Makes a node the newest of the list.
    fn enlist(&self, node: Ref) {
        node.header().round.set(self.round.get());
        self.order.push(node);
    }

    /// Gives a node a place in the small array or in the table. The caller adds the node to the list next (L2).
    /// May run the name's `Hash`, and changes nothing if that panics.
    fn place<N: Name>(&self, node: &Ref, digest: Option<u64>) {
        let header = node.header();
        if usize::from(self.len.get()) == SMALL {
            let digest = digest.or_else(|| node.name::<N>().map(N::digest));
            header.hash.set(digest.unwrap_or_default());
            self.table.insert(node);
            header.home.set(Home::Table);
        } else {
            self.place_small(node.name::<N>().map_or(0, N::tag), node);
            return;
        }
        self.tick();
    }

    /// Gives a node a place in the small array, which has room.
    #[inline(always)]
    fn place_small(&self, tag: u64, node: &Ref) {
        let index = self.len.get();
        self.small[usize::from(index)].set(Entry { tag, node: Some(node.as_ptr()) });
        self.len.set(index + 1);
        node.header().home.set(Home::Small(index));
        self.tick();
    }

    /// Puts `new` in the place of `old`, which is stored, and sets the home of `old` to `left`.
    fn substitute(&self, old: &Ref, new: &Ref, left: Home) {
        let home = old.header().home.replace(left);
        match home {
            Home::Small(index) => {
                let cell = &self.small[usize::from(index)];
                cell.set(Entry { node: Some(new.as_ptr()), ..cell.get() });
            }
            Home::Table => self.table.substitute(old, new),
            Home::Shadowed | Home::Nowhere => unreachable!("only a stored node has a place"),
        }
        new.header().home.set(home);
        self.tick();
    }

    /// Takes a node, whose home is not `Nowhere`, out of its place and out of the list. Gives the list's count.
    fn detach(&self, node: &Ref) -> Ref {
        match node.header().home.replace(Home::Nowhere) {
            Home::Small(index) => self.vacate(index),
            Home::Table => self.table.remove(node),
            Home::Shadowed => {}
            Home::Nowhere => unreachable!("only a node in the list can be removed"),
        }
        self.tick();
        // SAFETY: L2, it was in the list, and its place is empty.
        unsafe { self.order.remove(node.as_ptr()) }
    }

    /// Empties a place of the small array and moves the last entry there.
    fn vacate(&self, index: u8) {
        let last = self.len.get() - 1;
        let entry = self.small[usize::from(last)].replace(Entry::EMPTY);
        self.len.set(last);
        if let Some(node) = entry.node
            && index != last
        {
            self.small[usize::from(index)].set(entry);
            // SAFETY: L2, the small array points to live nodes.
            unsafe { node.as_ref() }.home.set(Home::Small(index));
        }
    }

    #[inline(always)]
    fn tick(&self) {
        self.clock.set(self.clock.get() + 1);
    }
}
