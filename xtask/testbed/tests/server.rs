//! The testbed as a hypervisor sees it: sockets, messages, and what becomes of a peer that misbehaves.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dsascope_testbed::dsa::Kind;
use dsascope_testbed::{Config, DeviceConfig, Testbed, TestbedError};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dsascope-testbed-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn testbed(dir: &Dir, kinds: &[Kind]) -> Testbed {
    let devices = kinds.iter().map(|&kind| DeviceConfig { kind, ..DeviceConfig::default() }).collect();
    Testbed::start(&Config { devices, dir: &dir.0 }).unwrap()
}

fn connect(testbed: &Testbed, index: usize) -> UnixStream {
    let stream = UnixStream::connect(&testbed.sockets()[index].path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn send(stream: &mut UnixStream, command: u16, flags: u32, payload: &[u8]) {
    let mut message = vec![7, 0];
    message.extend_from_slice(&command.to_le_bytes());
    message.extend_from_slice(&(16 + payload.len() as u32).to_le_bytes());
    message.extend_from_slice(&flags.to_le_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(payload);
    stream.write_all(&message).unwrap();
}

/// Error number and payload of the next reply.
fn receive(stream: &mut UnixStream) -> (u32, Vec<u8>) {
    let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[0], 7);
    assert_eq!(word(&header[8..12]) & 0x2f, if word(&header[12..]) == 0 { 1 } else { 0x21 });
    let mut payload = vec![0; word(&header[4..8]) as usize - 16];
    stream.read_exact(&mut payload).unwrap();
    (word(&header[12..]), payload)
}

fn ask(stream: &mut UnixStream, command: u16, payload: &[u8]) -> (u32, Vec<u8>) {
    send(stream, command, 0, payload);
    receive(stream)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Region read: offset, region, count.
fn read(stream: &mut UnixStream, offset: u32, region: u32, count: u32) -> (u32, Vec<u8>) {
    let (error, payload) = ask(stream, 9, &words(&[offset, 0, region, count]));
    (error, payload.get(16..).unwrap_or_default().to_vec())
}

#[test]
fn a_device_describes_itself() {
    let dir = Dir::new("describe");
    let testbed = testbed(&dir, &[Kind::Dsa, Kind::Iax]);
    let names: Vec<_> = testbed.sockets().iter().map(|s| (s.name.as_str(), s.addr.as_str())).collect();
    assert_eq!(names, [("vtd", "10.0"), ("dsa0", "11.0"), ("iax1", "12.0")]);
    let dsa = &mut connect(&testbed, 1);
    let (error, version) = ask(dsa, 1, b"\0\0\x01\0{}\0");
    assert_eq!((error, &version[..4]), (0, &[0; 4][..]));
    assert_eq!(ask(dsa, 4, &words(&[16, 0, 0, 0])).1, words(&[16, 3, 9, 5]));
    let bar2 = ask(dsa, 5, &words(&[32, 0, 2, 0, 0, 0, 0, 0]));
    assert_eq!(bar2.1[16..20], 0x2_0000u32.to_le_bytes());
    assert_eq!(ask(dsa, 7, &words(&[16, 0, 2, 0])).1, words(&[16, 9, 2, 9]));
    assert_eq!(read(dsa, 0, 7, 4), (0, vec![0x86, 0x80, 0x25, 0x0b]));
    assert_eq!(read(dsa, 0, 0, 4), (0, vec![0, 2, 0, 0]));
    assert_eq!(read(&mut connect(&testbed, 2), 0, 7, 4).1, [0x86, 0x80, 0xfe, 0x0c]);
    assert_eq!(read(&mut connect(&testbed, 0), 0x10, 0, 8).1[6] & 1, 1, "ECAP.SMPWC");
}

#[test]
fn requests_out_of_range_are_refused_and_the_connection_goes_on() {
    let dir = Dir::new("range");
    let testbed = testbed(&dir, &[Kind::Dsa]);
    let dsa = &mut connect(&testbed, 1);
    const EINVAL: u32 = 22;
    assert_eq!(read(dsa, 0xffff, 0, 4).0, EINVAL);
    assert_eq!(read(dsa, 0, 1, 4).0, EINVAL);
    assert_eq!(read(dsa, 0, 99, 4).0, EINVAL);
    assert_eq!(ask(dsa, 5, &words(&[32, 0, 9, 0, 0, 0, 0, 0])).0, EINVAL);
    assert_eq!(ask(dsa, 8, &words(&[20, 0x24, 2, 8, 2])).0, EINVAL, "vectors 8 and 9 of nine");
    assert_eq!(ask(dsa, 14, &[]).0, 95, "a command that is not there");
    // a write that wants no reply, then a read of what it did
    send(dsa, 10, 0x10, &words(&[0x88, 0, 0, 4, 5]));
    assert_eq!(read(dsa, 0x88, 0, 4).1, [5, 0, 0, 0]);
    assert_eq!(ask(dsa, 13, &[]).0, 0);
    assert_eq!(read(dsa, 0x88, 0, 4).1, [0; 4], "reset");
}

#[test]
fn a_malformed_message_ends_its_connection_only() {
    let dir = Dir::new("malformed");
    let mut testbed = testbed(&dir, &[Kind::Dsa]);
    for bad in [&[0xff; 16][..], &[0; 16], b"\0\0\x09\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let mut dsa = connect(&testbed, 1);
        dsa.write_all(bad).unwrap();
        assert_eq!(dsa.read(&mut [0; 1]).unwrap(), 0, "closed");
        assert_eq!(read(&mut connect(&testbed, 1), 0, 0, 4).0, 0);
    }
    let half = &mut connect(&testbed, 1);
    half.write_all(&[0; 7]).unwrap();
    testbed.stop().unwrap();
    assert_eq!(half.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(testbed.sockets().iter().all(|s| !s.path.exists()), "sockets are removed");
    testbed.stop().unwrap();
}

#[test]
fn faults_on_demand_reach_the_device_they_name() {
    use dsascope_testbed::dsa::{Injection, ResetType};
    let dir = Dir::new("inject");
    let testbed = testbed(&dir, &[Kind::Dsa, Kind::Iax]);
    let halt = Injection::Halt { reset: ResetType::Flr };
    testbed.inject("iax1", halt).unwrap();
    assert!(matches!(testbed.inject("dsa1", halt), Err(TestbedError::NoDevice(name)) if name == "dsa1"));
    // GENSTATS
    assert_eq!(read(&mut connect(&testbed, 1), 0x90, 0, 4).1, [0; 4]);
    assert_eq!(read(&mut connect(&testbed, 2), 0x90, 0, 4).1, [7, 0, 0, 0]);
    assert_eq!(testbed.truth().counters().halts, 1);
    let few = DeviceConfig { batch_identifiers: 0, ..DeviceConfig::default() };
    let refused = Testbed::start(&Config { devices: vec![few], dir: &dir.0 });
    assert!(matches!(refused, Err(TestbedError::BatchIdentifiers(0))));
}

#[test]
fn start_and_stop_leave_nothing() {
    let dir = Dir::new("stop");
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .filter(|task| {
                let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                name.starts_with("dsa7") || name.starts_with("iax7")
            })
            .count()
    };
    let mut kinds = vec![Kind::Dsa; 8];
    kinds[7] = Kind::Iax;
    let mut testbed = testbed(&dir, &kinds);
    // A thread names itself after it has started.
    let until = Instant::now() + Duration::from_secs(10);
    while threads() < 5 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(threads(), 5, "a server and four engines");
    testbed.truth().mark("here").unwrap();
    let lines = dsascope_testbed::truth::read(testbed.truth_path()).unwrap();
    assert_eq!(lines.len(), 1);
    testbed.stop().unwrap();
    assert_eq!(threads(), 0);
    let none = Testbed::start(&Config { devices: Vec::new(), dir: &dir.0 });
    assert!(matches!(none, Err(TestbedError::Devices(0))));
    let absent =
        Testbed::start(&Config { devices: vec![DeviceConfig::default()], dir: &dir.0.join("absent") });
    assert!(matches!(absent, Err(TestbedError::Truth(_))));
}
