//! Which kernel is meant: Debian kernel versions, their order, and the choice among those on offer.
//!
//! Pure: knows nothing of apt or files. Refuses: choosing across minor series.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

/// A Debian kernel release without its flavour, as `uname -r` begins: `7.3.4+deb13`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelVersion {
    text: String,
    numbers: Vec<u32>,
}

/// The kernels everything has to pass on before a change goes in.
pub const SUPPORTED: [&str; 3] = ["7.3.4+deb13", "6.18.15+deb13", "6.12.57+deb12"];

/// The kernels of the matrix, oldest first; a prefix means the newest of that series.
pub const MATRIX: [&str; 9] = [
    "6.12.57+deb12",
    "6.12.95+deb12",
    "6.17.13+deb13",
    "6.18.15+deb13",
    "6.19",
    "7.0",
    "7.1",
    "7.2.12+deb13",
    "7.3.4+deb13",
];

/// Flavour of every kernel used.
const FLAVOUR: &str = "-amd64";

/// A choice and, when it is not plainly what was asked for, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub version: KernelVersion,
    pub note: Option<String>,
}

/// The kernels that a mirror has, each list oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// With all of their packages.
    pub whole: Vec<KernelVersion>,
    /// Listed, but their modules are gone: no driver, nothing to trace.
    pub without_modules: Vec<KernelVersion>,
}

/// No kernel on offer is what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("`{0}` is not a kernel version: give one like 7.3.4+deb13, or a prefix like 7.3")]
    NotAVersion(String),
    #[error("no modules of kernel {version} on the mirror, only its image; whole are {series}")]
    WithoutModules { version: KernelVersion, series: String },
    #[error("no kernel {request} on the mirror; it has {series}")]
    Absent { request: String, series: String },
}

impl KernelVersion {
    /// Parses `7.3.4+deb13` or `6.12.90+deb12.1`, and a prefix of one (`7.3`).
    pub fn parse(text: &str) -> Option<Self> {
        let (upstream, debian) = match text.split_once("+deb") {
            Some((upstream, debian)) => (upstream, Some(debian)),
            None => (text, None),
        };
        let parts = |text: &str| text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>();
        let mut numbers = parts(upstream)?;
        if let Some(debian) = debian {
            numbers.extend(parts(debian)?);
        }
        Some(Self { text: text.to_owned(), numbers })
    }

    /// The version in a package name such as `linux-image-7.3.4+deb13-amd64`; other flavours (cloud, rt, debug) give none.
    pub fn of_package(name: &str) -> Option<Self> {
        let version = name.strip_prefix("linux-image-")?.strip_suffix(FLAVOUR)?;
        Self::parse(version).filter(|version| version.numbers.len() >= 4)
    }

    /// `7.3.4+deb13-amd64`: the release name that packages and module directories carry.
    pub fn release(&self) -> String {
        format!("{}{FLAVOUR}", self.text)
    }

    /// Major and minor number.
    pub fn series(&self) -> (u32, u32) {
        (self.numbers.first().copied().unwrap_or(0), self.numbers.get(1).copied().unwrap_or(0))
    }

    /// Stable 6.12.64 and later, and Debian's 6.18.5, switch shared virtual addressing off on x86 (idxd-facts section 0.1, finding 2): a
    /// user work queue cannot be opened there.
    pub fn sva_off(&self) -> bool {
        match (self.series(), self.numbers.get(2).copied().unwrap_or(0)) {
            ((6, 12), patch) => patch >= 64,
            ((6, 18), patch) => patch == 5,
            _ => false,
        }
    }

    fn starts_with(&self, prefix: &Self) -> bool {
        self.numbers.starts_with(&prefix.numbers)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialOrd for KernelVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KernelVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| self.text.cmp(&other.text))
    }
}

/// Chooses among the kernels on offer: the exact one, else the newest that the request is a prefix of, else the newest of the pinned
/// one's minor series. Kernels that can serve the testbed (SVA on) come before newer ones that cannot, unless one that cannot is
/// named in full.
pub fn choose(request: &str, offer: &Offer) -> Result<Choice, Unavailable> {
    let Some(wanted) = KernelVersion::parse(request) else {
        return Err(Unavailable::NotAVersion(request.to_owned()));
    };
    let offered = &offer.whole;
    if offered.contains(&wanted) {
        return Ok(Choice { note: sva_warning(&wanted), version: wanted });
    }
    if let Some((version, passed_over)) = newest(offered, false, |version| version.starts_with(&wanted)) {
        let note = passed_over
            .map(|newer| {
                format!("SVA is switched off in {newer}; {version} is the newest {request} that has it")
            })
            .or_else(|| sva_warning(version));
        return Ok(Choice { version: version.clone(), note });
    }
    let series = wanted.series();
    let pinned = wanted.numbers.len() > 2;
    let Some((version, _)) =
        newest(offered, wanted.sva_off(), |version| pinned && version.series() == series)
    else {
        return Err(unavailable(&wanted, offer));
    };
    let mut note = format!("the mirror has no {wanted}; taking {version} of the same series");
    if let Some(warning) = sva_warning(version) {
        note = format!("{note}; {warning}");
    }
    Ok(Choice { version: version.clone(), note: Some(note) })
}

/// Why there is none.
fn unavailable(wanted: &KernelVersion, offer: &Offer) -> Unavailable {
    let series: BTreeSet<_> = offer.whole.iter().map(KernelVersion::series).collect();
    let series: Vec<_> = series.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    let series = if series.is_empty() { "none".to_owned() } else { series.join(", ") };
    let same = |version: &&KernelVersion| version.starts_with(wanted) || version.series() == wanted.series();
    match offer.without_modules.iter().filter(same).max() {
        Some(version) => Unavailable::WithoutModules { version: version.clone(), series },
        None => Unavailable::Absent { request: wanted.to_string(), series },
    }
}

/// The newest kernel of a set, those with SVA (or without it, `sva_off`) first, and the newer one that was passed over for it.
fn newest(
    offered: &[KernelVersion],
    sva_off: bool,
    fits: impl Fn(&KernelVersion) -> bool,
) -> Option<(&KernelVersion, Option<&KernelVersion>)> {
    let newest = offered.iter().filter(|version| fits(version)).max()?;
    match offered.iter().filter(|version| fits(version) && version.sva_off() == sva_off).max() {
        Some(usable) => Some((usable, (usable != newest).then_some(newest))),
        None => Some((newest, None)),
    }
}

/// What to say of a kernel on which no user work queue opens.
pub fn sva_warning(version: &KernelVersion) -> Option<String> {
    version.sva_off().then(|| format!("kernel {version} has SVA switched off on x86: user work queues cannot be opened and no completion-record fault can occur"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(texts: &[&str]) -> Vec<KernelVersion> {
        texts.iter().map(|text| KernelVersion::parse(text).unwrap()).collect()
    }

    fn offered() -> Offer {
        let whole = versions(&[
            "6.12.43+deb12",
            "6.12.57+deb12",
            "6.12.90+deb12",
            "6.12.90+deb12.1",
            "6.12.107+deb13",
            "6.18.5+deb13",
            "6.18.15+deb13",
            "7.3.4+deb13",
            "7.3.12+deb13",
        ]);
        Offer { whole, without_modules: versions(&["7.1.8+deb13", "7.1.13+deb13"]) }
    }

    fn chosen(request: &str) -> (String, Option<String>) {
        let choice = choose(request, &offered()).unwrap();
        (choice.version.to_string(), choice.note)
    }

    #[test]
    fn package_names_of_other_flavours_are_no_kernels() {
        let version = |name| KernelVersion::of_package(name).map(|version| version.to_string());
        assert_eq!(version("linux-image-7.3.4+deb13-amd64").as_deref(), Some("7.3.4+deb13"));
        assert_eq!(version("linux-image-6.12.90+deb12.1-amd64").as_deref(), Some("6.12.90+deb12.1"));
        for other in [
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-amd64-dbg",
            "linux-image-amd64",
            "linux-image-7.3.4+deb13-amd64-unsigned",
        ] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        let v = |text| KernelVersion::parse(text).unwrap();
        assert!(v("7.3.12+deb13") > v("7.3.4+deb13"));
        assert!(v("6.12.90+deb12.1") > v("6.12.90+deb12"));
        assert!(v("7.0.1+deb13") > v("6.19.10+deb13"));
    }

    #[test]
    fn a_full_version_is_taken_as_it_is() {
        assert_eq!(chosen("7.3.4+deb13"), ("7.3.4+deb13".into(), None));
        let (version, note) = chosen("6.12.107+deb13");
        assert_eq!(version, "6.12.107+deb13");
        assert!(note.unwrap().contains("SVA switched off"));
    }

    #[test]
    fn a_prefix_means_the_newest() {
        assert_eq!(chosen("7.3"), ("7.3.12+deb13".into(), None));
        assert_eq!(chosen("7.3.4"), ("7.3.4+deb13".into(), None));
        assert_eq!(chosen("7"), ("7.3.12+deb13".into(), None));
        assert_eq!(chosen("6.18"), ("6.18.15+deb13".into(), None));
    }

    #[test]
    fn a_prefix_passes_over_kernels_without_sva_and_says_so() {
        let (version, note) = chosen("6.12");
        assert_eq!(version, "6.12.57+deb12");
        assert!(note.unwrap().contains("6.12.107+deb13"));
    }

    #[test]
    fn a_pinned_version_that_is_gone_falls_back_within_its_series() {
        let (version, note) = chosen("7.3.2+deb13");
        assert_eq!(version, "7.3.12+deb13");
        assert!(note.unwrap().contains("no 7.3.2+deb13"));
        let (version, _) = chosen("6.12.60+deb12");
        assert_eq!(version, "6.12.57+deb12");
        // One that is in the matrix for its missing SVA is stood in for by another such.
        assert_eq!(chosen("6.12.95+deb12").0, "6.12.107+deb13");
        let absent = choose("7.4.1+deb13", &offered()).unwrap_err();
        assert_eq!(
            absent,
            Unavailable::Absent { request: "7.4.1+deb13".into(), series: "6.12, 6.18, 7.3".into() }
        );
        assert!(choose("7.4", &offered()).is_err());
    }

    #[test]
    fn a_series_without_modules_is_not_taken_and_named() {
        for request in ["7.1", "7.1.8+deb13", "7.1.2+deb13"] {
            let said = choose(request, &offered()).unwrap_err().to_string();
            assert!(said.contains("no modules of kernel 7.1."), "{said}");
        }
        assert_eq!(chosen("7"), ("7.3.12+deb13".into(), None));
    }

    #[test]
    fn a_fallback_without_sva_is_warned_of() {
        let only = Offer { whole: versions(&["6.12.107+deb13"]), ..Offer::default() };
        let choice = choose("6.12.57+deb12", &only).unwrap();
        let note = choice.note.unwrap();
        assert!(note.contains("no 6.12.57+deb12") && note.contains("SVA switched off"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(choose("newest", &offered()), Err(Unavailable::NotAVersion("newest".into())));
        assert!(choose("", &offered()).is_err());
    }

    #[test]
    fn the_supported_kernels_have_sva_and_are_in_the_matrix() {
        for text in SUPPORTED {
            assert!(!KernelVersion::parse(text).unwrap().sva_off() && MATRIX.contains(&text), "{text}");
        }
    }

    #[test]
    fn the_matrix_is_in_order_and_has_one_kernel_without_sva() {
        let all = versions(&MATRIX);
        assert!(all.is_sorted());
        assert_eq!(all.iter().filter(|version| version.sva_off()).count(), 1);
    }
}
