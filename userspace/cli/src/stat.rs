//! `dsascope stat`: totals by open file, at each interval and at the end.

use std::io::{self, Write};

use dsascope_core::event::Event;
use dsascope_core::json::{self, Body, Line};
use dsascope_core::model::Model;

use crate::config::Selection;
use crate::lines::Printer;
use crate::text;
use crate::trace::{summary, write_line};

/// Aligned tables.
#[derive(Debug)]
pub(crate) struct Text {
    pub select: Selection,
}

impl Printer for Text {
    fn event(&mut self, _model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Session(session) => writeln!(out, "{}", text::session(session)),
            _ => Ok(()),
        }
    }

    fn interval(&mut self, model: &mut Model, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n{}", report(model, &self.select, None))
    }

    fn end(&mut self, model: &mut Model, until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        let ran_ns = Some(text::ran_ns(model, until_ns));
        writeln!(out, "\nin all:\n{}", report(model, &self.select, ran_ns))
    }
}

/// Table, page requests, event logs, batches, findings, and whether all of it is whole.
fn report(model: &Model, select: &Selection, ran_ns: Option<u64>) -> String {
    let (table, pages) = (text::table(model, select, ran_ns), text::page_requests(model));
    let submissions = text::submissions(model);
    let (logs, batches) = (text::event_logs(model), text::batch_totals(model));
    let (findings, summary) = (text::findings(model), text::summary(model, select));
    format!("{table}{submissions}{pages}{logs}{batches}{findings}{summary}")
}

/// JSON Lines: the session, a line an interval, the summary.
#[derive(Debug)]
pub(crate) struct Json {
    pub select: Selection,
}

impl Printer for Json {
    fn event(&mut self, model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Session(_) => Line::of(event, model).map_or(Ok(()), |line| write_line(&line, out)),
            _ => Ok(()),
        }
    }

    fn interval(&mut self, model: &mut Model, out: &mut dyn Write) -> io::Result<()> {
        let mut line = json::stat(model);
        if let Body::Stat(stat) = &mut line.body {
            stat.processes.retain(|p| self.select.takes(p.tgid, p.context.device.id, p.context.wq));
        }
        write_line(&line, out)
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        // What came since the last interval is an interval of its own, so that the lines add up.
        self.interval(model, out)?;
        write_line(&summary(model, &self.select), out)
    }
}
