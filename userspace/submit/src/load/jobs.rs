//! The descriptors that a load is made of: operations by sizes by batches.
//!
//! Owns: which of these a work queue takes. Pure. Refuses: what the device would refuse, with the reason.

use std::sync::Arc;

use super::Words;
use crate::{Access, BatchPlan, Case, DeviceKind, Element, Habit, Job, Operation};

/// What is asked for, each with its share.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub operations: Vec<(Operation, u16)>,
    /// Rounded up to what the operation needs.
    pub bytes: Vec<(u32, u16)>,
    /// Descriptors a batch; 1 is none.
    pub batches: Vec<(u16, u16)>,
    /// Of all batches.
    pub words: Option<Words>,
    /// Where lists of batches may end, for those whose list is absent from there on.
    pub list_border: Option<u16>,
}

/// One job an operation, size and batch.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    /// By job: its operation in words, and the place of that in `groups`.
    pub names: Vec<(String, usize)>,
    pub groups: Vec<String>,
    pub shares: Vec<(usize, u16)>,
}

impl Wanted {
    /// The jobs for a WQ that takes transfers and batches up to these.
    pub fn jobs(&self, kind: DeviceKind, max_bytes: u64, max_batch: u32) -> Result<Jobs, String> {
        let mut all = Jobs { jobs: Vec::new(), names: Vec::new(), groups: Vec::new(), shares: Vec::new() };
        for &(operation, of_operation) in &self.operations {
            let mut sizes = self.sizes(operation, kind, max_bytes)?;
            for &(count, of_count) in &self.batches {
                check_batch(operation, kind, count, max_batch)?;
                if count == 1 && self.words.is_some() {
                    return Err("batch words are for batches, and 1 descriptor is none".into());
                }
                for (bytes, of_bytes) in &mut sizes {
                    let share = u64::from(of_operation) * u64::from(of_count) * u64::from(*of_bytes);
                    let share = u16::try_from(share)
                        .map_err(|_| "the shares multiply to more than 65535".to_owned())?;
                    all.add(self.job(operation, *bytes, count)?, name(operation, kind, count), share);
                }
            }
        }
        let sum: u32 = all.shares.iter().map(|&(_, share)| u32::from(share)).sum();
        if !(1..=65536).contains(&sum) {
            return Err(format!("the shares multiply and sum to {sum}, which must be 1 to 65536"));
        }
        Ok(all)
    }

    fn sizes(
        &self,
        operation: Operation,
        kind: DeviceKind,
        max_bytes: u64,
    ) -> Result<Vec<(u32, u16)>, String> {
        if !operation.is_of(kind) || operation == Operation::Batch {
            return Err(format!(
                "{} is no operation for {kind:?} (batches: by their count)",
                words_of(operation, kind)
            ));
        }
        if !operation.has_operands() {
            return Ok(vec![(
                0,
                self.bytes.iter().fold(0, |sum: u16, &(_, share)| sum.saturating_add(share)),
            )]);
        }
        let most = u64::from(operation.max_bytes()).min(max_bytes);
        let size = |&(bytes, share): &(u32, u16)| {
            let rounded = bytes.max(1).next_multiple_of(operation.unit_bytes());
            if u64::from(rounded) > most {
                return Err(format!(
                    "{} takes at most {most} bytes here, not {rounded}",
                    words_of(operation, kind)
                ));
            }
            Ok((rounded, share))
        };
        self.bytes.iter().map(size).collect()
    }

    fn job(&self, operation: Operation, bytes: u32, count: u16) -> Result<Job, String> {
        let case = Arc::new(Case::new(operation, bytes));
        if count == 1 {
            return Ok(Job::single(case));
        }
        let mut elements = self.words.as_ref().map(|words| words.elements.clone()).unwrap_or_default();
        if elements.len() > usize::from(count) {
            return Err(format!("words for {} descriptors, in batches of {count}", elements.len()));
        }
        elements.resize(count.into(), Element::default());
        if elements.iter().any(|element| element.failing) && !operation.accesses(Access::Read) {
            let name = words_of(operation, DeviceKind::Dsa);
            return Err(format!("desc_fault takes the source away, and {name} has none"));
        }
        let border = self.words.as_ref().and_then(|words| words.list_border).or(self.list_border);
        if border.is_some_and(|border| border >= count) {
            return Err(format!("the list has {count} descriptors: it cannot end behind them"));
        }
        let plan = BatchPlan { elements, list_border: border, record_requested: true };
        // Memory of their own, so that each is verified.
        Ok(Job { cases: vec![case; count.into()], batch: Some(plan) })
    }
}

impl Jobs {
    fn add(&mut self, job: Job, name: String, share: u16) {
        let group = self.groups.iter().position(|group| *group == name).unwrap_or(self.groups.len());
        if group == self.groups.len() {
            self.groups.push(name.clone());
        }
        self.shares.push((self.jobs.len(), share));
        self.names.push((name, group));
        self.jobs.push(job);
    }

    /// Whether something can be waited for only when its record comes: drains, and batches whose list may be absent.
    #[must_use]
    pub fn needs_records(&self, list_may_be_absent: bool) -> bool {
        self.jobs.iter().any(|job| {
            let drain =
                job.batch.is_none() && job.cases.iter().any(|case| case.operation() == Operation::Drain);
            drain || list_may_be_absent && job.batch.as_ref().is_some_and(|batch| batch.list_border.is_some())
        })
    }

    #[must_use]
    pub fn has_batches(&self) -> bool {
        self.jobs.iter().any(|job| job.batch.is_some())
    }

    #[must_use]
    pub fn has_fences(&self) -> bool {
        self.elements().any(|element| element.fence)
    }

    #[must_use]
    pub fn has_records(&self, which: impl Fn(Habit) -> bool) -> bool {
        self.elements().any(|element| which(element.habit))
    }

    fn elements(&self) -> impl Iterator<Item = &Element> {
        self.jobs.iter().filter_map(|job| job.batch.as_ref()).flat_map(|batch| &batch.elements)
    }
}

/// All operations of a kind that can be submitted by themselves and in batches.
#[must_use]
pub fn all_of(kind: DeviceKind) -> Vec<Operation> {
    let single = |o: &Operation| o.is_of(kind) && !matches!(o, Operation::Batch | Operation::Drain);
    Operation::ALL.into_iter().filter(single).collect()
}

fn check_batch(operation: Operation, kind: DeviceKind, count: u16, max_batch: u32) -> Result<(), String> {
    if count == 1 {
        return Ok(());
    }
    if kind == DeviceKind::Iaa {
        return Err("IAA has no batches".into());
    }
    if operation == Operation::Drain {
        return Err("a drain cannot be in a batch".into());
    }
    if u32::from(count) > max_batch || count < 2 {
        return Err(format!("this work queue takes batches of 2 to {max_batch}, not {count}"));
    }
    Ok(())
}

fn words_of(operation: Operation, kind: DeviceKind) -> &'static str {
    let other = || DeviceKind::ALL.into_iter().find_map(|kind| kind.operation_name(operation.opcode()));
    kind.operation_name(operation.opcode()).or_else(other).unwrap_or("it")
}

fn name(operation: Operation, kind: DeviceKind, count: u16) -> String {
    let name = words_of(operation, kind);
    if count == 1 { name.to_owned() } else { format!("batch of {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(operation: Operation) -> Wanted {
        Wanted {
            operations: vec![(operation, 1)],
            bytes: vec![(100, 1)],
            batches: vec![(1, 1)],
            words: None,
            list_border: None,
        }
    }

    #[test]
    fn jobs_are_operations_by_sizes_by_batches() {
        let wanted = Wanted {
            operations: vec![(Operation::Memmove, 3), (Operation::Noop, 1)],
            bytes: vec![(64, 1), (4096, 1)],
            batches: vec![(1, 1), (4, 2)],
            ..wanted(Operation::Noop)
        };
        let jobs = wanted.jobs(DeviceKind::Dsa, 1 << 20, 32).unwrap();
        let shares: Vec<u16> = jobs.shares.iter().map(|&(_, share)| share).collect();
        assert_eq!(shares, [3, 3, 6, 6, 2, 4]);
        assert_eq!(jobs.groups, ["memmove", "batch of memmove", "noop", "batch of noop"]);
        assert_eq!((jobs.names[3].1, jobs.jobs[3].cases.len()), (1, 4));
    }

    #[test]
    fn sizes_are_rounded_up_to_what_an_operation_needs() {
        let bytes = |operation| {
            let jobs = wanted(operation).jobs(DeviceKind::Dsa, 1 << 20, 32).unwrap();
            jobs.jobs[0].cases[0].operands()[0].bytes
        };
        assert_eq!((bytes(Operation::Memmove), bytes(Operation::Compare)), (100, 100));
        assert_eq!((bytes(Operation::CrDelta), bytes(Operation::DifIns)), (104, 512));
    }

    #[test]
    fn what_the_device_would_refuse_is_refused_with_the_reason() {
        let words = |text: &str| Some(text.parse().unwrap());
        let batch = |operation, count| Wanted { batches: vec![(count, 1)], ..wanted(operation) };
        for (wanted, kind, reason) in [
            (wanted(Operation::Crc64), DeviceKind::Dsa, "crc64 is no operation"),
            (wanted(Operation::Dualcast), DeviceKind::Iaa, "dualcast is no operation"),
            (
                Wanted { bytes: vec![(1 << 20, 1)], ..wanted(Operation::CrDelta) },
                DeviceKind::Dsa,
                "at most 524288",
            ),
            (
                Wanted { bytes: vec![(u32::MAX, 1)], ..wanted(Operation::Memmove) },
                DeviceKind::Dsa,
                "at most 1048576",
            ),
            (batch(Operation::Memmove, 33), DeviceKind::Dsa, "2 to 32, not 33"),
            (batch(Operation::Drain, 2), DeviceKind::Dsa, "a drain cannot"),
            (batch(Operation::Memmove, 2), DeviceKind::Iaa, "no batches"),
            (
                Wanted { words: words("0:1"), ..batch(Operation::Memfill, 2) },
                DeviceKind::Dsa,
                "memfill has none",
            ),
            (
                Wanted { words: words("0:0:0:0"), ..batch(Operation::Memmove, 2) },
                DeviceKind::Dsa,
                "words for 3",
            ),
            (
                Wanted { words: words("0,0,1,2"), ..batch(Operation::Memmove, 2) },
                DeviceKind::Dsa,
                "cannot end behind",
            ),
            (
                Wanted { words: words("0"), ..wanted(Operation::Memmove) },
                DeviceKind::Dsa,
                "1 descriptor is none",
            ),
            (Wanted { bytes: vec![(1, 0)], ..wanted(Operation::Memmove) }, DeviceKind::Dsa, "sum to 0"),
            (
                Wanted {
                    bytes: vec![(1, 999)],
                    operations: vec![(Operation::Memmove, 999)],
                    ..wanted(Operation::Noop)
                },
                DeviceKind::Dsa,
                "more than 65535",
            ),
        ] {
            let error = wanted.jobs(kind, 1 << 20, 32).unwrap_err();
            assert!(error.contains(reason), "{error:?} lacks {reason:?}");
        }
    }

    #[test]
    fn all_operations_are_those_that_go_alone() {
        let dsa = all_of(DeviceKind::Dsa);
        assert_eq!(dsa.len(), 17);
        let operations = dsa.into_iter().map(|operation| (operation, 1)).collect();
        let all = Wanted {
            operations,
            bytes: vec![(4096, 1)],
            batches: vec![(1, 1), (2, 1)],
            ..wanted(Operation::Noop)
        };
        assert_eq!(all.jobs(DeviceKind::Dsa, 1 << 20, 2).unwrap().jobs.len(), 34);
        assert_eq!(all_of(DeviceKind::Iaa).len(), 5);
    }
}
