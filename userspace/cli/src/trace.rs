//! `dsascope trace`: one line a fault as it happens, and the lines between: opens, closes, losses.

use std::io::{self, Write};

use dsascope_core::event::{Event, HoleKind};
use dsascope_core::json::{self, Line};
use dsascope_core::model::Model;

use crate::config::Selection;
use crate::lines::Printer;
use crate::text;

/// Aligned text.
#[derive(Debug)]
pub(crate) struct Text {
    pub select: Selection,
}

impl Printer for Text {
    fn event(&mut self, model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            _ if !takes(&self.select, model, event) => Ok(()),
            Event::Session(session) => writeln!(out, "{}\n{}", text::session(session), text::FAULT_TITLES),
            Event::Fault(fault) => writeln!(out, "{}", text::fault(model, fault)),
            other => text::other(model, other).map_or(Ok(()), |line| writeln!(out, "{line}")),
        }
    }

    fn interval(&mut self, _model: &mut Model, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", text::summary(model))
    }
}

/// JSON Lines: the session first, the summary last.
#[derive(Debug)]
pub(crate) struct Json {
    pub select: Selection,
}

impl Printer for Json {
    fn event(&mut self, model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        if !takes(&self.select, model, event) {
            return Ok(());
        }
        Line::of(event, model).map_or(Ok(()), |line| write_line(&line, out))
    }

    fn interval(&mut self, _model: &mut Model, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        write_line(&json::summary(model), out)
    }
}

pub(crate) fn write_line(line: &Line, out: &mut dyn Write) -> io::Result<()> {
    let text = line.to_text().map_err(io::Error::other)?;
    writeln!(out, "{text}")
}

/// Whether an event is wanted. What concerns the whole run (session, losses) always is.
fn takes(select: &Selection, model: &Model, event: &Event) -> bool {
    match event {
        Event::Fault(fault) => select.takes(fault.tgid, fault.context.device.id, fault.context.wq),
        Event::Open(open) => select.takes(Some(open.tgid), open.context.device.id, open.context.wq),
        Event::Release(release) => {
            let tgid = model.process(release.context.key()).and_then(|process| process.tgid);
            select.takes(tgid, release.context.device.id, release.context.wq)
        }
        Event::Hole(hole) => {
            matches!(hole.what, HoleKind::RingLost { .. } | HoleKind::Undecodable) || select.is_all()
        }
        Event::Interrupt(_) => select.is_all(),
        Event::Session(_) | Event::Snapshot(_) | Event::Tick { .. } => true,
    }
}
