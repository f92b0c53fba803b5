//! The cache directory: everything that is fetched once and kept between runs.
//!
//! Owns: where it lies (`DSASCOPE_CACHE`, else XDG's cache directory), locks between concurrent runs, and the rule that an entry is
//! complete or absent. Refuses: knowing what the entries are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::progress::say;

/// The cache directory of this user.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// Held while one run works on a part of the cache; released on drop and when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Cache {
    /// Opens the cache, making its directory.
    pub fn open() -> Result<Self> {
        let root = location(|name| {
            std::env::var_os(name).map(PathBuf::from).filter(|value| !value.as_os_str().is_empty())
        });
        let Some(root) = root else {
            bail!("no place for the cache: set DSASCOPE_CACHE to a directory");
        };
        Self::at(&root)
    }

    /// A cache at a named place.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| {
            format!("cannot make the cache {}: set DSASCOPE_CACHE to a writable directory", root.display())
        })?;
        let root =
            fs::canonicalize(root).with_context(|| format!("cannot resolve the cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// The path of an entry, there or not.
    pub fn path(&self, entry: &str) -> PathBuf {
        self.root.join(entry)
    }

    /// Takes the named lock, waiting for another run that holds it.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.root.join(format!("{name}.lock"));
        let open = || {
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open the lock {}", path.display()))
        };
        match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => return Ok(Lock { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => say(format!("another run works on {name}; waiting for it")),
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
        match Flock::lock(open()?, FlockArg::LockExclusive) {
            Ok(file) => Ok(Lock { _file: file }),
            Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The directory `entry`, made by `make` when it is absent. `make` fills a directory beside it that takes the name only when it is
    /// complete, so a run that dies leaves nothing that looks finished.
    pub fn provide(&self, entry: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let finished = self.path(entry);
        if finished.is_dir() {
            return Ok(finished);
        }
        let _lock = self.lock(entry)?;
        if finished.is_dir() {
            return Ok(finished);
        }
        let partial = self.path(&format!("{entry}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot remove {}, left by a run that died", partial.display()))?;
        }
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        if let Err(error) = make(&partial) {
            // The error matters more than what it left; the next run removes that.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        fs::rename(&partial, &finished)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), finished.display()))?;
        Ok(finished)
    }
}

/// Where the cache lies, given the environment.
fn location(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("DSASCOPE_CACHE")
        .or_else(|| {
            variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("dsascope"))
        })
        .or_else(|| variable("HOME").map(|home| home.join(".cache/dsascope")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pairs: &[(&str, &str)]) -> Option<PathBuf> {
        location(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn the_own_variable_wins_then_xdg_then_home() {
        let all = [("DSASCOPE_CACHE", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(place(&all), Some("/c".into()));
        assert_eq!(place(&all[1..]), Some("/x/dsascope".into()));
        assert_eq!(place(&all[2..]), Some("/h/.cache/dsascope".into()));
        assert_eq!(
            place(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]),
            Some("/h/.cache/dsascope".into())
        );
        assert_eq!(place(&[]), None);
    }

    #[test]
    fn an_entry_is_complete_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let failed = cache.provide("entry", |partial| {
            fs::write(partial.join("half"), "x")?;
            bail!("the network went away")
        });
        assert!(failed.is_err());
        assert!(!cache.path("entry").exists());
        let made = cache.provide("entry", |partial| Ok(fs::write(partial.join("whole"), "x")?)).unwrap();
        assert!(made.join("whole").exists() && !made.join("half").exists());
        cache.provide("entry", |_| bail!("made twice")).unwrap();
    }

    #[test]
    fn what_a_killed_run_left_is_not_reused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        fs::create_dir_all(cache.path("entry.partial")).unwrap();
        fs::write(cache.path("entry.partial").join("stale"), "x").unwrap();
        let made = cache.provide("entry", |_| Ok(())).unwrap();
        assert!(!made.join("stale").exists());
    }
}
