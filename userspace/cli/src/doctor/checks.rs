//! The checks, in the order in which a missing thing hides the next.

use dsascope_core::event::{DeviceInfo, WqInfo};
use dsascope_core::known_kernels::{SvaByName, disabling_may_crash, sva_by_name};

use super::{Check, Facts, HostCheck, Verdict};
use crate::exit::Code;

fn check(
    verdict: Verdict,
    name: impl Into<String>,
    found: impl Into<String>,
    fix: Option<String>,
    code: Code,
) -> Check {
    Check { said: HostCheck { name: name.into(), verdict, found: found.into(), fix }, code }
}

fn ok(name: impl Into<String>, found: impl Into<String>) -> Check {
    check(Verdict::Ok, name, found, None, Code::Ok)
}

fn warn(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Check {
    check(Verdict::Warn, name, found, Some(fix.into()), Code::Ok)
}

fn bad(code: Code, name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Check {
    check(Verdict::Bad, name, found, Some(fix.into()), code)
}

pub(crate) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![capabilities(facts), lockdown(facts), kernel_btf(facts), driver(facts)];
    if facts.driver_loaded {
        checks.push(module_btf(facts));
        checks.push(devices(facts));
    }
    checks.push(sva_by_kernel(facts));
    for device in &facts.devices {
        checks.extend(device_checks(device));
        if device.event_log_size.is_none() && disabling_may_crash(&facts.kernel) {
            checks.push(disabling(device, &facts.kernel));
        }
    }
    checks
}

fn capabilities(facts: &Facts) -> Check {
    if facts.missing_capabilities.is_empty() {
        return ok("capabilities", "all that tracing needs; dropped again once attached");
    }
    bad(
        Code::NoPermission,
        "capabilities",
        format!("missing {}", facts.missing_capabilities.join(", ")),
        "run dsascope as root (`sudo dsascope doctor`)",
    )
}

fn lockdown(facts: &Facts) -> Check {
    match facts.lockdown.as_deref() {
        None => ok("lockdown", "not in this kernel"),
        Some("confidentiality") => bad(
            Code::NoPermission,
            "lockdown",
            "confidentiality: eBPF may not read kernel memory",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(level) => ok("lockdown", level),
    }
}

fn kernel_btf(facts: &Facts) -> Check {
    if facts.btf_vmlinux {
        return ok("kernel BTF", "/sys/kernel/btf/vmlinux");
    }
    bad(
        Code::NoBtf,
        "kernel BTF",
        "/sys/kernel/btf/vmlinux is missing",
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y (distribution kernels have it)",
    )
}

fn module_btf(facts: &Facts) -> Check {
    if facts.btf_idxd {
        return ok("idxd BTF", "/sys/kernel/btf/idxd");
    }
    bad(
        Code::NoBtf,
        "idxd BTF",
        "/sys/kernel/btf/idxd is missing: offsets in the driver's structures are unknown",
        "use a kernel with CONFIG_DEBUG_INFO_BTF_MODULES=y and the idxd module it was built with",
    )
}

fn driver(facts: &Facts) -> Check {
    if facts.driver_loaded {
        return ok("driver", "idxd is loaded");
    }
    bad(Code::NoDriver, "driver", "idxd is not loaded", "modprobe idxd")
}

fn devices(facts: &Facts) -> Check {
    if facts.devices.is_empty() {
        return bad(
            Code::NoDevice,
            "devices",
            "none",
            "look for `lspci -nn | grep -E '8086:(0b25|0cfe|11fb|1212|1216)'`; switch DSA on in the firmware",
        );
    }
    let names: Vec<_> = facts.devices.iter().map(|d| format!("{} {}", d.device, d.state)).collect();
    ok("devices", names.join(", "))
}

fn sva_by_kernel(facts: &Facts) -> Check {
    match sva_by_name(&facts.kernel, &facts.machine) {
        SvaByName::Unknown => ok("kernel", facts.kernel.clone()),
        SvaByName::Off => bad(
            Code::Failure,
            "kernel",
            format!(
                "{}: shared virtual addressing is switched off on x86, so no process can open a user WQ",
                facts.kernel
            ),
            "boot Debian's 6.18.15 or newer (trixie-backports), or 6.12.57 and older; the change came with stable 6.12.64",
        ),
        SvaByName::LikelyOff => warn(
            "kernel",
            format!("{}: stable 6.12.64 and later switch shared virtual addressing off on x86", facts.kernel),
            "when open() of a user WQ fails with \"Operation not supported\", boot 6.18.15 or newer",
        ),
    }
}

fn device_checks(device: &DeviceInfo) -> Vec<Check> {
    let name = device.device;
    let mut checks = Vec::new();
    checks.push(match device.event_log_size {
        Some(entries) => ok(format!("{name} event log"), format!("{entries} entries")),
        None => warn(
            format!("{name} event log"),
            "not supported by this device: it cannot log completion-record faults",
            "nothing: DSA 1.0 (Sapphire Rapids) has none; faults are seen on DSA 2.0 and later",
        ),
    });
    checks.push(match device.pasid_enabled {
        Some(true) => ok(format!("{name} SVA"), "PASID enabled"),
        Some(false) => bad(
            Code::Failure,
            format!("{name} SVA"),
            "PASID disabled: no process can open a user WQ",
            "boot with intel_iommu=on,sm_on and VT-d on in the firmware",
        ),
        None => warn(format!("{name} SVA"), "unknown: pasid_enabled cannot be read", "run as root"),
    });
    if device.wqs.iter().all(|wq| wq.state != "enabled") {
        checks.push(warn(
            format!("{name} WQs"),
            "none is enabled",
            format!("accel-config config-wq, enable-device {name}, enable-wq (see `man accel-config`)"),
        ));
    }
    checks.extend(device.wqs.iter().filter(|wq| wq.state == "enabled").map(|wq| wq_check(device, wq)));
    checks
}

fn disabling(device: &DeviceInfo, kernel: &str) -> Check {
    warn(
        format!("{} disabling", device.device),
        format!(
            "{kernel}: may crash when a device without an event log is disabled or unbound (stable 6.12.80 to 6.12.117)"
        ),
        format!(
            "leave {} enabled, and do not unload idxd; boot 6.18.15 or newer to change its configuration",
            device.device
        ),
    )
}

fn wq_check(device: &DeviceInfo, wq: &WqInfo) -> Check {
    let id = format!("wq{}.{}", device.device.id, wq.wq);
    let mut words = vec![wq.type_.clone()];
    words.extend(wq.mode.clone());
    words.extend(wq.size.map(|size| format!("size {size}")));
    words.push(match wq.prs_disable {
        Some(true) => "page requests off".into(),
        Some(false) => "page requests on (--page-requests follows them)".into(),
        None => "page requests not switchable".into(),
    });
    if wq.block_on_fault == Some(true) {
        words.push("blocks on fault".into());
    }
    let found = words.join(", ");
    if wq.type_ == "user" && wq.prs_disable == Some(false) && device.event_log_size.is_some() {
        return warn(
            id,
            format!("{found}: faults go to the IOMMU first, and to the event log only when it refuses"),
            format!(
                "to see them all: accel-config config-wq {}/wq{}.{} --prs-disable=1",
                device.device, device.device.id, wq.wq
            ),
        );
    }
    ok(id, found)
}

#[cfg(test)]
mod tests {
    use dsascope_core::event::{DeviceId, DeviceKind};

    use super::super::{code, json, text};
    use super::*;

    /// Takes something away from a good host.
    type Spoil = fn(&mut Facts);

    fn good_host() -> Facts {
        Facts {
            host: "lab7".into(),
            kernel: "7.3.4+deb13-amd64".into(),
            machine: "x86_64".into(),
            driver_loaded: true,
            devices: vec![DeviceInfo {
                device: DeviceId::new(DeviceKind::Dsa, 0),
                state: "enabled".into(),
                version: Some(0x200),
                gen_cap: None,
                event_log_size: Some(64),
                pasid_enabled: Some(true),
                numa_node: Some(0),
                wqs: vec![WqInfo {
                    wq: 0,
                    state: "enabled".into(),
                    type_: "user".into(),
                    mode: Some("shared".into()),
                    size: Some(16),
                    prs_disable: Some(true),
                    ..WqInfo::default()
                }],
            }],
            btf_vmlinux: true,
            btf_idxd: true,
            lockdown: Some("none".into()),
            missing_capabilities: vec![],
        }
    }

    fn bare_host() -> Facts {
        Facts {
            kernel: "6.12.95+deb12-amd64".into(),
            machine: "x86_64".into(),
            host: "bare".into(),
            missing_capabilities: vec!["CAP_BPF".into(), "CAP_PERFMON".into()],
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_host_is_all_ok() {
        let checks = checks(&good_host());
        assert!(checks.iter().all(|check| check.said.verdict == Verdict::Ok), "{checks:#?}");
        assert_eq!(code(&checks), Code::Ok);
        insta::assert_snapshot!(text(&good_host(), &checks));
    }

    #[test]
    fn everything_wrong_has_a_fix() {
        let checks = checks(&bare_host());
        assert!(checks.iter().all(|check| (check.said.verdict == Verdict::Ok) == check.said.fix.is_none()));
        assert_eq!(code(&checks), Code::NoPermission);
        insta::assert_snapshot!(text(&bare_host(), &checks));
        insta::assert_snapshot!(json(&bare_host(), &checks).unwrap());
    }

    #[test]
    fn each_obstacle_has_its_code() {
        let cases: [(Spoil, Code); 7] = [
            (|f| f.driver_loaded = false, Code::NoDriver),
            (|f| f.devices.clear(), Code::NoDevice),
            (|f| f.btf_vmlinux = false, Code::NoBtf),
            (|f| f.btf_idxd = false, Code::NoBtf),
            (|f| f.lockdown = Some("confidentiality".into()), Code::NoPermission),
            (|f| f.kernel = "6.18.5+deb14-amd64".into(), Code::Failure),
            (|f| f.devices[0].pasid_enabled = Some(false), Code::Failure),
        ];
        for (spoil, expected) in cases {
            let mut facts = good_host();
            spoil(&mut facts);
            assert_eq!(code(&checks(&facts)), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_kernel_that_crashes_without_an_event_log_is_warned_of() {
        let warned = |release: &str, entries: Option<u32>| {
            let mut facts = good_host();
            facts.kernel = release.into();
            facts.devices[0].event_log_size = entries;
            checks(&facts)
                .iter()
                .any(|check| check.said.name == "dsa0 disabling" && check.said.verdict == Verdict::Warn)
        };
        assert!(warned("6.12.95+deb12-amd64", None));
        assert!(!warned("6.12.95+deb12-amd64", Some(64)) && !warned("6.12.57+deb12-amd64", None));
    }

    #[test]
    fn what_shows_less_is_a_warning() {
        let cases: [Spoil; 4] = [
            |f| f.devices[0].event_log_size = None,
            |f| f.devices[0].wqs[0].prs_disable = Some(false),
            |f| f.devices[0].wqs.clear(),
            |f| f.kernel = "6.12.80".into(),
        ];
        for spoil in cases {
            let mut facts = good_host();
            spoil(&mut facts);
            let checks = checks(&facts);
            assert!(checks.iter().any(|check| check.said.verdict == Verdict::Warn), "{facts:?}");
            assert_eq!(code(&checks), Code::Ok);
        }
    }
}
