//! Storms: files whose faults have become many times what they were, with the pages that they were on.
//!
//! Looked for once in a bucket of the rates, and only while all faults together are as many as a storm has. Bounded: [`EPISODES`] are
//! followed at once. Refuses: clocks; the time is that of the events.

use std::collections::VecDeque;

use super::pages::{PageSet, Pages};
use super::{EVIDENCE, Tally, of_file, who};
use crate::event::{Comm, Context, Key};
use crate::findings::{Amount, Confidence, threshold};
use crate::model::WINDOW_NS;
use crate::model::row::Process;
use crate::rate::{BUCKET_NS, BUCKETS, Rate};

const EPISODES: usize = 16;
/// Windows that a rate remembers.
const WINDOWS: usize = (BUCKETS as u64 * BUCKET_NS / WINDOW_NS) as usize - 1;

/// A rate now, and the median of the whole windows before; `None`: tracing began less than a window before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub per_s: u64,
    pub before_per_s: Option<u64>,
}

impl Change {
    /// `None` as long as no window has passed since `since_ns`.
    pub(super) fn of(rate: &Rate, now_ns: u64, since_ns: u64) -> Option<Self> {
        let windows = (now_ns / BUCKET_NS).checked_sub(since_ns.div_ceil(BUCKET_NS))? * BUCKET_NS / WINDOW_NS;
        let windows = usize::try_from(windows).unwrap_or(WINDOWS).min(WINDOWS);
        let mut history = rate.history(now_ns, WINDOW_NS, windows);
        let now = per_s(history.pop()?);
        history.sort_unstable();
        Some(Self { per_s: now, before_per_s: history.get(history.len() / 2).map(|&count| per_s(count)) })
    }

    /// How sure it is that this is a storm, from so many a second on; `None`: it is none.
    pub(super) fn storm(self, least_per_s: u64) -> Option<Confidence> {
        let grown = self
            .before_per_s
            .is_some_and(|before| self.per_s >= before.saturating_mul(threshold::STORM_TIMES));
        match self.per_s {
            per_s if per_s < least_per_s => None,
            _ if grown => Some(Confidence::Certain),
            per_s if per_s / threshold::STORM_ALONE_TIMES >= least_per_s => Some(Confidence::Possible),
            _ => None,
        }
    }
}

fn per_s(in_window: u64) -> u64 {
    in_window.saturating_mul(1_000_000_000) / WINDOW_NS
}

/// The beginning of the first bucket of this window that has as many as a storm that is not over.
fn began_ns(rate: &Rate, now_ns: u64, least_per_s: u64) -> u64 {
    const IN_WINDOW: usize = (WINDOW_NS / BUCKET_NS) as usize;
    let many = |&count: &u64| count * 1_000_000_000 / BUCKET_NS >= least_per_s / 2;
    let first = rate.history(now_ns, BUCKET_NS, IN_WINDOW).iter().position(many).unwrap_or(0);
    (now_ns / BUCKET_NS * BUCKET_NS).saturating_sub((IN_WINDOW - first) as u64 * BUCKET_NS)
}

/// One storm of one file.
#[derive(Clone, Debug)]
struct Episode {
    context: Context,
    tgid: Option<u32>,
    comm: Option<Comm>,
    began_ns: u64,
    before_per_s: Option<u64>,
    most_per_s: u64,
    confidence: Confidence,
    /// As it was last seen.
    pages: PageSet,
    /// What was once seen of the pages stays.
    given_back: Option<PageSet>,
    fresh: Option<PageSet>,
    over: bool,
}

impl Episode {
    fn look(&mut self, per_s: u64, pages: PageSet) {
        self.most_per_s = self.most_per_s.max(per_s);
        if pages.faults < threshold::PAGES_FAULTS {
            return;
        }
        self.pages = pages;
        if pages.again * 100 >= pages.faults * threshold::GIVEN_BACK_PERCENT {
            self.given_back = Some(pages);
        } else if pages.different * 100 >= pages.faults * threshold::FRESH_PERCENT {
            self.fresh = Some(pages);
        }
    }

    fn who(&self) -> String {
        who(&self.context, self.tgid, self.comm)
    }

    fn words(&self) -> String {
        let before = self.before_per_s.map_or("an unknown number".into(), |before| before.to_string());
        let mut words = format!("{}: up to {} faults a second, {before} before", self.who(), self.most_per_s);
        if let Some((hottest, most)) = self.pages.hottest {
            let PageSet { faults, different, .. } = self.pages;
            words += &format!("; the last {faults} on {different} pages, most ({most}) on {hottest:#x}");
        }
        words
    }
}

/// What of storms goes on.
pub(super) struct Going {
    pub any: bool,
    pub given_back: bool,
    pub fresh: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Storms {
    /// Faults a second from which on there may be one; half of it ends it.
    pub(super) least_per_s: u64,
    episodes: VecDeque<Episode>,
    /// Ever begun, and those of them whose pages say why.
    begun: u64,
    given_back: u64,
    fresh: u64,
}

impl Default for Storms {
    fn default() -> Self {
        let episodes = VecDeque::new();
        Self { least_per_s: threshold::STORM_PER_S, episodes, begun: 0, given_back: 0, fresh: 0 }
    }
}

impl Storms {
    /// Nothing in storm, and nothing to follow.
    pub(super) fn is_calm(&self) -> bool {
        self.episodes.iter().all(|episode| episode.over)
    }

    /// When those that are kept began.
    pub(super) fn begun_ns(&self) -> impl Iterator<Item = u64> {
        self.episodes.iter().map(|episode| episode.began_ns)
    }

    pub(super) fn going(&self) -> Going {
        let any = |is: fn(&Episode) -> bool| self.episodes.iter().any(|episode| !episode.over && is(episode));
        Going {
            any: any(|_| true),
            given_back: any(|episode| episode.given_back.is_some()),
            fresh: any(|episode| episode.fresh.is_some()),
        }
    }

    pub(super) fn look<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Process>,
        pages: &Pages,
        (now_ns, since_ns): (u64, u64),
    ) {
        for row in rows {
            let key = row.key();
            // A minute of each of ten thousand files is much to read four times a second, and the last window of most says enough.
            let is_quiet = row.last_fault_ns.is_none_or(|ns| ns.saturating_add(WINDOW_NS) < now_ns)
                || per_s(row.rate.span(now_ns, WINDOW_NS, 1)) < self.least_per_s;
            let at = self.episodes.iter().position(|episode| !episode.over && episode.context.key() == key);
            if is_quiet && at.is_none() {
                continue;
            }
            let Some(change) = Change::of(&row.rate, now_ns, since_ns) else { return };
            match (at, change.storm(self.least_per_s)) {
                (Some(at), _) if change.per_s < self.least_per_s / 2 => self.episodes[at].over = true,
                (Some(at), _) => self.follow(at, change.per_s, pages, key),
                (None, Some(confidence)) => {
                    if let Some(at) = self.begin(row, change, confidence, now_ns) {
                        self.follow(at, change.per_s, pages, key);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn follow(&mut self, at: usize, per_s: u64, pages: &Pages, key: Key) {
        let episode = &mut self.episodes[at];
        let known = (episode.given_back.is_some(), episode.fresh.is_some());
        episode.look(per_s, pages.of(key));
        self.given_back += u64::from(!known.0 && episode.given_back.is_some());
        self.fresh += u64::from(!known.1 && episode.fresh.is_some());
    }

    /// `None`: there are as many storms as are followed.
    fn begin(&mut self, row: &Process, change: Change, confidence: Confidence, now_ns: u64) -> Option<usize> {
        if self.episodes.len() >= EPISODES {
            let over = self.episodes.iter().position(|episode| episode.over)?;
            self.episodes.remove(over);
        }
        self.begun += 1;
        self.episodes.push_back(Episode {
            context: row.context,
            tgid: row.tgid,
            comm: row.comm,
            began_ns: began_ns(&row.rate, now_ns, self.least_per_s),
            before_per_s: change.before_per_s,
            most_per_s: change.per_s,
            confidence,
            pages: PageSet::default(),
            given_back: None,
            fresh: None,
            over: false,
        });
        Some(self.episodes.len() - 1)
    }

    /// What came of it; the worst storm is named.
    pub(super) fn tally(&self) -> Tally {
        let mut tally =
            Tally { amount: Amount { count: self.begun, ..Amount::default() }, ..Tally::default() };
        if let Some(worst) = self.episodes.iter().max_by_key(|episode| episode.most_per_s) {
            tally.subject = worst.who();
            tally.amount.sum = worst.before_per_s.unwrap_or(0);
            tally.amount.most = worst.most_per_s;
        }
        tally.confidence = self.episodes.iter().map(|episode| episode.confidence).max();
        tally.evidence = self.evidence(|episode| Some(episode.words()));
        tally
    }

    /// Storms on pages that were there before.
    pub(super) fn given_back(&self) -> Tally {
        let words = |pages: &PageSet| {
            format!("{} of {} faults on pages that had been brought in", pages.again, pages.faults)
        };
        self.of_pages(self.given_back, |episode| episode.given_back.as_ref(), |pages| pages.again, words)
    }

    /// Storms on a page for each fault.
    pub(super) fn fresh(&self) -> Tally {
        let words = |pages: &PageSet| format!("{} faults on {} pages", pages.faults, pages.different);
        self.of_pages(self.fresh, |episode| episode.fresh.as_ref(), |pages| pages.different, words)
    }

    fn of_pages(
        &self,
        count: u64,
        of: impl Fn(&Episode) -> Option<&PageSet>,
        amount: impl Fn(&PageSet) -> u64,
        words: impl Fn(&PageSet) -> String,
    ) -> Tally {
        let mut tally = Tally { amount: Amount { count, ..Amount::default() }, ..Tally::default() };
        let last = self.episodes.iter().rev().find_map(|episode| Some((episode, of(episode)?)));
        if let Some((episode, pages)) = last {
            tally.subject = episode.who();
            (tally.amount.sum, tally.amount.most) = (amount(pages), pages.faults);
        }
        tally.evidence = self.evidence(|episode| of(episode).map(&words));
        tally
    }

    fn evidence(&self, words: impl Fn(&Episode) -> Option<String>) -> VecDeque<super::Evidence> {
        let mut evidence = VecDeque::new();
        let told = self.episodes.iter().rev().filter_map(|episode| Some((episode, words(episode)?)));
        for (episode, words) in told.take(EVIDENCE) {
            evidence.push_front(of_file(episode.began_ns, &episode.context, words));
        }
        evidence
    }
}
