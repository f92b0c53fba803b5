//! The guest's kernel: an image and the directory of its modules, from the command line, the cache or a mirror.
//!
//! Refuses: knowing how it is booted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, FRESH};
use crate::cache::Cache;
use crate::progress::{say, step};
use crate::version::{Choice, KernelVersion, Offer, Unavailable, choose, sva_warning};

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The release, for people.
    pub name: String,
    pub image: PathBuf,
    /// Any directory under which the modules lie.
    pub modules: PathBuf,
}

/// What a request comes to.
#[derive(Clone, Debug)]
pub enum Found {
    Kernel {
        kernel: Kernel,
        version: KernelVersion,
        /// When it is not plainly what was asked for, why.
        note: Option<String>,
    },
    Unavailable(Unavailable),
}

impl Found {
    fn unpacked(cache: &Cache, choice: Choice) -> Result<Self> {
        let kernel = Kernel::unpacked(cache, &choice.version)?;
        Ok(Self::Kernel { kernel, version: choice.version, note: choice.note })
    }
}

impl Kernel {
    /// A kernel from the machine's own files.
    pub fn from_files(image: &Path, modules: &Path) -> Result<Self> {
        if !image.is_file() {
            bail!("--kernel-image {} is not a file", image.display());
        }
        if !modules.is_dir() {
            bail!("--modules {} is not a directory", modules.display());
        }
        Ok(Self {
            name: image.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            image: image.to_owned(),
            modules: modules.to_owned(),
        })
    }

    /// The kernel that `request` names (a version or a prefix of one), fetched when the cache lacks it.
    pub fn provide(cache: &Cache, request: &str) -> Result<Self> {
        let missing = || {
            format!("kernel {request} is missing: give its files with --kernel-image FILE and --modules DIR")
        };
        match Self::find(cache, request).with_context(missing)? {
            Found::Kernel { kernel, note, .. } => {
                note.iter().for_each(say);
                Ok(kernel)
            }
            Found::Unavailable(why) => Err(why).with_context(missing),
        }
    }

    /// As [`Self::provide`], but a kernel that is on offer nowhere is an answer, and nothing is said.
    pub fn find(cache: &Cache, request: &str) -> Result<Found> {
        let cached = cached(cache);
        if let Some(version) = cached.iter().find(|version| version.to_string() == request) {
            return Found::unpacked(cache, Choice { version: version.clone(), note: sva_warning(version) });
        }
        let choice = match offered(cache) {
            Ok((apt, offer)) => match choose(request, &offer) {
                Ok(choice) => {
                    let release = choice.version.release();
                    cache.provide(&entry(&choice.version), |into| {
                        step(&format!("fetching kernel {release}"), || {
                            apt.unpack_kernel(&choice.version, into)
                        })
                    })?;
                    choice
                }
                Err(why) => return Ok(Found::Unavailable(why)),
            },
            // Without a mirror, what is in the cache may do.
            Err(error) => match choose(request, &Offer { whole: cached, ..Offer::default() }) {
                Ok(choice) => {
                    say(format!("{error:#}; using a kernel of the cache"));
                    choice
                }
                Err(_) => return Err(error),
            },
        };
        Found::unpacked(cache, choice)
    }

    fn unpacked(cache: &Cache, version: &KernelVersion) -> Result<Self> {
        let root = cache.path(&entry(version));
        let release = version.release();
        // Split packages keep the image beside the modules.
        let image = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")]
            .map(|path| root.join(path))
            .into_iter()
            .find(|path| path.is_file());
        let modules = [format!("usr/lib/modules/{release}"), format!("lib/modules/{release}")]
            .map(|path| root.join(path))
            .into_iter()
            .find(|path| path.is_dir());
        match (image, modules) {
            (Some(image), Some(modules)) => Ok(Self { name: release, image, modules }),
            _ => bail!(
                "the packages of kernel {release} hold no image or no modules: remove {} to fetch them again",
                root.display()
            ),
        }
    }
}

fn offered(cache: &Cache) -> Result<(Apt, Offer)> {
    let apt = Apt::open(cache)?;
    apt.update(FRESH)?;
    let offer = apt.kernels()?;
    Ok((apt, offer))
}

fn entry(version: &KernelVersion) -> String {
    format!("kernel-{version}")
}

/// Kernels in the cache, oldest first.
fn cached(cache: &Cache) -> Vec<KernelVersion> {
    let Ok(entries) = fs::read_dir(cache.path("")) else { return Vec::new() };
    let mut versions: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("kernel-").map(ToOwned::to_owned))
        .filter(|name| !name.ends_with(".partial") && !name.ends_with(".lock"))
        .filter_map(|name| KernelVersion::parse(&name))
        .collect();
    versions.sort();
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_kernels_of_the_cache_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        for name in ["kernel-7.3.4+deb13", "kernel-6.12.57+deb12", "kernel-6.18.15+deb13.partial", "qemu"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("kernel-6.18.15+deb13.lock"), "").unwrap();
        let names: Vec<_> = cached(&cache).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["6.12.57+deb12", "7.3.4+deb13"]);
    }

    #[test]
    fn split_and_whole_packages_are_both_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let touch = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        touch("kernel-7.3.4+deb13/usr/lib/modules/7.3.4+deb13-amd64/vmlinuz");
        touch("kernel-6.12.57+deb12/boot/vmlinuz-6.12.57+deb12-amd64");
        touch("kernel-6.12.57+deb12/lib/modules/6.12.57+deb12-amd64/kernel/x.ko");
        for version in ["7.3.4+deb13", "6.12.57+deb12"] {
            let kernel = Kernel::unpacked(&cache, &KernelVersion::parse(version).unwrap()).unwrap();
            assert!(kernel.image.is_file() && kernel.modules.is_dir());
        }
        fs::create_dir(dir.path().join("kernel-6.18.15+deb13")).unwrap();
        assert!(
            Kernel::unpacked(&cache, &KernelVersion::parse("6.18.15+deb13").unwrap())
                .unwrap_err()
                .to_string()
                .contains("remove")
        );
    }
}
