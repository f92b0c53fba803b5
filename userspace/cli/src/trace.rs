//! `dsascope trace`: one line a fault as it happens, and the lines between: opens, closes, what the driver did to devices, errors, losses,
//! batches that ended.

use std::io::{self, Write};

use dsascope_core::event::{Event, HoleKind};
use dsascope_core::json::{self, BatchLine, Body, Line};
use dsascope_core::model::{Batch, Model};

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
        }?;
        ended(&self.select, model).try_for_each(|batch| writeln!(out, "{}", text::batch(model, batch)))
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        still_open(&self.select, model)
            .into_iter()
            .try_for_each(|batch| writeln!(out, "{}", text::batch(model, batch)))?;
        write!(out, "{}", text::findings(model))?;
        writeln!(out, "{}", text::summary(model, &self.select))
    }
}

/// JSON Lines: the session first, the summary last.
#[derive(Debug)]
pub(crate) struct Json {
    pub select: Selection,
}

impl Printer for Json {
    fn event(&mut self, model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        if takes(&self.select, model, event) {
            Line::of(event, model).map_or(Ok(()), |line| write_line(&line, out))?;
        }
        ended(&self.select, model).try_for_each(|batch| write_batch(batch, model, out))
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        still_open(&self.select, model).into_iter().try_for_each(|batch| write_batch(batch, model, out))?;
        write_line(&summary(model, &self.select), out)
    }
}

fn write_batch(batch: &Batch, model: &Model, out: &mut dyn Write) -> io::Result<()> {
    write_line(&Line::from(Body::Batch(Box::new(BatchLine::new(batch, model)))), out)
}

/// The summary, with the files that are wanted alone.
pub(crate) fn summary(model: &Model, select: &Selection) -> Line {
    let mut line = json::summary(model);
    if let Body::Summary(summary) = &mut line.body
        && !select.is_all()
    {
        summary.selection = Some(select.words());
        summary.contexts.retain(|context| {
            let totals = &context.totals;
            select.takes(totals.tgid, totals.context.device.id, totals.context.wq)
        });
    }
    line
}

fn takes_batch(select: &Selection, batch: &Batch) -> bool {
    select.takes(batch.tgid, batch.context.device.id, batch.context.wq)
}

/// Batches that the last event ended.
fn ended<'a>(select: &'a Selection, model: &'a Model) -> impl Iterator<Item = &'a Batch> {
    model.batches().just_ended().iter().filter(|batch| takes_batch(select, batch))
}

/// Batches that are open when tracing ends, oldest first.
fn still_open<'a>(select: &Selection, model: &'a Model) -> Vec<&'a Batch> {
    let mut open: Vec<_> = model.batches().open().filter(|batch| takes_batch(select, batch)).collect();
    open.sort_by_key(|batch| (batch.first_ns, batch.context.key(), batch.id));
    open
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
        // Of faults alone: the others are as many as there are completions, and in the summary.
        Event::Seen(seen) => {
            seen.context.is_some_and(|context| select.takes(Some(seen.tgid), context.device.id, context.wq))
        }
        Event::Stack(stack) => select.takes_process(stack.tgid),
        Event::Place(place) => select.takes_process(place.tgid),
        Event::Hole(hole) => {
            matches!(hole.what, HoleKind::RingLost { .. } | HoleKind::Undecodable) || select.is_all()
        }
        Event::Driver(event) => match event.wq() {
            Some(wq) if select.pids.is_empty() => select.takes(None, event.device.id, wq),
            _ => select.takes_device(event.device.id),
        },
        Event::PageRequest(request) => {
            select.is_all()
                || model.processes().any(|process| {
                    Some(process.context.pasid) == request.pasid
                        && select.takes(process.tgid, process.context.device.id, process.context.wq)
                })
        }
        Event::Interrupt(interrupt) => {
            select.is_all() || (interrupt.swerror.is_some() && select.takes_device(interrupt.device.id))
        }
        Event::Session(_) | Event::Snapshot(_) | Event::Tick { .. } => true,
    }
}
