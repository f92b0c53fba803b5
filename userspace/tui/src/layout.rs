//! Where the panels lie: arithmetic on sizes, without a terminal.

use ratatui::layout::Rect;

use crate::views::Shape;

/// Below this nothing is drawn but a line that says so.
pub const MIN_WIDTH: u16 = 60;
pub const MIN_HEIGHT: u16 = 15;
/// From here the latency panel stands beside the processes.
const WIDE: u16 = 170;
const LATENCY_WIDTH: u16 = 78;
const HEADER_HEIGHT: u16 = 4;
/// From here what is selected in a table stands beside it, with this share of the width.
const BESIDE: u16 = 150;
/// Least height that leaves room for latency below the processes.
const TALL: u16 = 16;

/// Where each part lies; empty when it has no room, or no place in the view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Panels {
    pub header: Rect,
    /// Names of the views.
    pub tabs: Rect,
    /// All between tabs and footer.
    pub body: Rect,
    /// A line for what was found to be wrong.
    pub found: Rect,
    pub processes: Rect,
    /// Of faults, or of batches.
    pub faults: Rect,
    pub latency: Rect,
    /// What is selected in a table.
    pub detail: Rect,
    pub footer: Rect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    TooSmall,
    Panels(Panels),
}

/// Whether a live view fits.
pub fn fits(width: u16, height: u16) -> bool {
    width >= MIN_WIDTH && height >= MIN_HEIGHT
}

pub fn screen(width: u16, height: u16, shape: Shape) -> Screen {
    if !fits(width, height) {
        return Screen::TooSmall;
    }
    let top = HEADER_HEIGHT + 1;
    let body = Rect::new(0, top, width, height - top - 1);
    let frame = Panels {
        header: Rect::new(0, 0, width, HEADER_HEIGHT),
        tabs: Rect::new(0, HEADER_HEIGHT, width, 1),
        body,
        footer: Rect::new(0, height - 1, width, 1),
        ..Panels::default()
    };
    Screen::Panels(match shape {
        Shape::Overview => overview(frame),
        Shape::Processes => {
            let latency = if body.height < TALL { 0 } else { (body.height / 3).clamp(7, 14) };
            let (processes, latency) = above(body, latency);
            Panels { processes, latency, ..frame }
        }
        Shape::Table if width >= BESIDE => {
            let beside = width / 2;
            let faults = Rect { width: width - beside - 1, ..body };
            Panels { faults, detail: Rect { x: faults.right() + 1, width: beside, ..body }, ..frame }
        }
        Shape::Table => Panels { faults: body, ..frame },
        Shape::Latency => Panels { latency: body, ..frame },
        Shape::Lines => frame,
    })
}

/// What is above the last `below` rows, and these.
fn above(area: Rect, below: u16) -> (Rect, Rect) {
    let upper = Rect { height: area.height - below, ..area };
    (upper, Rect { y: upper.bottom(), height: below, ..area })
}

/// Latency beside the processes where it is wide enough, else below the faults.
fn overview(frame: Panels) -> Panels {
    let (found, rest) = above(frame.body, frame.body.height - 1);
    let Rect { y: top, width, height: body, .. } = rest;
    let frame = Panels { found, ..frame };
    if width >= WIDE {
        let upper = body * 2 / 5;
        let upper = upper.max(8.min(body / 2));
        let latency = (width * 9 / 20).clamp(LATENCY_WIDTH, 120);
        let left = width - latency - 1;
        return Panels {
            processes: Rect::new(0, top, left, upper),
            latency: Rect::new(left + 1, top, latency, upper),
            faults: Rect::new(0, top + upper, width, body - upper),
            ..frame
        };
    }
    let latency = match body {
        0..16 => 0,
        16..24 => 7,
        _ => (body / 3).clamp(8, 14),
    };
    let (rest, latency) = above(rest, latency);
    let (processes, faults) = above(rest, rest.height - rest.height / 2);
    Panels { processes, faults, latency, ..frame }
}

/// Rows of a table panel below its title and its column names.
pub fn table_rows(panel: Rect) -> usize {
    usize::from(panel.height.saturating_sub(2))
}

/// The first row shown, so that `selected` is visible and the view moves no more than it must.
pub fn scroll(first: usize, selected: usize, rows: usize, total: usize) -> usize {
    if rows == 0 {
        return 0;
    }
    let first = if selected < first {
        selected
    } else if selected >= first + rows {
        selected + 1 - rows
    } else {
        first
    };
    first.min(total.saturating_sub(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::View;

    #[test]
    fn parts_lie_within_the_body_without_overlap() {
        let area = |r: Rect| u32::from(r.width) * u32::from(r.height);
        for view in View::ALL {
            for (width, height) in (MIN_WIDTH..240).flat_map(|w| (MIN_HEIGHT..80).map(move |h| (w, h))) {
                let Screen::Panels(p) = screen(width, height, view.shape()) else {
                    panic!("{width}x{height}")
                };
                let frame = [p.header, p.tabs, p.body, p.footer];
                assert_eq!(frame.iter().map(|r| area(*r)).sum::<u32>(), u32::from(width) * u32::from(height));
                let parts = [p.found, p.processes, p.faults, p.latency, p.detail];
                for (i, a) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                    assert_eq!(p.body.intersection(*a), *a, "{view:?} {width}x{height}");
                    for b in parts[i + 1..].iter().filter(|part| !part.is_empty()) {
                        assert!(!a.intersects(*b), "{view:?} {width}x{height}");
                    }
                }
                let used: u32 = parts.iter().map(|r| area(*r)).sum();
                let gaps = u32::from(p.body.height);
                assert!(used == 0 || used + gaps >= area(p.body), "{view:?} {width}x{height}: {used}");
                for table in [p.processes, p.faults].into_iter().filter(|table| !table.is_empty()) {
                    assert!(table_rows(table) >= 2, "{view:?} {width}x{height}");
                }
            }
        }
    }

    #[test]
    fn too_small() {
        assert_eq!(screen(59, 40, Shape::Overview), Screen::TooSmall);
        assert_eq!(screen(200, 14, Shape::Lines), Screen::TooSmall);
        assert_eq!(screen(0, 0, Shape::Table), Screen::TooSmall);
    }

    #[test]
    fn selection_stays_visible() {
        assert_eq!(scroll(0, 0, 5, 100), 0);
        assert_eq!(scroll(0, 5, 5, 100), 1);
        assert_eq!(scroll(10, 3, 5, 100), 3);
        assert_eq!(scroll(98, 99, 5, 100), 95);
        assert_eq!(scroll(3, 4, 0, 100), 0);
        assert_eq!(scroll(50, 1, 5, 2), 0);
    }
}
