//! What is shown, and what the keys do to it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::client::Failure;
use crate::report::{Counts, Group, Snapshot, Worker};

/// By what the groups are sorted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Sort {
    Count,
    Age,
}

/// What the user does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Action {
    Quit,
    Pause,
    Sort,
    Up,
    Down,
    PageUp,
    PageDown,
    Unfold,
    Frames,
}

/// How fast counts grow, a second. Nothing before the second look.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) spawned: Option<f64>,
    pub(crate) turns: Option<f64>,
    pub(crate) stolen: Option<f64>,
    /// By runtime and index.
    workers: HashMap<(u32, usize), WorkerRates>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct WorkerRates {
    pub(crate) turns: Option<f64>,
    pub(crate) stolen: Option<f64>,
    /// The part of the time that its thread was on a CPU.
    pub(crate) busy: Option<f64>,
}

impl Rates {
    fn between(before: &Counts, now: &Counts) -> Rates {
        let elapsed = now.time_ms.checked_sub(before.time_ms).filter(|elapsed| *elapsed > 0);
        let (Some(elapsed), true) = (elapsed, before.process == now.process) else {
            return Rates::default();
        };
        let rate = |before: u64, now: u64| {
            now.checked_sub(before).map(|more| more as f64 * 1000.0 / elapsed as f64)
        };
        let of_worker = |worker: &Worker| {
            let key = (worker.runtime, worker.index);
            let earlier = before.workers.iter().find(|one| (one.runtime, one.index) == key)?;
            let busy = earlier.cpu_time_ms.zip(worker.cpu_time_ms);
            let rates = WorkerRates {
                turns: rate(earlier.turns, worker.turns),
                stolen: rate(earlier.stolen, worker.stolen),
                busy: busy
                    .and_then(|(before, now)| rate(before, now))
                    .map(|busy| (busy / 1000.0).min(1.0)),
            };
            Some((key, rates))
        };
        Rates {
            spawned: rate(before.metrics.spawned, now.metrics.spawned),
            turns: rate(before.metrics.turns, now.metrics.turns),
            stolen: rate(before.metrics.stolen, now.metrics.stolen),
            workers: now.workers.iter().filter_map(of_worker).collect(),
        }
    }

    pub(crate) fn of(&self, worker: &Worker) -> WorkerRates {
        self.workers.get(&(worker.runtime, worker.index)).copied().unwrap_or_default()
    }
}

/// By what a group is found again at the next look.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct GroupKey {
    state: String,
    spawned_at: String,
    addresses: Vec<String>,
}

impl GroupKey {
    pub(crate) fn of(group: &Group) -> GroupKey {
        GroupKey {
            state: group.state.clone(),
            spawned_at: group.spawned_at.clone(),
            addresses: group.frames.iter().map(|frame| frame.address.clone()).collect(),
        }
    }
}

/// What is shown.
pub(crate) struct View {
    /// Which process, for the first line.
    pub(crate) name: String,
    pub(crate) interval: Duration,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) rates: Rates,
    pub(crate) sort: Sort,
    pub(crate) is_paused: bool,
    /// Nobody will answer any more.
    pub(crate) has_ended: bool,
    /// Why there was no answer.
    pub(crate) error: Option<String>,
    selected: Option<GroupKey>,
    unfolded: HashSet<GroupKey>,
    /// Backtraces have the frames of libraries too.
    pub(crate) shows_all_frames: bool,
    /// The first line of the list that is seen, and how many are: the latter is known when it was drawn.
    pub(crate) first_line: usize,
    pub(crate) lines_seen: usize,
    /// The selected group is to be seen.
    pub(crate) follows: bool,
}

impl View {
    pub(crate) fn new(name: String, interval: Duration) -> View {
        View {
            name,
            interval,
            snapshot: None,
            rates: Rates::default(),
            sort: Sort::Count,
            is_paused: false,
            has_ended: false,
            error: None,
            selected: None,
            unfolded: HashSet::new(),
            shows_all_frames: false,
            first_line: 0,
            lines_seen: 0,
            follows: true,
        }
    }

    /// Takes what the process has answered. If there is no answer, what was seen last stays.
    pub(crate) fn take(&mut self, answer: Result<Snapshot, Failure>) {
        match answer {
            Ok(snapshot) => self.show(snapshot),
            Err(Failure::HasEnded) => self.has_ended = true,
            Err(Failure::NoAnswer(why)) => self.error = Some(why),
        }
    }

    pub(crate) fn show(&mut self, snapshot: Snapshot) {
        if let Some(before) = &self.snapshot {
            self.rates = Rates::between(&before.counts, &snapshot.counts);
        }
        (self.snapshot, self.error) = (Some(snapshot), None);
    }

    /// The groups, in the order in which they are shown.
    pub(crate) fn groups(&self) -> Vec<&Group> {
        let Some(snapshot) = &self.snapshot else { return Vec::new() };
        let mut groups: Vec<_> = snapshot.dump.groups.iter().collect();
        // Those that are equal stay in the order of the process.
        match self.sort {
            Sort::Count => groups.sort_by_key(|group| Reverse(group.count)),
            Sort::Age => groups.sort_by_key(|group| Reverse(group.oldest_ms())),
        }
        groups
    }

    /// Which of the groups is selected: the first, if the one that was is no more.
    pub(crate) fn selected(&self) -> usize {
        let is_it = |group: &&Group| self.selected.as_ref() == Some(&GroupKey::of(group));
        self.groups().iter().position(is_it).unwrap_or(0)
    }

    pub(crate) fn is_unfolded(&self, group: &Group) -> bool {
        self.unfolded.contains(&GroupKey::of(group))
    }

    /// Follows the user. False: it is over.
    pub(crate) fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Quit => return false,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Sort => {
                self.sort = match self.sort {
                    Sort::Count => Sort::Age,
                    Sort::Age => Sort::Count,
                };
                self.follows = true;
            }
            Action::Up => self.select(self.selected().saturating_sub(1)),
            Action::Down => self.select(self.selected() + 1),
            Action::PageUp => self.scroll(|first, page| first.saturating_sub(page)),
            Action::PageDown => self.scroll(|first, page| first + page),
            Action::Frames => self.shows_all_frames = !self.shows_all_frames,
            Action::Unfold => {
                self.select(self.selected());
                if let Some(key) = self.selected.clone()
                    && !self.unfolded.remove(&key)
                {
                    self.unfolded.insert(key);
                }
            }
        }
        true
    }

    fn select(&mut self, index: usize) {
        let groups = self.groups();
        if let Some(group) = groups.get(index.min(groups.len().saturating_sub(1))) {
            self.selected = Some(GroupKey::of(group));
        }
        self.follows = true;
    }

    fn scroll(&mut self, to: impl Fn(usize, usize) -> usize) {
        self.first_line = to(self.first_line, self.lines_seen.max(1));
        self.follows = false;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::Dump;

    /// A look at a process with these counts, a time after it began.
    pub(crate) fn snapshot(time_ms: u64, turns: u64) -> Snapshot {
        let counts = format!(
            r#"{{"process": 7, "time_ms": {time_ms},
                "metrics": {{"live": 206, "fresh": 1, "parked": 203, "spawned": {turns}, "stolen": 4, "turns": {turns},
                    "stacks_in_use": 205, "stacks_pooled": 12, "stacks_cold": 3,
                "stacks_resident_bytes": 876544, "stacks_reserved_bytes": 1099511627776}},
                "workers": [
                    {{"runtime": 1, "index": 0, "thread_name": "coro-0", "cpu_time_ms": {}, "is_asleep": false,
                      "running": 17, "turns": {turns}, "started": 201, "parked": 200, "queued": 1, "stolen": 4}},
                    {{"runtime": 1, "index": 1, "thread_name": null, "cpu_time_ms": null, "is_asleep": true,
                      "running": null, "turns": 0, "started": 4, "parked": 3, "queued": 0, "stolen": 0}}]}}"#,
            time_ms / 4
        );
        let dump = r#"{"started": 205, "shown": 205, "fresh": 1, "remarks": ["coroutine 17 holds its worker"],
            "groups": [
                {"count": 200, "state": "parked", "waits_for": "a value from a channel made at src/main.rs:12:24",
                 "spawned_at": "src/main.rs:31:9",
                 "coroutines": [{"id": 9, "name": "client", "parked_for_ms": 12300, "stack_used": 1520,
                                 "labels": {"request": "GET /"}}],
                 "frames": [
                    {"address": "0x1", "functions": [{"name": "switch_yield",
                        "file": "/x/corosensei-0.3.4/src/arch/x86_64.rs", "line": 1}]},
                    {"address": "0x2", "functions": [{"name": "server::next_request", "file": "src/main.rs", "line": 58}]}],
                 "frames_end": null},
                {"count": 3, "state": "parked", "waits_for": "park", "spawned_at": "src/main.rs:40:9",
                 "coroutines": [{"id": 11, "parked_for_ms": 3700000}], "frames": [], "frames_end": "built without"}],
            "more_groups": 4}"#;
        Snapshot {
            counts: serde_json::from_str(&counts).unwrap(),
            dump: serde_json::from_str(dump).unwrap(),
        }
    }

    pub(crate) fn view() -> View {
        let mut view = View::new(String::from("server 7"), Duration::from_secs(1));
        view.show(snapshot(1000, 500));
        view
    }

    fn counts(view: &View) -> Vec<u64> {
        view.groups().iter().map(|group| group.count).collect()
    }

    #[test]
    fn top_computes_rates_from_two_looks() {
        let mut view = view();
        assert_eq!(view.rates.turns, None);
        view.show(snapshot(3000, 700));
        assert_eq!(
            (view.rates.turns, view.rates.spawned, view.rates.stolen),
            (Some(100.0), Some(100.0), Some(0.0))
        );
        let workers = &view.snapshot.as_ref().unwrap().counts.workers;
        let (first, second) = (view.rates.of(&workers[0]), view.rates.of(&workers[1]));
        assert_eq!((first.turns, first.busy), (Some(100.0), Some(0.25)));
        assert_eq!((second.turns, second.busy), (Some(0.0), None));
        // Another process, or a clock that has begun anew.
        view.show(snapshot(2000, 900));
        assert_eq!(view.rates.turns, None);
    }

    #[test]
    fn top_sorts_and_keeps_the_selected_group() {
        let mut view = view();
        assert_eq!((counts(&view), view.selected()), (vec![200, 3], 0));
        assert!(view.act(Action::Down));
        assert!(view.act(Action::Down), "the last stays the last");
        assert_eq!(view.selected(), 1);
        view.act(Action::Sort);
        assert_eq!(
            (counts(&view), view.selected()),
            (vec![3, 200], 0),
            "by age; it is the same group"
        );
        view.act(Action::Unfold);
        let is_unfolded = |view: &View| -> Vec<bool> {
            view.groups().iter().map(|group| view.is_unfolded(group)).collect()
        };
        assert_eq!(is_unfolded(&view), [true, false]);
        view.show(snapshot(2000, 600));
        assert_eq!(is_unfolded(&view), [true, false], "at the next look too");
        // Its group has gone: the first is selected.
        let mut next = snapshot(3000, 700);
        next.dump.groups.remove(1);
        view.show(next);
        assert_eq!((counts(&view), view.selected()), (vec![200], 0));
        view.show(Snapshot { counts: Counts::default(), dump: Dump::default() });
        for action in [Action::Up, Action::Down, Action::Unfold, Action::PageDown, Action::PageUp] {
            assert!(view.act(action));
            assert_eq!(view.selected(), 0);
        }
        assert!(!view.act(Action::Quit));
    }
}
