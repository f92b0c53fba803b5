//! What is known of kernel releases by their name alone: those whose shared virtual addressing (SVA) is switched off on x86, and those
//! that may crash when a device without an event log is disabled.
//!
//! Stable 6.12.64 made `iommu_sva_bind_device()` refuse on x86; Debian's 6.12.69 to 6.12.117 carry it, and so does Debian's 6.18.5.
//! There a user work queue enables and `pasid_enabled` reads 1, but open() of its device fails with EOPNOTSUPP (idxd-facts
//! section 0.1, finding 2).
//!
//! Stable 6.12.80 frees the event log whether or not there is one; the check that later kernels have is not in 6.12.80 to 6.12.117
//! (finding 6; read in their code, not tried).

/// Whether x86 kernels of a release let a process open a user work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SvaByName {
    /// Known to be switched off.
    Off,
    /// Of a series that has it switched off, but this build was not looked at.
    LikelyOff,
    /// Nothing known against it.
    Unknown,
}

/// `release` as in `uname -r` (`6.12.95+deb12-amd64`), `machine` as in `uname -m`.
#[must_use]
pub fn sva_by_name(release: &str, machine: &str) -> SvaByName {
    let Some((major, minor, patch)) = version(release) else {
        return SvaByName::Unknown;
    };
    if machine != "x86_64" {
        return SvaByName::Unknown;
    }
    let debian = release.contains("+deb");
    match (major, minor, patch) {
        (6, 12, 69..=117) | (6, 18, 5) if debian => SvaByName::Off,
        (6, 12, 64..) => SvaByName::LikelyOff,
        _ => SvaByName::Unknown,
    }
}

/// Whether disabling or unbinding a device without an event log is known to use a lock that does not exist.
#[must_use]
pub fn disabling_may_crash(release: &str) -> bool {
    matches!(version(release), Some((6, 12, 80..=117)))
}

/// Major, minor and patch level at the start of a release.
fn version(release: &str) -> Option<(u32, u32, u32)> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut parts = release[..end].split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_kernels() {
        let of = |release| sva_by_name(release, "x86_64");
        for off in
            ["6.12.69+deb13-amd64", "6.12.95+deb12-amd64", "6.12.117+deb13-cloud-amd64", "6.18.5+deb14-amd64"]
        {
            assert_eq!(of(off), SvaByName::Off, "{off}");
        }
        for fine in [
            "6.12.57+deb12-amd64",
            "6.12.63+deb13-amd64",
            "6.18.15+deb13-amd64",
            "7.3.4+deb13-amd64",
            "6.16.3",
            "",
            "x",
        ] {
            assert_eq!(of(fine), SvaByName::Unknown, "{fine}");
        }
    }

    #[test]
    fn kernels_that_free_what_is_not_there() {
        for hazard in ["6.12.80", "6.12.95+deb12-amd64", "6.12.117+deb13-amd64"] {
            assert!(disabling_may_crash(hazard), "{hazard}");
        }
        for fine in ["6.12.79", "6.12.57+deb12-amd64", "6.12.118", "6.18.15+deb13-amd64", "7.3.4", ""] {
            assert!(!disabling_may_crash(fine), "{fine}");
        }
    }

    #[test]
    fn other_builds_of_the_series() {
        assert_eq!(sva_by_name("6.12.80-generic", "x86_64"), SvaByName::LikelyOff);
        assert_eq!(sva_by_name("6.12.120+deb13-amd64", "x86_64"), SvaByName::LikelyOff);
        assert_eq!(sva_by_name("6.12.95+deb12-arm64", "aarch64"), SvaByName::Unknown);
    }
}
