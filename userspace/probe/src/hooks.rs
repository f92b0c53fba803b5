//! Where each hook can be attached, best first, and attaching it. Every hook ends in a verdict.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    time::Instant,
};

use dsascope_core::event::{Hook, ProgramStats, Verdict, VerdictState};

use crate::{
    error::ProbeError,
    object::Loaded,
    offsets::Layout,
    sys::{self, PerfLink, ProgramType},
};

/// Which attach types may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// Chosen hook by hook; what misses nothing first.
    #[default]
    Auto,
    /// fentry and fexit wherever there is a function.
    Fentry,
    Kprobe,
    Tracepoint,
}

/// One way to attach.
///
/// BPF programs of the tracing kind (fentry, fexit, BTF tracepoints) run preemptibly, and the kernel skips such a program when a task
/// that preempted it on the same CPU comes to the same hook: under load about one fault in a hundred. Kprobes and tracepoints run
/// with preemption off and miss nothing, kretprobes only when more calls are under way than there are instances (twice the number
/// of CPUs, at least ten). What was skipped is counted whatever the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A tracepoint with typed arguments.
    Btf,
    /// fentry, or on return fexit.
    Fentry,
    /// kprobe, or on return kretprobe.
    Kprobe,
    Tracepoint,
}

impl Attach {
    /// Best first.
    const fn ways(self, site: &Site) -> &'static [How] {
        match self {
            Self::Auto => site.ways,
            // The hand-over is no function of its own: its tracepoint stands in.
            Self::Fentry => &[How::Fentry, How::Btf],
            Self::Kprobe => &[How::Kprobe, How::Tracepoint],
            Self::Tracepoint => &[How::Tracepoint],
        }
    }
}

impl How {
    /// As verdicts and program names have it.
    const fn name(self, on_return: bool) -> &'static str {
        match (self, on_return) {
            (Self::Btf, _) => "tp_btf",
            (Self::Fentry, false) => "fentry",
            (Self::Fentry, true) => "fexit",
            (Self::Kprobe, false) => "kprobe",
            (Self::Kprobe, true) => "kretprobe",
            (Self::Tracepoint, _) => "tracepoint",
        }
    }

    fn program(self, site: &Site) -> String {
        let suffix = if self == Self::Btf { "btf" } else { self.name(site.on_return) };
        format!("{}_{suffix}", site.program)
    }

    /// Whether the site can be attached to so at all.
    fn fits(self, site: &Site) -> bool {
        site.ways.contains(&self)
    }
}

/// One hook's sites.
struct Site {
    hook: Hook,
    required: bool,
    /// A driver function, or with `in_kernel` a function of vmlinux; empty for a tracepoint.
    function: &'static str,
    in_kernel: bool,
    on_return: bool,
    /// Program names without their attach-type suffix.
    program: &'static str,
    /// (category, event) of the tracepoint that shows the same.
    tracepoint: Option<(&'static str, &'static str)>,
    /// Those for which the object has a program; [`Attach::Auto`] tries them all, best first.
    ways: &'static [How],
    /// Only where it is asked for.
    wanted: Wanted,
}

/// What is observed only where it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Always,
    PageRequests,
    Submissions,
}

const INTEL_IOMMU: &str = "intel_iommu";
const WORKQUEUE: &str = "workqueue";
/// Interrupt threads have one real-time priority and do not preempt each other.
const INTERRUPT: &[How] = &[How::Fentry, How::Kprobe];

const fn entry(hook: Hook, function: &'static str, program: &'static str) -> Site {
    Site {
        hook,
        required: false,
        function,
        in_kernel: false,
        on_return: false,
        program,
        tracepoint: None,
        ways: &[How::Kprobe, How::Fentry],
        wanted: Wanted::Always,
    }
}

const fn exit(hook: Hook, function: &'static str, program: &'static str) -> Site {
    Site { on_return: true, ..entry(hook, function, program) }
}

/// In the order of attaching: the end of each path before its beginning, so that what is seen to begin is seen to end.
const SITES: &[Site] = &[
    exit(Hook::ReleaseEnd, "idxd_file_dev_release", "release_end"),
    entry(Hook::ReleaseCounters, "idxd_xa_pasid_remove", "release_counters"),
    Site { in_kernel: true, ..entry(Hook::ReleaseDrain, "drain_workqueue", "release_drain") },
    entry(Hook::ReleaseStart, "idxd_file_dev_release", "release_start"),
    exit(Hook::OpenEnd, "idxd_cdev_open", "open_end"),
    entry(Hook::OpenStart, "idxd_cdev_open", "open_start"),
    Site {
        required: true,
        tracepoint: Some((WORKQUEUE, "workqueue_execute_end")),
        // Fires for every work of the machine, but is never short of instances: no fault may lack its end.
        ways: &[How::Tracepoint, How::Kprobe, How::Fentry],
        ..exit(Hook::ServiceEnd, "idxd_evl_fault_work", "service_end")
    },
    entry(Hook::Counter, "idxd_user_counter_increment", "counter"),
    exit(Hook::CopyEnd, "idxd_copy_cr", "copy_end"),
    entry(Hook::CopyStart, "idxd_copy_cr", "copy_start"),
    Site {
        required: true,
        tracepoint: Some((WORKQUEUE, "workqueue_execute_start")),
        ways: &[How::Kprobe, How::Tracepoint, How::Fentry],
        ..entry(Hook::ServiceStart, "idxd_evl_fault_work", "service_start")
    },
    Site { ways: INTERRUPT, ..exit(Hook::InterruptEnd, "idxd_misc_thread", "interrupt_end") },
    Site { ways: INTERRUPT, ..entry(Hook::InterruptStart, "idxd_misc_thread", "interrupt_start") },
    Site {
        required: true,
        tracepoint: Some((WORKQUEUE, "workqueue_queue_work")),
        // Interrupts are off here, so nothing can preempt it.
        ways: &[How::Btf, How::Tracepoint],
        ..entry(Hook::Queued, "", "queued")
    },
    exit(Hook::CommandEnd, "idxd_cmd_exec", "command_end"),
    entry(Hook::CommandStart, "idxd_cmd_exec", "command_start"),
    entry(Hook::HaltSoftware, "idxd_device_reinit", "halt_software"),
    entry(Hook::HaltFlr, "idxd_device_flr", "halt_flr"),
    // Only the interrupt thread calls it, when it finds a halt that the driver cannot end.
    entry(Hook::HaltFinal, "idxd_wqs_unmap_portal", "halt_final"),
    exit(Hook::ResetEnd, "idxd_reset_done", "reset_end"),
    entry(Hook::ResetStart, "idxd_reset_prepare", "reset_start"),
    // No fentry for a function of variable arguments.
    Site { in_kernel: true, ways: &[How::Kprobe], ..entry(Hook::Warning, "_dev_warn", "warning") },
    Site { wanted: Wanted::Submissions, ..exit(Hook::WriteEnd, "idxd_cdev_write", "write_end") },
    Site { wanted: Wanted::Submissions, ..entry(Hook::WriteStart, "idxd_cdev_write", "write_start") },
    Site {
        wanted: Wanted::PageRequests,
        tracepoint: Some((INTEL_IOMMU, "qi_submit")),
        // Under a spinlock with interrupts off.
        ways: &[How::Btf, How::Tracepoint],
        ..entry(Hook::PageResponse, "", "page_response")
    },
    Site {
        wanted: Wanted::PageRequests,
        tracepoint: Some((INTEL_IOMMU, "prq_report")),
        ways: &[How::Tracepoint, How::Btf],
        ..entry(Hook::PageRequest, "", "page_request")
    },
];

/// Names that [`Layout`] must be asked for: driver functions, kernel functions, tracepoints.
pub(crate) fn targets() -> (Vec<&'static str>, Vec<&'static str>, Vec<&'static str>) {
    let functions = |in_kernel| {
        let wanted = move |s: &&Site| s.in_kernel == in_kernel && !s.function.is_empty();
        SITES.iter().filter(wanted).map(|s| s.function).collect::<Vec<_>>()
    };
    let mut kernel = functions(true);
    kernel.push(TASK_ITERATOR);
    let tracepoints = SITES.iter().filter_map(|s| s.tracepoint).map(|t| t.1).collect();
    (functions(false), kernel, tracepoints)
}

/// Every program that may be asked for, by name.
#[cfg(test)]
pub(crate) fn program_names() -> Vec<String> {
    let all = [How::Btf, How::Fentry, How::Kprobe, How::Tracepoint];
    let of_sites = SITES.iter().flat_map(|s| all.into_iter().filter(|h| h.fits(s)).map(|h| h.program(s)));
    of_sites.chain(["pasids_iter".to_owned()]).collect()
}

/// What an iterator over tasks attaches to.
pub(crate) const TASK_ITERATOR: &str = "bpf_iter_task";

#[derive(Debug)]
enum Link {
    Tracing { _link: OwnedFd },
    Perf(PerfLink),
}

/// One program that runs.
#[derive(Debug)]
pub(crate) struct Attached {
    hook: Hook,
    name: String,
    program: OwnedFd,
    link: Link,
}

impl Attached {
    /// Statistics as the kernel keeps them; run counts only while `kernel.bpf_stats_enabled` is on.
    pub(crate) fn stats(&self) -> ProgramStats {
        let info = sys::program_info(self.program.as_fd()).ok();
        let missed_by_link = match &self.link {
            Link::Perf(perf) => sys::link_missed(perf.link.as_fd()),
            Link::Tracing { .. } => None,
        };
        let recursion = info.map(|i| i.recursion_misses);
        let counted = info.filter(|i| i.run_cnt > 0);
        ProgramStats {
            name: self.name.clone(),
            hook: Some(self.hook),
            runs: counted.map(|i| i.run_cnt),
            run_ns: counted.map(|i| i.run_time_ns),
            missed: match (recursion, missed_by_link) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
            },
            verified_instructions: info.map(|i| i.verified_insns),
        }
    }

    /// Instructions the verifier walked; its complexity on this kernel.
    pub(crate) fn verified_instructions(&self) -> Option<u32> {
        sys::program_info(self.program.as_fd()).ok().map(|i| i.verified_insns)
    }

    pub(crate) fn id(&self) -> Option<u32> {
        sys::program_info(self.program.as_fd()).ok().map(|i| i.id)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Everything that attaching needs to know of the host.
pub(crate) struct Host<'a> {
    pub(crate) layout: &'a Layout,
    /// The idxd module's BTF object; `None`: the kernel does not offer it.
    pub(crate) module_btf: Option<&'a OwnedFd>,
}

/// Attaches every hook it can; what it could not is in the verdicts.
pub(crate) fn attach_all(
    object: &Loaded,
    host: &Host<'_>,
    allowed: Attach,
    page_requests: bool,
    submissions: bool,
) -> Result<(Vec<Attached>, Vec<Verdict>), ProbeError> {
    let mut attached = Vec::new();
    let mut verdicts = Vec::new();
    let wanted = |site: &&Site| match site.wanted {
        Wanted::Always => true,
        Wanted::PageRequests => page_requests,
        Wanted::Submissions => submissions,
    };
    for site in SITES.iter().filter(wanted) {
        let began = Instant::now();
        let state = match attach_site(object, host, allowed, site)? {
            Ok((program, by)) => {
                attached.push(program);
                VerdictState::Attached { by: by.into() }
            }
            Err(state) => state,
        };
        verdicts.push(Verdict {
            hook: site.hook,
            required: site.required,
            state,
            hits: None,
            attach_ns: Some(began.elapsed().as_nanos() as u64),
        });
    }
    verdicts.sort_by_key(|v| v.hook);
    Ok((attached, verdicts))
}

/// Tries the site's attach types in order. Outer error: nothing could ever be attached.
fn attach_site(
    object: &Loaded,
    host: &Host<'_>,
    allowed: Attach,
    site: &Site,
) -> Result<Result<(Attached, &'static str), VerdictState>, ProbeError> {
    let mut reasons = Vec::new();
    let mut refused = false;
    for how in allowed.ways(site).iter().filter(|how| how.fits(site)) {
        let name = how.program(site);
        let tried = match (how, site.tracepoint) {
            (How::Btf | How::Fentry, _) => attach_btf(object, host, site, &name, *how),
            (How::Kprobe, _) => attach_kprobe(object, site, &name),
            (How::Tracepoint, Some((category, event))) => {
                attach_tracepoint(object, host, category, event, &name)
            }
            (How::Tracepoint, None) => continue,
        };
        match tried {
            Ok((program, link)) => {
                return Ok(Ok((Attached { hook: site.hook, name, program, link }, how.name(site.on_return))));
            }
            Err(Failure::Absent(why)) => reasons.push(why),
            Err(Failure::Kernel { what, source }) => {
                refused = true;
                reasons.push(format!("{what}: {source}"));
            }
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
    let why = if reasons.is_empty() {
        "no such hook among the allowed attach types".into()
    } else {
        reasons.join("; ")
    };
    Ok(Err(if refused { VerdictState::Refused { why } } else { VerdictState::NotOnThisKernel { why } }))
}

enum Failure {
    /// This kernel has no such function, event or file.
    Absent(String),
    Kernel {
        what: String,
        source: io::Error,
    },
    Fatal(ProbeError),
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        Self::Fatal(error)
    }
}

fn kernel(what: &str) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |source| Failure::Kernel { what: what.to_owned(), source }
}

fn attach_btf(
    object: &Loaded,
    host: &Host<'_>,
    site: &Site,
    name: &str,
    how: How,
) -> Result<(OwnedFd, Link), Failure> {
    let fentry = if site.on_return { ProgramType::Fexit } else { ProgramType::Fentry };
    let (kind, target, id, module) = match (how, site.tracepoint) {
        (How::Btf, Some((_, event))) => {
            (ProgramType::BtfTracepoint, event, host.layout.tracepoint(event), None)
        }
        _ if site.in_kernel => (fentry, site.function, host.layout.kernel_function(site.function), None),
        _ => {
            let module = host
                .module_btf
                .ok_or_else(|| Failure::Absent("no kernel BTF object of the idxd module".into()))?;
            (fentry, site.function, host.layout.module_function(site.function), Some(module.as_fd()))
        }
    };
    let id = id.ok_or_else(|| Failure::Absent(format!("{target} is not in BTF")))?;
    let program = sys::load_program(name, kind, object.code(name)?, Some((id, module)))
        .map_err(kernel(&format!("load {name}")))?;
    let link = sys::attach_tracing(program.as_fd()).map_err(kernel(&format!("attach {name}")))?;
    Ok((program, Link::Tracing { _link: link }))
}

fn attach_kprobe(object: &Loaded, site: &Site, name: &str) -> Result<(OwnedFd, Link), Failure> {
    const TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";
    let event_type = fs::read_to_string(TYPE)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .ok_or_else(|| Failure::Absent("this kernel has no kprobes".into()))?;
    let program = sys::load_program(name, ProgramType::Kprobe, object.code(name)?, None)
        .map_err(kernel(&format!("load {name}")))?;
    let function = CString::new(site.function).unwrap_or_default();
    let link = sys::attach_kprobe(program.as_fd(), event_type, &function, site.on_return)
        .map_err(kernel(&format!("kprobe on {}", site.function)))?;
    Ok((program, Link::Perf(link)))
}

fn attach_tracepoint(
    object: &Loaded,
    host: &Host<'_>,
    category: &str,
    event: &str,
    name: &str,
) -> Result<(OwnedFd, Link), Failure> {
    let layout: &[&str] = match event {
        "prq_report" => &["TP_PRQ_DW0", "TP_PRQ_DW1"],
        "qi_submit" => &["TP_QI_QW0", "TP_QI_QW1"],
        _ => &["TP_QUEUE_FUNCTION", "TP_START_FUNCTION", "TP_END_FUNCTION"],
    };
    if !layout.iter().all(|global| host.layout.has(global)) {
        return Err(Failure::Absent(format!("the layout of {event} is not in BTF")));
    }
    let id = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/events/{category}/{event}/id")).ok())
        .and_then(|t| t.trim().parse().ok())
        .ok_or_else(|| Failure::Absent(format!("no {category}:{event} in tracefs (is it mounted?)")))?;
    let program = sys::load_program(name, ProgramType::Tracepoint, object.code(name)?, None)
        .map_err(kernel(&format!("load {name}")))?;
    let link = sys::attach_tracepoint(program.as_fd(), id).map_err(kernel(&format!("attach {name}")))?;
    Ok((program, Link::Perf(link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hooks for which no program fits, however the kernel is.
    fn unseen(attach: Attach) -> Vec<&'static str> {
        let unseen = |hook: &&Hook| {
            let site = SITES.iter().find(|site| site.hook == **hook).expect("every hook has a site");
            !attach.ways(site).iter().any(|how| how.fits(site))
        };
        let driver = Hook::ALL.iter().filter(|hook| !hook.is_in_programs());
        driver.filter(unseen).map(|hook| hook.name()).collect()
    }

    #[test]
    fn the_document_lists_what_each_way_to_attach_does_not_see() {
        let document = include_str!("../../../docs/probes.md");
        let (_, rest) = document.split_once("<!-- unseen -->").expect("a line <!-- unseen -->");
        let (table, _) = rest.split_once("<!-- end -->").expect("a line <!-- end -->");
        let row = |name: &str, attach| {
            let unseen = unseen(attach).join(", ");
            format!("| `{name}` | {unseen}{}|", if unseen.is_empty() { "" } else { " " })
        };
        let ways = [
            row("fentry", Attach::Fentry),
            row("kprobe", Attach::Kprobe),
            row("tracepoint", Attach::Tracepoint),
        ];
        assert_eq!(
            table.lines().filter(|line| line.starts_with("| `") && !line.contains("--")).collect::<Vec<_>>(),
            ways
        );
        assert!(unseen(Attach::Auto).is_empty());
    }
}
