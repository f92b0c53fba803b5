//! Flags, validated once: what the rest of the program may rely on.

use std::fmt;
use std::str::FromStr;

use dsascope_probe::Target;

use crate::exit::{Code, Failure};
use crate::flags::{self, Attach};
use crate::units::show_bytes;

/// The kernel takes rings up to 2 GiB; a reader that maps more than this has another problem.
const MAX_RING_BYTES: u64 = 1 << 30;
/// The map of followed faults is allocated when attaching, at some 300 bytes each.
const PENDING: std::ops::RangeInclusive<u32> = 64..=1 << 20;
const MAX_SAMPLE: u32 = 1 << 20;
/// The programs tell of no more, whatever they are told.
const MAX_BATCH_LIST: u32 = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracing {
    pub attach: Attach,
    /// A power of two and a multiple of the page size.
    pub ring_bytes: u32,
    pub pending: u32,
    pub verbose: bool,
    /// A record a stage in place of one a fault.
    pub stages: bool,
    pub page_requests: bool,
    /// Whose submissions are followed.
    pub submitters: Vec<Target>,
    /// A power of two.
    pub submission_sample: u32,
    pub batch_list: u32,
    /// Faults a second from which on a rise is a storm, in place of the usual.
    pub storm_per_s: Option<u32>,
}

impl Tracing {
    pub(crate) fn new(flags: &flags::Common, page_bytes: u64) -> Result<Self, Failure> {
        if !PENDING.contains(&flags.pending) {
            return Err(Failure::new(
                Code::Usage,
                format!("--pending {} is out of range", flags.pending),
                format!("choose a number from {} to {}", PENDING.start(), PENDING.end()),
            ));
        }
        if !flags.submission_sample.is_power_of_two() || flags.submission_sample > MAX_SAMPLE {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "--submission-sample {}: not a power of two up to {MAX_SAMPLE}",
                    flags.submission_sample
                ),
                "choose 1, 2, 4, 8, ...",
            ));
        }
        if flags.batch_list > MAX_BATCH_LIST {
            return Err(Failure::new(
                Code::Usage,
                format!("--batch-list {} is out of range", flags.batch_list),
                format!("choose a number up to {MAX_BATCH_LIST}"),
            ));
        }
        Ok(Self {
            attach: flags.attach,
            ring_bytes: ring_bytes(flags.ring_size, page_bytes)?,
            pending: flags.pending,
            verbose: flags.verbose,
            stages: flags.stages,
            page_requests: flags.page_requests,
            submitters: flags.submitter.clone(),
            submission_sample: flags.submission_sample,
            batch_list: flags.batch_list,
            storm_per_s: flags.storm_rate,
        })
    }
}

fn ring_bytes(bytes: u64, page_bytes: u64) -> Result<u32, Failure> {
    let fault = if !bytes.is_power_of_two() {
        "not a power of two"
    } else if bytes < page_bytes {
        "less than a page"
    } else if bytes > MAX_RING_BYTES {
        "too large"
    } else {
        return u32::try_from(bytes)
            .map_err(|_| Failure::new(Code::Usage, "--ring-size is too large", "use 1GiB or less"));
    };
    let near = bytes.clamp(page_bytes, MAX_RING_BYTES);
    let above = near.checked_next_power_of_two().unwrap_or(MAX_RING_BYTES).min(MAX_RING_BYTES);
    Err(Failure::new(
        Code::Usage,
        format!("--ring-size {bytes}: {fault}"),
        format!(
            "use a power of two that is a multiple of {page_bytes}, such as {} ({above})",
            show_bytes(above)
        ),
    ))
}

/// A work queue by its sysfs name. Device numbers are shared by DSA and IAA, so `wqN.M` is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WqName {
    pub device: u16,
    pub wq: u16,
}

impl FromStr for WqName {
    type Err = Failure;

    /// Takes `wq0.1`, `0.1` and `dsa0/wq0.1`.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let name = text.rsplit('/').next().unwrap_or(text);
        let name = name.strip_prefix("wq").unwrap_or(name);
        let parts =
            name.split_once('.').and_then(|(device, wq)| Some((device.parse().ok()?, wq.parse().ok()?)));
        match parts {
            Some((device, wq)) => Ok(Self { device, wq }),
            None => Err(Failure::new(
                Code::Usage,
                format!("--wq {text}: not a work queue's name"),
                "write it as in sysfs, such as wq0.1; `ls /sys/bus/dsa/devices` lists them",
            )),
        }
    }
}

impl fmt::Display for WqName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wq{}.{}", self.device, self.wq)
    }
}

/// Which faults are wanted; empty lists mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub pids: Vec<u32>,
    pub wqs: Vec<WqName>,
}

impl Selection {
    pub(crate) fn new(flags: &flags::Select) -> Result<Self, Failure> {
        let wqs = flags.wq.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self { pids: flags.pid.clone(), wqs })
    }

    /// Nothing was left out.
    pub(crate) fn is_all(&self) -> bool {
        self.pids.is_empty() && self.wqs.is_empty()
    }

    /// As it was typed.
    pub(crate) fn words(&self) -> String {
        let pids = self.pids.iter().map(|pid| format!("--pid {pid}"));
        pids.chain(self.wqs.iter().map(|wq| format!("--wq {wq}"))).collect::<Vec<_>>().join(" ")
    }

    /// Whether anything of this device is wanted.
    pub(crate) fn takes_device(&self, device: u16) -> bool {
        self.wqs.is_empty() || self.wqs.iter().any(|wq| wq.device == device)
    }

    /// Whether anything of this process is wanted.
    pub(crate) fn takes_process(&self, pid: u32) -> bool {
        self.pids.is_empty() || self.pids.contains(&pid)
    }

    pub(crate) fn takes(&self, pid: Option<u32>, device: u16, wq: u16) -> bool {
        (self.pids.is_empty() || pid.is_some_and(|pid| self.pids.contains(&pid)))
            && (self.wqs.is_empty() || self.wqs.contains(&WqName { device, wq }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes() {
        assert_eq!(ring_bytes(64 << 10, 4096).expect("fits"), 64 << 10);
        for (bytes, word, advice) in [
            (100_000, "power of two", "128 KiB (131072)"),
            (0, "power of two", "4 KiB (4096)"),
            (2048, "less than a page", "4 KiB"),
            (1 << 31, "too large", "1024 MiB"),
            (u64::MAX, "power of two", "1024 MiB"),
        ] {
            let failure = ring_bytes(bytes, 4096).expect_err("refused");
            assert_eq!(failure.code, Code::Usage);
            assert!(failure.what.contains(word), "{failure}");
            assert!(failure.next.contains(advice), "{failure}");
        }
    }

    #[test]
    fn work_queues() {
        let name = WqName { device: 2, wq: 7 };
        for text in ["wq2.7", "2.7", "dsa2/wq2.7", "/dev/iax/wq2.7"] {
            assert_eq!(text.parse::<WqName>().expect(text), name);
        }
        for text in ["", "wq", "wq2", "wq2.x", "wq-1.0", "wq70000.1"] {
            assert!(text.parse::<WqName>().is_err(), "{text}");
        }
        assert_eq!(name.to_string(), "wq2.7");
    }

    #[test]
    fn selection() {
        let all = Selection::default();
        assert!(all.takes(None, 0, 0));
        let some = Selection { pids: vec![7], wqs: vec![WqName { device: 0, wq: 1 }] };
        assert_eq!(some.words(), "--pid 7 --wq wq0.1");
        assert!(some.takes(Some(7), 0, 1));
        assert!(!some.takes(Some(7), 0, 0) && !some.takes(None, 0, 1));
        assert!(all.takes_device(3) && some.takes_device(0) && !some.takes_device(1));
    }
}
