#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

#[path = "../../tests/support/faults.rs"]
mod faults;

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packets: Vec<Packet>,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn trace(events: &[Event]) -> Vec<Packet> {
    let memory = Memory::default();
    let (mut model, mut exporter) = (Model::default(), Perfetto::new(Box::new(memory.clone())));
    for event in events {
        model.update(event);
        Exporter::event(&mut exporter, &model, event).unwrap();
    }
    exporter.finish(&mut model).unwrap();
    let bytes = memory.0.lock().unwrap().clone();
    Trace::decode(bytes.as_slice()).unwrap().packets
}

/// Begins and ends of a track, each with the number of its slice as they were written.
fn numbered(packets: &[Packet]) -> HashMap<u64, Vec<(u64, bool, usize)>> {
    let mut tracks: HashMap<u64, Vec<(u64, bool, usize)>> = HashMap::new();
    let mut open: HashMap<u64, Vec<usize>> = HashMap::new();
    for (number, packet) in packets.iter().enumerate() {
        let Some(event) = &packet.event else { continue };
        let (track, at_ns) = (event.track.unwrap(), packet.timestamp.unwrap());
        match event.kind.unwrap() {
            kind::BEGIN => {
                open.entry(track).or_default().push(number);
                tracks.entry(track).or_default().push((at_ns, true, number));
            }
            kind::END => {
                let slice = open.get_mut(&track).unwrap().pop().unwrap();
                tracks.entry(track).or_default().push((at_ns, false, slice));
            }
            _ => {}
        }
    }
    tracks
}

proptest! {
    /// Perfetto sorts by time and pairs ends with the innermost begin: that must be the one they were written for.
    #[test]
    fn slices_nest_whatever_the_times(faults in prop::collection::vec(faults::fault(), 1..60), runs in prop::collection::vec((0u64..60, 0u64..20), 0..20)) {
        let near = |time: Option<NonZeroU64>| time.and_then(|ns| NonZeroU64::new(ns.get() % 60));
        let mut events: Vec<Event> = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            let mut fault = *fault;
            // Half of them close together, so that they collide.
            if number % 2 == 0 {
                fault.worker %= 2;
                let t = &mut fault.times;
                for time in [&mut t.interrupt_ns, &mut t.queued_ns, &mut t.started_ns, &mut t.copy_start_ns, &mut t.copy_end_ns, &mut t.done_ns] {
                    *time = near(*time);
                }
            }
            events.push(Event::Fault(fault));
        }
        let device = faults[0].context.device;
        events.extend(runs.into_iter().map(|(start_ns, length_ns)| Event::Interrupt(Interrupt {
            at_ns: start_ns, cpu: 0, device, start_ns, end_ns: start_ns + length_ns, entries: 1, swerror: None,
        })));
        let packets = trace(&events);
        for (track, mut slices) in numbered(&packets) {
            slices.sort_by_key(|&(at_ns, _, _)| at_ns);
            let mut open = Vec::new();
            for (at_ns, begins, number) in slices {
                if begins {
                    open.push(number);
                } else {
                    prop_assert_eq!(open.pop(), Some(number), "track {} at {}", track, at_ns);
                }
            }
            prop_assert!(open.is_empty());
        }
        // What ends has begun, and ends once.
        let events = || packets.iter().filter_map(|packet| packet.event.as_ref());
        let begun: Vec<u64> = events().flat_map(|event| &event.flows).copied().collect();
        let mut ended: Vec<u64> = events().flat_map(|event| &event.ending_flows).copied().collect();
        prop_assert!(ended.iter().all(|flow| begun.contains(flow)));
        prop_assert!(begun.iter().all(|flow| ended.contains(flow)));
        let all = ended.len();
        ended.dedup();
        prop_assert_eq!(ended.len(), all);
        // One outcome a fault.
        let outcomes = [Name::Delivered, Name::Failed, Name::NotCopied, Name::Unobserved, Name::Unfinished];
        let outcomes = outcomes.map(|name| Some(name as u64));
        prop_assert_eq!(events().filter(|event| outcomes.contains(&event.name_iid)).count(), faults.len());
    }
}

#[test]
fn names_are_where_their_numbers_say() {
    assert_eq!(NAMES[Name::Batch as usize - 1], "batch");
    assert_eq!(NAMES[Name::Delivered as usize - 1], "delivered");
    assert_eq!(ARGUMENTS[Argument::Entries as usize - 1], "entries");
    assert_eq!(ARGUMENTS[Argument::Finding as usize - 1], "finding");
    assert_eq!(NAMES[Name::Seen as usize - 1], "seen");
    assert_eq!(ARGUMENTS[Argument::Instruction as usize - 1], "instruction");
}

#[test]
fn too_many_tracks_are_described_anew() {
    let mut exporter = Perfetto::new(Box::new(io::sink()));
    let first = exporter.track(Track::Process(0), String::new, None).unwrap();
    for pid in 1..=TRACKS as u32 {
        exporter.track(Track::Process(pid), String::new, None).unwrap();
    }
    assert!(exporter.tracks.len() <= TRACKS);
    assert_ne!(exporter.track(Track::Process(0), String::new, None).unwrap(), first);
}
