//! What later events need to be understood, when earlier ones are no longer there: sessions, open files and the last totals.

use std::collections::BTreeMap;

use dsascope_core::event::{Event, Key};

use crate::block::{Block, MOST_EVENTS, RawBlock};
use crate::layout::BlockHeader;

/// Folded from the events that are gone.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    session: Option<Event>,
    opens: BTreeMap<Key, Event>,
    snapshot: Option<Event>,
}

impl Carry {
    pub(crate) fn fold(&mut self, state: &[Event]) {
        for event in state {
            match event {
                Event::Session(_) => self.session = Some(event.clone()),
                Event::Open(open) => {
                    self.opens.insert(open.context.key(), event.clone());
                }
                Event::Release(release) => {
                    self.opens.remove(&release.context.key());
                }
                Event::Snapshot(_) => self.snapshot = Some(event.clone()),
                _ => {}
            }
        }
    }

    /// As blocks that stand before `next`.
    pub(crate) fn blocks(&self, next: &BlockHeader) -> std::io::Result<Vec<Block>> {
        let events: Vec<&Event> =
            self.session.iter().chain(self.opens.values()).chain(&self.snapshot).collect();
        let blocks = events.chunks(MOST_EVENTS as usize).filter_map(|events| RawBlock::carried(events, next));
        blocks.map(RawBlock::compress).collect()
    }
}
