//! The real Prometheus, as Debian has it, on three hosts that each replay a capture of samples/.
//!
//! It must take what `dsascope serve` says, count what the captures hold, give every expression of dashboards/ an answer, and find nothing
//! wrong with the rules. Owns: the processes, which are gone when a check ends however it does.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::exports::samples;
use crate::apt::{Apt, FRESH};
use crate::cache::Cache;
use crate::captures::tracer;
use crate::dashboards;
use crate::progress::step;

const PATIENCE: Duration = Duration::from_secs(60);
/// Faults of each capture.
const FAULTS: [(&str, f64); 3] = [("calm", 25.0), ("storm", 4120.0), ("batch", 900.0)];
/// What has nothing to show in a healthy run of captures: Prometheus must take the expression, and may answer with nothing.
const MAY_BE_EMPTY: [&str; 14] = [
    "Failure ratio",
    "instance:dsascope_failure_ratio:rate5m",
    "Lost records",
    "Probes not attached",
    "Ring",
    "Own processor time",
    "Engines waited",
    "DsascopeFaultStorm",
    "DsascopeFailedCopies",
    "DsascopeEventLogNearFull",
    "DsascopeLoss",
    "DsascopeSvaOff",
    "DsascopeProbeMissing",
    "DsascopeDown",
];

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's package, unpacked.
struct Package(PathBuf);

impl Package {
    fn provide(cache: &Cache) -> Result<Self> {
        cache
            .provide("prometheus", |into| {
                let apt = Apt::open(cache)?;
                apt.update(FRESH)?;
                step("fetching Prometheus", || apt.unpack_prometheus(into))
            })
            .map(Self)
    }

    /// One of its programs, with the libc that it was built for.
    fn program(&self, name: &str) -> Command {
        let library = |path: &str| self.0.join(path).into_os_string();
        let libraries = [library("usr/lib/x86_64-linux-gnu"), library("lib/x86_64-linux-gnu")];
        let mut command = Command::new(self.0.join("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(libraries.join(":".as_ref()))
            .arg(self.0.join("usr/bin").join(name));
        command.stdin(Stdio::null());
        command
    }

    fn promtool(&self, words: &[&str], directory: &Path) -> Result<()> {
        let output = self
            .program("promtool")
            .args(words)
            .current_dir(directory)
            .output()
            .context("cannot run promtool")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(
            output.status.success(),
            "promtool {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&said).trim()
        );
        Ok(())
    }
}

pub(super) fn check(cache: &Cache) -> Result<()> {
    let package = Package::provide(cache)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let directory = directory.path();
    for (name, text) in dashboards::files() {
        fs::write(directory.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    package.promtool(&["check", "rules", "recording-rules.yaml", "alert-rules.yaml"], directory)?;
    package.promtool(&["test", "rules", "rules-test.yaml"], directory)?;

    let mut hosts = Vec::new();
    for (name, capture) in samples()? {
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let serve = Command::new(tracer()?)
            .args(["serve", "--speed", "max", "--listen", &listen, "--from"])
            .arg(&capture)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run dsascope serve")?;
        hosts.push((name, listen, Running(serve)));
    }
    for (name, listen, _) in &hosts {
        let text = until(&format!("metrics of {name}"), || get(&format!("http://{listen}/metrics")).ok())?;
        let path = directory.join(format!("{name}.metrics"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let file = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut promtool = package.program("promtool");
        let output =
            promtool.args(["check", "metrics"]).stdin(file).output().context("cannot run promtool")?;
        ensure!(
            output.status.success(),
            "promtool check metrics: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    let targets: Vec<String> = hosts.iter().map(|(_, listen, _)| format!("'{listen}'")).collect();
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [recording-rules.yaml, alert-rules.yaml]\n\
         scrape_configs:\n  - job_name: dsascope\n    scrape_classic_histograms: true\n    static_configs: [{{ targets: [{}] }}]\n",
        targets.join(", ")
    );
    fs::write(directory.join("prometheus.yaml"), config).context("cannot write Prometheus' configuration")?;
    package.promtool(&["check", "config", "prometheus.yaml"], directory)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let log = fs::File::create(directory.join("log")).context("cannot write a log")?;
    let _prometheus = Running(
        package
            .program("prometheus")
            .args([
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=data",
                "--enable-feature=native-histograms",
            ])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run prometheus")?,
    );
    let query = |expression: &str| query(&address, expression);
    let all: f64 = FAULTS.iter().map(|(_, faults)| faults).sum();
    let counted = || query("sum(dsascope_faults_total)").ok().and_then(|found| single(&found));
    until("all faults to be scraped", || counted().filter(|&found| found == all))?;
    for (name, faults) in FAULTS {
        let listen =
            hosts.iter().find(|(host, ..)| host == name).map(|(_, listen, _)| listen).context(name)?;
        let service = format!("dsascope_stage_seconds{{instance=\"{listen}\",stage=\"service\"}}");
        let native = single(&query(&format!("histogram_count(sum({service}))"))?).unwrap_or(-1.0);
        ensure!(native == faults, "{name}: the native histogram counts {native} services of {faults}");
    }
    // A rate needs two samples.
    let counting = "min(count_over_time(dsascope_faults_total[1m])) >= 3";
    until("some scrapes", || query(counting).ok().filter(|found| !found.is_empty()))?;
    for (place, expression) in dashboards::expressions() {
        let found = query(&expression).with_context(|| format!("{place}: {expression}"))?;
        let empty = found.is_empty() && !MAY_BE_EMPTY.contains(&place.as_str());
        ensure!(!empty, "{place}: nothing answers {expression}");
    }
    classic(&hosts.iter().map(|(name, listen, _)| (name.as_str(), listen.as_str())).collect::<Vec<_>>())
}

/// The classic histograms of the text format, which a Prometheus without native ones takes: each counts every service.
fn classic(hosts: &[(&str, &str)]) -> Result<()> {
    for (name, listen) in hosts {
        let text = get(&format!("http://{listen}/metrics"))?;
        let services = text
            .lines()
            .filter(|line| {
                line.starts_with("dsascope_stage_seconds_count") && line.contains("stage=\"service\"")
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        let counted: f64 = services.sum();
        let faults = FAULTS.iter().find(|(other, _)| other == name).map_or(-1.0, |(_, faults)| *faults);
        ensure!(counted == faults, "{name}: the classic histogram counts {counted} services of {faults}");
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}

fn get(url: &str) -> Result<String> {
    let mut response = ureq::get(url).call().with_context(|| format!("get {url}"))?;
    response.body_mut().read_to_string().with_context(|| format!("read {url}"))
}

/// The result of an instant query.
fn query(address: &str, expression: &str) -> Result<Vec<Value>> {
    let mut response = ureq::get(format!("http://{address}/api/v1/query"))
        .query("query", expression)
        .config()
        .http_status_as_error(false)
        .build()
        .call()
        .context("ask Prometheus")?;
    let text = response.body_mut().read_to_string().context("read Prometheus' answer")?;
    let answer: Value =
        serde_json::from_str(&text).with_context(|| format!("Prometheus answered {text:?}"))?;
    ensure!(answer["status"] == "success", "Prometheus refused: {}", answer["error"]);
    Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
}

/// The one value of a query's result.
fn single(found: &[Value]) -> Option<f64> {
    let [one] = found else { return None };
    one["value"][1].as_str()?.parse().ok()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Ok(found);
        }
        sleep(Duration::from_millis(200));
    }
    bail!("waited {} s for {what}", PATIENCE.as_secs())
}
