//! Files of the workspace that are found by their place and extension. Refuses: reading them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::binaries::workspace;

/// The files with this extension in a directory of the workspace, in order; one at least.
pub fn all(directory: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let directory = workspace().join(directory);
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|of| of == extension));
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no file .{extension}", directory.display());
    Ok(paths)
}

/// A file's name without its extension.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
