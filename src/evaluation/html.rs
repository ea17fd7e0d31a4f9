//! [`Page`]: a report as one HTML file that needs nothing else, in light or dark.

use super::ranking::ReliabilityBin;
use super::report::{Report, in_order};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::{BTreeMap, BTreeSet};

/// A generated line to look at.
#[derive(Clone, Debug, Default)]
pub struct SampleLine {
    /// What was said before, if anything.
    pub opening: Option<String>,
    /// What was generated.
    pub line: String,
    /// What a person wrote there.
    pub reference: String,
    /// What is wrong with it ("copied", "repeated").
    pub flags: Vec<&'static str>,
}

/// What a report's page shows.
pub struct Page<'a> {
    /// Its heading.
    pub title: &'a str,
    /// What `n` counts ("lines").
    pub units: &'a str,
    /// The figures.
    pub report: &'a Report,
    /// The name and figures of what was measured before.
    pub before: Option<(&'a str, &'a Report)>,
    /// Predicted against observed, if there are probabilities.
    pub reliability: Option<&'a [ReliabilityBin]>,
    /// Some lines to look at.
    pub samples: &'a [SampleLine],
}

/// Width of a bar plot, of its column of names and of its column of numbers.
const PLOT: [f64; 3] = [300.0, 36.0, 60.0];
/// Height of a bar with its gap.
const BAR: f64 = 17.0;
/// Colours there are for bars; the last serves all further ones.
const COLOURS: usize = 5;

/// A column of the table and a colour in the plots.
struct Series<'a> {
    name: &'a str,
    figures: &'a BTreeMap<String, f64>,
    ci95: Option<&'a BTreeMap<String, [f64; 2]>>,
}

impl Page<'_> {
    /// The page.
    pub fn to_html(&self) -> String {
        let series = self.series();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (shown(self.title)) }
                    style { (PreEscaped(include_str!("report.css"))) }
                }
                body {
                    h1 { (shown(self.title)) }
                    p { (self.report.n) " " (self.units) " · data " code { (shown(&self.report.data_hash)) } }
                    h2 { "How it was measured" }
                    p { (shown(&self.report.protocol)) }
                    h2 { "Figures" }
                    (table(&series))
                    (bars(&series))
                    @if let Some(bins) = self.reliability { (diagram(bins)) }
                    @if !self.samples.is_empty() { (self.samples()) }
                }
            }
        };
        page.into_string()
    }

    fn series(&self) -> Vec<Series<'_>> {
        let own = Series { name: "measured", figures: &self.report.figures, ci95: Some(&self.report.ci95) };
        let beside = self.report.baselines.iter();
        let beside = beside.map(|(name, figures)| Series { name, figures, ci95: None });
        let before = self.before.iter();
        let before = before.map(|(name, report)| Series { name, figures: &report.figures, ci95: None });
        std::iter::once(own).chain(beside).chain(before).collect()
    }

    fn samples(&self) -> Markup {
        let openings = self.samples.iter().any(|sample| sample.opening.is_some());
        html! {
            h2 { "Some lines" }
            div.wide { table {
                thead { tr {
                    @if openings { th { "opening" } }
                    th { "generated" } th { "written" } th { "" }
                } }
                tbody { @for sample in self.samples { tr {
                    @if openings { td { (shown(sample.opening.as_deref().unwrap_or_default())) } }
                    td { (shown(&sample.line)) }
                    td { (shown(&sample.reference)) }
                    td { @for flag in &sample.flags { span.flag { (flag) } " " } }
                } } }
            } }
        }
    }
}

/// A text without the control characters that HTML forbids; escaping is maud's.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn number(value: f64) -> String {
    let count = value.abs() >= 10.0 && value.fract() == 0.0;
    if value.abs() < 1000.0 && !count { format!("{value:.4}") } else { format!("{value:.0}") }
}

/// The names of all figures.
fn names<'a>(series: &'a [Series<'a>]) -> Vec<&'a str> {
    let all: BTreeSet<&str> = series.iter().flat_map(|s| s.figures.keys().map(String::as_str)).collect();
    in_order(all.into_iter())
}

fn table(series: &[Series<'_>]) -> Markup {
    html! {
        div.wide { table {
            thead { tr {
                th { "figure" }
                @for one in series {
                    th.number { (shown(one.name)) }
                    @if one.ci95.is_some() { th.number { "95 % interval" } }
                }
            } }
            tbody { @for name in names(series) { tr {
                th { (shown(name)) }
                @for one in series {
                    td.number { @if let Some(figure) = one.figures.get(name) { (number(*figure)) } }
                    @if let Some(ci95) = one.ci95 {
                        td.number {
                            @if let Some([low, high]) = ci95.get(name) { (number(*low)) " to " (number(*high)) }
                        }
                    }
                }
            } } }
        } }
    }
}

/// A bar plot for each figure, or family of figures, that has something beside it.
fn bars(series: &[Series<'_>]) -> Markup {
    let mut plots: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in names(series) {
        if series.iter().filter(|one| one.figures.contains_key(name)).count() < 2 {
            continue;
        }
        let family = name.split_once('@').map_or(name, |(family, _)| family);
        match plots.last_mut().filter(|(last, _)| *last == family) {
            Some((_, members)) => members.push(name),
            None => plots.push((family, vec![name])),
        }
    }
    // Plots of the same height stand together.
    plots.sort_by_key(|(_, members)| members.len());
    html! {
        @if !plots.is_empty() {
            h2 { "Beside the baselines" }
            ul.legend { @for (i, one) in series.iter().enumerate() { li {
                svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(colour(i)) width="10" height="10" rx="2" {} }
                (shown(one.name))
            } } }
            p.note { "Whiskers are 95 % intervals; every plot has its own scale." }
            div.plots { @for (family, members) in &plots { (plot(family, members, series)) } }
        }
    }
}

fn colour(i: usize) -> String {
    format!("s{}", i.min(COLOURS - 1))
}

fn plot(family: &str, members: &[&str], series: &[Series<'_>]) -> Markup {
    let interval = |one: &Series<'_>, name: &str| one.ci95.and_then(|ci95| ci95.get(name)).copied();
    let values = series.iter().flat_map(|one| {
        members.iter().flat_map(move |name| {
            one.figures.get(*name).copied().into_iter().chain(interval(one, name).into_iter().flatten())
        })
    });
    let (low, high) = values.fold((0.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    let [width, left, right] = PLOT;
    let left = if members.len() > 1 { left } else { 0.0 };
    let at = |value: f64| left + (value - low) / (high - low).max(f64::MIN_POSITIVE) * (width - left - right);
    let mut bars = Vec::new();
    let mut y = 0.0;
    for name in members {
        let top = y;
        for (i, one) in series.iter().enumerate() {
            if let Some(&value) = one.figures.get(*name) {
                bars.push(bar(&at, i, value, interval(one, name), y));
                y += BAR;
            }
        }
        let member = name.split_once('@').map_or("", |(_, member)| member);
        bars.push(html! {
            @if !member.is_empty() {
                text x="0" y=(tenths((top + y) / 2.0 + 3.0)) { "@" (shown(member)) }
            }
        });
        y += 5.0;
    }
    html! {
        div.plot {
            h3 { (shown(family)) }
            svg viewBox=(format!("0 0 {width} {}", tenths(y))) role="img" aria-label=(shown(family)) {
                @for bar in bars { (bar) }
            }
        }
    }
}

fn bar(at: &dyn Fn(f64) -> f64, i: usize, value: f64, interval: Option<[f64; 2]>, y: f64) -> Markup {
    let (from, to) = (at(value.min(0.0)), at(value.max(0.0)));
    let middle = y + BAR / 2.0;
    let end = interval.map_or(to, |[_, high]| to.max(at(high)));
    html! {
        rect class=(colour(i)) x=(tenths(from)) y=(tenths(y + 2.0)) width=(tenths((to - from).max(1.0)))
            height=(tenths(BAR - 4.0)) rx="2" {}
        @if let Some([low, high]) = interval {
            path.whisker d=(format!(
                "M{a} {t}V{b}M{a} {m}H{z}M{z} {t}V{b}",
                a = tenths(at(low)), z = tenths(at(high)), m = tenths(middle), t = tenths(middle - 4.0),
                b = tenths(middle + 4.0)
            )) {}
        }
        text x=(tenths(end + 6.0)) y=(tenths(middle + 4.0)) { (number(value)) }
    }
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

/// Predicted against observed, over the line where both are the same.
fn diagram(bins: &[ReliabilityBin]) -> Markup {
    let (x, y) = (|p: f64| tenths(46.0 + 200.0 * p), |p: f64| tenths(210.0 - 200.0 * p));
    let bins: Vec<&ReliabilityBin> = bins.iter().filter(|bin| bin.count > 0.0).collect();
    let most = bins.iter().map(|bin| bin.count).fold(1.0, f64::max);
    let points: Vec<String> =
        bins.iter().map(|bin| format!("{},{}", x(bin.predicted), y(bin.observed))).collect();
    html! {
        h2 { "Reliability" }
        p.note {
            "How often it came true, by the probability it was given; on the diagonal both agree. Areas are counts."
        }
        div.plot.square {
            svg viewBox="0 0 260 248" role="img" aria-label="reliability diagram" {
                path.axis d=(format!("M{} {}H{}V{}H{}Z", x(0.0), y(0.0), x(1.0), y(1.0), x(0.0))) {}
                path.ideal d=(format!("M{} {}L{} {}", x(0.0), y(0.0), x(1.0), y(1.0))) {}
                @for tick in [0.0, 0.5, 1.0] {
                    text.faint x=(x(tick)) y="225" text-anchor="middle" { (tick) }
                    text.faint x="40" y=(y(tick - 0.015)) text-anchor="end" { (tick) }
                }
                text.faint x=(x(0.5)) y="240" text-anchor="middle" { "predicted" }
                text.faint transform="translate(14 110) rotate(-90)" text-anchor="middle" { "came true" }
                polyline.curve points=(points.join(" ")) {}
                @for bin in bins {
                    circle.s0 cx=(x(bin.predicted)) cy=(y(bin.observed))
                        r=(tenths(2.0 + 6.0 * (bin.count / most).sqrt()))
                    {
                        title {
                            (number(bin.predicted)) " predicted, " (number(bin.observed)) " came true, of " (bin.count)
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> Report {
        let mut report = Report { protocol: "p".into(), n: 3, ..Report::default() };
        for (name, figure) in [("auc", 0.75), ("hr@10", 0.5), ("hr@5", 0.25), ("alone", 2000.0)] {
            report.set(name, Some(figure));
        }
        report.ci95.insert("auc".into(), [0.7, 0.8]);
        let beside = report.figures.iter().filter(|(name, _)| *name != "alone");
        let beside = beside.map(|(name, figure)| (name.clone(), figure / 2.0)).collect();
        report.baselines.insert("guessing".into(), beside);
        report
    }

    fn page(report: &Report, samples: &[SampleLine]) -> String {
        let bins = [ReliabilityBin { count: 3.0, predicted: 0.5, observed: 1.0 }, ReliabilityBin::default()];
        let (before, reliability) = (Some(("old.json", report)), Some(&bins[..]));
        Page { title: "A title", units: "rows", report, before, reliability, samples }.to_html()
    }

    #[test]
    fn a_page_has_every_figure_its_interval_and_what_stands_beside() {
        let html = page(&report(), &[]);
        for part in
            ["A title", "0.7500", "0.7000 to 0.8000", "guessing", "0.3750", "old.json", "2000", "predicted"]
        {
            assert!(html.contains(part), "{part}");
        }
        assert!(html.find("hr@5").unwrap() < html.find("hr@10").unwrap());
        // One whisker, of the one interval; one plot for `auc` and one for all of `hr`, and the legend's squares.
        assert_eq!(
            (html.matches("class=\"whisker\"").count(), html.matches("class=\"plot\"").count()),
            (1, 3)
        );
        assert!(!html.contains("Some lines") && html.contains("<circle"));
    }

    #[test]
    fn a_page_without_baselines_or_probabilities_says_nothing_of_them() {
        let report = Report { figures: report().figures, ..Report::default() };
        let page =
            Page { title: "t", units: "u", report: &report, before: None, reliability: None, samples: &[] };
        let html = page.to_html();
        assert!(
            !html.contains("Beside the baselines")
                && !html.contains("Reliability")
                && !html.contains("<circle")
        );
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        let sample = SampleLine {
            opening: Some("<script>alert(1)</script>".into()),
            line: "\"><img src=http://x/y.png onerror=alert(1)>\u{0}".into(),
            reference: "&lt; 'x'".into(),
            flags: vec!["copied"],
        };
        let mut report = report();
        report.baselines.insert("</style><b>".into(), report.figures.clone());
        let html = page(&report, &[sample]);
        for part in ["<script", "<img", "</style><b>", "<link", "\u{0}", "@import", "url("] {
            assert!(!html.contains(part), "{part}");
        }
        assert!(html.contains("&lt;script&gt;") && html.contains("&amp;lt;") && html.contains("copied"));
        assert!(html.contains("default-src 'none'"));
    }

    proptest! {
        #[test]
        fn any_text_and_any_figures_make_a_page_without_strange_numbers(
            line in any::<String>(), figures in prop::collection::vec(-1e9f64..1e9, 4),
        ) {
            let mut report = report();
            for (name, figure) in ["auc", "hr@5", "hr@10", "alone"].into_iter().zip(figures) {
                report.set(name, Some(figure));
            }
            let html = page(&report, &[SampleLine { line, ..SampleLine::default() }]);
            let plain = html.split("Some lines").next().unwrap_or_default();
            prop_assert!(!plain.contains("NaN") && !plain.contains("inf\"") && html.ends_with("</html>"));
        }
    }
}
