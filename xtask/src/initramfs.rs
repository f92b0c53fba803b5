//! The guest's whole file system: a "newc" cpio archive, as the kernel unpacks it (Documentation/driver-api/early-userspace).
//!
//! Uncompressed: copying it is faster than the guest's unpacking under emulation. Refuses: choosing what goes in.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// An archive being written. Paths are absolute in the guest; parent directories are added as needed.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    inode: u32,
}

impl Initramfs {
    /// An archive with an empty directory for each of `directories`.
    pub fn new(directories: &[&str]) -> Self {
        let mut archive = Self::default();
        for directory in directories {
            archive.directory(directory);
        }
        archive
    }

    /// Adds an executable file.
    pub fn program(&mut self, path: &str, content: &[u8]) {
        self.file(path, PROGRAM, content);
    }

    /// Adds a file to read.
    pub fn data(&mut self, path: &str, content: &[u8]) {
        self.file(path, DATA, content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.file(path, LINK, target.as_bytes());
    }

    /// Adds `/dev/console`, which the kernel opens for init before any file system is mounted.
    pub fn console(&mut self) {
        self.directory("/dev");
        self.entry("dev/console", CONSOLE, (5, 1), &[]);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, mode, (0, 0), content);
    }

    fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let directory = &path[..end];
            if !directory.is_empty() && self.directories.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY, (0, 0), &[]);
            }
        }
    }

    /// One member: 110 bytes of hexadecimal fields, the name with a zero byte, the content; both padded to four bytes.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        // inode, mode, uid, gid, links, time, size, device of the file (two), device it is (two), name length, checksum
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_member_byte_by_byte() {
        let mut archive = Initramfs::default();
        archive.data("/a", b"hello");
        let bytes = archive.finish();
        let inode_mode = "00000001000081a4";
        let owner_links_time = "00000000000000000000000100000000";
        let size_devices = "0000000500000000000000000000000000000000";
        let name_check = "0000000200000000";
        let expected = format!("070701{inode_mode}{owner_links_time}{size_devices}{name_check}").into_bytes();
        assert_eq!(&bytes[..110], expected.as_slice());
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }

    /// Names, modes and contents as another program reads them.
    fn list(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let (mut at, mut members) = (0, Vec::new());
        loop {
            let field = |index: usize| {
                u32::from_str_radix(
                    std::str::from_utf8(&bytes[at + 6 + index * 8..at + 14 + index * 8]).unwrap(),
                    16,
                )
                .unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[at + 110..at + 109 + name_size].to_vec()).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return members;
            }
            members.push((name, mode, bytes[content..content + size].to_vec()));
            at = (content + size).next_multiple_of(4);
        }
    }

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Initramfs::new(&["/proc", "/sys"]);
        archive.console();
        archive.program("/usr/bin/x", b"\x7fELF");
        archive.data("/usr/share/y", b"");
        archive.link("/bin", "usr/bin");
        let members = list(&archive.finish());
        let names: Vec<_> = members.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "proc",
                "sys",
                "dev",
                "dev/console",
                "usr",
                "usr/bin",
                "usr/bin/x",
                "usr/share",
                "usr/share/y",
                "bin"
            ]
        );
        assert_eq!(members[6].1, 0o100_755);
        assert_eq!(members[6].2, b"\x7fELF");
        assert_eq!(members[9].2, b"usr/bin");
    }
}
