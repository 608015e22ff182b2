//! Plots as SVG: plain text, no font or script from elsewhere.

use std::fmt::Write;

/// A named line or cloud of points.
pub struct Series {
    /// What the legend or label says.
    pub name: String,
    /// x and y, both above 0.
    pub points: Vec<(f64, f64)>,
    /// Whether the points are joined.
    pub line: bool,
}

/// A part of the picture with axes of its own, both logarithmic.
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: &'static str,
    /// Left of it.
    pub y: &'static str,
    /// What it shows.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 330.0;
/// Between two lines of text.
const LINE: f64 = 12.0;
const COLOURS: [&str; 8] = ["#888888", "#b5651d", "#c0392b", "#8e44ad", "#d4a017", "#0b6e4f", "#2471a3", "#34495e"];

/// Panels side by side.
pub fn svg(panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({},0)\">", WIDTH * index as f64);
        panel.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// The decades around some values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (low, high.max(low + 1))
}

impl Panel {
    fn draw(&self, out: &mut String) {
        let (left, right, top, bottom) = (56.0, WIDTH - 14.0, 34.0, HEIGHT - 44.0);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (x0, x1) = decades(points().map(|point| point.0));
        let (y0, y1) = decades(points().map(|point| point.1));
        let x = |v: f64| left + (v.log10() - f64::from(x0)) / f64::from(x1 - x0) * (right - left);
        let y = |v: f64| bottom - (v.log10() - f64::from(y0)) / f64::from(y1 - y0) * (bottom - top);
        let _ = writeln!(out, "<text x=\"{left}\" y=\"18\" font-weight=\"bold\">{}</text>", self.title);
        for decade in x0..=x1 {
            let at = x(10f64.powi(decade));
            let label = number(decade);
            let anchor = if decade == x1 { "end" } else { "middle" }; // the last one would hang over the edge
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#e4e4e4\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{label}</text>",
                bottom + 15.0
            );
        }
        for decade in y0..=y1 {
            let at = y(10f64.powi(decade));
            let label = number(decade);
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#e4e4e4\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 5.0,
                at + 4.0
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text transform=\"translate(12,{}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (left + right) / 2.0,
            HEIGHT - 10.0,
            self.x,
            (top + bottom) / 2.0,
            self.y
        );
        let mut labels: Vec<Label> = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            if series.line {
                let path: Vec<String> =
                    series.points.iter().map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
                let _ = writeln!(out, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\"/>", path.join("L"));
            }
            for point in &series.points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>",
                    x(point.0),
                    y(point.1)
                );
            }
            let Some(last) = series.points.last() else { continue };
            let label = Label::beside(x(last.0), y(last.1), &series.name, (left + right) / 2.0, &labels);
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\" fill=\"{colour}\">{}</text>",
                label.x, label.y, label.anchor, series.name
            );
            labels.push(label);
        }
    }
}

/// A label's place: its anchor's point and the width that it takes.
struct Label {
    x: f64,
    y: f64,
    anchor: &'static str,
    from: f64,
    to: f64,
}

impl Label {
    /// Right of the point, or left of it beyond the middle; a line higher or lower where another label is already.
    fn beside(x: f64, y: f64, text: &str, middle: f64, taken: &[Label]) -> Self {
        let width = 6.2 * text.chars().count() as f64; // sans-serif, 11 px, on the wide side
        let left = x > middle;
        let (x, anchor) = if left { (x - 6.0, "end") } else { (x + 6.0, "start") };
        let (from, to) = if left { (x - width, x) } else { (x, x + width) };
        let free = |y: f64| taken.iter().all(|other| (other.y - y).abs() >= LINE || other.to < from || to < other.from);
        let steps = [-5.0, 13.0, -18.0, 26.0, -31.0];
        let y = steps.iter().map(|step| y + step).find(|y| free(*y)).unwrap_or(y - 5.0);
        Self { x, y, anchor, from, to }
    }
}

fn number(decade: i32) -> String {
    if decade < 0 {
        format!("{}", 10f64.powi(decade))
    } else {
        format!("1{}", "0".repeat(usize::try_from(decade).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_neighbours_do_not_overlap() {
        let mut taken = Vec::new();
        for name in ["one beside", "the other", "and a third"] {
            let label = Label::beside(100.0, 50.0, name, 200.0, &taken);
            assert!(taken.iter().all(|other: &Label| (other.y - label.y).abs() >= LINE), "{name} at {}", label.y);
            taken.push(label);
        }
    }

    #[test]
    fn every_point_is_inside_its_panel() {
        let series = Series { name: "one".into(), points: vec![(1.0, 0.02), (5000.0, 150.0)], line: true };
        let panel = Panel { title: "t".into(), x: "x", y: "y", series: vec![series] };
        let text = svg(&[panel]);
        let circles: Vec<&str> = text.lines().filter(|line| line.starts_with("<circle")).collect();
        assert_eq!(circles.len(), 2);
        for circle in circles {
            let numbers: Vec<f64> = circle.split('"').filter_map(|part| part.parse().ok()).collect();
            assert!((0.0..=WIDTH).contains(&numbers[0]) && (0.0..=HEIGHT).contains(&numbers[1]), "{circle}");
        }
    }
}
