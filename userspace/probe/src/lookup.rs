//! One thread beside the ring's reader: attaches to programs that open a WQ, and looks up portals, places and stacks.
//!
//! What it asks the system may take long (a library of 150 MB, a file that a process serves), and needs privileges that the reader has given
//! up. Owns: that thread, and what was asked already. Refuses: waiting for it; a question beyond [`QUESTIONS`] is counted and not answered.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{MapData, StackTraceMap};
use dsascope_core::event::{DeviceId, Event, Stack, SubmitterFile};

use crate::{places::Places, processes::Portals, stacks::Symbolizer, submitters::Submitters, tracer::now_ns};

const QUESTIONS: usize = 4096;
/// What was asked is forgotten beyond so many.
const ASKED: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// A process has opened a WQ.
    Opened(u32),
    /// Trace no submissions any more.
    Detach,
    Portal(PortalPage),
    Place {
        tgid: u32,
        page: u64,
    },
    Stack {
        tgid: u32,
        id: u32,
    },
}

impl Question {
    /// How long its answer holds.
    const fn holds_ns(self) -> u64 {
        match self {
            Self::Opened(_) | Self::Detach => 0,
            // Memory moves.
            Self::Place { .. } => 1_000_000_000,
            Self::Portal(_) | Self::Stack { .. } => u64::MAX,
        }
    }
}

/// What the thread says.
#[allow(clippy::large_enum_variant, reason = "answers are few, and moved once")]
pub(crate) enum Answer {
    /// Files that were attached to, or not, in addition.
    Files(Vec<SubmitterFile>),
    Portal(PortalPage, Option<(DeviceId, u16)>),
    Event(Event),
    Detached,
}

/// (process, page)
pub(crate) type PortalPage = (u32, u64);

/// See the module.
pub(crate) struct Lookup {
    questions: Option<SyncSender<Question>>,
    answers: Receiver<Answer>,
    /// And when.
    asked: HashMap<Question, u64>,
    unasked: u64,
}

impl Lookup {
    /// Starts the thread; `begin` runs on it first.
    pub(crate) fn start(
        submitters: Submitters,
        stacks: StackTraceMap<MapData>,
        begin: fn(),
    ) -> std::io::Result<Self> {
        let (questions, asked) = sync_channel(QUESTIONS);
        // As many answers as questions: the thread never waits for the reader while there is room for another question.
        let (tell, answers) = sync_channel(QUESTIONS);
        thread::Builder::new().name("lookup".into()).spawn(move || {
            begin();
            work(submitters, &stacks, &asked, &tell);
        })?;
        Ok(Self { questions: Some(questions), answers, asked: HashMap::new(), unasked: 0 })
    }

    fn send(&mut self, question: Question) -> bool {
        let is_sent = self.questions.as_ref().is_some_and(|to| to.try_send(question).is_ok());
        self.unasked += u64::from(!is_sent);
        is_sent
    }

    /// Asks, unless it was asked before and the answer holds.
    pub(crate) fn ask(&mut self, now_ns: u64, question: Question) {
        let holds = |asked_ns: &u64| now_ns.saturating_sub(*asked_ns) < question.holds_ns();
        if self.asked.get(&question).is_some_and(holds) || !self.send(question) {
            return;
        }
        if self.asked.len() >= ASKED {
            self.asked.clear();
        }
        self.asked.insert(question, now_ns);
    }

    /// Questions for which there was no room.
    pub(crate) const fn unasked(&self) -> u64 {
        self.unasked
    }

    /// What has been answered, without waiting.
    pub(crate) fn answers(&self) -> impl Iterator<Item = Answer> + '_ {
        self.answers.try_iter()
    }

    /// Takes the probes off the submitters, and hands over what is answered until then, within `patience`.
    pub(crate) fn detach(&mut self, patience: Duration, take: impl FnMut(Answer)) {
        // With a queue that is full, they come off when the thread ends.
        if self.send(Question::Detach) {
            self.wait(patience, take);
        }
    }

    /// Ends the thread, and hands over what it still answers within `patience`.
    pub(crate) fn end(&mut self, patience: Duration, take: impl FnMut(Answer)) {
        self.questions = None;
        self.wait(patience, take);
    }

    fn wait(&self, patience: Duration, mut take: impl FnMut(Answer)) {
        let until = Instant::now() + patience;
        loop {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Answer::Detached) => return,
                Ok(answer) => take(answer),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    log::warn!("what was asked of processes was not answered in {} s", patience.as_secs());
                    return;
                }
            }
        }
    }
}

/// Answers until the reader asks no more.
fn work(
    submitters: Submitters,
    stacks: &StackTraceMap<MapData>,
    questions: &Receiver<Question>,
    answers: &SyncSender<Answer>,
) {
    let mut submitters = Some(submitters);
    let mut places = Places::new();
    let mut symbolizer = Symbolizer::new();
    for question in questions {
        let answer = match question {
            Question::Opened(tgid) => {
                let new = submitters.as_mut().map(|submitters| submitters.opened(tgid));
                new.filter(|new| !new.is_empty()).map(Answer::Files)
            }
            Question::Detach => {
                submitters = None;
                Some(Answer::Detached)
            }
            Question::Portal((tgid, page)) => {
                let wq = Portals::read(tgid).ok().and_then(|portals| portals.wq(page));
                Some(Answer::Portal((tgid, page), wq))
            }
            Question::Place { tgid, page } => places
                .of(now_ns(), tgid, page)
                .cloned()
                .map(|place| Answer::Event(Event::Place(Box::new(place)))),
            Question::Stack { tgid, id } => stacks.get(&id, 0).ok().map(|trace| {
                let addresses: Vec<u64> = trace.frames().iter().map(|frame| frame.ip).collect();
                let frames = symbolizer.frames(now_ns(), tgid, &addresses);
                Answer::Event(Event::Stack(Box::new(Stack { at_ns: now_ns(), tgid, id, frames })))
            }),
        };
        if answer.is_some_and(|answer| answers.send(answer).is_err()) {
            return;
        }
    }
}
