//! The virtio-serial port to the host.
//!
//! Owns: finding and opening it, one writer at a time. Refuses: interpreting frames.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use dsascope_guest::protocol::{Frame, PORT, write_frame};

use crate::sysfs;

/// The writing half; threads take turns by frame.
#[derive(Debug)]
pub(crate) struct Port {
    file: Mutex<File>,
}

/// The reading half. The port reads as ended while no host is connected; that is waited out.
#[derive(Debug)]
pub(crate) struct PortReader(File);

pub(crate) fn open(patience: Duration) -> anyhow::Result<(Port, PortReader)> {
    let begin = Instant::now();
    let path = loop {
        match find() {
            Some(path) => break path,
            None if begin.elapsed() > patience => bail!("there is no virtio-serial port {PORT}"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    let what = || format!("opening the control port {}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(&path).with_context(what)?;
    let reader = PortReader(file.try_clone().with_context(what)?);
    Ok((Port { file: Mutex::new(file) }, reader))
}

fn find() -> Option<PathBuf> {
    sysfs::entries(Path::new("/sys/class/virtio-ports"), "vport")
        .into_iter()
        .find(|port| sysfs::read(&port.join("name")).is_ok_and(|name| name == PORT))
        .and_then(|port| Some(Path::new("/dev").join(port.file_name()?)))
}

impl Port {
    pub(crate) fn send(&self, frame: &Frame) -> io::Result<()> {
        write_frame(&mut *self.file.lock().unwrap_or_else(PoisonError::into_inner), frame)
    }
}

impl Read for PortReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Ok(0) if !buffer.is_empty() => thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }
}
