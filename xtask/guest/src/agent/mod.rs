//! Serves the host: one request at a time, to its end.
//!
//! Owns: the order of replies. Refuses: dying of a request; what goes wrong becomes a line on the request's stderr and its code.

mod exec;
mod port;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use dsascope_guest::{
    protocol::{Frame, Reply, Request, read_frame},
    scenario::Scenario,
};
use nix::sys::reboot::{RebootMode, reboot};

use self::{
    exec::{Ended, Spec},
    port::{Port, PortReader},
};

/// What the agent waits for: frames of the host, and news of the running command.
pub(crate) enum Event {
    Frame(Frame),
    /// A frame that means nothing.
    Nonsense(String),
    /// The port cannot be read any more.
    Broken(String),
    Exited(i32),
    /// One output of the command of that request has ended.
    Drained(u64),
}

pub(crate) fn run() -> anyhow::Result<i32> {
    let (port, reader) = port::open(Duration::from_secs(30))?;
    let port = Arc::new(port);
    let (sender, events) = channel();
    let news = sender.clone();
    thread::spawn(move || receive(reader, &news));
    let kernel = nix::sys::utsname::uname().context("asking for the kernel's name")?;
    let ready = Reply::Ready {
        kernel: kernel.release().to_string_lossy().into_owned(),
        uptime_ms: uptime_ms().unwrap_or_default(),
    };
    port.send(&Frame::Reply(ready)).context("greeting the host")?;
    let agent = Agent { port, events, sender };
    loop {
        match agent.events.recv().context("waiting for the host")? {
            Event::Frame(Frame::Request(request)) => agent.serve(request)?,
            Event::Nonsense(error) => agent.answer(Err(anyhow!("reading a request: {error}")))?,
            Event::Broken(error) => anyhow::bail!("reading the control port: {error}"),
            // What comes late for a request that has ended.
            Event::Frame(_) | Event::Exited(_) | Event::Drained(_) => {}
        }
    }
}

fn receive(mut reader: PortReader, news: &Sender<Event>) {
    loop {
        let event = match read_frame(&mut reader) {
            Ok(frame) => Event::Frame(frame),
            Err(error) if error.kind() == ErrorKind::InvalidData => Event::Nonsense(error.to_string()),
            Err(error) => Event::Broken(error.to_string()),
        };
        let last = matches!(event, Event::Broken(_));
        if news.send(event).is_err() || last {
            return;
        }
    }
}

fn uptime_ms() -> Option<u64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some((seconds * 1000.0) as u64)
}

struct Agent {
    port: Arc<Port>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl Agent {
    fn serve(&self, request: Request) -> anyhow::Result<()> {
        let result = match request {
            Request::Exec { argv, env, tty } => self.execute(Spec { argv, env, tty }),
            Request::Scenario { scenario, tracer } => self.scenario(&scenario, tracer),
            Request::Shutdown => power_off(),
        };
        self.answer(result)
    }

    fn answer(&self, result: anyhow::Result<Ended>) -> anyhow::Result<()> {
        let code = match result {
            Ok(Ended::Code(code)) => code,
            Ok(Ended::Shutdown) => {
                power_off()?;
                1
            }
            Err(error) => {
                self.port.send(&Frame::Stderr(format!("guest agent: {error:#}\n").into_bytes()))?;
                127
            }
        };
        Ok(self.port.send(&Frame::Reply(Reply::Done { code }))?)
    }

    fn execute(&self, spec: Spec) -> anyhow::Result<Ended> {
        exec::run(spec, &self.port, &self.events, &self.sender)
    }

    /// The run is a process of its own; what it leaves in its directory goes to the host.
    fn scenario(&self, scenario: &Scenario, tracer: Option<Vec<String>>) -> anyhow::Result<Ended> {
        let directory = Path::new("/tmp/scenario");
        let out = directory.join("out");
        if directory.exists() {
            fs::remove_dir_all(directory).context("removing the last run's files")?;
        }
        fs::create_dir_all(&out).context("making the run's directory")?;
        let file = directory.join("scenario.json");
        fs::write(&file, serde_json::to_vec(scenario)?).context("writing the scenario")?;
        let own = env::current_exe().context("finding the guest's program")?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut argv = vec![text(&own), "run-scenario".into(), text(&file), "--out".into(), text(&out)];
        if let Some(tracer) = tracer {
            argv.push("--".into());
            argv.extend(tracer);
        }
        let ended = self.execute(Spec { argv, env: Vec::new(), tty: None })?;
        if matches!(ended, Ended::Code(_)) {
            self.send_files(&out)?;
        }
        Ok(ended)
    }

    fn send_files(&self, directory: &Path) -> anyhow::Result<()> {
        let files: BTreeMap<String, PathBuf> = fs::read_dir(directory)
            .context("listing the run's files")?
            .flatten()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
            .collect();
        for (name, path) in files {
            let mut file = fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            let bytes = file.metadata()?.len();
            self.port.send(&Frame::Reply(Reply::File { name, bytes }))?;
            // Exactly what was announced, even if something still writes there.
            let mut file = (&mut file).take(bytes);
            let mut chunk = vec![0; 256 << 10];
            let mut left = bytes;
            while left > 0 {
                let n = file.read(&mut chunk).with_context(|| format!("reading {}", path.display()))?;
                anyhow::ensure!(n > 0, "{} became shorter while it was sent", path.display());
                self.port.send(&Frame::FileData(chunk[..n].to_vec()))?;
                left -= n as u64;
            }
        }
        Ok(())
    }
}

fn power_off() -> anyhow::Result<Ended> {
    nix::unistd::sync();
    reboot(RebootMode::RB_POWER_OFF).context("powering off")?;
    Ok(Ended::Shutdown)
}
