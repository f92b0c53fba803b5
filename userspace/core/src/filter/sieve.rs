//! A filter over the whole stream: faults that do not fit are left out and counted. All else passes, so that totals, losses and the books stay
//! those of the whole run.
//!
//! What comes out says of itself that it is not whole: the session has the filter, and each snapshot how many faults were left out so far.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Filter;
use crate::event::{Event, SessionInfo};
use crate::model::Model;

/// What a stream of events has of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Filtering {
    /// In the filter language: faults of which this holds.
    pub expression: String,
    /// Left out so far; a later snapshot says how many since.
    pub left_out: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Sieve {
    filter: Filter,
    /// What is told of open files; none of the faults.
    files: Model,
    left_out: u64,
    /// Left out by those that the stream came through before.
    before: u64,
    /// As it went on last.
    session: Option<Box<SessionInfo>>,
    /// Faults were left out since the stream told of it.
    untold: bool,
}

impl Sieve {
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self { filter, files: Model::default(), left_out: 0, before: 0, session: None, untold: false }
    }

    /// Whether the event goes on; what has to say what was left out is made to.
    pub fn takes(&mut self, event: &mut Event) -> bool {
        match event {
            Event::Fault(fault) => {
                let fits = self.filter.matches(fault, &self.files);
                if !fits {
                    self.left_out += 1;
                    self.untold = true;
                }
                return fits;
            }
            Event::Session(session) => {
                let before = session.filter.take();
                self.before = self.before.max(before.as_ref().map_or(0, |before| before.left_out));
                let expression = match before {
                    Some(before) => format!("({}) and ({})", before.expression, self.filter),
                    None => self.filter.to_string(),
                };
                session.filter = Some(Filtering { expression, left_out: self.total() });
                self.session = Some(session.clone());
                self.untold = false;
            }
            Event::Snapshot(snapshot) => {
                self.before = self.before.max(snapshot.left_out.unwrap_or(0));
                snapshot.left_out = Some(self.total());
                self.untold = false;
            }
            Event::Open(_) | Event::Release(_) => {}
            Event::Interrupt(_)
            | Event::Driver(_)
            | Event::PageRequest(_)
            | Event::Seen(_)
            | Event::Stack(_)
            | Event::Place(_)
            | Event::Hole(_)
            | Event::Tick { .. } => {
                return true;
            }
        }
        self.files.update(event);
        true
    }

    /// To be asked at the end: the session again, where no snapshot tells what was left out last.
    pub fn end(&mut self) -> Option<Event> {
        let mut session = self.session.clone().filter(|_| self.untold)?;
        let filter = session.filter.as_mut()?;
        filter.left_out = self.total();
        self.untold = false;
        Some(Event::Session(session))
    }

    fn total(&self) -> u64 {
        self.before.saturating_add(self.left_out)
    }
}
