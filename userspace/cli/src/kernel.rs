//! This host's driver as a [`Source`]: attach, then events as they come.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use dsascope_core::event::{Event, Snapshot};
use dsascope_probe::{Host, Options, ProbeError, Submissions, Tracer, now_ns};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::Tracing;
use crate::exit::{Code, Failure};
use crate::flags::Attach;
use crate::privileges;
use crate::source::{BATCH, Next, Source};

/// How long an event may wait in a ring that is below its wake-up mark: while events come, and when none has come for [`CALM`] looks.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_WHEN_CALM: Duration = Duration::from_millis(400);
const CALM: u32 = 20;

#[derive(Debug)]
pub(crate) struct Kernel {
    /// The ring's descriptor, duplicated.
    ready: AsyncFd<OwnedFd>,
    tracer: Tracer,
    /// Looks in a row that found nothing.
    empty_looks: u32,
    told: bool,
    /// The last batch was full: there may be more already.
    more: bool,
}

impl Kernel {
    /// Attaches to the driver. To be called within a runtime.
    pub(crate) fn attach(host: &Host, tracing: &Tracing) -> Result<Self> {
        let options = Options {
            attach: match tracing.attach {
                Attach::Auto => dsascope_probe::Attach::Auto,
                Attach::Fentry => dsascope_probe::Attach::Fentry,
                Attach::Kprobe => dsascope_probe::Attach::Kprobe,
                Attach::Tracepoint => dsascope_probe::Attach::Tracepoint,
            },
            ring_bytes: u64::from(tracing.ring_bytes),
            pending: tracing.pending,
            page_requests: tracing.page_requests,
            stages: tracing.stages,
            submissions: Submissions {
                of: tracing.submitters.clone(),
                sample: tracing.submission_sample,
                elements_told: tracing.batch_list,
                begin: || {
                    // Then it holds all of them, and that is no reason not to look.
                    if let Err(error) = privileges::keep_for_submitters() {
                        log::warn!("{error:#}");
                    }
                },
            },
            storm_per_s: tracing.storm_per_s,
            verbose: tracing.verbose,
        };
        let tracer = Tracer::attach(host, &options).map_err(failure)?;
        // SAFETY: the tracer lives on and keeps its ring's descriptor open while it is borrowed here.
        let ring = unsafe { BorrowedFd::borrow_raw(tracer.as_raw_fd()) };
        let ring = ring.try_clone_to_owned().context("duplicate the ring's descriptor")?;
        // SAFETY: the descriptor is owned by what is registered and never replaced.
        let ready =
            unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.context("watch the ring")?;
        Ok(Self { ready, tracer, empty_looks: 0, told: false, more: false })
    }
}

impl Source for Kernel {
    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Next> {
        if !self.told {
            self.told = true;
            out.push(Event::Session(Box::new(self.tracer.session().clone())));
            return Ok(Next::More);
        }
        if self.more {
            // Keys and timers get their turn between full batches.
            tokio::task::yield_now().await;
        } else {
            let look = if self.empty_looks < CALM { LOOK } else { LOOK_WHEN_CALM };
            tokio::select! {
                ready = self.ready.readable() => ready.context("wait for the ring")?.clear_ready(),
                () = tokio::time::sleep(look) => {}
            }
        }
        let taken = self.tracer.drain(BATCH, |event| out.push(event));
        self.empty_looks = if taken == 0 { self.empty_looks.saturating_add(1) } else { 0 };
        self.more = taken == BATCH;
        Ok(Next::More)
    }

    fn snapshot(&mut self) -> Result<Option<Snapshot>> {
        self.tracer.snapshot().map(Some).context("read the totals")
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<()> {
        self.tracer.finish(|event| out.push(event)).context("read the last totals")?;
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn is_recorded(&self) -> bool {
        false
    }
}

/// The next step and the exit code for what kept the probes from attaching.
fn failure(error: ProbeError) -> Failure {
    let (code, next) = match &error {
        ProbeError::NoDriver => (Code::NoDriver, "modprobe idxd, then `dsascope doctor`"),
        ProbeError::NoDevice => {
            (Code::NoDevice, "`dsascope doctor` says where to look: device, firmware, IOMMU")
        }
        ProbeError::NoPermission { .. } => {
            (Code::NoPermission, "run as root (sudo dsascope); `dsascope doctor` checks lockdown")
        }
        ProbeError::NoBtf { .. } | ProbeError::Btf(_) | ProbeError::Layout { .. } => (
            Code::NoBtf,
            "use a kernel with CONFIG_DEBUG_INFO_BTF and its own idxd module; `dsascope doctor` checks both",
        ),
        ProbeError::NotTraceable { .. } => {
            (Code::NotTraceable, "try --attach kprobe or --attach tracepoint, or leave --attach at auto")
        }
        ProbeError::RingSize { .. } => (Code::Usage, "choose --ring-size as 64KiB, 1MiB, 4MiB, ..."),
        _ => (Code::Failure, "`dsascope doctor` says what this host offers"),
    };
    Failure::new(code, error.to_string(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_has_its_code_and_a_next_step() {
        let cases = [
            (ProbeError::NoDriver, Code::NoDriver),
            (ProbeError::NoDevice, Code::NoDevice),
            (ProbeError::NoPermission { operation: "load".into() }, Code::NoPermission),
            (ProbeError::Layout { structure: "idxd_wq", member: "id" }, Code::NoBtf),
            (ProbeError::NotTraceable { missing: vec!["service start".into()] }, Code::NotTraceable),
            (ProbeError::RingSize { bytes: 3, page: 4096 }, Code::Usage),
            (ProbeError::Object { what: "short".into() }, Code::Failure),
        ];
        for (error, code) in cases {
            let failure = failure(error);
            assert_eq!(failure.code, code);
            assert!(!failure.what.is_empty() && !failure.next.is_empty());
            assert!(!failure.what.contains('\n'));
        }
    }
}
