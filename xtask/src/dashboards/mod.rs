//! `cargo xtask dashboards`: what Grafana and Prometheus need to show and watch what `dsascope serve` tells.
//!
//! Owns: the files of dashboards/, made from the metric catalogue of core, so that no name in them can be wrong. Refuses: metrics.

mod grafana;
mod rules;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::binaries::workspace;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only say whether the committed files are what would be written
    #[arg(long)]
    check: bool,
}

/// The files, by name.
pub fn files() -> Vec<(&'static str, String)> {
    vec![
        ("dsascope.json", grafana::dashboard()),
        ("recording-rules.yaml", rules::recording()),
        ("alert-rules.yaml", rules::alerts()),
        ("rules-test.yaml", rules::tests()),
    ]
}

/// Every expression that they evaluate, with where it stands.
pub fn expressions() -> Vec<(String, String)> {
    grafana::expressions().into_iter().chain(rules::expressions()).collect()
}

/// Where they lie.
pub fn directory() -> PathBuf {
    workspace().join("dashboards")
}

pub fn run(arguments: &Arguments) -> Result<u8> {
    for (name, text) in files() {
        let path = directory().join(name);
        if !arguments.check {
            fs::create_dir_all(directory()).context("cannot make dashboards/")?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            bail!("dashboards/{name} is not what is made of the catalogue: run `cargo xtask dashboards`");
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsascope_core::metrics::CATALOGUE;

    #[test]
    fn the_committed_files_are_what_is_made() {
        run(&Arguments { check: true }).unwrap();
    }

    #[test]
    fn every_name_is_in_the_catalogue() {
        for (place, expression) in expressions() {
            let names = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
            for name in names.filter(|name| name.starts_with("dsascope_")) {
                let stem = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let known = CATALOGUE.iter().any(|metric| metric.name == name || Some(metric.name) == stem);
                assert!(known, "{place}: {name}");
            }
        }
    }
}
