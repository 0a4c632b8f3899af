//! A plot of a run: the part of a copy's bandwidth that each kernel reaches, by length of the row. A panel for each dtype and
//! pass, a line a kernel.

use super::line::{COPY, Line};
use plotters::prelude::*;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const WIDTH: u32 = 1100;
const HEIGHT: u32 = 560;

/// Writes the plot; an error if nothing can be drawn.
pub fn write(lines: &[Line], path: &Path) -> Result<()> {
    let svg = draw(lines)?;
    std::fs::write(path, svg).map_err(|e| format!("bench: --plot {}: {e}", path.display()).into())
}

/// Panels in the order in which they were measured.
fn panels(lines: &[Line]) -> Vec<(&str, &str)> {
    let mut panels = vec![];
    for l in lines.iter().filter(|l| l.pass != COPY && l.fraction().is_finite()) {
        if !panels.contains(&(&l.dtype[..], &l.pass[..])) {
            panels.push((&l.dtype[..], &l.pass[..]));
        }
    }
    panels
}

/// `1024` as `1k`.
fn short(cols: f64) -> String {
    let cols = cols.round() as usize;
    if cols >= 1024 && cols.is_multiple_of(1024) { format!("{}k", cols / 1024) } else { cols.to_string() }
}

fn draw(lines: &[Line]) -> Result<String> {
    let panels = panels(lines);
    if panels.is_empty() {
        return Err("bench: --plot, expected rows that were measured, got none".into());
    }
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT * panels.len() as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, (dtype, pass)) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
            let here: Vec<&Line> =
                lines.iter().filter(|l| l.dtype == *dtype && l.pass == *pass && l.fraction().is_finite()).collect();
            panel(area, &format!("{dtype}, {pass}: GB/s as a part of a copy's, by length of the row"), &here)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn panel(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, title: &str, lines: &[&Line]) -> Result<()> {
    let mut kernels: Vec<&str> = vec![];
    for l in lines.iter().filter(|l| l.cols > 0) {
        if !kernels.contains(&l.kernel.as_str()) {
            kernels.push(&l.kernel);
        }
    }
    let octave = |l: &Line| (l.cols as f64).log2();
    let low = lines.iter().map(|l| octave(l)).fold(f64::INFINITY, f64::min).floor();
    let high = lines.iter().map(|l| octave(l)).fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let top = lines.iter().map(|l| l.fraction()).fold(1.0, f64::max) * 1.05;
    // the names stand to the right of the lines
    let (plot, names) = area.split_horizontally(WIDTH - 190);
    let mut chart = ChartBuilder::on(&plot)
        .margin(14)
        .caption(title, ("sans-serif", 18))
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(low..high, 0.0..top)?;
    chart
        .configure_mesh()
        .x_labels((high - low) as usize + 1)
        .x_label_formatter(&|octave| short(octave.exp2()))
        .y_label_formatter(&|part| format!("{part:.1}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (k, kernel) in kernels.iter().enumerate() {
        let hue = k as f64 / kernels.len() as f64;
        // neighbours in the list differ in lightness too
        let color = HSLColor(hue, 0.75, [0.35, 0.5, 0.62][k % 3]);
        let mut points: Vec<(f64, f64)> =
            lines.iter().filter(|l| l.kernel == *kernel).map(|l| (octave(l), l.fraction())).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, color.filled())))?;
        let y = 30 + 20 * k as i32;
        names.draw(&PathElement::new(vec![(0, y + 6), (24, y + 6)], color.stroke_width(3)))?;
        names.draw(&Text::new(kernel.to_string(), (32, y), ("sans-serif", 14)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::time::Timing;

    fn line(kernel: &str, dtype: &str, cols: usize, median: f64) -> Line {
        let ways = vec![Timing { name: "zmlx".into(), median, p20: median, p80: median }];
        let (kernel, dtype, pass) = (kernel.into(), dtype.into(), "forward".into());
        Line { kernel, dtype, rows: 8, cols, pass, floor_bytes: 1e6, copy_gbps: 2.0, ways, ..Line::default() }
    }

    #[test]
    fn each_kernel_has_a_line_in_each_panel() -> Result<()> {
        let mut lines = vec![];
        for dtype in ["f32", "bf16"] {
            for cols in [256, 1024, 4096] {
                lines.push(line("softmax", dtype, cols, 0.6));
                lines.push(line("rms_norm", dtype, cols, 0.5));
            }
        }
        // what is wrong was not timed, and a copy is the measure
        lines.push(Line { wrong: Some("off".into()), ways: vec![], ..line("sum", "f32", 256, 1.0) });
        lines.push(Line { pass: COPY.into(), ..line("memcpy", "f32", 256, 1.0) });
        let svg = draw(&lines)?;
        let count = |what: &str| svg.matches(what).count();
        assert_eq!(
            (count("\nsoftmax\n"), count("\nrms_norm\n"), count("\nsum\n"), count("\nmemcpy\n")),
            (2, 2, 0, 0),
            "{svg}"
        );
        assert_eq!(count("<circle"), 12);
        assert!(svg.contains("bf16, forward") && svg.contains("1k"));
        Ok(())
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        assert!(draw(&[]).is_err());
    }
}
