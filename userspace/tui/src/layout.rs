//! Where the panels lie: arithmetic on sizes, without a terminal.

use ratatui::layout::Rect;

/// Below this nothing is drawn but a line that says so.
pub const MIN_WIDTH: u16 = 60;
pub const MIN_HEIGHT: u16 = 15;
/// From here the latency panel stands beside the processes.
const WIDE: u16 = 170;
const LATENCY_WIDTH: u16 = 78;
const HEADER_HEIGHT: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panels {
    pub header: Rect,
    pub processes: Rect,
    pub faults: Rect,
    /// Empty when there is no room.
    pub latency: Rect,
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

pub fn screen(width: u16, height: u16) -> Screen {
    if !fits(width, height) {
        return Screen::TooSmall;
    }
    let header = Rect::new(0, 0, width, HEADER_HEIGHT);
    let footer = Rect::new(0, height - 1, width, 1);
    let top = HEADER_HEIGHT;
    let body = height - HEADER_HEIGHT - 1;
    let panels = if width >= WIDE {
        let upper = body * 2 / 5;
        let upper = upper.max(8.min(body / 2));
        let latency = (width * 9 / 20).clamp(LATENCY_WIDTH, 120);
        let left = width - latency - 1;
        Panels {
            header,
            processes: Rect::new(0, top, left, upper),
            latency: Rect::new(left + 1, top, latency, upper),
            faults: Rect::new(0, top + upper, width, body - upper),
            footer,
        }
    } else {
        let latency = match body {
            0..16 => 0,
            16..24 => 7,
            _ => (body / 3).clamp(8, 14),
        };
        let processes = (body - latency) / 2;
        let faults = body - latency - processes;
        Panels {
            header,
            processes: Rect::new(0, top, width, processes),
            faults: Rect::new(0, top + processes, width, faults),
            latency: Rect::new(0, top + processes + faults, width, latency),
            footer,
        }
    };
    Screen::Panels(panels)
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

    #[test]
    fn every_size_is_covered_without_overlap() {
        for width in MIN_WIDTH..240 {
            for height in MIN_HEIGHT..80 {
                let Screen::Panels(p) = screen(width, height) else { panic!("{width}x{height}") };
                let area = |r: Rect| u32::from(r.width) * u32::from(r.height);
                let all = [p.header, p.processes, p.faults, p.latency, p.footer];
                let gap = if width >= WIDE { u32::from(p.latency.height) } else { 0 };
                let sum: u32 = all.iter().map(|r| area(*r)).sum();
                assert_eq!(sum + gap, u32::from(width) * u32::from(height), "{width}x{height}");
                for (i, a) in all.iter().enumerate() {
                    assert!(a.right() <= width && a.bottom() <= height);
                    for b in &all[i + 1..] {
                        assert!(a.is_empty() || b.is_empty() || !a.intersects(*b), "{width}x{height}");
                    }
                }
                assert!(table_rows(p.processes) >= 2 && table_rows(p.faults) >= 2, "{width}x{height}");
            }
        }
    }

    #[test]
    fn too_small() {
        assert_eq!(screen(59, 40), Screen::TooSmall);
        assert_eq!(screen(200, 14), Screen::TooSmall);
        assert_eq!(screen(0, 0), Screen::TooSmall);
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
