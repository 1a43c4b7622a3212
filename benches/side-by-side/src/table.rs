//! Results as tables: of plain text while it is measured, and of Markdown for the README.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::catalogue::{Metric, Row, grouped};
use crate::results::{Line, Results};
use crate::statistics::ratio;

/// The sizes of a curve that stand in the README.
const SHOWN: [u64; 5] = [2, 1_000, 10_000, 100_000, 1_000_000];

/// The first line of the table that `plain` goes on with.
pub fn header() -> String {
    format!("{:<45} {:>12} {:>12} {:>12}      {:>9}\n", "", "median", "least", "most", "coro/peer")
}

/// A row: for each size and number of workers its sides, with medians, least, most, and our ratio to each peer. Where more
/// is better, the ratio is the peer's to ours: below 1, coro is the better one in any case.
pub fn plain(row: &Row, results: &Results) -> String {
    let mut text = String::new();
    for (size, workers) in results.points() {
        let plural = if workers == 1 { "" } else { "s" };
        _ = writeln!(text, "\n{}, {workers} worker{plural} ({})", row.line(size), row.name);
        for line in results.lines_of(size, workers) {
            if let Some(why) = &line.cannot {
                _ = writeln!(text, "  {:<43} cannot: {why}", line.peer);
            }
            for (index, metric) in row.metrics.iter().enumerate() {
                let Some(summary) = line.summary(index) else { continue };
                let name = if index == 0 { line.peer.as_str() } else { metric.what };
                _ = write!(
                    text,
                    "  {name:<43} {:>12} {:>12} {:>12} {:<4}",
                    number(summary.median),
                    number(summary.min),
                    number(summary.max),
                    metric.unit
                );
                let ours = results.median("coro", size, workers).filter(|_| index == 0);
                let ratio =
                    ours.and_then(|ours| ratio(ours, summary.median, metric.more_is_better));
                if let Some(ratio) = ratio.filter(|_| line.peer != "coro") {
                    _ = write!(text, " {ratio:>9.2}");
                }
                text.push('\n');
            }
        }
    }
    text
}

/// The sizes of a row that stand in the README.
pub fn shown_sizes(row: &Row, results: &Results) -> Vec<u64> {
    let mut sizes: Vec<u64> = results.points().iter().map(|(size, _)| *size).collect();
    sizes.dedup();
    if row.sizes.len() > 1 {
        sizes.retain(|size| SHOWN.contains(size));
    }
    sizes
}

/// The tables of the README, one for each group, of all results that there are; with the plots in `directory`, as seen
/// from the README.
pub fn markdown(all: &[(&Row, Results)], directory: &Path) -> String {
    let mut text = String::new();
    let mut groups: Vec<&str> = all.iter().map(|(row, _)| row.group).collect();
    groups.dedup();
    for group in groups {
        _ = writeln!(text, "### {}{}\n", group[..1].to_uppercase(), &group[1..]);
        text.push_str("| what | coro | beside it, in the same run |\n|---|---|---|\n");
        let mut reasons = BTreeMap::new();
        let of_group: Vec<_> = all.iter().filter(|(row, _)| row.group == group).collect();
        for (row, results) in &of_group {
            for size in shown_sizes(row, results) {
                for (index, metric) in row.metrics.iter().enumerate() {
                    _ = writeln!(text, "{}", markdown_line(row, results, size, index, metric));
                }
            }
            for line in &results.lines {
                if let Some(why) = &line.cannot {
                    // The lines of a curve come by size, so the smallest is the first.
                    let size = Some(line.size).filter(|_| row.sizes.len() > 1);
                    reasons.entry((&line.peer, row.name, why)).or_insert(size);
                }
            }
        }
        for ((peer, row, why), size) in reasons {
            let from = size.map(|size| format!(", from {} on", grouped(size))).unwrap_or_default();
            _ = writeln!(text, "\n{peer} is not there in `{row}`{from}: {why}.");
        }
        let path = directory.join(format!("ratios-{group}.svg"));
        _ = writeln!(
            text,
            "\n![coro's medians by those of its peers: {group}]({})\n",
            path.display()
        );
    }
    if let Some((_, results)) = all.first() {
        let machine = &results.machine;
        _ = writeln!(
            text,
            "Medians of {}: {} CPUs, {}; {}; {}. The best of each row is bold. Two figures are those of one worker and of two.",
            machine.date, machine.cpus, machine.cpu, machine.kernel, machine.rustc
        );
    }
    text
}

fn markdown_line(row: &Row, results: &Results, size: u64, index: usize, metric: &Metric) -> String {
    let mut sides: Vec<(&str, Vec<Option<f64>>)> = Vec::new();
    let mut workers: Vec<usize> = Vec::new();
    for line in results.lines.iter().filter(|line| line.size == size) {
        workers.push(line.workers);
        let median = line.summary(index).map(|summary| summary.median);
        match sides.iter_mut().find(|(peer, _)| *peer == line.peer) {
            Some((_, medians)) => medians.push(median),
            None => sides.push((&line.peer, vec![median])),
        }
    }
    workers.dedup();
    let sorts = |medians: &[Option<f64>]| {
        let value = medians.iter().rev().flatten().next().copied().unwrap_or(f64::INFINITY);
        if metric.more_is_better { -value } else { value }
    };
    sides.retain(|(_, medians)| medians.iter().any(Option::is_some));
    let best: Vec<Option<f64>> = (0..workers.len())
        .map(|place| {
            let of_place = sides.iter().filter_map(|(_, medians)| *medians.get(place)?);
            if metric.more_is_better {
                of_place.max_by(f64::total_cmp)
            } else {
                of_place.min_by(f64::total_cmp)
            }
        })
        .collect();
    let cell = |medians: &[Option<f64>]| {
        let figures = medians.iter().zip(&best).map(|(median, best)| match median {
            Some(value) if Some(*value) == *best && sides.len() > 1 => {
                format!("**{}**", number(*value))
            }
            Some(value) => number(*value),
            None => String::from("-"),
        });
        figures.collect::<Vec<_>>().join(" / ")
    };
    let mut what = row.line(size);
    if index > 0 {
        what = format!("{what}: {}", metric.what);
    }
    if workers.len() > 2 {
        let all: Vec<_> = workers.iter().map(usize::to_string).collect();
        what = format!("{what}, with {} workers", all.join(" / "));
    }
    let ours = sides.iter().find(|(peer, _)| *peer == "coro").map(|(_, medians)| cell(medians));
    let mut others: Vec<_> = sides.iter().filter(|(peer, _)| *peer != "coro").collect();
    others.sort_by(|a, b| sorts(&a.1).total_cmp(&sorts(&b.1)));
    let others: Vec<_> =
        others.iter().map(|(peer, medians)| format!("{peer} {}", cell(medians))).collect();
    format!("| {what} | {} {} | {} |", ours.unwrap_or_default(), metric.unit, others.join("; "))
}

/// Three figures that count.
fn number(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", grouped(value.abs().round() as u64))
        }
    }
}

/// The peers of a size and number of workers with our ratio to each.
pub fn ratios<'a>(
    row: &Row,
    results: &'a Results,
    size: u64,
    workers: usize,
) -> Vec<(&'a Line, f64)> {
    let Some(ours) = results.median("coro", size, workers) else { return Vec::new() };
    let peers = results.lines_of(size, workers).filter(|line| line.peer != "coro");
    peers
        .filter_map(|line| {
            let theirs = line.summary(0)?.median;
            Some((line, ratio(ours, theirs, row.metrics[0].more_is_better)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::rows;
    use crate::machine::Machine;

    fn line(peer: &str, workers: usize, values: &[f64], cannot: Option<&str>) -> Line {
        Line {
            size: 1,
            workers,
            peer: peer.to_owned(),
            values: values.iter().map(|value| vec![*value]).collect(),
            cannot: cannot.map(str::to_owned),
        }
    }

    fn echo() -> (&'static Row, Results) {
        let lines = vec![
            line("coro", 1, &[200.0, 4.0], None),
            line("tokio", 1, &[100.0, 5.0], None),
            line("go", 1, &[], Some("there is no `go` on PATH")),
            line("coro", 2, &[150.0, 6.0], None),
            line("tokio", 2, &[300.0, 5.0], None),
            line("go", 2, &[], Some("there is no `go` on PATH")),
        ];
        let row = rows().find(|row| row.name == "echo").expect("a row");
        (row, Results { row: "echo".into(), quick: true, machine: Machine::default(), lines })
    }

    #[test]
    fn the_plain_table_has_ratios_and_reasons() {
        let (row, results) = echo();
        let text = plain(row, &results);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["tokio", "100", "100", "100", "k/s", "0.50"]), "{text}");
        assert!(lines.contains(&vec!["tokio", "300", "300", "300", "k/s", "2.00"]), "{text}");
        assert!(text.contains("cannot: there is no `go` on PATH"), "{text}");
    }

    #[test]
    fn the_best_of_a_row_is_bold_whoever_it_is() {
        let (row, results) = echo();
        let text = markdown(&[(row, results)], Path::new("benches/results"));
        let what = "echo of 64 bytes, 100 connections";
        let rate = format!("| {what} | **200** / 150 k/s | tokio 100 / **300** |");
        let cpu = format!(
            "| {what}: the server's CPU time for an answer | **4.00** / 6.00 us | tokio 5.00 / **5.00** |"
        );
        assert!(text.contains(&rate) && text.contains(&cpu), "{text}");
        assert!(text.contains("go is not there in `echo`: there is no `go` on PATH."), "{text}");
    }

    #[test]
    fn numbers_have_three_figures() {
        assert_eq!(
            [0.307, 9.5, 12.34, 99.94, 123.4, 12_345.6].map(number),
            ["0.31", "9.50", "12.3", "99.9", "123", "12,346"]
        );
    }

    #[test]
    fn ratios_are_ours_by_the_peers() {
        let (row, results) = echo();
        let all: Vec<_> = ratios(row, &results, 1, 2)
            .into_iter()
            .map(|(line, ratio)| (line.peer.as_str(), ratio))
            .collect();
        assert_eq!(all, [("tokio", 2.0)]);
    }
}
