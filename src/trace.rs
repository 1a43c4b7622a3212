//! Spans of [`tracing`](https://docs.rs/tracing) that belong to the coroutine which has entered them. Feature `tracing`.
//!
//! `tracing` keeps the spans that are entered in thread-locals. So a coroutine that is suspended with an entered span
//! would leave it to its neighbours on the worker: their events get the wrong parent, and the span's time is theirs as
//! well. [`SpanLayer`] is one more layer of a subscriber, and puts that right:
//!
//! ```text
//!   without it                                  with it
//!   request{id=1}: asks the database            request{id=1}: asks the database
//!   request{id=1}:request{id=2}: asks the ...   request{id=2}: asks the database
//!   request{id=1}:request{id=2}: replies        request{id=1}: replies
//! ```
//!
//! When a coroutine that has entered spans is suspended, they are exited, the innermost first, and when it goes on they
//! are entered again. So
//!
//! - an event's parent is the span that the coroutine itself has entered last, wherever it has waited meanwhile;
//! - a layer that measures time between enter and exit counts the coroutine's own turns. To a layer that notes each
//!   enter and exit, a span looks as that of an instrumented future does, which is entered at each poll;
//! - what else follows from a span, such as per-layer filters and the context of `tracing-opentelemetry`, follows the
//!   coroutine.
//!
//! A [`dump`](crate::inspect::dump) says which spans a coroutine has entered. For that the layer formats the fields of each
//! span when it is made, as `tracing_subscriber::fmt` does, and keeps 256 bytes of them.
//!
//! # Coroutines that a coroutine starts
//!
//! A coroutine begins without a span. It begins in the current span of whoever starts it if its function is wrapped by
//! [`in_current_span`], or by [`tls::inherit`].
//!
//! # Limits
//!
//! - The default of a thread that `with_default` or `set_default` of `tracing` sets is the thread's, and not a
//!   coroutine's. Whoever suspends within it leaves the default to the neighbours: see
//!   [the nesting rule](crate#the-nesting-rule). Use a global default.
//! - Spans that a [raw coroutine](crate::raw) has entered when it suspends itself are its task's, or its thread's.
//! - The function of [`blocking`](crate::blocking()) runs on another thread, without the span. Wrap it by
//!   [`in_current_span`].
//! - What `tracing` has to do at a switch, the worker does outside of the coroutine. A layer that waits there, say for a
//!   lock of [`sync`](crate::sync) that another coroutine holds, panics: see [`Carry`]. Then the
//!   spans of that coroutine are carried no more, and a line on stderr says so.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};

use tracing_core::Subscriber;
use tracing_core::dispatcher::{self, Dispatch, WeakDispatch};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id as SpanId, Record};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::base::id::Id;
use crate::base::lock::lock;
use crate::hook::{Carry, Describe, attach_to_the_end};
use crate::task::current_task;
use crate::tls::{self, Inherits};

/// The layer that keeps a coroutine's spans its own.
///
/// Add it once to a subscriber, anywhere among the other layers, and without a filter of its own, since it carries the
/// spans that it sees. It has to be there from the start: one that `tracing_subscriber::reload` puts in later carries
/// nothing.
///
/// # Examples
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::util::SubscriberInitExt;
///
/// tracing_subscriber::registry()
///     .with(coro::trace::SpanLayer::new())
///     .with(tracing_subscriber::fmt::layer())
///     .init();
/// coro::go(|| {
///     let _request = tracing::info_span!("request", id = 1).entered();
///     coro::yield_now(); // what others do now is no part of the request
///     tracing::info!("done");
/// })
/// .join()
/// .unwrap();
/// ```
pub struct SpanLayer {
    /// Tells its spans from those of other subscribers.
    id: Id,
    dispatch: OnceLock<WeakDispatch>,
}

impl SpanLayer {
    /// A new layer.
    pub fn new() -> SpanLayer {
        tls::inherit_as_well(|| {
            HeldSpan::current().map(|span| Box::new(span) as Box<dyn Inherits>)
        });
        SpanLayer { id: Id::next_shared(), dispatch: OnceLock::new() }
    }

    /// The subscriber that it is a layer of.
    fn dispatch(&self) -> Option<Dispatch> {
        let dispatch = self.dispatch.get().or_else(|| self.find_dispatch());
        dispatch.and_then(WeakDispatch::upgrade)
    }

    /// A layer that is in an `Option` or a `Vec` is not told of its subscriber. Then it is the thread's default, if that
    /// has this very layer.
    #[cold]
    fn find_dispatch(&self) -> Option<&WeakDispatch> {
        let found = dispatcher::get_default(|dispatch| {
            let layer = dispatch.downcast_ref::<SpanLayer>()?;
            std::ptr::eq(layer, self).then(|| dispatch.downgrade())
        })?;
        Some(self.dispatch.get_or_init(|| found))
    }
}

impl Default for SpanLayer {
    fn default() -> SpanLayer {
        SpanLayer::new()
    }
}

impl fmt::Debug for SpanLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanLayer").finish_non_exhaustive()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        // A subscriber is registered once.
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &SpanId, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        let text = SpanText { layer: self.id, name: span.name(), fields: Mutex::new(fields.0) };
        let mut extensions = span.extensions_mut();
        // Another of these layers may have been first.
        if extensions.get_mut::<Arc<SpanText>>().is_none() {
            extensions.insert(Arc::new(text));
        }
    }

    fn on_record(&self, id: &SpanId, values: &Record<'_>, context: Context<'_, S>) {
        let Some(text) = text_of(&context, id).filter(|text| text.layer == self.id) else { return };
        let mut more = SpanFields::default();
        values.record(&mut more);
        let mut fields = lock(&text.fields);
        let mut all = SpanFields(std::mem::take(&mut *fields));
        let space = if all.0.is_empty() { "" } else { " " };
        // It ends early where there is no room for more.
        let _ = write!(all, "{space}{}", more.0);
        *fields = all.0;
    }

    fn on_enter(&self, id: &SpanId, context: Context<'_, S>) {
        // Also by a worker that goes on with a coroutine.
        if current_task().is_none() {
            return;
        }
        let Some(dispatch) = self.dispatch() else { return };
        let Some(spans) = Spans::of_coroutine() else { return };
        let span = HeldSpan::new(&dispatch, id);
        let text = text_of(&context, id);
        spans.entered.borrow_mut().push(EnteredSpan { layer: self.id, span, text });
        spans.depth.set(spans.depth.get() + 1);
    }

    fn on_exit(&self, id: &SpanId, _: Context<'_, S>) {
        if current_task().is_none() {
            return;
        }
        let Some(spans) = SPANS.with_borrow(Option::clone) else { return };
        let mut entered = spans.entered.borrow_mut();
        let is_it = |entered: &EnteredSpan| entered.layer == self.id && entered.span.id == *id;
        let Some(index) = entered.iter().rposition(is_it) else { return };
        let exited = entered.remove(index);
        drop(entered);
        spans.depth.set(spans.depth.get() - 1);
        // Last, for this may close the span.
        drop(exited);
    }
}

thread_local! {
    /// Those of the running coroutine, once it has entered any.
    static SPANS: RefCell<Option<Rc<Spans>>> = const { RefCell::new(None) };
}

/// The spans that a coroutine has entered.
#[derive(Default)]
struct Spans {
    /// The innermost last.
    entered: RefCell<Vec<EnteredSpan>>,
    /// How many of them the thread has entered at this moment: all, or those that a panic has left.
    depth: Cell<usize>,
}

impl Spans {
    /// Those of the running coroutine; `None`: it is at its end, or there is none.
    fn of_coroutine() -> Option<Rc<Spans>> {
        if let Some(spans) = SPANS.with_borrow(Option::clone) {
            return Some(spans);
        }
        let spans = Rc::new(Spans::default());
        if !attach_to_the_end(CarriedSpans(Rc::clone(&spans)), Rc::clone(&spans) as _) {
            return None;
        }
        SPANS.set(Some(Rc::clone(&spans)));
        Some(spans)
    }

    /// Calls `f` with a span. No span comes or goes meanwhile, because the coroutine does not run.
    fn with(&self, index: usize, f: impl FnOnce(&Dispatch, &SpanId)) {
        let entered = self.entered.borrow();
        let HeldSpan { dispatch, id } = &entered[index].span;
        f(dispatch, id);
    }

    fn exit_all(&self) {
        while let Some(depth) = self.depth.get().checked_sub(1) {
            self.depth.set(depth);
            self.with(depth, Dispatch::exit);
        }
    }
}

/// For a dump: "request{id=7}:query". Each span once, whatever number of layers has seen it.
impl Describe for Spans {
    fn describe(&self, text: &mut String) -> Option<()> {
        let entered = self.entered.borrow();
        let Some(layer) = entered.first().map(|first| first.layer) else { return Some(()) };
        let texts =
            entered.iter().filter(|one| one.layer == layer).filter_map(|one| one.text.as_ref());
        for SpanText { name, fields, .. } in texts.map(|text| &**text) {
            let fields = lock(fields);
            text.try_reserve(name.len() + fields.len() + 3).ok()?;
            if !text.is_empty() {
                text.push(':');
            }
            text.push_str(name);
            if !fields.is_empty() {
                text.extend(["{", &fields, "}"]);
            }
        }
        Some(())
    }
}

/// A span that a coroutine has entered.
struct EnteredSpan {
    /// That has seen it.
    layer: Id,
    span: HeldSpan,
    text: Option<Arc<SpanText>>,
}

/// What a dump says of a span. It is made when the span is, and when it gets new values: a dump runs no code of the user's.
struct SpanText {
    /// That has made it.
    layer: Id,
    name: &'static str,
    fields: Mutex<String>,
}

fn text_of<S: Subscriber + for<'a> LookupSpan<'a>>(
    context: &Context<'_, S>,
    id: &SpanId,
) -> Option<Arc<SpanText>> {
    context.span(id)?.extensions().get().cloned()
}

/// So many bytes of a span's fields are kept.
const FIELDS_BYTES: usize = 256;

/// Fields as text: "id=7 path=\"/index\"".
#[derive(Default)]
struct SpanFields(String);

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        // It ends early where there is no room for more.
        let _ = write!(self, "{space}{field}={value:?}");
    }
}

impl fmt::Write for SpanFields {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(FIELDS_BYTES.saturating_sub(self.0.len()));
        self.0.push_str(&text[..room]);
        if room == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Carries the spans of a coroutine.
struct CarriedSpans(Rc<Spans>);

impl Carry for CarriedSpans {
    fn suspend(&mut self) {
        SPANS.set(None);
        self.0.exit_all();
    }

    fn resume(&mut self) {
        let all = self.0.entered.borrow().len();
        while self.0.depth.get() < all {
            self.0.with(self.0.depth.get(), Dispatch::enter);
            self.0.depth.set(self.0.depth.get() + 1);
        }
        SPANS.set(Some(Rc::clone(&self.0)));
    }
}

impl Drop for CarriedSpans {
    fn drop(&mut self) {
        // After a panic some are left. At the end of a coroutine there are none.
        self.0.exit_all();
    }
}

/// A span that stays open until this is dropped.
struct HeldSpan {
    dispatch: Dispatch,
    id: SpanId,
}

impl HeldSpan {
    fn new(dispatch: &Dispatch, id: &SpanId) -> HeldSpan {
        HeldSpan { dispatch: dispatch.clone(), id: dispatch.clone_span(id) }
    }

    /// The one that the calling code is in.
    fn current() -> Option<HeldSpan> {
        dispatcher::get_default(|dispatch| {
            dispatch.current_span().id().map(|id| HeldSpan::new(dispatch, id))
        })
    }

    fn enter(self) -> EnteredHere {
        self.dispatch.enter(&self.id);
        EnteredHere(self)
    }
}

impl Drop for HeldSpan {
    fn drop(&mut self) {
        self.dispatch.try_close(self.id.clone());
    }
}

/// A span that is entered until this is dropped.
struct EnteredHere(HeldSpan);

impl Drop for EnteredHere {
    fn drop(&mut self) {
        self.0.dispatch.exit(&self.0.id);
    }
}

impl Inherits for HeldSpan {
    fn begin(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.enter())
    }
}

/// Wraps `f` so that it runs in the span that is current now, for a coroutine to be started with it, for
/// [`blocking`](crate::blocking()), or for a thread. The span stays open until `f` has returned, or the wrapped
/// function is dropped.
///
/// If there is no current span, it is just `f`. [`tls::inherit`] does the same and more, where the
/// subscriber has a [`SpanLayer`].
///
/// # Examples
///
/// ```
/// use coro::trace::{SpanLayer, in_current_span};
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::util::SubscriberInitExt;
///
/// tracing_subscriber::registry().with(SpanLayer::new()).init();
/// coro::go(|| {
///     let request = tracing::info_span!("request").entered();
///     let current = || tracing::Span::current().id();
///     let child = coro::go(in_current_span(current)); // in the request
///     assert_eq!(child.join().unwrap(), request.id());
///     assert_eq!(coro::go(current).join().unwrap(), None); // in no span
/// })
/// .join()
/// .unwrap();
/// ```
pub fn in_current_span<F, T>(f: F) -> impl FnOnce() -> T + Send
where
    F: FnOnce() -> T + Send,
{
    let span = HeldSpan::current();
    move || {
        let _entered = span.map(HeldSpan::enter);
        f()
    }
}
