//! Debian packages without touching the machine: apt with lists, sources and state of its own in the cache.
//!
//! The mirror is the one the machine's own apt uses; the suites are ours. Owns: that private configuration, the choice of packages, and
//! unpacking. Refuses: installing anything, and naming a host.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::progress::step;
use crate::version::{KernelVersion, Offer};

/// Suites that hold the kernels and QEMU, with the release QEMU's libraries come from.
const SUITES: [&str; 3] = ["trixie-backports", "trixie", "bookworm-backports"];
/// Where QEMU >= 10.1 is.
const QEMU_SUITE: &str = "trixie-backports";
/// The newest release of Debian that has accel-config.
const ACCEL_CONFIG_SUITE: &str = "trixie";
/// One whose Prometheus has native histograms.
const PROMETHEUS_SUITE: &str = "trixie";
/// The release whose libc QEMU has too.
const CHROMIUM_SUITE: &str = "trixie";
/// Signs all of [`SUITES`]; part of every Debian system.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Lists older than this are fetched again before a kernel is chosen by prefix.
pub const FRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// Lists younger than this are not why a download failed.
const JUST_NOW: Duration = Duration::from_secs(60);

/// A private apt.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
    config: PathBuf,
    cache: Cache,
}

impl Apt {
    /// Writes the private configuration. Fails where there is no apt, or where its mirror is not Debian's.
    pub fn open(cache: &Cache) -> Result<Self> {
        let uris = run(Command::new("apt-get").args(["update", "--print-uris"]))?;
        let Some(mirror) = mirror(&String::from_utf8_lossy(&uris.stdout)) else {
            bail!("apt's own configuration names no Debian mirror");
        };
        let settings = run(Command::new("apt-config").arg("dump"))?;
        let directory = cache.path("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("cannot make {}", directory.join(part).display()))?;
        }
        let signed_by =
            if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let sources: String =
            SUITES.iter().map(|suite| format!("deb {signed_by}{mirror} {suite} main\n")).collect();
        let config = directory.join("apt.conf");
        write_if_changed(&directory.join("sources.list"), &sources)?;
        write_if_changed(&directory.join("status"), "")?;
        write_if_changed(&config, &configuration(&directory, &String::from_utf8_lossy(&settings.stdout)))?;
        Ok(Self { directory, config, cache: cache.clone() })
    }

    /// Makes sure that package lists are there and no older than `age`.
    pub fn update(&self, age: Duration) -> Result<()> {
        let stamp = self.directory.join("updated");
        let fresh = || {
            let modified = fs::metadata(&stamp).and_then(|metadata| metadata.modified()).ok();
            modified.and_then(|time| time.elapsed().ok()).is_some_and(|elapsed| elapsed <= age)
        };
        if fresh() {
            return Ok(());
        }
        let _lock = self.cache.lock("apt")?;
        if fresh() {
            return Ok(());
        }
        step("fetching Debian's package lists", || {
            // Without the option a mirror that cannot be reached is a mere warning.
            run(self.command("apt-get").args(["-oAPT::Update::Error-Mode=any", "update"]))?;
            fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))
        })
    }

    /// The kernels of the mirror.
    pub fn kernels(&self) -> Result<Offer> {
        let names = run(self.command("apt-cache").args(["pkgnames", "linux-"]))?;
        Ok(offer(&String::from_utf8_lossy(&names.stdout)))
    }

    /// Fetches a kernel and its modules and unpacks them into `into`.
    pub fn unpack_kernel(&self, version: &KernelVersion, into: &Path) -> Result<()> {
        let names = run(self.command("apt-cache").args(["pkgnames", "linux-"]))?;
        let packages = kernel_packages(version, String::from_utf8_lossy(&names.stdout).lines());
        let debs = tempfile::tempdir_in(&self.directory).context("cannot make a directory for packages")?;
        self.fetch(|apt| run(apt.arg("download").args(&packages).current_dir(debs.path())))?;
        unpack(debs.path(), into)
    }

    /// Fetches QEMU with all it depends on, libc included, and unpacks it into `into`.
    pub fn unpack_qemu(&self, into: &Path) -> Result<()> {
        self.unpack_with_dependencies("qemu-system-x86", QEMU_SUITE, into)
    }

    /// Fetches Debian's accel-config with all it depends on, libc included, and unpacks it into `into`.
    pub fn unpack_accel_config(&self, into: &Path) -> Result<()> {
        self.unpack_with_dependencies("accel-config", ACCEL_CONFIG_SUITE, into)
    }

    /// Fetches the tests that come with Debian's accel-config, with all they depend on, and unpacks them into `into`.
    pub fn unpack_accel_config_test(&self, into: &Path) -> Result<()> {
        self.unpack_with_dependencies("accel-config-test", ACCEL_CONFIG_SUITE, into)
    }

    /// Fetches Debian's Prometheus, promtool in it, with all it depends on, libc included, and unpacks it into `into`.
    pub fn unpack_prometheus(&self, into: &Path) -> Result<()> {
        self.unpack_with_dependencies("prometheus", PROMETHEUS_SUITE, into)
    }

    /// Fetches Debian's headless Chromium with all it depends on, libc included, and unpacks it into `into`.
    pub fn unpack_chromium(&self, into: &Path) -> Result<()> {
        self.unpack_with_dependencies("chromium-headless-shell", CHROMIUM_SUITE, into)
    }

    fn unpack_with_dependencies(&self, package: &str, suite: &str, into: &Path) -> Result<()> {
        let archives =
            tempfile::tempdir_in(&self.directory).context("cannot make a directory for packages")?;
        fs::create_dir(archives.path().join("partial")).context("cannot make a directory for packages")?;
        let into_archives = format!("-oDir::Cache::archives={}", archives.path().display());
        let options = ["--download-only", "--yes", "--no-install-recommends", "-t", suite];
        self.fetch(|apt| run(apt.arg("install").args(options).args([&into_archives, package])))?;
        unpack(archives.path(), into)
    }

    /// Downloads; lists that are older than the mirror's files are a reason to fetch those again and try once more.
    fn fetch(&self, download: impl Fn(&mut Command) -> Result<Output>) -> Result<()> {
        if download(&mut self.command("apt-get")).is_ok() {
            return Ok(());
        }
        self.update(JUST_NOW)?;
        download(&mut self.command("apt-get")).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).arg("-q");
        command
    }
}

/// Sorts the kernels among package names into those with and without all of their packages: the mirror drops the modules of a kernel
/// that was replaced before it drops the kernel itself.
fn offer(names: &str) -> Offer {
    let there: BTreeSet<&str> = names.lines().collect();
    let versions: BTreeSet<_> = there.iter().filter_map(|name| KernelVersion::of_package(name)).collect();
    let (whole, without_modules) = versions.into_iter().partition(|version| {
        kernel_packages(version, there.iter().copied()).iter().all(|name| there.contains(name.as_str()))
    });
    Offer { whole, without_modules }
}

/// The packages of a kernel: up to 6.18 one holds kernel and modules, later ones are split.
fn kernel_packages<'a>(version: &KernelVersion, offered: impl Iterator<Item = &'a str>) -> Vec<String> {
    let release = version.release();
    let split = [format!("linux-binary-{release}"), format!("linux-modules-{release}")];
    if offered.into_iter().any(|name| name == split[0]) {
        split.to_vec()
    } else {
        vec![format!("linux-image-{release}")]
    }
}

/// The private configuration: the machine's own ways to reach a mirror (proxies, time-outs), and none of its hooks, lists or sources.
fn configuration(directory: &Path, machine: &str) -> String {
    let inherited = machine.lines().filter(|line| {
        line.starts_with("Acquire::")
            && !["Acquire::IndexTargets", "Acquire::Languages", "Acquire::Changelogs"]
                .iter()
                .any(|other| line.starts_with(other))
    });
    let directory = directory.display();
    let mut text: String = inherited.map(|line| format!("{line}\n")).collect();
    text += &format!(
        r#"Dir::State "{directory}";
Dir::State::lists "{directory}/lists";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::main "-";
Dir::Etc::parts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Architecture "amd64";
APT::Sandbox::User "root";
"#
    );
    text
}

/// The Debian mirror among the addresses that `apt-get update --print-uris` would fetch: that of a plain release.
fn mirror(uris: &str) -> Option<String> {
    uris.lines().find_map(|line| {
        let address = line.strip_prefix('\'')?.split('\'').next()?;
        let (base, rest) = address.split_once("/dists/")?;
        let suite = rest.split('/').next()?;
        let plain = matches!(
            suite,
            "bookworm"
                | "trixie"
                | "forky"
                | "sid"
                | "oldstable"
                | "stable"
                | "testing"
                | "unstable"
                | "bullseye"
        );
        plain.then(|| base.to_owned())
    })
}

/// Unpacks every package of a directory.
fn unpack(debs: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(debs).with_context(|| format!("cannot list {}", debs.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", debs.display()))?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(into))?;
        }
    }
    Ok(())
}

fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    // Two runs write the same text; a rename keeps a reader from seeing half of it.
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    fs::write(&partial, text).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Runs a command to its end and turns a failure into one line.
fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no {program} on this machine"),
        Err(error) => return Err(error).with_context(|| format!("cannot run {program}")),
    };
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said
        .lines()
        .find(|line| line.starts_with("E:"))
        .or_else(|| said.lines().last())
        .unwrap_or("it said nothing");
    bail!("{program} failed: {}", reason.trim_start_matches("E: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_a_plain_release() {
        let uris = "'https://tools.example/apt/dists/tools/InRelease' tools 0 \n\
                    'http://security.example/debian-security/dists/bookworm-security/InRelease' s 0 \n\
                    'http://mirror.example/debian/dists/bookworm/InRelease' m 0 \n\
                    'http://mirror.example/debian/dists/bookworm-updates/InRelease' u 0 \n";
        assert_eq!(mirror(uris).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror("'http://mirror.example/ubuntu/dists/noble/InRelease' n 0 "), None);
        assert_eq!(mirror(""), None);
    }

    #[test]
    fn kernel_and_modules_are_one_package_or_two() {
        let version = KernelVersion::parse("7.3.4+deb13").unwrap();
        let split = [
            "linux-image-7.3.4+deb13-amd64",
            "linux-binary-7.3.4+deb13-amd64",
            "linux-modules-7.3.4+deb13-amd64",
        ];
        assert_eq!(kernel_packages(&version, split.into_iter()), split[1..]);
        let whole = ["linux-image-7.3.4+deb13-amd64", "linux-binary-7.3.4+deb13-cloud-amd64"];
        assert_eq!(kernel_packages(&version, whole.into_iter()), whole[..1]);
    }

    #[test]
    fn a_kernel_without_its_modules_is_told_apart() {
        let names = "linux-image-7.1.13+deb13-amd64\nlinux-binary-7.1.13+deb13-amd64\nlinux-base\n\
                     linux-image-7.3.4+deb13-amd64\nlinux-binary-7.3.4+deb13-amd64\nlinux-modules-7.3.4+deb13-amd64\n\
                     linux-image-6.18.15+deb13-amd64\nlinux-image-6.18.15+deb13-cloud-amd64\n";
        let offer = offer(names);
        let text = |versions: &[KernelVersion]| versions.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&offer.whole), ["6.18.15+deb13", "7.3.4+deb13"]);
        assert_eq!(text(&offer.without_modules), ["7.1.13+deb13"]);
    }

    #[test]
    fn the_private_configuration_keeps_proxies_and_drops_hooks() {
        let machine = "APT::Update::Post-Invoke:: \"rm -rf x\";\nAcquire::http::Proxy \"http://proxy.example:3128\";\n\
                       Acquire::IndexTargets::deb::DEP-11::MetaKey \"x\";\nAcquire::Languages:: \"de\";\n";
        let text = configuration(Path::new("/cache/apt"), machine);
        assert!(text.contains("Acquire::http::Proxy \"http://proxy.example:3128\";"));
        assert!(!text.contains("Post-Invoke") && !text.contains("DEP-11") && !text.contains("\"de\""));
        assert!(text.contains("Dir::State::lists \"/cache/apt/lists\";"));
    }
}
