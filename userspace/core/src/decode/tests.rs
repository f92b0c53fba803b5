use std::fmt::Write;

use dsascope_common::hw::completion::status as code;
use dsascope_common::hw::event_log::EntryHeader;
use proptest::prelude::*;

use super::*;
use crate::event::{CopyOutcome, Fault};
use crate::testing;

fn text(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", explanation.sentence);
    for section in &explanation.sections {
        let _ = writeln!(text, "[{}]", section.title);
        for f in &section.fields {
            let line = format!("{:>8}  {:<22} {:<12} {}", f.place, f.name, f.value, f.words);
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

fn sample() -> Fault {
    testing::fault(testing::context(0, 1, 5), 1_000_000)
}

#[test]
fn every_status_has_a_sentence() {
    let mut all = String::new();
    for kind in [DeviceKind::Dsa, DeviceKind::Iax] {
        for value in 0..=0x7f {
            let status = status(kind, value);
            if status.name.is_some() {
                assert!(!status.sentence().contains("not known"), "{} has no sentence", status.label());
                let _ = writeln!(all, "{} {}: {}", kind.prefix(), status.label(), status.sentence());
            }
        }
    }
    insta::assert_snapshot!("statuses", all);
}

#[test]
fn every_operation_has_a_name() {
    let mut all = String::new();
    for kind in [DeviceKind::Dsa, DeviceKind::Iax] {
        for value in 0..=u8::MAX {
            if let Some(name) = operation(kind, value) {
                let _ = writeln!(all, "{} {value:#04x} {name}", kind.prefix());
            }
        }
    }
    insta::assert_snapshot!("operations", all);
}

#[test]
fn a_delivered_record() {
    insta::assert_snapshot!("delivered", text(&explain(&sample())));
}

#[test]
fn a_failed_copy() {
    let mut fault = sample();
    fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
    assert!(
        sentence(&fault)
            .ends_with("the driver's copy failed after 0 of 32 bytes: the submitter never sees a status.")
    );
}

#[test]
fn a_batch_record_that_the_driver_patched() {
    let mut fault = sample();
    fault.entry = fault.entry.with_error(code::BATCH_EVL_ERR).with_operation(0x01).with_batch_id(9);
    fault.delivered[0] = code::BATCH_FAIL;
    fault.delivered[1] = 1;
    fault.delivered[4] = 8;
    insta::assert_snapshot!("patched_batch", text(&explain(&fault)));
}

#[test]
fn unknown_values_are_said_to_be_unknown() {
    let mut fault = sample();
    fault.entry = fault.entry.with_error(0x2f).with_operation(0xee);
    assert!(
        sentence(&fault).starts_with("The device logged 0x2f (unknown) for operation 0xee;"),
        "{}",
        sentence(&fault)
    );
    // 0x05 means a failed batch on DSA and nothing on IAA: without the kind it has no name.
    assert_eq!(status(DeviceKind::Unknown, 0x05).name, None);
    assert_eq!(status(DeviceKind::Unknown, 0x1a).name, Some("CRA_XLAT"));
    assert!(status(DeviceKind::Dsa, 0x83).sentence().ends_with(" The fault was a write."));
}

#[test]
fn invalid_flags_are_named() {
    let header = EntryHeader::default().with_error(code::INVALID_FLAGS).with_invalid_flags(0x41);
    let fields = entry(DeviceKind::Dsa, header.as_bytes());
    let field = fields.iter().find(|f| f.name == "invalid flags").unwrap();
    assert_eq!(field.words, "fence, bit 6 (reserved)");
}

#[test]
fn a_descriptor_and_an_iaa_record() {
    let mut bytes = [0u8; 64];
    bytes[0..4].copy_from_slice(&0x8000_0005u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&(0x0300_000cu32).to_le_bytes());
    for (index, byte) in bytes.iter_mut().enumerate().skip(8) {
        *byte = index as u8;
    }
    let explanation = Explanation {
        sentence: "raw".into(),
        sections: vec![
            Section { title: "dsa descriptor".into(), fields: descriptor(DeviceKind::Dsa, &bytes) },
            Section { title: "iax descriptor".into(), fields: descriptor(DeviceKind::Iax, &bytes) },
            Section { title: "iax record".into(), fields: completion(DeviceKind::Iax, 0x43, &bytes) },
            Section {
                title: "swerror".into(),
                fields: swerror(DeviceKind::Dsa, &[0x503_0001_100f, 1, 2, 3]),
            },
        ],
    };
    insta::assert_snapshot!("raw", text(&explanation));
}

/// Whether no bit of `bytes` belongs to two fields.
fn covers(fields: &[Field], bytes: usize) -> bool {
    let mut seen = vec![0u8; bytes * 8];
    for field in fields {
        let (byte, rest) = field.place.split_once('.').unwrap();
        let (bit, width) = rest.split_once(':').unwrap();
        let first = byte.parse::<usize>().unwrap() * 8 + bit.parse::<usize>().unwrap();
        seen[first..first + width.parse::<usize>().unwrap()].iter_mut().for_each(|n| *n += 1);
    }
    seen.iter().all(|&n| n <= 1)
}

proptest! {
    #[test]
    fn any_bytes_decode(kind in prop::sample::select(vec![DeviceKind::Dsa, DeviceKind::Iax, DeviceKind::Unknown]),
                        bytes in prop::collection::vec(any::<u8>(), 0..160), op in any::<u8>()) {
        prop_assert!(covers(&entry(kind, &bytes), 160));
        prop_assert!(covers(&completion(kind, op, &bytes), 160));
        prop_assert!(covers(&descriptor(kind, &bytes), 160));
        let _ = explain_entry(kind, &bytes);
    }
}
