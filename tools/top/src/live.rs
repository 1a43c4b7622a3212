//! The terminal: drawing, keys, and the thread that asks.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::client::{Client, Failure};
use crate::draw::draw;
use crate::process;
use crate::report::Snapshot;
use crate::view::{Action, View};

/// How long a key or an answer may lie there.
const TICK: Duration = Duration::from_millis(40);

/// The terminal is as it was before when this is dropped; ratatui's panic hook does the same.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Screen> {
        ratatui::try_init().map(Screen).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows what the process does until the user has seen enough.
///
/// # Errors
///
/// Why there is nothing to see, or no terminal to show it on.
pub(crate) fn run(client: Client, interval: Duration, groups: u16) -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(String::from(
            "coro top needs a terminal; coro dump prints what it would show, once",
        ));
    }
    // Before the terminal changes, so that an error is seen.
    let first = client.look(groups).map_err(|error| error.to_string())?;
    let pid = client.pid.unwrap_or(first.counts.process);
    let name = process::name(pid).unwrap_or_else(|| String::from("process"));
    let mut view = View::new(format!("{name} {}", first.counts.process), interval);
    view.show(first);
    let outcome =
        Screen::open().and_then(|mut screen| watch(&mut screen.0, &mut view, client, groups));
    outcome.map_err(|error| error.to_string())
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    client: Client,
    groups: u16,
) -> io::Result<()> {
    let (questions, answers) = ask(client, groups);
    let mut next = Instant::now() + view.interval;
    let mut is_asked = false;
    let mut has_changed = true;
    loop {
        if has_changed {
            terminal.draw(|frame| draw(view, frame))?;
        }
        has_changed = event::poll(TICK)?;
        if has_changed
            && let Event::Key(key) = event::read()?
            && let Some(action) = action(key)
            && !view.act(action)
        {
            return Ok(());
        }
        match answers.try_recv() {
            Ok(answer) => {
                // What comes after the key for a pause would change what the user looks at.
                if !view.is_paused {
                    view.take(answer);
                }
                (is_asked, has_changed) = (false, true);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the thread that asks has ended"));
            }
        }
        let now = Instant::now();
        if !is_asked && !view.is_paused && !view.has_ended && now >= next {
            is_asked = questions.send(()).is_ok();
            next = now + view.interval;
        }
    }
}

/// A thread that asks once for each question: an answer may take a while, and keys are not to wait for it.
fn ask(client: Client, groups: u16) -> (Sender<()>, Receiver<Result<Snapshot, Failure>>) {
    let (questions, asked) = channel();
    let (answering, answers) = channel();
    thread::spawn(move || {
        while let Ok(()) = asked.recv() {
            if answering.send(client.look(groups)).is_err() {
                return;
            }
        }
    });
    (questions, answers)
}

fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if is_control => Action::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Char('f') => Action::Frames,
        KeyCode::Enter => Action::Unfold,
        _ => return None,
    })
}
