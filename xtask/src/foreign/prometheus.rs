//! The real Prometheus, as Debian has it, on three hosts that each replay a capture of samples/.
//!
//! It must take what `dsascope serve` says in every encoding, count what `dsascope stat` counts in the captures, give every expression of
//! dashboards/ an answer, and find nothing wrong with the rules. Owns: the processes, which are gone when a check ends however it does.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dsascope_core::metrics::{self as m, Metric};
use serde_json::Value;

use super::exports::samples;
use crate::apt::{Apt, FRESH};
use crate::cache::Cache;
use crate::captures::tracer;
use crate::dashboards;
use crate::progress::step;

const PATIENCE: Duration = Duration::from_secs(60);
/// Encodings with the job that asks for each; the first is what Prometheus prefers, and what rules are for.
const JOBS: [(&str, &str); 3] = [
    ("dsascope", "PrometheusProto"),
    ("text", "PrometheusText0.0.4"),
    ("openmetrics", "OpenMetricsText1.0.0"),
];
/// Of these the samples have nothing: captures hold no state of the ring, their kernels counted no time in programs, and all was attached.
const NOT_IN_SAMPLES: [&Metric; 3] = [&m::RING_USED, &m::PROGRAM_SECONDS, &m::PROBE_ATTACHED];

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

/// One of the simulated hosts.
struct Host {
    name: String,
    address: String,
    /// What `dsascope stat` counts in its capture.
    summary: Value,
    _serve: Running,
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
    let tracer = tracer()?;
    let hosts = samples()?
        .into_iter()
        .map(|(name, capture)| host(&tracer, name, &capture))
        .collect::<Result<Vec<_>>>()?;
    for host in &hosts {
        lint(&package, host, directory)?;
    }
    let (prometheus, _running) = prometheus(&package, &hosts, directory)?;
    for host in &hosts {
        totals(&prometheus, host).with_context(|| host.name.clone())?;
    }
    encodings(&prometheus)?;
    expressions(&prometheus)
}

/// Starts to serve a capture.
fn host(tracer: &Path, name: String, capture: &Path) -> Result<Host> {
    let stat = Command::new(tracer)
        .args(["stat", "--json", "--from"])
        .arg(capture)
        .stdin(Stdio::null())
        .output()
        .context("cannot run dsascope stat")?;
    let text = String::from_utf8_lossy(&stat.stdout);
    let summary: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("{name}: dsascope stat gave no summary"))?;
    ensure!(summary["kind"] == "summary", "{name}: dsascope stat ended with {}", summary["kind"]);
    let address = format!("127.0.0.1:{}", free_port()?);
    let serve = Command::new(tracer)
        .args(["serve", "--speed", "max", "--listen", &address, "--from"])
        .arg(capture)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run dsascope serve")?;
    Ok(Host { name, address, summary, _serve: Running(serve) })
}

/// `promtool check metrics`, which wants what it is to check on stdin.
fn lint(package: &Package, host: &Host, directory: &Path) -> Result<()> {
    let name = &host.name;
    let url = format!("http://{}/metrics", host.address);
    let whole = |text: &String| text.contains("dsascope_ledger_balanced");
    let text = until(&format!("metrics of {name}"), || get(&url).ok().filter(whole))?;
    let path = directory.join(format!("{name}.metrics"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let file = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut promtool = package.program("promtool");
    let output = promtool.args(["check", "metrics"]).stdin(file).output().context("cannot run promtool")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "promtool check metrics, {name}: {said}");
    Ok(())
}

/// Starts Prometheus, and waits until it has scraped the last figures of every host in every encoding, twice.
fn prometheus(package: &Package, hosts: &[Host], directory: &Path) -> Result<(Prometheus, Running)> {
    let targets: Vec<String> = hosts.iter().map(|host| format!("'{}'", host.address)).collect();
    let targets = targets.join(", ");
    let mut config = String::from(
        "global: { scrape_interval: 1s, evaluation_interval: 1s }\n\
         rule_files: [recording-rules.yaml, alert-rules.yaml]\nscrape_configs:\n",
    );
    for (job, protocol) in JOBS {
        config += &format!(
            "  - job_name: {job}\n    scrape_protocols: [{protocol}]\n    scrape_classic_histograms: true\n    \
             static_configs: [{{ targets: [{targets}] }}]\n"
        );
    }
    fs::write(directory.join("prometheus.yaml"), config).context("cannot write Prometheus' configuration")?;
    package.promtool(&["check", "config", "prometheus.yaml"], directory)?;
    let prometheus = Prometheus { address: format!("127.0.0.1:{}", free_port()?) };
    let log = fs::File::create(directory.join("log")).context("cannot write a log")?;
    let running = Running(
        package
            .program("prometheus")
            .args([
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=data",
                "--enable-feature=native-histograms",
            ])
            .arg(format!("--web.listen-address={}", prometheus.address))
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run prometheus")?,
    );
    let served = hosts.iter().flat_map(Host::contexts).map(|context| count(&context["served"]));
    let all = served.sum::<Result<u64>>()? as f64 * JOBS.len() as f64;
    // A rate needs two samples.
    let counted = format!("sum(min_over_time({}[2s]))", m::FAULTS.name);
    until("all faults to be scraped", || prometheus.number(&counted).ok().filter(|&found| found == all))?;
    let twice = format!("min(count_over_time({}[1m])) >= 2", m::FAULTS.name);
    until("a second scrape", || prometheus.query(&twice).ok().filter(|found| !found.is_empty()))?;
    Ok((prometheus, running))
}

impl Host {
    fn contexts(&self) -> impl Iterator<Item = &Value> {
        self.summary["contexts"].as_array().into_iter().flatten()
    }
}

fn count(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no count"))
}

/// In every encoding: counters by work queue and by process, and histograms by stage, count what the capture holds.
fn totals(prometheus: &Prometheus, host: &Host) -> Result<()> {
    let mut expected = BTreeMap::<String, u64>::new();
    for context in host.contexts() {
        let wq = format!("wq=~\".+[.]{}\"", context["wq"]);
        let process = format!("pid=\"{}\"", context["tgid"]);
        for (metric, labels, field) in [
            (&m::FAULTS, &wq, "served"),
            (&m::DELIVERED, &wq, "delivered"),
            (&m::FAILED, &wq, "failed"),
            (&m::PROCESS_FAULTS, &process, "served"),
            (&m::PROCESS_FAILED, &process, "failed"),
        ] {
            *expected.entry(format!("{}{{{labels}", metric.name)).or_default() += count(&context[field])?;
        }
    }
    for stage in host.summary["latency"].as_array().into_iter().flatten() {
        let series = format!("{}_count{{stage={}", m::STAGE_SECONDS.name, stage["stage"]);
        expected.insert(series, count(&stage["count"])?);
    }
    ensure!(expected.len() > 7, "the capture holds next to nothing: {expected:?}");
    for (job, _) in JOBS {
        for (series, &expected) in &expected {
            let sum = format!("sum({series},job=\"{job}\",instance=\"{}\"}})", host.address);
            let found = prometheus.number(&sum)?;
            ensure!(found == expected as f64, "{sum} is {found}, and {expected} in the capture");
        }
    }
    Ok(())
}

/// All encodings make the same series, and native histograms are those of the classic ones.
fn encodings(prometheus: &Prometheus) -> Result<()> {
    let name = m::STAGE_SECONDS.name;
    let (first, _) = JOBS[0];
    let of = |series: &str, job: &str| format!("{series}{{job=\"{job}\"}}");
    let mut pairs = Vec::new();
    for figure in ["count", "sum"] {
        let classic = of(&format!("{name}_{figure}"), first);
        pairs.push((format!("histogram_{figure}({}) == {classic}", of(name, first)), classic));
    }
    for (job, _) in &JOBS[1..] {
        for part in ["bucket", "count", "sum"] {
            let series = format!("{name}_{part}");
            let theirs = of(&series, job);
            pairs.push((format!("{} == ignoring(job) {theirs}", of(&series, first)), theirs));
        }
        // Native histograms are series of protobuf alone.
        let all = |job: &str| format!("{{__name__=~\"dsascope_.+\",__name__!=\"{name}\",job=\"{job}\"}}");
        pairs.push((all(first), all(job)));
    }
    for (one, other) in pairs {
        let found = [&one, &other].map(|series| prometheus.number(&format!("count({series})")));
        let [one_found, other_found] = found;
        let (one_found, other_found) = (one_found?, other_found?);
        ensure!(one_found == other_found, "{one_found} series of {one}, {other_found} of {other}");
    }
    Ok(())
}

/// Prometheus takes every expression of dashboards/, and has an answer where the samples have one.
fn expressions(prometheus: &Prometheus) -> Result<()> {
    for (place, expression) in dashboards::expressions() {
        let ask =
            |expression: &str| prometheus.query(expression).with_context(|| format!("{place}: {expression}"));
        ask(&expression)?;
        // A capture that was read to its end counts no more, and a ratio of resting counters is left out on purpose.
        let compared = compared(&expression).replace(" > 0)", ")");
        let answers = !ask(&compared)?.is_empty();
        let expected = !NOT_IN_SAMPLES.iter().any(|metric| compared.contains(metric.name));
        ensure!(
            answers == expected,
            "{place}: {compared} {}",
            if answers { "has an answer" } else { "has none" }
        );
    }
    let rules = prometheus.ask("rules", &[])?;
    let groups = rules["groups"].as_array().into_iter().flatten();
    let rules: Vec<&Value> =
        groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    ensure!(!rules.is_empty(), "Prometheus knows no rules");
    for rule in rules {
        ensure!(rule["lastError"].is_null(), "{}: {}", rule["name"], rule["lastError"]);
    }
    Ok(())
}

/// What an alert compares with its bound: if that has no answer, it can never fire.
fn compared(expression: &str) -> &str {
    let side = |sign| {
        let (side, bound) = expression.rsplit_once(sign)?;
        bound.parse::<f64>().is_ok().then_some(side)
    };
    [" > ", " == "].into_iter().find_map(side).unwrap_or(expression)
}

/// Where it answers.
struct Prometheus {
    address: String,
}

impl Prometheus {
    fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut response = ureq::get(format!("http://{}/api/v1/{what}", self.address))
            .query_pairs(parameters.iter().copied())
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .context("ask Prometheus")?;
        let text = response.body_mut().read_to_string().context("read Prometheus' answer")?;
        let mut answer: Value =
            serde_json::from_str(&text).with_context(|| format!("Prometheus answered {text:?}"))?;
        ensure!(answer["status"] == "success", "Prometheus refused: {}", answer["error"]);
        Ok(answer["data"].take())
    }

    /// The result of an instant query.
    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.ask("query", &[("query", expression)])?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Of a query with one value.
    fn number(&self, expression: &str) -> Result<f64> {
        let found = self.query(expression)?;
        let [one] = found.as_slice() else { bail!("{expression} has {} values", found.len()) };
        let text = one["value"][1].as_str().unwrap_or_default();
        text.parse().with_context(|| format!("{expression} is {text:?}"))
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}

fn get(url: &str) -> Result<String> {
    let mut response = ureq::get(url).call().with_context(|| format!("get {url}"))?;
    response.body_mut().read_to_string().with_context(|| format!("read {url}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_cut_off_and_nothing_else() {
        assert_eq!(compared("a / b > 0.8"), "a / b");
        assert_eq!(compared("up{job=\"x\"} == 0"), "up{job=\"x\"}");
        assert_eq!(compared("a / (b > 0)"), "a / (b > 0)");
        assert_eq!(compared("rate(a[1m])"), "rate(a[1m])");
    }
}
