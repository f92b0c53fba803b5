//! One batch in words: its elements, its own record, what is not certain of it, and a failure in the wrong place.

use dsascope_core::decode;
use dsascope_core::event::DeviceKind;
use dsascope_core::model::Batch;
use dsascope_core::model::batch::{BatchRecord, ElementOutcome, Moved, Patch};
use ratatui::text::{Line, Span};

use super::help::wrap;
use super::timeline;
use crate::format::moment;
use crate::theme::Theme;
use crate::words;

/// `rows`: of the place where it is shown.
pub(super) fn lines(
    theme: &Theme,
    batch: &Batch,
    started_ns: u64,
    (width, rows): (u16, usize),
) -> Vec<Line<'static>> {
    let context = batch.context;
    let at = |ns: u64| moment(ns.saturating_sub(started_ns));
    let mut page = Page { theme, width: usize::from(width), lines: Vec::new() };
    page.lines.push(Line::styled(
        format!(
            "Batch {} of {}, use {} of its identifier: {}",
            batch.id,
            context.device,
            batch.generation,
            batch.state.name()
        ),
        theme.strong(),
    ));
    let pid = batch.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string());
    page.row("file", &format!("process {pid}, PASID {}, {}", context.pasid, context.wq_id()));
    page.row("seen", &format!("{} {} {}", at(batch.first_ns), theme.arrow(), at(batch.last_ns)));
    for doubt in &batch.doubts {
        page.lines.push(Line::styled(format!("! {}", doubt.words()), theme.warn()));
    }
    if let Some(finding) = &batch.finding {
        page.finding(batch, finding, &at);
    }
    page.heading("Elements that faulted");
    page.row("by index", &words::elements(batch));
    for (name, outcome) in [
        ("delivered", ElementOutcome::Delivered),
        ("FAILED", ElementOutcome::Failed),
        ("not seen", ElementOutcome::Unknown),
    ] {
        let of: Vec<_> =
            batch.elements.iter().filter(|e| e.outcome == outcome).map(|e| e.index.to_string()).collect();
        if !of.is_empty() {
            page.row(name, &of.join(" "));
        }
    }
    let timeline = timeline::lines(theme, batch, width, rows / 2);
    if !timeline.is_empty() {
        page.heading("When their faults were served");
        page.lines.extend(timeline);
    }
    page.heading("The batch's own completion record");
    match &batch.record {
        Some(record) => page.record(record),
        None => page.lines.push(Line::styled("  not seen", theme.dim())),
    }
    page.lines
}

struct Page<'a> {
    theme: &'a Theme,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Page<'_> {
    fn heading(&mut self, text: &'static str) {
        self.lines.push(Line::default());
        self.lines.push(Line::styled(text, self.theme.title(true)));
    }

    fn row(&mut self, name: &'static str, text: &str) {
        for (index, part) in wrap(text, self.width.saturating_sub(14).max(20)).into_iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.lines.push(Line::from(vec![
                Span::styled(format!("  {name:11} "), self.theme.key()),
                Span::raw(part),
            ]));
        }
    }

    fn finding(&mut self, batch: &Batch, finding: &Moved, at: &impl Fn(u64) -> String) {
        let mut text = format!("FAILURE MOVED: {}.", finding.finding.words());
        match &finding.evidence {
            Some(e) => {
                let element = e.index.map_or_else(String::new, |index| format!("element {index} of "));
                text.push_str(&format!(
                    " At {} {element}use {} of this identifier, on wq{}.{} PASID {}, {}.",
                    at(e.at_ns),
                    e.generation,
                    batch.context.device.id,
                    e.wq,
                    e.pasid,
                    e.did.words(),
                ));
            }
            None => text.push_str(" Nothing that was seen before explains it."),
        }
        let style = self.theme.bad();
        self.lines.extend(wrap(&text, self.width.max(20)).into_iter().map(|part| Line::styled(part, style)));
    }

    fn record(&mut self, record: &BatchRecord) {
        let status = |byte: u8| decode::status(DeviceKind::Dsa, byte);
        let logged = status(record.logged_status);
        self.row(
            "logged",
            &format!("{}, result {:#x}. {}", logged.label(), record.logged_result, logged.sentence()),
        );
        if let (Some(byte), Some(result)) = (record.status, record.result) {
            self.row(
                "copied",
                &format!("{}, result {result:#x}: {}", status(byte).label(), record.copy.name()),
            );
        } else {
            self.row("copied", record.copy.name());
        }
        self.row(
            "driver",
            match record.patch {
                Patch::Applied => "changed it: the copy of an element had failed",
                Patch::NotApplied => "left it as it was",
                Patch::Unknown => "cannot be told: the record says already what a change would say, or the copy was not seen",
            },
        );
        let stop = "; how many the batch has, and so whether a fence stopped it, is in its descriptor alone";
        self.row("completed", &format!("{} descriptors{stop}", record.descriptors_completed));
    }
}
