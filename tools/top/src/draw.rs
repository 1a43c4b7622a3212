//! How it looks.

use std::fmt::Display;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::numbers::{grouped, size, time};
use crate::report::{Coroutine, Function, Group, Snapshot, Worker};
use crate::view::{Rates, Sort, View};

const TITLE: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const HEAD: Style = Style::new().add_modifier(Modifier::DIM);
const NUMBER: Style = Style::new().add_modifier(Modifier::BOLD);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const OWN: Style = Style::new().fg(Color::Green);
const FOREIGN: Style = Style::new().add_modifier(Modifier::DIM);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// So many workers are shown, and the others counted.
const WORKERS: usize = 8;

/// So many coroutines of an unfolded group are shown.
const MEMBERS: usize = 3;

/// A column: its head, its width, and whether it holds numbers. The last takes what is left.
type Column = (&'static str, u16, bool);

const WORKER_COLUMNS: [Column; 9] = [
    ("worker", 16, false),
    ("", 16, false),
    ("cpu", 5, true),
    ("turns/s", 11, true),
    ("started", 10, true),
    ("parked", 10, true),
    ("queued", 8, true),
    ("stolen/s", 10, true),
    ("runs", 0, false),
];

const GROUP_COLUMNS: [Column; 5] = [
    ("count", 9, true),
    ("state", 8, false),
    ("oldest", 10, true),
    ("at", 40, false),
    ("waiting for", 0, false),
];

pub(crate) fn draw(view: &mut View, frame: &mut Frame<'_>) {
    let workers = view.snapshot.as_ref().map_or(0, |snapshot| snapshot.counts.workers.len());
    let rows = workers.min(WORKERS) + usize::from(workers > WORKERS);
    let [head, _, table, _, list, foot] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(1),
        Constraint::Length(1 + rows as u16),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let buffer = frame.buffer_mut();
    write_lines(&heading(view), head, buffer);
    if let Some(snapshot) = &view.snapshot {
        draw_workers(snapshot, &view.rates, table, buffer);
    }
    draw_groups(view, list, buffer);
    write_lines(&[footer(view)], foot, buffer);
}

fn write_lines(lines: &[Line<'_>], area: Rect, buffer: &mut Buffer) {
    for (line, row) in lines.iter().zip(area.rows()) {
        buffer.set_line(row.x, row.y, line, row.width);
    }
}

/// Words and numbers: the numbers stand out.
fn counts<N: Display>(title: &str, parts: impl IntoIterator<Item = (N, String)>) -> Line<'static> {
    let mut spans = vec![Span::styled(format!("{title:<11}"), HEAD)];
    for (name, number) in parts {
        spans.push(Span::styled(number, NUMBER));
        spans.push(Span::raw(format!(" {name}   ")));
    }
    Line::from(spans)
}

/// A rate; nothing is known before the second look.
fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| String::from("-"), |rate| grouped(rate.round() as u64))
}

fn heading(view: &View) -> Vec<Line<'_>> {
    let mut first =
        vec![Span::styled("coro top", TITLE), Span::raw(format!("   {}   ", view.name))];
    first.push(if view.has_ended {
        Span::styled("the process has ended; this is what was seen last", ALARM)
    } else if let Some(error) = &view.error {
        Span::styled(error.clone(), ALARM)
    } else if view.is_paused {
        Span::styled("paused", ALARM)
    } else {
        Span::styled(format!("every {:?}", view.interval), HEAD)
    });
    let mut lines = vec![Line::from(first)];
    let Some(snapshot) = &view.snapshot else { return lines };
    let metrics = &snapshot.counts.metrics;
    lines.push(counts(
        "coroutines",
        [
            ("live", grouped(metrics.live)),
            ("fresh", grouped(metrics.fresh)),
            ("parked", grouped(metrics.parked)),
        ],
    ));
    lines.push(counts(
        "per second",
        [
            ("spawned", rate(view.rates.spawned)),
            ("turns", rate(view.rates.turns)),
            ("stolen", rate(view.rates.stolen)),
        ],
    ));
    lines.push(counts(
        "stacks",
        [
            ("in use", grouped(metrics.stacks_in_use)),
            ("pooled", grouped(metrics.stacks_pooled)),
            ("cold", grouped(metrics.stacks_cold)),
            ("resident", size(metrics.stacks_resident_bytes)),
            ("reserved", size(metrics.stacks_reserved_bytes)),
        ],
    ));
    lines
}

/// Writes the cells of a row into its columns. A number stands to the right.
fn write_row(cells: &[(String, Style)], columns: &[Column], row: Rect, buffer: &mut Buffer) {
    let mut x = row.x;
    for ((text, style), (_, width, is_number)) in cells.iter().zip(columns) {
        let left = row.right().saturating_sub(x);
        let width = if *width == 0 { left } else { (*width).min(left) };
        // A column apart from the next.
        let room = width.saturating_sub(u16::from(width < left)) as usize;
        let length = text.chars().count();
        let indent = if *is_number { room.saturating_sub(length) } else { 0 };
        buffer.set_stringn(x + indent as u16, row.y, text, room - indent, *style);
        x += width;
    }
}

fn heads(columns: &[Column]) -> Vec<(String, Style)> {
    columns.iter().map(|(head, _, _)| (String::from(*head), HEAD)).collect()
}

fn draw_workers(snapshot: &Snapshot, rates: &Rates, area: Rect, buffer: &mut Buffer) {
    let workers = &snapshot.counts.workers;
    let mut rows = area.rows();
    let mut next = |cells: Vec<(String, Style)>, columns: &[Column]| {
        if let Some(row) = rows.next() {
            write_row(&cells, columns, row, buffer);
        }
    };
    next(heads(&WORKER_COLUMNS), &WORKER_COLUMNS);
    for worker in workers.iter().take(WORKERS) {
        next(worker_cells(worker, rates), &WORKER_COLUMNS);
    }
    if workers.len() > WORKERS {
        let more = format!("and {} more workers", workers.len() - WORKERS);
        next(vec![(more, HEAD)], &[("", 0, false)]);
    }
}

fn worker_cells(worker: &Worker, rates: &Rates) -> Vec<(String, Style)> {
    let known = rates.of(worker);
    let name = worker.thread_name.clone();
    let name = name.unwrap_or_else(|| format!("{} of runtime {}", worker.index, worker.runtime));
    let colour = match known.busy.unwrap_or(0.0) {
        0.0..0.6 => Color::Green,
        0.6..0.9 => Color::Yellow,
        _ => Color::Red,
    };
    let doing = match (worker.is_asleep, worker.running) {
        (true, _) => (String::from("asleep"), HEAD),
        (false, Some(id)) => (format!("coroutine {}", grouped(id)), Style::new()),
        (false, None) => (String::from("looks for work"), HEAD),
    };
    let number = |number: u64| (grouped(number), Style::new());
    vec![
        (name, Style::new()),
        (known.busy.map(bar).unwrap_or_default(), Style::new().fg(colour)),
        (
            known.busy.map_or_else(|| String::from("-"), |busy| format!("{:.0}%", busy * 100.0)),
            NUMBER,
        ),
        (rate(known.turns), Style::new()),
        number(worker.started),
        number(worker.parked),
        number(worker.queued),
        (rate(known.stolen), Style::new()),
        doing,
    ]
}

/// A part of one, in 15 cells of eight steps each.
fn bar(part: f64) -> String {
    const STEPS: [char; 8] =
        [' ', '\u{258f}', '\u{258e}', '\u{258d}', '\u{258c}', '\u{258b}', '\u{258a}', '\u{2589}'];
    const CELLS: usize = 15;
    let eighths = (part * (8 * CELLS) as f64).round() as usize;
    let cell = |index: usize| match eighths.saturating_sub(8 * index) {
        8.. => '\u{2588}',
        rest => STEPS[rest],
    };
    (0..CELLS).map(cell).collect()
}

/// A line of the list.
enum Row<'a> {
    Group(&'a Group),
    Detail(String, Style),
}

fn draw_groups(view: &mut View, area: Rect, buffer: &mut Buffer) {
    let [title, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let mut columns = GROUP_COLUMNS;
    columns[3].1 = (area.width.saturating_sub(27) / 2).max(12);
    let mut names = heads(&columns);
    let sorted = if view.sort == Sort::Count { 0 } else { 2 };
    names[sorted] = (format!("{}\u{2193}", names[sorted].0), TITLE);
    write_row(&names, &columns, title, buffer);

    let selected = view.selected();
    let mut rows = Vec::new();
    // Where the selected group begins and ends.
    let mut extent = 0..0;
    for (index, group) in view.groups().into_iter().enumerate() {
        let begin = rows.len();
        rows.push(Row::Group(group));
        if view.is_unfolded(group) {
            rows.extend(details(group, view.shows_all_frames));
        }
        if index == selected {
            extent = begin..rows.len();
        }
    }
    let rest = view.snapshot.as_ref().map(|snapshot| &snapshot.dump);
    if let Some(more @ 1..) = rest.map(|dump| dump.more_groups) {
        rows.push(Row::Detail(format!("  and {more} more groups: --groups N shows more"), HEAD));
    }
    for remark in rest.iter().flat_map(|dump| &dump.remarks) {
        rows.push(Row::Detail(format!("  {remark}"), Style::new().fg(Color::Yellow)));
    }
    let height = body.height as usize;
    let first = first_line(view.first_line, &extent, rows.len(), height, view.follows);
    for (row, place) in rows[first..].iter().zip(body.rows()) {
        match row {
            Row::Group(group) => {
                write_row(&group_cells(group), &columns, place, buffer);
                if view.groups().get(selected).is_some_and(|one| std::ptr::eq(*one, *group)) {
                    buffer.set_style(place, SELECTED.fg(Color::Reset));
                }
            }
            Row::Detail(text, style) => {
                buffer.set_stringn(place.x, place.y, text, place.width as usize, *style);
            }
        }
    }
    (view.first_line, view.lines_seen) = (first, height);
}

/// Which line of the list comes first, so that it has no empty end, and, if that is followed, what is selected is seen.
fn first_line(
    first: usize,
    selected: &std::ops::Range<usize>,
    lines: usize,
    height: usize,
    follows: bool,
) -> usize {
    let mut first = first;
    if follows {
        first = first.max(selected.end.saturating_sub(height)).min(selected.start);
    }
    first.min(lines.saturating_sub(height))
}

fn group_cells(group: &Group) -> Vec<(String, Style)> {
    let place = match group.innermost() {
        Some(function) => format!("{} {}", function.name, function.place().unwrap_or_default()),
        None => format!("spawned at {}", group.spawned_at),
    };
    let state = match group.state.as_str() {
        "running" => Style::new().fg(Color::Yellow),
        "ready" => Style::new().fg(Color::Green),
        _ => Style::new(),
    };
    vec![
        (grouped(group.count), NUMBER),
        (group.state.clone(), state),
        (group.oldest_ms().map(time).unwrap_or_default(), Style::new()),
        (place, OWN),
        (group.waits_for.clone().unwrap_or_default(), Style::new()),
    ]
}

/// What is seen of an unfolded group.
fn details(group: &Group, all_frames: bool) -> Vec<Row<'_>> {
    let mut rows =
        vec![Row::Detail(format!("          spawned at {}", group.spawned_at), Style::new())];
    for coroutine in group.coroutines.iter().take(MEMBERS) {
        rows.push(Row::Detail(format!("          {}", describe(coroutine)), Style::new()));
    }
    let more = group.count.saturating_sub(group.coroutines.len().min(MEMBERS) as u64);
    if more > 0 {
        rows.push(Row::Detail(format!("          and {} more", grouped(more)), HEAD));
    }
    rows.extend(frames(group, all_frames));
    rows.extend(
        group.frames_end.iter().map(|end| Row::Detail(format!("              {end}"), HEAD)),
    );
    rows
}

/// The backtrace. Of the libraries' functions, only those are shown that the program has called, unless all are asked for.
fn frames(group: &Group, all: bool) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut functions = Vec::new();
    for (number, frame) in group.frames.iter().enumerate() {
        if frame.functions.is_empty() {
            functions.push((format!("{number:12}:"), frame.address.as_str(), None));
        }
        for (index, function) in frame.functions.iter().enumerate() {
            // What is inlined into a frame has no number.
            let number = if index == 0 { format!("{number:12}:") } else { " ".repeat(13) };
            functions.push((number, function.name.as_str(), Some(function)));
        }
    }
    let is_own = |index: usize| {
        let function = functions.get(index).and_then(|(_, _, function)| *function);
        function.is_some_and(Function::is_programs_own)
    };
    let mut left_out = 0;
    for (index, (number, name, function)) in functions.iter().enumerate() {
        if !all && !is_own(index) && !is_own(index + 1) {
            left_out += 1;
            continue;
        }
        rows.extend(omission(left_out));
        left_out = 0;
        let place = function.and_then(Function::place);
        let place = place.map(|place| format!("   {place}")).unwrap_or_default();
        let style = if is_own(index) { OWN } else { FOREIGN };
        rows.push(Row::Detail(format!("{number} {name}{place}"), style));
    }
    rows.extend(omission(left_out));
    rows
}

fn omission(functions: usize) -> Option<Row<'static>> {
    let text = format!("              {functions} functions of libraries");
    (functions > 0).then_some(Row::Detail(text, FOREIGN))
}

fn describe(coroutine: &Coroutine) -> String {
    let mut text = format!("coroutine {}", coroutine.id);
    if let Some(name) = &coroutine.name {
        text += &format!(" '{name}'");
    }
    if let Some(parked_for) = coroutine.parked_for_ms {
        text += &format!(", for {}", time(parked_for));
    }
    if let Some(used) = coroutine.stack_used {
        text += &format!(", {} bytes of stack", grouped(used));
    }
    for (name, label) in &coroutine.labels {
        text += &format!(", {name}={label:?}");
    }
    text
}

fn footer(view: &View) -> Line<'static> {
    let keys = [
        ("q", "quit"),
        ("p", if view.is_paused { "go on" } else { "pause" }),
        ("s", if view.sort == Sort::Count { "sort by age" } else { "sort by count" }),
        ("\u{2191}\u{2193}", "select"),
        ("enter", "unfold"),
        ("f", if view.shows_all_frames { "fewer frames" } else { "all frames" }),
        ("pgup pgdn", "scroll"),
    ];
    let spans = keys.into_iter().flat_map(|(key, what)| {
        [Span::styled(format!(" {key} "), SELECTED), Span::raw(format!(" {what} "))]
    });
    Line::from(spans.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::view::Action;
    use crate::view::tests::{snapshot, view};

    /// The lines of a screen of this size.
    fn drawn(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(view, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let cells = buffer.content().chunks(usize::from(width));
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>()
        };
        cells.map(|cells| line(cells).trim_end().to_owned()).collect()
    }

    #[test]
    fn top_draws_counts_rates_workers_and_groups() {
        let mut view = view();
        view.show(snapshot(3000, 2_000_500));
        let expected = "\
coro top   server 7   every 1s
coroutines 206 live   1 fresh   203 parked
per second 1,000,000 spawned   1,000,000 turns   0 stolen
stacks     205 in use   12 pooled   3 cold   856 KiB resident   1.0 TiB reserved

worker                           cpu    turns/s   started    parked  queued  stolen/s runs
coro-0          ███▊             25%  1,000,000       201       200       1         0 coroutine 17
1 of runtime 1                     -          0         4         3       0         0 asleep

  count↓ state      oldest at                                  waiting for
     200 parked     12.3 s server::next_request src/main.rs:58 a value from a channel made at src/ma
       3 parked     1:01 h spawned at src/main.rs:40:9         park
  and 4 more groups: --groups N shows more
  coroutine 17 holds its worker


 q  quit  p  pause  s  sort by age  ↑↓  select  enter  unfold  f  all frames  pgup pgdn  scroll";
        assert_eq!(drawn(&mut view, 100, 17).join("\n"), expected);
    }

    #[test]
    fn top_unfolds_a_group() {
        let mut view = view();
        view.act(Action::Unfold);
        let lines = drawn(&mut view, 100, 24);
        let at = lines.iter().position(|line| line.contains("200 parked")).unwrap();
        assert_eq!(
            lines[at + 1..at + 7],
            [
                "          spawned at src/main.rs:31:9",
                "          coroutine 9 'client', for 12.3 s, 1,520 bytes of stack, request=\"GET /\"",
                "          and 199 more",
                "           0: switch_yield   arch/x86_64.rs:1",
                "           1: server::next_request   src/main.rs:58",
                "       3 parked     1:01 h spawned at src/main.rs:40:9         park",
            ]
        );
        view.act(Action::Down);
        view.act(Action::Unfold);
        assert!(drawn(&mut view, 100, 24).contains(&String::from("              built without")));
        view.act(Action::Unfold);
        view.act(Action::Up);
        view.act(Action::Unfold);
        assert_eq!(drawn(&mut view, 100, 24)[at + 1], lines[at + 6]);
    }

    #[test]
    fn top_leaves_out_what_the_program_has_not_called() {
        let mut view = view();
        let mut next = snapshot(2000, 600);
        let function = |name: &&str| Function { name: (*name).into(), file: None, line: None };
        let frame = |names: &[&str]| crate::report::Frame {
            address: String::from("0x1"),
            functions: names.iter().map(function).collect(),
        };
        next.dump.groups[0].frames = vec![
            frame(&["coro::inner", "coro::middle"]),
            frame(&["coro::outer", "server::own"]),
            frame(&[]),
            frame(&["core::call", "std::run"]),
        ];
        view.show(next);
        view.act(Action::Unfold);
        let trace = |view: &mut View| {
            let lines = drawn(view, 100, 24);
            let from = lines.iter().position(|line| line.contains("and 199 more")).unwrap();
            let to = lines.iter().position(|line| line.contains(" 3 parked")).unwrap();
            lines[from + 1..to].join("\n")
        };
        let short = "              2 functions of libraries
           1: coro::outer
              server::own
              3 functions of libraries";
        assert_eq!(trace(&mut view), short);
        view.act(Action::Frames);
        let all = "           0: coro::inner
              coro::middle
           1: coro::outer
              server::own
           2: 0x1
           3: core::call
              std::run";
        assert_eq!(trace(&mut view), all);
    }

    #[test]
    fn top_follows_the_selected_group_where_there_is_no_room() {
        let mut view = view();
        view.act(Action::Unfold);
        // Three lines of the list: the group that is selected comes first.
        let has = |lines: &[String], text: &str| lines.iter().any(|line| line.contains(text));
        let lines = drawn(&mut view, 100, 14);
        assert!(has(&lines, "200 parked") && !has(&lines, "1:01 h"), "{lines:#?}");
        view.act(Action::Down);
        let lines = drawn(&mut view, 100, 14);
        assert!(!has(&lines, "200 parked") && has(&lines, "1:01 h"), "{lines:#?}");
        for _ in 0..3 {
            view.act(Action::PageUp);
            drawn(&mut view, 100, 14);
        }
        assert!(has(&drawn(&mut view, 100, 14), "200 parked"));
        for _ in 0..5 {
            view.act(Action::PageDown);
            drawn(&mut view, 100, 14);
        }
        assert!(has(&drawn(&mut view, 100, 14), "holds its worker"), "and no further");
    }

    #[test]
    fn top_says_that_it_is_paused_and_that_the_process_has_ended() {
        let mut view = view();
        view.act(Action::Pause);
        assert_eq!(drawn(&mut view, 60, 20)[0], "coro top   server 7   paused");
        view.act(Action::Pause);
        view.error = Some(String::from("no answer within 20s"));
        assert_eq!(drawn(&mut view, 60, 20)[0], "coro top   server 7   no answer within 20s");
        view.has_ended = true;
        let lines = drawn(&mut view, 80, 20);
        assert_eq!(
            lines[0],
            "coro top   server 7   the process has ended; this is what was seen last"
        );
        assert!(lines[9].contains("200 parked") || lines[10].contains("200 parked"), "{lines:#?}");
    }

    #[test]
    fn top_draws_on_a_screen_of_any_size() {
        let mut view = view();
        view.act(Action::Unfold);
        for width in [1, 2, 10, 27, 28, 60, 300] {
            for height in [1, 2, 5, 9, 12, 100] {
                assert_eq!(drawn(&mut view, width, height).len(), usize::from(height));
            }
        }
        let mut empty = View::new(String::new(), view.interval);
        assert_eq!(drawn(&mut empty, 40, 12)[0], "coro top      every 1s");
    }

    #[test]
    fn top_lets_no_name_change_the_screen() {
        let mut view = view();
        let mut next = snapshot(2000, 600);
        next.dump.groups[0].waits_for = Some(String::from("\u{1b}[2J\u{7}bell"));
        view.show(next);
        let lines = drawn(&mut view, 100, 17);
        assert!(lines.iter().any(|line| line.ends_with("[2Jbell")), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
    }

    #[test]
    fn top_bars_grow_with_what_they_show() {
        assert_eq!(bar(0.0), " ".repeat(15));
        assert_eq!(bar(1.0), "\u{2588}".repeat(15));
        let full = |part| bar(part).chars().filter(|cell| *cell == '\u{2588}').count();
        assert_eq!([0.1, 0.5, 0.99].map(full), [1, 7, 14]);
    }
}
