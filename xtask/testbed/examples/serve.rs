//! Serves one emulated DSA and its VT-d unit in a directory until standard input ends, then prints what the device did.
//! usage: serve DIRECTORY

use std::io::{Read, stdin};
use std::path::PathBuf;

use dsascope_testbed::dsa::Kind;
use dsascope_testbed::{Config, DeviceConfig, Testbed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: serve DIRECTORY")?);
    let devices = vec![DeviceConfig { kind: Kind::Dsa, ..DeviceConfig::default() }];
    let mut testbed = Testbed::start(&Config { devices, dir: &dir })?;
    for socket in testbed.sockets() {
        println!("{}", socket.device_option());
    }
    stdin().read_to_end(&mut Vec::new())?;
    println!("VT-d registers at {:#x?}", testbed.vtd_base());
    testbed.stop()?;
    println!("{:#?}", testbed.truth().counters());
    println!("truth log: {}", testbed.truth_path().display());
    Ok(())
}
