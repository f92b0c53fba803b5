//! `cargo xtask screens`: the pictures in docs/screens, drawn from the live view's snapshots, so that they show what the program shows.
//!
//! Owns: reading the snapshots that userspace/tui/tests/pictures.rs writes (its head has the format) and drawing them as SVG. Refuses:
//! making screens; a picture changes when its snapshot does.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::binaries::workspace;
use crate::progress::say;

const SNAPSHOTS: &str = "userspace/tui/tests/snapshots";
/// Of the snapshots' names, which are of the test file of this name.
const PREFIX: &str = "pictures__";
const PICTURES: &str = "docs/screens";

/// One cell and the border, in SVG units. A text run is stretched to its cells, whatever the reader's monospace font.
const CELL: (f32, f32) = (8.0, 17.0);
const BORDER: f32 = 14.0;
const BASELINE: f32 = 13.0;
const FONT: &str = "ui-monospace, 'DejaVu Sans Mono', 'Cascadia Mono', Menlo, Consolas, monospace";
const BACKGROUND: &str = "#11161d";
const FOREGROUND: &str = "#d6dde6";
const DIM: &str = "#8b98a8";

#[derive(Args, Debug)]
pub struct Arguments {
    /// Draw nothing; fail when a picture is not what its snapshot gives
    #[arg(long)]
    pub check: bool,
}

pub fn run(arguments: &Arguments) -> Result<u8> {
    let root = workspace();
    let pictures = draw_all(&root.join(SNAPSHOTS))?;
    let directory = root.join(PICTURES);
    if arguments.check {
        check(&directory, &pictures)?;
        say(format!("{PICTURES}: {} pictures, all as their snapshots have them", pictures.len()));
        return Ok(0);
    }
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    for (name, svg) in &pictures {
        fs::write(directory.join(name), svg).with_context(|| format!("write {PICTURES}/{name}"))?;
    }
    say(format!("{PICTURES}: {} pictures drawn", pictures.len()));
    Ok(0)
}

fn check(directory: &Path, pictures: &[(String, String)]) -> Result<()> {
    let stale: Vec<&str> = pictures
        .iter()
        .filter(|(name, svg)| fs::read_to_string(directory.join(name)).ok().as_ref() != Some(svg))
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(stale.is_empty(), "{PICTURES} is stale ({}): run `cargo xtask screens`", stale.join(", "));
    Ok(())
}

/// File name and SVG of each picture, by name.
fn draw_all(snapshots: &Path) -> Result<Vec<(String, String)>> {
    let mut pictures = Vec::new();
    for entry in fs::read_dir(snapshots).with_context(|| format!("list {}", snapshots.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".snap")) else {
            continue;
        };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let screen = Screen::parse(&text).with_context(|| format!("{} is malformed", path.display()))?;
        pictures.push((format!("{name}.svg"), screen.svg()));
    }
    ensure!(!pictures.is_empty(), "{} holds no {PREFIX}*.snap", snapshots.display());
    pictures.sort();
    Ok(pictures)
}

#[derive(Debug, Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    styles: Vec<Run>,
}

/// Cells of one style.
#[derive(Clone, Debug, Default, PartialEq)]
struct Run {
    row: usize,
    column: usize,
    cells: usize,
    colour: Option<&'static str>,
    bold: bool,
    dim: bool,
    underlined: bool,
    reversed: bool,
}

impl Screen {
    fn parse(snapshot: &str) -> Result<Self> {
        let body = snapshot.splitn(3, "---\n").nth(2).context("no head")?;
        let (lines, styles) = body.split_once("\nstyles\n").context("no line `styles`")?;
        let screen = Self {
            lines: lines.lines().map(|line| line.chars().collect()).collect(),
            styles: styles.lines().map(Run::parse).collect::<Result<_>>()?,
        };
        for run in &screen.styles {
            ensure!(run.row < screen.lines.len() && run.cells > 0, "a style outside the screen: {run:?}");
        }
        Ok(screen)
    }

    fn width(&self) -> usize {
        let styled = self.styles.iter().map(|run| run.column + run.cells);
        self.lines.iter().map(Vec::len).chain(styled).max().unwrap_or(0)
    }

    fn svg(&self) -> String {
        let (width, height) = (self.width(), self.lines.len());
        let mut svg = String::new();
        let (w, h) = (width as f32 * CELL.0 + 2.0 * BORDER, height as f32 * CELL.1 + 2.0 * BORDER);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             font-family=\"{FONT}\" font-size=\"13\">"
        );
        let _ = writeln!(svg, "<rect width=\"{w}\" height=\"{h}\" rx=\"8\" fill=\"{BACKGROUND}\"/>");
        for row in 0..height {
            for run in self.runs(row, width) {
                self.draw(&run, &mut svg);
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The row cut into runs, the plain ones between the styled ones included.
    fn runs(&self, row: usize, width: usize) -> Vec<Run> {
        let plain = |column, end: usize| Run { row, column, cells: end - column, ..Run::default() };
        let (mut runs, mut at) = (Vec::new(), 0);
        for run in self.styles.iter().filter(|run| run.row == row) {
            if run.column > at {
                runs.push(plain(at, run.column));
            }
            at = run.column + run.cells;
            runs.push(run.clone());
        }
        if at < width {
            runs.push(plain(at, width));
        }
        runs
    }

    fn draw(&self, run: &Run, svg: &mut String) {
        let ink = run.colour.unwrap_or(if run.dim { DIM } else { FOREGROUND });
        let (x, y) = (BORDER + run.column as f32 * CELL.0, BORDER + run.row as f32 * CELL.1);
        let mut rect = |x: f32, y: f32, w: f32, h: f32| {
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{ink}\"/>");
        };
        let w = run.cells as f32 * CELL.0;
        if run.reversed {
            rect(x, y, w, CELL.1);
        }
        if run.underlined {
            rect(x, y + BASELINE + 2.0, w, 1.0);
        }
        let line = &self.lines[run.row];
        let cells = line.get(run.column..).unwrap_or_default();
        let cells = &cells[..cells.len().min(run.cells)];
        let ink = if run.reversed { BACKGROUND } else { ink };
        let mut column = run.column;
        // Bars and rules are drawn, so that no font leaves gaps in them; words are text, one element for each stretch without a gap.
        for part in cells.chunk_by(|a, b| shape(*a) == shape(*b) && shape(*a) != Shape::Blank) {
            let (x, w) = (BORDER + column as f32 * CELL.0, part.len() as f32 * CELL.0);
            column += part.len();
            let _ = match shape(part[0]) {
                Shape::Blank => Ok(()),
                Shape::Bar(eighths) => {
                    let h = CELL.1 * eighths as f32 / 8.0;
                    let y = y + CELL.1 - h;
                    writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{ink}\"/>")
                }
                Shape::Rule => {
                    let y = y + CELL.1 / 2.0;
                    writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"1\" fill=\"{ink}\"/>")
                }
                Shape::Text => {
                    let (y, weight) = (y + BASELINE, if run.bold { " font-weight=\"bold\"" } else { "" });
                    let text: String = part.iter().map(|c| escape(*c)).collect();
                    writeln!(
                        svg,
                        "<text x=\"{x}\" y=\"{y}\" textLength=\"{w}\" fill=\"{ink}\"{weight}>{text}</text>"
                    )
                }
            };
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Blank,
    /// Filled from below, in eighths of a cell.
    Bar(u32),
    Rule,
    Text,
}

fn shape(c: char) -> Shape {
    match c {
        ' ' => Shape::Blank,
        '─' => Shape::Rule,
        '▁'..='█' => Shape::Bar(c as u32 - '▁' as u32 + 1),
        _ => Shape::Text,
    }
}

fn escape(c: char) -> String {
    match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        c => c.into(),
    }
}

impl Run {
    /// `row column cells word...`
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut number = || -> Result<usize> {
            let word = words.next().context("too few numbers")?;
            word.parse().with_context(|| format!("`{line}`: not a number"))
        };
        let mut run = Self { row: number()?, column: number()?, cells: number()?, ..Self::default() };
        for word in words {
            match word {
                "BOLD" => run.bold = true,
                "DIM" => run.dim = true,
                "UNDERLINED" => run.underlined = true,
                "REVERSED" => run.reversed = true,
                "Blue" => run.colour = Some("#6aa6f8"),
                "Cyan" => run.colour = Some("#4fb8c4"),
                "LightCyan" => run.colour = Some("#7fe0ea"),
                "Yellow" => run.colour = Some("#e3c25b"),
                "LightRed" => run.colour = Some("#ff7b72"),
                other => bail!("`{line}`: no picture for the style {other}"),
            }
        }
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_are_those_of_the_snapshots() {
        let pictures = draw_all(&workspace().join(SNAPSHOTS)).unwrap();
        check(&workspace().join(PICTURES), &pictures).unwrap();
    }

    #[test]
    fn a_changed_picture_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let pictures = [("a.svg".to_owned(), "<svg/>".to_owned())];
        assert!(check(dir.path(), &pictures).unwrap_err().to_string().contains("a.svg"));
        fs::write(dir.path().join("a.svg"), "<svg/>").unwrap();
        check(dir.path(), &pictures).unwrap();
    }

    #[test]
    fn styles_and_shapes() {
        let screen = Screen::parse(
            "---\nsource: x\n---\na <b>\n──█▄ c\nstyles\n0 2 3 LightRed BOLD\n1 5 2 REVERSED\n",
        );
        let svg = screen.unwrap().svg();
        assert!(svg.contains("fill=\"#ff7b72\" font-weight=\"bold\">&lt;b&gt;</text>"));
        assert!(
            svg.contains("height=\"17\"") && svg.contains("height=\"8.5\"") && svg.contains("height=\"1\"")
        );
        assert!(svg.contains(&format!("fill=\"{BACKGROUND}\">c</text>")));
    }

    #[test]
    fn nonsense_is_an_error() {
        let parse = |style: &str| Screen::parse(&format!("---\nsource: x\n---\na\nstyles\n{style}\n"));
        for style in ["0 0", "0 x 1", "9 0 1 BOLD", "0 0 0", "0 0 1 Mauve"] {
            assert!(parse(style).is_err(), "{style}");
        }
        assert!(Screen::parse("no head").is_err());
    }
}
