//! Devices and their work queues as they were set up, what they did since, and what the driver did to them.

use dsascope_core::event::{DriverEvent, Happening, WqInfo};
use dsascope_core::model::{Device, Model, Wq};
use ratatui::text::Line;

use super::text::Text;
use crate::format::{count, moment, rate};
use crate::theme::Theme;
use crate::words;

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let mut text = Text::new(theme, width);
    for device in model.devices() {
        one(&mut text, theme, model, device);
    }
    if text.lines.is_empty() {
        text.sentence("no device", theme.dim());
    }
    text.title("What the driver did to devices, newest first");
    if !history(&mut text, theme, model, |_| true) {
        text.sentence("nothing since tracing began", theme.dim());
    }
    text.lines
}

/// What was done to devices, newest first, as far as it `fits`. False: nothing.
pub(super) fn history(
    text: &mut Text<'_>,
    theme: &Theme,
    model: &Model,
    fits: fn(&DriverEvent) -> bool,
) -> bool {
    let started_ns = model.session().map_or(0, |session| session.started_ns);
    let mut any = false;
    for event in model.recent_driver_events().rev().filter(|event| fits(event)) {
        any = true;
        let style = if is_trouble(event) { theme.warn() } else { theme.text() };
        let at = moment(event.at_ns.saturating_sub(started_ns));
        text.sentence(&format!("{at} {}", words::driver(theme, event, None)), style);
    }
    any
}

/// What somebody should look into.
fn is_trouble(event: &DriverEvent) -> bool {
    match &event.what {
        Happening::Command(command) => !command.succeeded(),
        Happening::Halt { .. } | Happening::Reset { .. } | Happening::Warning { .. } => true,
    }
}

fn one(text: &mut Text<'_>, theme: &Theme, model: &Model, device: &Device) {
    let (plain, info) = (theme.text(), device.info.as_ref());
    text.title(format!("{} {}", device.device, info.map_or("not described", |info| info.state.as_str())));
    if let Some(info) = info {
        let version = info.version.map_or_else(|| "?".into(), |v| format!("{}.{}", v >> 8, v & 0xff));
        let log = info.event_log_size.map_or_else(|| "none".into(), |size| format!("{size} entries"));
        let node = info.numa_node.map_or_else(|| "?".into(), |node| node.to_string());
        text.field("hardware", &format!("version {version}, event log {log}, NUMA node {node}"), plain);
        match info.pasid_enabled {
            Some(true) => text.field("SVA", "on: processes submit with addresses of their own", plain),
            Some(false) => {
                text.field("SVA", "OFF: no process can submit, and no record can fault", theme.warn());
            }
            None => text.field("SVA", "not known", theme.dim()),
        }
    }
    let per_s = model.device_rate(device).map_or_else(|| "-".into(), rate);
    let failed = if device.failures() > 0 { theme.bad() } else { plain };
    let faults = format!("{} ({per_s}/s), {} failed", count(device.faults()), count(device.failures()));
    text.field("faults", &faults, failed);
    let interrupts =
        format!("{}, {} entries handed over", count(device.interrupts), count(device.interrupt_entries));
    text.field("interrupts", &interrupts, plain);
    let troubles = [
        (device.swerrors, "errors in SWERROR"),
        (device.halts, "halts"),
        (device.resets, "resets"),
        (device.warnings, "warnings of the driver"),
    ];
    let troubles: Vec<String> =
        troubles.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !troubles.is_empty() {
        text.field("trouble", &troubles.join(", "), theme.warn());
    }
    for wq in model.wqs().filter(|wq| wq.id.device == device.device.id) {
        let clients = model.processes().filter(|p| !p.closed && p.context.wq_id() == wq.id).count();
        queue(text, theme, wq, clients);
    }
}

fn queue(text: &mut Text<'_>, theme: &Theme, wq: &Wq, clients: usize) {
    let mut words = Vec::new();
    if let Some(info) = &wq.info {
        words.push(info.state.clone());
        words.extend(info.group.map(|group| format!("group {group}")));
    }
    match (&wq.config, &wq.info) {
        (Some(config), _) => words.push(config.words()),
        (None, Some(info)) => words.push(told(info)),
        (None, None) => words.push("not described".into()),
    }
    words.push(format!("{clients} open"));
    words.push(format!("{} faults, {} failed", count(wq.faults()), count(wq.failures())));
    text.field(&wq.id.to_string(), &words.join(", "), theme.text());
    let changes = wq.config.as_ref().zip(wq.before.as_ref()).map(|(config, before)| config.changes(before));
    if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
        text.field("", &format!("CHANGED since tracing began; WAS {changes}"), theme.warn());
    }
}

/// As far as sysfs told it.
fn told(info: &WqInfo) -> String {
    let size = info.size.map_or_else(|| "?".into(), |size| size.to_string());
    format!("{} {}, size {size}", info.mode.as_deref().unwrap_or("?"), info.type_)
}
