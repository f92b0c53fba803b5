//! How full each device's event log was found, how soon it would be full, and what size that advises.

use dsascope_core::model::{EventLogAdvice, Model};
use dsascope_core::sizing::usable;
use ratatui::text::Line;

use super::text::Text;
use crate::format::{count, duration, rate};
use crate::theme::Theme;

/// Columns of a gauge, and of the bar of the most frequent depth.
const GAUGE: usize = 32;
/// Points of the history, a second each.
const HISTORY: usize = 60;
const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let mut text = Text::new(theme, width);
    for device in model.devices() {
        let info = device.info.as_ref();
        if info.is_some_and(|info| info.event_log_size.is_none()) {
            text.title(format!("{}: no event log", device.device));
            text.sentence("its errors are told in SWERROR, which holds one", theme.dim());
            continue;
        }
        let advice = model.event_log(device);
        let history = model.event_log_history(device, SECOND_NS, HISTORY);
        log(&mut text, theme, &advice, &history);
    }
    if text.lines.is_empty() {
        text.sentence("no device", theme.dim());
    }
    text.title("What is seen");
    text.sentence(
        "Head and tail are registers of the device and are not read. Depth is what a run of the interrupt thread handed over: all that was in \
         the log when it began, or less.",
        theme.dim(),
    );
    text.lines
}

fn log(text: &mut Text<'_>, theme: &Theme, advice: &EventLogAdvice, history: &[u64]) {
    let size = advice.size.map_or_else(|| "size not known".into(), |size| format!("{size} entries"));
    text.title(format!("{}: {size}", advice.device));
    let plain = theme.text();
    let (Some(last), Some(deepest)) = (advice.last_depth, advice.high_water) else {
        text.sentence("no run of its interrupt thread yet", theme.dim());
        return;
    };
    let room = advice.size.map(usable);
    let warn = if advice.was_full { theme.bad() } else { plain };
    text.field("last run", &gauge(theme, last, room), plain);
    text.field("deepest run", &gauge(theme, deepest, room), warn);
    let mean = advice.mean_depth.map_or_else(|| "-".into(), |mean| format!("{mean:.2} entries a run"));
    text.field("mean", &mean, plain);
    let show = |value: Option<f64>| value.map_or_else(|| "-".into(), rate);
    let rates = format!("{} now, {} at most", show(advice.entries_per_s), show(advice.peak_entries_per_s));
    text.field("entries a second", &rates, plain);
    text.field("last 60 s", &theme.sparkline(history), theme.bar());
    let full = advice.time_to_full_ns.map_or_else(
        || "-".into(),
        |ns| format!("{} from empty, at that most, if nobody read it", duration(theme, ns)),
    );
    text.field("time to full", &full, plain);
    if advice.was_full {
        let waited = advice.waited_at_most_ns.map_or_else(|| "-".into(), |ns| duration(theme, ns));
        text.field("found full", &format!("engines waited {waited} at most"), theme.bad());
    }
    if advice.longest_hold_ns > 0 {
        let held = format!("{} at most, while it was not read", duration(theme, advice.longest_hold_ns));
        text.field("held by closes", &held, plain);
    }
    let advised = match (advice.advised_size, advice.size) {
        (None, _) => ("-".to_owned(), plain),
        (Some(advised), Some(size)) if size < advised => {
            (format!("{advised}: set event_log_size (docs/event-log-sizing.md)"), theme.warn())
        }
        (Some(advised), _) => (format!("{advised}; it is large enough"), theme.good()),
    };
    text.field("advised size", &advised.0, advised.1);
    let most = advice.runs_by_depth.iter().copied().max().unwrap_or(0).max(1);
    for (bucket, &runs) in advice.runs_by_depth.iter().enumerate() {
        let name = if bucket == 0 { "runs by depth: 0".into() } else { depths(bucket as u32) };
        // A bar for any, however few.
        let cells = (runs.saturating_mul(GAUGE as u64)).div_ceil(most) as usize;
        text.field(&name, &format!("{:5} {}", count(runs), theme.row_cell().repeat(cells)), plain);
    }
}

/// `2 to 3` of bucket 2.
fn depths(bucket: u32) -> String {
    let from = 1_u64 << (bucket - 1);
    let to = from * 2 - 1;
    if from == to { format!("{:>16}", from) } else { format!("{:>16}", format!("{from} to {to}")) }
}

/// How much of the room is used.
fn gauge(theme: &Theme, depth: u32, room: Option<u32>) -> String {
    let Some(room) = room.filter(|room| *room > 0) else { return format!("{depth} entries") };
    let filled = (depth.min(room) as usize * GAUGE).div_ceil(room as usize);
    let bar = format!("{}{}", theme.row_cell().repeat(filled), theme.rule().repeat(GAUGE - filled));
    format!("{bar} {depth} of {room}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_full_at_its_room_and_never_longer() {
        for depth in [0, 1, 31, 62, 63, 64, u32::MAX] {
            let bar = gauge(&Theme::PLAIN, depth, Some(63));
            assert_eq!(bar.chars().take(GAUGE).filter(|c| "#-".contains(*c)).count(), GAUGE, "{bar}");
            assert_eq!(bar.starts_with(&"#".repeat(GAUGE)), depth >= 62, "{bar}");
            assert_eq!(bar.starts_with('#'), depth > 0, "{bar}");
        }
        assert_eq!(gauge(&Theme::PLAIN, 3, None), "3 entries");
        assert_eq!((depths(1).trim(), depths(2).trim(), depths(7).trim()), ("1", "2 to 3", "64 to 127"));
    }
}
