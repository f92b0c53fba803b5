//! The DMAR ACPI table: one remapping unit for all of PCI, and ATS on all root ports.

const HEADER_BYTES: u32 = 36;

/// The table for a unit whose registers are at `base`. The checksum is left zero; the hypervisor computes it.
#[must_use]
pub fn table(base: u64) -> Vec<u8> {
    let mut body = vec![46, 0]; // host address width - 1, flags
    body.extend_from_slice(&[0; 10]);
    // DRHD: type 0, 16 bytes, INCLUDE_PCI_ALL, size 2^0 pages, segment 0
    body.extend_from_slice(&[0, 0, 16, 0, 1, 0, 0, 0]);
    body.extend_from_slice(&base.to_le_bytes());
    // ATSR: type 2, 8 bytes, ALL_PORTS, segment 0
    body.extend_from_slice(&[2, 0, 8, 0, 1, 0, 0, 0]);
    let mut table = b"DMAR".to_vec();
    table.extend_from_slice(&(HEADER_BYTES + body.len() as u32).to_le_bytes());
    table.extend_from_slice(&[1, 0]); // revision, checksum
    table.extend_from_slice(b"BOCHS BXPC    \x01\0\0\0BXPC\x01\0\0\0");
    table.extend_from_slice(&body);
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn table_has_the_unit_and_its_length() {
        let table = super::table(0xfebf_0000);
        assert_eq!(table.len(), 36 + 12 + 16 + 8);
        assert_eq!(table[4..8], 72u32.to_le_bytes());
        assert_eq!(table[48 + 8..48 + 16], 0xfebf_0000u64.to_le_bytes());
    }
}
