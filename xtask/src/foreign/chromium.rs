//! Reports opened in Debian's headless Chromium: no complaint on its console, the figures of `stat`, light and dark, and paper.
//!
//! Chromium is unpacked beside the libc it was built for, as QEMU is. It looks for its data beside the program that the kernel runs, which
//! is the loader: so that has a copy there. Its own processes are started through the same script as itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::exports::{dsascope, samples};
use super::python::Python;
use crate::apt::{Apt, FRESH};
use crate::cache::Cache;
use crate::progress::step;

const ENTRY: &str = "chromium";
const LOADER: &str = "usr/lib/chromium/loader";
const START: &str = "usr/lib/chromium/start";
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0")
libraries=$here/../x86_64-linux-gnu
exec "$here/loader" --library-path "$libraries:$libraries/pulseaudio:$here" "$here/chromium-headless-shell" "$@"
"#;
/// For a page that takes half a second.
const LIMIT: Duration = Duration::from_secs(60);
/// Begins what a page said on the console.
const CONSOLE: &str = ":CONSOLE:";

/// Chromium finds in each report what `stat` says.
pub(super) fn report(cache: &Cache) -> Result<()> {
    let (python, chromium) = (Python::provide(cache)?, Chromium::provide(cache)?);
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    for (name, capture) in samples()? {
        let file = |extension: &str| directory.path().join(format!("{name}.{extension}"));
        let (page, dom, summary) = (file("html"), file("dom"), file("summary"));
        let from = ["--from".into(), capture.into_os_string()];
        let [flag, capture] = &from;
        dsascope(["report".into(), flag.clone(), capture.clone(), "-o".into(), page.clone().into()])?;
        let said = dsascope(["stat".into(), "--json".into(), flag.clone(), capture.clone()])?;
        let last = said.lines().last().with_context(|| format!("stat says nothing of {name}"))?;
        fs::write(&summary, last).with_context(|| format!("cannot write {}", summary.display()))?;
        let read = chromium.run(&page, directory.path(), &["--dump-dom".into()])?;
        fs::write(&dom, read).with_context(|| format!("cannot write {}", dom.display()))?;
        let [light, dark, paper] = ["light.png", "dark.png", "pdf"].map(file);
        for (scheme, picture) in [(1, &light), (0, &dark)] {
            let options = [
                format!("--blink-settings=preferredColorScheme={scheme}"),
                format!("--screenshot={}", picture.display()),
            ];
            chromium.run(&page, directory.path(), &options)?;
        }
        let options = ["--no-pdf-header-footer".into(), format!("--print-to-pdf={}", paper.display())];
        chromium.run(&page, directory.path(), &options)?;
        python.run("html.py", [dom, summary, light, dark, paper]).context(name)?;
    }
    Ok(())
}

/// A Chromium that can be run.
struct Chromium {
    root: PathBuf,
}

impl Chromium {
    fn provide(cache: &Cache) -> Result<Self> {
        let root = cache.provide(ENTRY, |into| {
            let apt = Apt::open(cache)?;
            apt.update(FRESH)?;
            step("fetching Chromium", || apt.unpack_chromium(into))?;
            let loader = into.join("usr/lib64/ld-linux-x86-64.so.2");
            fs::copy(&loader, into.join(LOADER))
                .with_context(|| format!("cannot copy {}", loader.display()))?;
            let start = into.join(START);
            fs::write(&start, SCRIPT)
                .and_then(|()| fs::set_permissions(&start, Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot write {}", start.display()))
        })?;
        Ok(Self { root })
    }

    /// Opens a page and gives what was written to stdout. Fails when the page said anything on the console.
    fn run(&self, page: &Path, directory: &Path, options: &[String]) -> Result<Vec<u8>> {
        let start = self.root.join(START);
        let mut log = tempfile::tempfile_in(directory).context("cannot make a file")?;
        let mut out = tempfile::tempfile_in(directory).context("cannot make a file")?;
        let mut child = Command::new(&start)
            .arg(format!("--browser-subprocess-path={}", start.display()))
            .args(["--no-sandbox", "--no-zygote", "--disable-gpu", "--hide-scrollbars"])
            .args(["--enable-logging=stderr", "--window-size=1200,1600"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .args(options)
            .arg(format!("file://{}", page.display()))
            .env("FONTCONFIG_SYSROOT", &self.root)
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("cannot share a file")?)
            .stderr(log.try_clone().context("cannot share a file")?)
            .spawn()
            .context("cannot run Chromium")?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for Chromium")? {
                break status;
            }
            if begun.elapsed() > LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                bail!("Chromium did not end within {} s", LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = String::from_utf8_lossy(&read(&mut log)?).into_owned();
        ensure!(status.success(), "Chromium: {status}: {}", said.lines().last().unwrap_or("it said nothing"));
        if let Some(line) = said.lines().find(|line| line.contains(CONSOLE)) {
            bail!("the page said on the console: {line}");
        }
        read(&mut out)
    }
}

/// All of a file that another process has written.
fn read(file: &mut fs::File) -> Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).context("cannot read what Chromium wrote")?;
    Ok(bytes)
}
