//! Plots of P1, P4, P8 and P9 as SVG, from the JSON lines of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::BoxError;
use crate::report::{Spread, find, spread_of};

type Line = Map<String, Value>;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
const COLOURS: [&str; 2] = ["#1f5fa8", "#c9702b"];

/// Writes the plots that the lines in `results` suffice for into `folder`.
pub(crate) fn draw(results: &Path, folder: &Path) -> Result<(), BoxError> {
    let text = fs::read_to_string(results)?;
    let lines: Vec<Line> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    fs::create_dir_all(folder)?;
    let bars = |measure: &str, members: &[&str], sides: &[&str]| -> Vec<(String, Spread)> {
        let mut bars = Vec::new();
        for side in sides {
            for member in members {
                let label =
                    if members.len() == 1 { (*side).to_owned() } else { format!("{side} {}", last_part(member)) };
                bars.push((label, spread_of(&lines, measure, side, member)));
            }
        }
        bars.retain(|(_, spread)| !spread.median.is_nan());
        bars
    };
    let throughput = bars("P1", &["tasks_per_second"], &["bare", "bare_together", "ours"]);
    let starts = bars("P4", &["start_ms.p50", "start_ms.p99"], &["bare", "bare_together", "ours", "ours_sdk"]);
    let over = |measure, along, members: &[&'static str]| -> Vec<(&'static str, Vec<(f64, Spread)>)> {
        members.iter().map(|&member| (last_part(member), points(&lines, measure, along, member))).collect()
    };
    let claims = over("P8", "queued", &["claim_ms.p50", "claim_ms.p99"]);
    let costs = over("P9", "agents", &["server_cpu_us_per_task"]);
    for (name, drawn) in [
        ("p1", bar_chart("P1: tasks a second, one task per request", &throughput)),
        ("p4", bar_chart("P4: submit to handler start at 20 tasks/s, ms", &starts)),
        ("p8", line_chart("P8: a claim, ms", "tasks queued", &claims)),
        ("p9", line_chart("P9: server CPU a task, us", "agents", &costs)),
    ] {
        if let Some(svg) = drawn {
            fs::write(folder.join(format!("{name}.svg")), svg)?;
        }
    }
    Ok(())
}

fn last_part(member: &str) -> &str {
    member.rsplit('.').next().unwrap_or(member)
}

/// A member over another, of a measure's lines without finished tasks in the way.
fn points(lines: &[Line], measure: &str, along: &str, member: &str) -> Vec<(f64, Spread)> {
    let mut by_size: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let of_measure = |line: &&Line| {
        line.get("measure").is_some_and(|own| own == measure) && find(line, "finished").unwrap_or(0.0) == 0.0
    };
    for line in lines.iter().filter(of_measure) {
        if let (Some(size), Some(value)) = (find(line, along), find(line, member)) {
            by_size.entry(size as u64).or_default().push(value);
        }
    }
    by_size.into_iter().map(|(size, values)| (size as f64, Spread::of(values))).collect()
}

/// Bars of the medians, with a line from the least to the most of the runs.
fn bar_chart(title: &str, bars: &[(String, Spread)]) -> Option<String> {
    let top = round_up(bars.iter().map(|(_, spread)| spread.most).fold(f64::NAN, f64::max))?;
    let mut svg = frame(title, top);
    let room = (WIDTH - LEFT - RIGHT) / bars.len() as f64;
    for (number, (label, spread)) in bars.iter().enumerate() {
        let middle = LEFT + room * (number as f64 + 0.5);
        let (x, width, y) = (middle - room * 0.3, room * 0.6, height(spread.median, top));
        let colour = COLOURS[usize::from(label.starts_with("ours"))];
        element(
            &mut svg,
            &format!(
                r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{colour}"/>"#,
                HEIGHT - BOTTOM - y
            ),
        );
        let (least, most) = (height(spread.least, top), height(spread.most, top));
        element(
            &mut svg,
            &format!(r##"<line x1="{middle:.1}" y1="{least:.1}" x2="{middle:.1}" y2="{most:.1}" stroke="#222"/>"##),
        );
        text(&mut svg, middle, most - 6.0, "middle", &short(spread.median));
        for (row, word) in label.split([' ', '_']).enumerate() {
            text(&mut svg, middle, HEIGHT - BOTTOM + 18.0 + 15.0 * row as f64, "middle", word);
        }
    }
    Some(svg + "</svg>\n")
}

/// Lines of the medians over a scale of powers of ten.
fn line_chart(title: &str, along: &str, series: &[(&str, Vec<(f64, Spread)>)]) -> Option<String> {
    let all = || series.iter().flat_map(|(_, points)| points);
    let top = round_up(all().map(|(_, spread)| spread.most).fold(f64::NAN, f64::max))?;
    let least = all().map(|(x, _)| x.log10()).fold(f64::INFINITY, f64::min);
    let most = all().map(|(x, _)| x.log10()).fold(f64::NEG_INFINITY, f64::max);
    let across = |x: f64| {
        let part = if most > least { (x.log10() - least) / (most - least) } else { 0.5 };
        LEFT + 20.0 + part * (WIDTH - LEFT - RIGHT - 50.0)
    };
    let mut svg = frame(title, top);
    for (number, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<_> =
            points.iter().map(|(x, spread)| format!("{:.1},{:.1}", across(*x), height(spread.median, top))).collect();
        element(
            &mut svg,
            &format!(r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, path.join(" ")),
        );
        for (x, spread) in points {
            let (x, y) = (across(*x), height(spread.median, top));
            let (low, high) = (height(spread.least, top), height(spread.most, top));
            element(&mut svg, &format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"#));
            element(
                &mut svg,
                &format!(r#"<line x1="{x:.1}" y1="{low:.1}" x2="{x:.1}" y2="{high:.1}" stroke="{colour}"/>"#),
            );
            text(&mut svg, x, high - 8.0, "middle", &short(spread.median));
        }
        if series.len() > 1 {
            let y = TOP - 8.0;
            let x = WIDTH - RIGHT - 90.0 + 50.0 * number as f64;
            element(
                &mut svg,
                &format!(r#"<rect x="{x:.1}" y="{:.1}" width="10" height="10" fill="{colour}"/>"#, y - 9.0),
            );
            text(&mut svg, x + 14.0, y, "start", name);
        }
    }
    if let Some((_, points)) = series.first() {
        for (x, _) in points {
            text(&mut svg, across(*x), HEIGHT - BOTTOM + 18.0, "middle", &format!("{x}"));
        }
    }
    text(&mut svg, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 18.0, "middle", along);
    Some(svg + "</svg>\n")
}

/// The white ground, the title and a scale from 0 to `top`.
fn frame(title: &str, top: f64) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
    );
    element(&mut svg, r#"<rect width="100%" height="100%" fill="white"/>"#);
    element(&mut svg, &format!(r#"<text x="{LEFT}" y="24" font-size="15">{title}</text>"#));
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let y = height(value, top);
        element(
            &mut svg,
            &format!(r##"<line x1="{LEFT}" y1="{y:.1}" x2="{}" y2="{y:.1}" stroke="#ddd"/>"##, WIDTH - RIGHT),
        );
        text(&mut svg, LEFT - 8.0, y + 4.0, "end", &short(value));
    }
    svg
}

fn element(svg: &mut String, element: &str) {
    svg.push('\n');
    svg.push_str(element);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    write!(svg, "\n<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>")
        .expect("a String takes every write");
}

fn height(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP - 12.0) * value / top
}

/// The next number that makes a scale easy to read; `None` where nothing was measured.
fn round_up(value: f64) -> Option<f64> {
    if !value.is_finite() || value <= 0.0 {
        return None;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value)
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{}", (value * 100.0).round() / 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_or_above_the_largest_value() {
        assert_eq!(round_up(13_794.0), Some(20_000.0));
        assert_eq!(round_up(0.35), Some(0.4));
        assert_eq!(round_up(1.0), Some(1.0));
        assert_eq!(round_up(f64::NAN), None);
    }

    #[test]
    fn a_bar_stands_as_high_as_its_value() {
        let spread = Spread::of(vec![50.0]);
        let svg = bar_chart("t", &[("ours".to_owned(), spread)]).expect("there is a bar");
        let expected = (HEIGHT - BOTTOM - TOP - 12.0) * 50.0 / 60.0;
        assert!(svg.contains(&format!(r#"height="{expected:.1}""#)), "{svg}");
    }
}
