//! Loss curves as an SVG picture.

use bevy_skald::files::write_atomic;
use bevy_skald::training::runs::{Point, Run};
use bevy_skald::{Error, Result};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::{
    Cartesian2d, Circle, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition,
};
use plotters::style::{BLACK, Color, ShapeStyle, WHITE};
use std::ops::Range;
use std::path::Path;

/// Colours that colour-blind people tell apart too (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(70, 70, 70),
];

/// How many runs a picture can hold.
pub const RUNS: usize = COLOURS.len();

/// How many points a line has at most: more than there are pixels help nobody.
const POINTS: usize = 1200;

/// How a picture looks.
pub struct Look {
    /// Whether steps are on a logarithmic axis (step 0 is then left out).
    pub log_step: bool,
    /// Whether losses are.
    pub log_loss: bool,
    /// How much of the smoothed training loss stays from one step to the next, below 1.
    pub smooth: f64,
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Draws the training (smoothed, and faintly as it was) and validation losses of at most [`RUNS`] runs to `out`.
///
/// # Errors
/// [`Error::Data`] if no run has two points; [`Error::Io`] if the file cannot be written.
pub fn plot(runs: &[Run], look: &Look, out: &Path) -> Result<()> {
    let lines: Vec<Lines> = runs.iter().map(|run| Lines::of(run, look)).collect();
    let points = || lines.iter().flat_map(|l| l.raw.iter().chain(&l.train).chain(&l.validation));
    let (steps, losses) = (points().map(|point| point.0), points().map(|point| point.1));
    let (Some(x), Some(y)) = (Axis::of(steps, look.log_step), Axis::of(losses, look.log_loss)) else {
        return Err(Error::Data {
            source_name: runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", "),
            reason: "there are no two losses to draw a line between".into(),
            remedy: "plot a run that has made a step (`skald runs list DIR`)".into(),
        });
    };
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (960, 560)).into_drawing_area();
    draw(&root, runs, &lines, x, y, look).map_err(|e| Error::backend("drawing the curves", e))?;
    drop(root);
    write_atomic(out, svg.as_bytes())
}

/// The lines of a run, as (step, loss).
struct Lines {
    raw: Vec<(f64, f64)>,
    train: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
}

impl Lines {
    fn of(run: &Run, look: &Look) -> Self {
        let pick = |loss: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
            let points = run.curve.iter().filter_map(|point| Some((point.step as f64, loss(point)?)));
            points.filter(|(x, y)| (*x > 0.0 || !look.log_step) && (*y > 0.0 || !look.log_loss)).collect()
        };
        let raw = pick(|point| point.train_loss);
        Self { train: thin(&smooth(&raw, look.smooth)), raw: thin(&raw), validation: pick(|p| p.val_loss) }
    }
}

/// An exponential moving average, corrected for its beginning (as Adam's moments are).
fn smooth(points: &[(f64, f64)], stays: f64) -> Vec<(f64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let next = |&(x, y): &(f64, f64)| {
        (sum, weight) = (sum * stays + y * (1.0 - stays), weight * stays + (1.0 - stays));
        (x, sum / weight)
    };
    points.iter().map(next).collect()
}

/// At most [`POINTS`] of many points, the last among them.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(|(at, _)| (last - at).is_multiple_of(every)).map(|(_, p)| *p).collect()
}

fn draw(
    root: &DrawingArea<SVGBackend, Shift>,
    runs: &[Run],
    lines: &[Lines],
    x: Axis,
    y: Axis,
    look: &Look,
) -> Drawn {
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .margin(18)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    let axis = |name: &str, log: bool| format!("{name}{}", if log { ", logarithmic" } else { "" });
    chart
        .configure_mesh()
        .x_desc(axis("optimiser step", look.log_step))
        .y_desc(axis("loss (nats per token)", look.log_loss))
        .x_label_formatter(&|value| label(*value))
        .y_label_formatter(&|value| label(*value))
        .axis_desc_style(("sans-serif", 16).into_font())
        .label_style(("sans-serif", 14).into_font())
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.1))
        .axis_style(BLACK.mix(0.6))
        .draw()?;
    for (lines, colour) in lines.iter().zip(COLOURS) {
        chart.draw_series(LineSeries::new(lines.raw.iter().copied(), colour.mix(0.15)))?;
    }
    for ((run, lines), colour) in runs.iter().zip(lines).zip(COLOURS) {
        curves(&mut chart, run, lines, colour)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(8)
        .legend_area_size(34)
        .border_style(BLACK.mix(0.25))
        .background_style(WHITE.mix(0.9))
        .label_font(("sans-serif", 14).into_font())
        .draw()?;
    root.present()?;
    Ok(())
}

fn curves(chart: &mut Chart, run: &Run, lines: &Lines, colour: RGBColor) -> Drawn {
    let train = colour.mix(0.7).stroke_width(1);
    let validation: ShapeStyle = colour.stroke_width(2);
    if !lines.train.is_empty() {
        chart
            .draw_series(LineSeries::new(lines.train.iter().copied(), train))?
            .label(format!("{}: training, smoothed", run.name))
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 26, y)], train));
    }
    if !lines.validation.is_empty() {
        let best = run.best_val_loss.zip(run.best_step);
        let best = best
            .map_or_else(String::new, |(loss, step)| format!(", best {loss:.4} at {}", label(step as f64)));
        chart
            .draw_series(LineSeries::new(lines.validation.iter().copied(), validation))?
            .label(format!("{}: validation{best}", run.name))
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 26, y)], validation));
        if lines.validation.len() <= 60 {
            let dots = lines.validation.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
    }
    Ok(())
}

/// A linear or logarithmic axis with round ticks.
#[derive(Clone, Debug)]
struct Axis {
    range: Range<f64>,
    log: bool,
}

impl Axis {
    /// An axis that holds all values and a little more. Nothing without two different ones.
    fn of(values: impl Iterator<Item = f64>, log: bool) -> Option<Self> {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low >= high || !(high - low).is_finite() {
            return None;
        }
        let range = if log {
            let room = (high / low).powf(0.03);
            low / room..high * room
        } else {
            let room = (high - low) * 0.03;
            // Nothing here is below 0.
            (low - room).max(0.0)..high + room
        };
        Some(Self { range, log })
    }

    /// Round values within the range, at most `most`.
    fn ticks(&self, most: usize) -> Vec<f64> {
        let Range { start, end } = self.range;
        if most < 2 {
            return Vec::new();
        }
        if self.log {
            // Fewer and fewer in each decade, then fewer decades.
            let decades = start.log10().floor() as i32..=end.log10().ceil() as i32;
            let choices: [&[f64]; 4] =
                [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 3.0, 5.0], &[1.0, 3.0], &[1.0]];
            for (steps, every) in
                choices.into_iter().map(|c| (c, 1)).chain([(choices[3], 2), (choices[3], 4)])
            {
                let of = |decade| steps.iter().map(move |step| step * 10f64.powi(decade));
                let ticks: Vec<f64> = decades
                    .clone()
                    .step_by(every)
                    .flat_map(of)
                    .filter(|t| (start..=end).contains(t))
                    .collect();
                if ticks.len() <= most && ticks.len() >= 3 {
                    return ticks;
                }
            }
        }
        let rough = (end - start) / most as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|s| s * decade).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(10.0 * decade);
        let (first, last) = ((start / step).ceil() as i64, (end / step).floor() as i64);
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let at = |v: f64| if self.log { v.ln() } else { v };
        let (low, high) = (at(self.range.start), at(self.range.end));
        from + (f64::from(to - from) * (at(*value) - low) / (high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.bold_points().min(10))
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// A tick's value: at most three digits after the point, thousands apart.
fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let ticks = |values: [f64; 2], log, most| Axis::of(values.into_iter(), log).unwrap().ticks(most);
        assert_eq!(
            ticks([0.0, 400.0], false, 10),
            [0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0]
        );
        assert_eq!(ticks([1.0, 20_000.0], true, 10), [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4]);
        assert_eq!(ticks([1.6, 4.2], true, 10), [2.0, 3.0, 4.0]);
        // Too narrow for round logarithmic ones.
        assert!(ticks([2.1, 2.4], true, 10).len() >= 3);
        assert!(
            Axis::of([1.0, 1.0].into_iter(), false).is_none() && Axis::of([].into_iter(), true).is_none()
        );
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.0, 2.5, 1200.0, 1e6, 0.125].map(label), ["0", "2.5", "1,200", "1,000,000", "0.125"]);
    }

    #[test]
    fn smoothing_keeps_a_constant_and_thinning_the_end() {
        let flat: Vec<(f64, f64)> = (0..5000).map(|n| (f64::from(n), 2.0)).collect();
        let smooth = smooth(&flat, 0.9);
        assert!(smooth.iter().all(|(_, y)| (y - 2.0).abs() < 1e-12));
        let thinned = thin(&flat);
        assert!(thinned.len() <= POINTS && thinned.len() > POINTS / 2);
        assert_eq!(thinned.last(), flat.last());
        assert!(thin(&[]).is_empty());
    }
}
