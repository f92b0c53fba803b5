//! Page requests and their responses, put together: by device, PASID and group, in the order of the ring.
//!
//! Every response gives exactly one event at once. It has its request, and with it a latency, only where nothing else can have been
//! meant:
//! - The IOMMU's driver tells of a request after it has handed it on, so the response may be seen before the last request of its
//!   group. Such a response has no latency, and the request that comes late, however late, is not taken for a new one: the driver
//!   takes requests one by one, so that none of the next can be seen before it.
//! - The first response of a group whose request was not seen may have been asked for before tracing began. Then it takes a pause, or an
//!   order that only one of the two explains, until the group has latencies.
//! - Once records are lost, what waits may have been answered unseen, and so may what comes shortly after: no latency for these.
//! - A group that comes again unanswered is a hole, as is one that nobody answers in time.
//!
//! A device uses a group again only when it has its response, so that all this concerns one group at a time. Bounded; time is an
//! input. Refuses: guessing.

use std::collections::HashMap;

use dsascope_common::hw::page_request::{Request, Response};

use crate::event::{Asked, DeviceId, Event, Hole, HoleKind, PageRequest};

/// Groups followed at once.
pub const CAPACITY: usize = 4096;
/// How long a response may take.
pub const DEADLINE_NS: u64 = 10_000_000_000;
/// By how much a response may come before the request that it overtook, where nothing else tells; on a busy machine the driver's thread
/// waits long for its CPU.
pub const OVERTAKES_NS: u64 = 1_000_000_000;

/// Where and when a record was made.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub at_ns: u64,
    pub cpu: u16,
    pub device: DeviceId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    device: u16,
    pasid: Option<u32>,
    group: u16,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Requests of a group whose last was not seen.
    Begun(Asked),
    /// All requests of a group: the next response is theirs.
    Whole(Asked),
    /// As `Whole`, but the next response may be another group's.
    Doubtful { at_ns: u64 },
    /// Answered, and the last request still to come; not `sure`: or it came before.
    Answered { at_ns: u64, sure: bool },
    /// Answered, and nothing still to come.
    Settled { at_ns: u64 },
}

impl State {
    const fn at_ns(&self) -> u64 {
        match self {
            Self::Begun(asked) | Self::Whole(asked) => asked.at_ns,
            Self::Doubtful { at_ns } | Self::Answered { at_ns, .. } | Self::Settled { at_ns } => *at_ns,
        }
    }

    /// Whether a response is still to come.
    const fn waits(&self) -> bool {
        matches!(self, Self::Begun(_) | Self::Whole(_))
    }
}

/// Puts requests and responses together.
#[derive(Debug)]
pub struct PageRequestJoiner {
    groups: HashMap<Key, State>,
    /// When a loss last came to light.
    lost_ns: Option<u64>,
    capacity: usize,
}

impl Default for PageRequestJoiner {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

fn hole(at_ns: u64, what: HoleKind) -> Event {
    Event::Hole(Hole { at_ns, what, count: 1 })
}

impl PageRequestJoiner {
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { groups: HashMap::new(), lost_ns: None, capacity: capacity.max(1) }
    }

    /// A request that the IOMMU's driver has handed on.
    pub fn request(&mut self, origin: Origin, request: &Request, out: &mut impl FnMut(Event)) {
        let at_ns = origin.at_ns;
        let key = Key { device: origin.device.id, pasid: request.pasid(), group: request.group() };
        let last = request.last_in_group();
        let first = Asked { at_ns, pages: 1, address: request.address(), write: request.write() };
        let new = self.asked(first, last);
        let state = match self.groups.get(&key) {
            Some(State::Begun(asked)) => {
                let pages = asked.pages.saturating_add(1);
                let asked = Asked { at_ns, pages, write: asked.write || request.write(), ..*asked };
                self.asked(asked, last)
            }
            Some(State::Whole(_)) => {
                out(hole(at_ns, HoleKind::ResponseMissing));
                new
            }
            // Only the last request of a group can be overtaken by its response.
            Some(State::Answered { sure: true, .. }) if last => State::Settled { at_ns },
            Some(State::Answered { at_ns: answered_ns, .. })
                if last && at_ns.saturating_sub(*answered_ns) < OVERTAKES_NS =>
            {
                State::Doubtful { at_ns }
            }
            // After a doubtful one: that was answered before it was told of.
            Some(State::Answered { .. } | State::Doubtful { .. } | State::Settled { .. }) | None => new,
        };
        self.put(key, state, at_ns, out);
    }

    /// A response of the IOMMU's.
    pub fn response(&mut self, origin: Origin, response: &Response, out: &mut impl FnMut(Event)) {
        let at_ns = origin.at_ns;
        let key = Key { device: origin.device.id, pasid: response.pasid(), group: response.group() };
        let state = self.groups.remove(&key);
        out(Event::PageRequest(PageRequest {
            at_ns,
            cpu: origin.cpu,
            device: origin.device,
            pasid: key.pasid,
            group: key.group,
            code: response.code(),
            request: match state {
                Some(State::Whole(asked)) => Some(asked),
                _ => None,
            },
        }));
        let state = match state {
            Some(State::Whole(_)) => State::Settled { at_ns },
            // Two answers in a row, and one request in doubt: it is the second's.
            Some(State::Begun(_) | State::Settled { .. } | State::Answered { sure: false, .. }) => {
                State::Answered { at_ns, sure: true }
            }
            Some(State::Doubtful { .. } | State::Answered { sure: true, .. }) | None => {
                State::Answered { at_ns, sure: false }
            }
        };
        self.put(key, state, at_ns, out);
    }

    /// Records were lost before `at_ns`.
    pub fn lost(&mut self, at_ns: u64) {
        self.lost_ns = Some(at_ns);
        self.groups.retain(|_, state| !matches!(state, State::Settled { .. }));
        for state in self.groups.values_mut() {
            let at_ns = state.at_ns();
            *state = match state {
                State::Answered { .. } => State::Answered { at_ns, sure: false },
                _ => State::Doubtful { at_ns },
            };
        }
    }

    /// Gives up what has waited longer than the deadline.
    pub fn expire(&mut self, now_ns: u64, out: &mut impl FnMut(Event)) {
        let due = now_ns.saturating_sub(DEADLINE_NS);
        self.give_up(now_ns, out, |at_ns| at_ns < due);
    }

    /// Gives up everything.
    pub fn finish(&mut self, now_ns: u64, out: &mut impl FnMut(Event)) {
        self.give_up(now_ns, out, |_| true);
    }

    /// A group with `asked`, and whether that is all of it.
    fn asked(&self, asked: Asked, whole: bool) -> State {
        // What was lost may have been the response, if it overtook this request.
        let doubtful = self.lost_ns.is_some_and(|lost_ns| asked.at_ns.saturating_sub(lost_ns) < OVERTAKES_NS);
        match (whole, doubtful) {
            (true, true) => State::Doubtful { at_ns: asked.at_ns },
            (true, false) => State::Whole(asked),
            (false, _) => State::Begun(asked),
        }
    }

    fn give_up(&mut self, now_ns: u64, out: &mut impl FnMut(Event), due: impl Fn(u64) -> bool) {
        self.groups.retain(|_, state| {
            let gone = due(state.at_ns());
            if gone && state.waits() {
                out(hole(now_ns, HoleKind::ResponseMissing));
            }
            !gone
        });
    }

    fn put(&mut self, key: Key, state: State, at_ns: u64, out: &mut impl FnMut(Event)) {
        if self.groups.len() >= self.capacity && !self.groups.contains_key(&key) {
            let oldest = self.groups.iter().min_by_key(|(_, state)| state.at_ns()).map(|(&key, _)| key);
            if oldest.and_then(|key| self.groups.remove(&key)).is_some_and(|state| state.waits()) {
                out(hole(at_ns, HoleKind::Evicted));
            }
        }
        self.groups.insert(key, state);
    }
}

#[cfg(test)]
mod tests;
