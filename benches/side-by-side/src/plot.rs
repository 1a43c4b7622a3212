//! Results as pictures: bars of ratios for each group, and curves for each row that has one.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::catalogue::{Row, Workers, grouped};
use crate::results::Results;
use crate::table::{ratios, shown_sizes};

type Drawn = Result<(), Box<dyn Error>>;

/// Named lines of points, in order.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

const BETTER: RGBColor = RGBColor(0x2a, 0x9d, 0x5c);
const WORSE: RGBColor = RGBColor(0xc9, 0x4f, 0x3d);

/// Draws all of them into a directory.
pub fn all(results: &[(&Row, Results)], directory: &Path) -> Drawn {
    let mut groups: Vec<&str> = results.iter().map(|(row, _)| row.group).collect();
    groups.dedup();
    for group in groups {
        let bars: Vec<_> = results.iter().filter(|(row, _)| row.group == group).collect();
        let bars: Vec<_> = bars.iter().flat_map(|(row, results)| bars_of(row, results)).collect();
        if !bars.is_empty() {
            draw_bars(group, &bars, &directory.join(format!("ratios-{group}.svg")))?;
        }
    }
    for (row, results) in results {
        if matches!(row.workers, Workers::OneToEight) {
            draw_workers(row, results, directory)?;
        } else if row.sizes.len() > 3 {
            draw_sizes(row, results, directory)?;
        }
    }
    Ok(())
}

/// A bar for each peer: with two workers, if there are figures of two.
fn bars_of(row: &Row, results: &Results) -> Vec<(String, f64)> {
    let points = results.points();
    let mut bars = Vec::new();
    for size in shown_sizes(row, results) {
        let workers: Vec<usize> =
            points.iter().filter(|point| point.0 == size).map(|point| point.1).collect();
        let Some(workers) = workers.iter().copied().filter(|count| *count <= 2).max() else {
            continue;
        };
        let what = row.line(size).replace('`', "");
        for (line, ratio) in ratios(row, results, size, workers) {
            bars.push((format!("{what} - {}", line.peer), ratio));
        }
    }
    bars
}

fn draw_bars(group: &str, bars: &[(String, f64)], path: &Path) -> Drawn {
    let height = 110 + 18 * bars.len() as u32;
    let root = SVGBackend::new(path, (1000, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let least = bars.iter().map(|(_, ratio)| *ratio).fold(0.5, f64::min) / 1.2;
    let most = bars.iter().map(|(_, ratio)| *ratio).fold(2.0, f64::max) * 1.2;
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!("{group}: coro by its peer; below 1 (green) coro is better"),
            ("sans-serif", 18),
        )
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(520)
        .build_cartesian_2d((least..most).log_scale(), 0.0..count)?;
    chart.configure_mesh().disable_mesh().y_labels(0).x_desc("ratio, logarithmic").draw()?;
    let beside = Pos::new(HPos::Right, VPos::Center);
    let style = ("sans-serif", 12).into_text_style(&root).pos(beside);
    for (index, (name, ratio)) in bars.iter().enumerate() {
        let y = count - index as f64 - 0.5;
        let colour = if *ratio < 1.0 { BETTER } else { WORSE };
        let corners = [(ratio.min(1.0), y - 0.35), (ratio.max(1.0), y + 0.35)];
        chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        let (left, middle) = chart.backend_coord(&(least, y));
        root.draw_text(name, &style, (left - 8, middle))?;
    }
    root.present()?;
    Ok(())
}

/// The curve of a row by its sizes, a picture for each number of workers.
fn draw_sizes(row: &Row, results: &Results, directory: &Path) -> Drawn {
    let mut workers: Vec<usize> = results.points().iter().map(|point| point.1).collect();
    workers.sort_unstable();
    workers.dedup();
    for count in workers {
        let mut lines = Lines::new();
        for line in results.lines.iter().filter(|line| line.workers == count) {
            // A logarithmic axis has no 0.
            if let Some(summary) = line.summary(0).filter(|summary| summary.median > 0.0) {
                let points = lines.entry(line.peer.clone()).or_default();
                points.push((line.size as f64, summary.median));
            }
        }
        let plural = if count == 1 { "" } else { "s" };
        let what = row.what.replace("{}", "so many").replace('`', "");
        let caption = format!("{what}, {}, {count} worker{plural}", row.metrics[0].unit);
        let path = directory.join(format!("curve-{}-{count}.svg", row.name));
        draw_lines(&caption, "how many", true, &lines, &path)?;
    }
    Ok(())
}

/// The curves of a row by its workers: the times of all, and how coro's workers pass the time.
fn draw_workers(row: &Row, results: &Results, directory: &Path) -> Drawn {
    let (mut times, mut shares) = (Lines::new(), Lines::new());
    for line in &results.lines {
        for (index, metric) in row.metrics.iter().enumerate() {
            let Some(summary) = line.summary(index) else { continue };
            let point = (line.workers as f64, summary.median);
            match index {
                0 => times.entry(line.peer.clone()).or_default().push(point),
                _ => shares.entry(metric.what.to_owned()).or_default().push(point),
            }
        }
    }
    let size = results.lines.first().map_or(0, |line| line.size);
    let what = row.line(size).replace('`', "");
    let path = directory.join(format!("curve-{}.svg", row.name));
    draw_lines(&format!("{what}, {}", row.metrics[0].unit), "workers", false, &times, &path)?;
    let path = directory.join(format!("shares-{}.svg", row.name));
    draw_lines(&format!("{what}: coro's workers, %"), "workers", false, &shares, &path)
}

fn draw_lines(caption: &str, x_name: &str, is_log: bool, lines: &Lines, path: &Path) -> Drawn {
    let points = || lines.values().flatten();
    let least = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    let (left, right) = (least(|point| point.0), most(|point| point.0).max(2.0));
    if !left.is_finite() {
        return Ok(());
    }
    let top = most(|point| point.1) * 1.1;
    let root = SVGBackend::new(path, (900, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder.caption(caption, ("sans-serif", 18)).margin(12);
    builder.x_label_area_size(40).y_label_area_size(80);
    if is_log {
        let bottom = least(|point| point.1) / 1.2;
        let x = (left..right * 1.1).log_scale();
        let chart = builder.build_cartesian_2d(x, (bottom..top * 1.2).log_scale())?;
        draw_chart(chart, x_name, lines)?;
    } else {
        let chart = builder.build_cartesian_2d(left..right, 0.0..top.max(1.0))?;
        draw_chart(chart, x_name, lines)?;
    }
    root.present()?;
    Ok(())
}

fn draw_chart<'a, X, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    x_name: &str,
    lines: &Lines,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let number = |value: &f64| {
        if *value >= 1.0 { grouped(value.round() as u64) } else { format!("{value:.2}") }
    };
    chart
        .configure_mesh()
        .x_desc(x_name)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        // coro's line is the thick one.
        let width = if name == "coro" { 4 } else { 2 };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(width)))?
            .label(name)
            .legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(width))
            });
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
