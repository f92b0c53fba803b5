//! One moment's answer: encoded when it is first asked for in that encoding, and never twice.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use dsascope_core::ledger::Balance;
use dsascope_core::model::Model;
use dsascope_export::prometheus::{Encoding, Scrape};
use serde::Serialize;

/// See the module.
#[derive(Debug)]
pub(super) struct Page {
    scrape: Arc<Scrape>,
    problems: Vec<String>,
    encoded: [OnceLock<Bytes>; Encoding::ALL.len()],
}

/// Before anything was observed.
impl Default for Page {
    fn default() -> Self {
        Self {
            scrape: Arc::default(),
            problems: vec!["nothing is traced yet".into()],
            encoded: Default::default(),
        }
    }
}

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    problems: &'a [String],
}

impl Page {
    pub(super) fn new(scrape: Arc<Scrape>, model: &Model) -> Self {
        Self { scrape, problems: problems(model), encoded: Default::default() }
    }

    pub(super) fn metrics(&self, encoding: Encoding) -> Bytes {
        let place = Encoding::ALL.iter().position(|&one| one == encoding).unwrap_or_default();
        self.encoded[place].get_or_init(|| self.scrape.encode(encoding).into()).clone()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }

    /// As one JSON object.
    pub(super) fn health(&self) -> String {
        let health = Health { healthy: self.is_healthy(), problems: &self.problems };
        // Strings and a boolean always can be written.
        serde_json::to_string(&health).unwrap_or_default()
    }
}

/// Why the figures are not to be trusted.
fn problems(model: &Model) -> Vec<String> {
    let Some(session) = model.session() else { return Page::default().problems };
    let missing = session.missing_required();
    let mut problems: Vec<String> = missing
        .map(|verdict| {
            let (state, why) = (verdict.state.name(), verdict.state.detail());
            format!("required probe {:?}: {state} {why}", verdict.hook.name()).trim_end().to_owned()
        })
        .collect();
    if let Balance::Unbalanced { differences } = model.ledger().balance() {
        let kinds: Vec<&str> = differences.iter().map(|difference| difference.record.as_str()).collect();
        problems.push(format!("the books of records do not agree: {}", kinds.join(", ")));
    }
    let used = model.snapshot().and_then(|snapshot| snapshot.ring_used_bytes);
    if let Some(used) = used.filter(|&used| session.ring_bytes > 0 && used > session.ring_bytes / 2) {
        problems.push(format!(
            "the reader is behind: {used} of the ring's {} bytes are unread",
            session.ring_bytes
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use dsascope_core::event::{ByKind, Event, Hook, SessionInfo, Snapshot, Verdict, VerdictState};

    use super::*;

    fn model(session: SessionInfo, snapshot: Snapshot) -> Model {
        let mut model = Model::default();
        model.update(&Event::Session(Box::new(session)));
        model.update(&Event::Snapshot(Box::new(snapshot)));
        model
    }

    #[test]
    fn what_makes_figures_untrustworthy_is_named() {
        assert_eq!(problems(&Model::default()), ["nothing is traced yet"]);
        let session = SessionInfo { ring_bytes: 100, ..SessionInfo::default() };
        assert!(problems(&model(session.clone(), Snapshot::default())).is_empty());
        let verdict = Verdict {
            hook: Hook::ServiceEnd,
            required: true,
            state: VerdictState::Refused { why: "EPERM".into() },
            hits: None,
            attach_ns: None,
        };
        let broken = SessionInfo { verdicts: vec![verdict], ..session };
        let received = ByKind { fault: 1, ..ByKind::default() };
        let snapshot =
            Snapshot { quiesced: true, received, ring_used_bytes: Some(51), ..Snapshot::default() };
        assert_eq!(
            problems(&model(broken, snapshot)),
            [
                "required probe \"service end\": refused EPERM",
                "the books of records do not agree: fault",
                "the reader is behind: 51 of the ring's 100 bytes are unread",
            ]
        );
    }
}
