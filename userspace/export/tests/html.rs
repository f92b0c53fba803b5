//! The report as a page: well-formed whatever the events, text from outside stays text, and its size is bounded.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::num::NonZeroU64;

use dsascope_core::event::{Comm, Event, Happening};
use dsascope_export::{Format, Options};
use proptest::prelude::*;
use support::{Memory, faults, feed, script};

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "br", "link"];

fn page(events: &[Event]) -> String {
    let memory = Memory::default();
    let mut exporter = Format::Html.exporter(memory.output(), Options { interval_ns: 1 }).unwrap();
    feed(&mut *exporter, events).unwrap();
    String::from_utf8(memory.bytes()).unwrap()
}

/// Names of all elements; fails unless each ends where it should, and attributes are quoted.
fn elements(page: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>') || open.last().is_some_and(|name| name == "style"), "{text}");
        let tag = &rest[start + 1..];
        let mut quoted = false;
        let end = tag
            .find(|c| {
                quoted ^= c == '"';
                c == '>' && !quoted
            })
            .unwrap();
        let (tag, after) = (&tag[..end], &tag[end + 1..]);
        rest = after;
        assert!(!tag.contains('<'), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let name = tag.split_whitespace().next().unwrap().to_owned();
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{tag}");
        if !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        all.push(name);
    }
    assert!(open.is_empty() && !rest.contains('>'), "{open:?}");
    all
}

/// The events, with `text` wherever the outside has a say.
fn told(mut events: Vec<Event>, text: &str) -> Vec<Event> {
    for event in &mut events {
        match event {
            Event::Session(session) => {
                session.host = text.into();
                session.kernel = text.into();
                session.tool_version = text.into();
            }
            Event::Open(open) => {
                open.comm = Comm::new(text);
                open.cgroup_path = Some(text.into());
            }
            Event::Driver(event) => {
                event.comm = Comm::new(text);
                if let Happening::Warning { text: warning } = &mut event.what {
                    warning.push_str(text);
                }
            }
            Event::Snapshot(snapshot) => {
                snapshot.totals.iter_mut().for_each(|totals| totals.comm = Comm::new(text));
            }
            _ => {}
        }
    }
    events
}

#[test]
fn text_from_outside_makes_no_elements() {
    for script in [
        script::busy(1),
        script::trouble(),
        script::lossy(2, 9),
        script::moved_failure(),
        script::page_requests(),
    ] {
        let calm = elements(&page(&told(script.clone(), "calm")));
        for hostile in ["<script>", "\"><img src=x>", "' x='<b>", "&lt;</td>", "--></style>"] {
            let page = page(&told(script.clone(), hostile));
            assert_eq!(elements(&page), calm, "{hostile}");
            assert!(!page.contains(hostile));
        }
    }
}

#[test]
fn a_million_faults_make_no_larger_page() {
    let few = script::busy(1);
    let fault = few
        .iter()
        .find_map(|event| if let Event::Fault(fault) = event { Some(*fault) } else { None })
        .unwrap();
    let mut events: Vec<Event> =
        few.iter().take_while(|event| !matches!(event, Event::Fault(_))).cloned().collect();
    let shape = |n: u64| {
        let mut fault = fault;
        let started_ns = fault.at_ns + n * 50_000;
        // Over five decades, so that most cells of the map are used, and more processes than a table takes.
        let took_ns = 10f64.powf(3.0 + (n.wrapping_mul(7_919) % 5_000) as f64 / 1_000.0) as u64;
        fault.context.pasid = (n % 3_000) as u32;
        fault.times.started_ns = NonZeroU64::new(started_ns);
        fault.at_ns = started_ns + took_ns;
        fault.times.done_ns = NonZeroU64::new(fault.at_ns);
        Event::Fault(fault)
    };
    events.extend((0..1_000_000).map(shape));
    let page = page(&events);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    elements(&page);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_faults_and_any_names_make_a_page(
        some in prop::collection::vec(faults::fault(), 0..40),
        text in "[<>&\"'/a-z \u{e4}-]{0,24}",
    ) {
        let events = script::empty().into_iter().chain(some.into_iter().map(Event::Fault)).collect();
        elements(&page(&told(events, &text)));
    }
}
