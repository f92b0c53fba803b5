//! What processes have mapped, remembered: /proc/PID/maps is read when it must be and not for each address.
//!
//! What is remembered of a process holds for a second, which is less than it takes for its number to be used again. An address
//! that is in none of its mappings is a reason to read again, but not more often than [`AGAIN_NS`], and reads of all processes together are
//! rationed ([`Ration`]). Time is an input.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};

use crate::processes::{Mapping, Maps};

/// How long what was read holds.
pub(crate) const FRESH_NS: u64 = 1_000_000_000;
/// How soon an unknown address makes it be read again.
pub(crate) const AGAIN_NS: u64 = 50_000_000;
/// Processes remembered; the one unused for longest makes room.
const PROCESSES: usize = 64;
/// Reads of all processes: 64 at once, 200 a second.
const READS_AT_ONCE: u64 = 64;
const READ_EVERY_NS: u64 = 5_000_000;
/// Of one process's map: 100,000 mappings, more than the kernel allows without being told to.
const TEXT_BYTES: u64 = 16 << 20;

/// One process's map, with what the owner of the table remembers beside it; that goes when the map is read again.
#[derive(Debug)]
pub(crate) struct Known<T> {
    /// By address.
    pub(crate) mappings: Vec<Mapping>,
    /// All of them were read.
    whole: bool,
    pub(crate) read_ns: u64,
    used_ns: u64,
    pub(crate) beside: T,
}

impl<T> Known<T> {
    fn position(&self, address: u64) -> Option<usize> {
        let before = self.mappings.partition_point(|m| m.start <= address).checked_sub(1)?;
        (address < self.mappings[before].end).then_some(before)
    }
}

/// Where an address is.
#[derive(Debug)]
pub(crate) enum Found<'a, T> {
    /// In that mapping.
    Mapped(&'a mut Known<T>, usize),
    /// In none, as of a read after the question was asked.
    Unmapped(&'a mut Known<T>),
    /// Not told: not read again so soon, or the map is too long to know.
    NotTold,
    /// The process has gone, or its map may not be read.
    Gone,
}

/// Something costly that may be done so many times at once, and once more each so many nanoseconds.
#[derive(Debug)]
pub(crate) struct Ration {
    left: u64,
    at_once: u64,
    every_ns: u64,
    given_ns: u64,
}

impl Ration {
    pub(crate) const fn new(at_once: u64, every_ns: u64) -> Self {
        Self { left: at_once, at_once, every_ns, given_ns: 0 }
    }

    /// Takes so many, or none.
    pub(crate) fn take(&mut self, now_ns: u64, count: u64) -> bool {
        let earned = now_ns.saturating_sub(self.given_ns) / self.every_ns;
        self.left = self.left.saturating_add(earned).min(self.at_once);
        self.given_ns += earned * self.every_ns;
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

#[derive(Debug)]
pub(crate) struct Vmas<T> {
    processes: HashMap<u32, Known<T>>,
    ration: Ration,
}

impl<T: Default> Vmas<T> {
    pub(crate) fn new() -> Self {
        Self { processes: HashMap::new(), ration: Ration::new(READS_AT_ONCE, READ_EVERY_NS) }
    }

    /// `read` reads the map of a process; whether that was all of it goes with it.
    pub(crate) fn find(
        &mut self,
        now_ns: u64,
        pid: u32,
        address: u64,
        read: impl FnOnce(u32) -> io::Result<(Maps, bool)>,
    ) -> Found<'_, T> {
        let mut just_read = false;
        let known = self.processes.get(&pid);
        let age = known.map(|k| now_ns.saturating_sub(k.read_ns));
        let inside = known.is_some_and(|k| k.position(address).is_some());
        if age.is_none_or(|age| age >= FRESH_NS || (!inside && age >= AGAIN_NS)) {
            if !self.ration.take(now_ns, 1) {
                return Found::NotTold;
            }
            match read(pid) {
                // A kernel thread, or a process that is about to end, has no mapping at all.
                Ok((maps, whole)) if !maps.mappings.is_empty() => {
                    self.make_room(pid);
                    let whole = whole && maps.malformed == 0;
                    let known = Known {
                        mappings: maps.mappings,
                        whole,
                        read_ns: now_ns,
                        used_ns: now_ns,
                        beside: T::default(),
                    };
                    self.processes.insert(pid, known);
                    just_read = true;
                }
                _ => {
                    self.processes.remove(&pid);
                    return Found::Gone;
                }
            }
        }
        let Some(known) = self.processes.get_mut(&pid) else { return Found::Gone };
        known.used_ns = now_ns;
        match known.position(address) {
            Some(position) => Found::Mapped(known, position),
            None if just_read && known.whole => Found::Unmapped(known),
            None => Found::NotTold,
        }
    }

    /// What is remembered beside the map of a process whose map need not be read again yet.
    pub(crate) fn fresh(&mut self, now_ns: u64, pid: u32) -> Option<&mut Known<T>> {
        let known = self.processes.get_mut(&pid).filter(|k| now_ns.saturating_sub(k.read_ns) < FRESH_NS)?;
        known.used_ns = now_ns;
        Some(known)
    }

    fn make_room(&mut self, pid: u32) {
        if self.processes.len() >= PROCESSES && !self.processes.contains_key(&pid) {
            let idle = self.processes.iter().min_by_key(|(_, known)| known.used_ns).map(|(pid, _)| *pid);
            idle.and_then(|idle| self.processes.remove(&idle));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.processes.len()
    }
}

/// Reads /proc/PID/maps.
pub(crate) fn read(pid: u32) -> io::Result<(Maps, bool)> {
    let mut text = Vec::new();
    let read = File::open(format!("/proc/{pid}/maps"))?.take(TEXT_BYTES).read_to_end(&mut text)?;
    Ok((Maps::parse(&text), (read as u64) < TEXT_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &[u8] = b"1000-3000 rw-p 00000000 00:00 0\n5000-6000 r--p 00000000 00:00 0\n";

    fn whole(text: &[u8]) -> impl FnOnce(u32) -> io::Result<(Maps, bool)> {
        let maps = Maps::parse(text);
        move |_| Ok((maps, true))
    }

    fn never(_: u32) -> io::Result<(Maps, bool)> {
        panic!("read without need")
    }

    fn gone(_: u32) -> io::Result<(Maps, bool)> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    #[test]
    fn a_map_is_read_once_a_second_or_for_an_unknown_address() {
        let mut vmas = Vmas::<()>::new();
        assert!(matches!(vmas.find(0, 7, 0x1000, whole(MAP)), Found::Mapped(_, 0)));
        for (address, position) in [(0x1fff, 0), (0x2fff, 0), (0x5000, 1)] {
            assert!(
                matches!(vmas.find(FRESH_NS - 1, 7, address, never), Found::Mapped(_, p) if p == position)
            );
        }
        // An unknown address: not at once, then a fresh read tells.
        assert!(matches!(vmas.find(AGAIN_NS - 1, 7, 0x4000, never), Found::NotTold));
        assert!(matches!(vmas.find(AGAIN_NS, 7, 0x4000, whole(MAP)), Found::Unmapped(_)));
        assert!(matches!(vmas.find(AGAIN_NS, 7, 0x4000, never), Found::NotTold));
        // What is fresh now holds a second from there.
        assert!(matches!(vmas.find(AGAIN_NS + FRESH_NS - 1, 7, 0x1000, never), Found::Mapped(_, 0)));
        assert!(matches!(vmas.find(AGAIN_NS + FRESH_NS, 7, 0x1000, gone), Found::Gone));
        assert_eq!(vmas.len(), 0, "what has gone is forgotten");
    }

    #[test]
    fn what_was_not_read_whole_does_not_say_unmapped() {
        let mut vmas = Vmas::<()>::new();
        let cut = |_| Ok((Maps::parse(MAP), false));
        assert!(matches!(vmas.find(0, 7, 0x9000, cut), Found::NotTold));
        let broken = [MAP, b"hostile line\n"].concat();
        assert!(matches!(vmas.find(AGAIN_NS, 7, 0x9000, whole(&broken)), Found::NotTold));
        assert!(matches!(vmas.find(2 * AGAIN_NS, 7, 0x9000, whole(MAP)), Found::Unmapped(_)));
        assert!(matches!(vmas.find(3 * AGAIN_NS, 7, 0x9000, whole(b"")), Found::Gone), "no mapping at all");
    }

    #[test]
    fn a_ration_is_earned_by_time() {
        let mut ration = Ration::new(10, 100);
        assert!(!ration.take(0, 11));
        assert!(ration.take(0, 9) && !ration.take(99, 2) && ration.take(99, 1));
        assert!(!ration.take(199, 2) && ration.take(200, 2) && !ration.take(299, 1));
        assert!(!ration.take(u64::MAX, 11) && ration.take(u64::MAX, 10));
        assert!(!ration.take(5, 1), "time that goes back earns nothing");
    }

    #[test]
    fn reads_and_processes_are_bounded() {
        let mut vmas = Vmas::<()>::new();
        let mut reads = 0;
        // 100,000 unknown addresses a second, of 1,000 processes.
        for n in 0..100_000u32 {
            let at_ns = u64::from(n) * 10_000;
            let found = vmas.find(at_ns, n % 1000, 0x4000, |_| {
                reads += 1;
                Ok((Maps::parse(MAP), true))
            });
            assert!(matches!(found, Found::Unmapped(_) | Found::NotTold));
        }
        assert_eq!(reads, READS_AT_ONCE + FRESH_NS / READ_EVERY_NS - 1);
        assert_eq!(vmas.len(), PROCESSES);
    }

    #[test]
    fn the_process_unused_for_longest_makes_room() {
        let mut vmas = Vmas::<()>::new();
        let mut now_ns = 0;
        for pid in 0..PROCESSES as u32 {
            now_ns += 1;
            assert!(matches!(vmas.find(now_ns, pid, 0x1000, whole(MAP)), Found::Mapped(..)));
        }
        now_ns += READ_EVERY_NS;
        assert!(matches!(vmas.find(now_ns, 0, 0x1000, never), Found::Mapped(..)));
        assert!(matches!(vmas.find(now_ns, 1000, 0x1000, whole(MAP)), Found::Mapped(..)));
        assert!(vmas.fresh(now_ns, 0).is_some());
        assert!(vmas.fresh(now_ns, 1).is_none());
    }
}
