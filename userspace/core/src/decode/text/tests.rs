use std::fmt::Write;

use dsascope_common::hw::event_log::EntryHeader;
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

const DSA_ENTRY: Format = Format::Hex { shape: Shape::Entry, kind: DeviceKind::Dsa, operation: 0 };

fn read(format: Format, text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut decoder = Decoder::new(format);
    for (index, line) in text.lines().enumerate() {
        decoder.line(index as u64 + 1, line, &mut |item| items.push(item));
    }
    decoder.finish(&mut |item| items.push(item));
    items
}

fn structures(items: &[Item]) -> Vec<&Decoded> {
    items
        .iter()
        .filter_map(|item| if let Item::Decoded(item) = item { Some(&**item) } else { None })
        .collect()
}

fn problems(items: &[Item]) -> Vec<(u64, &str)> {
    let problem = |item: &'_ Item| matches!(item, Item::Problem { .. });
    items
        .iter()
        .filter(|item| problem(item))
        .map(|item| if let Item::Problem { line, text } = item { (*line, text.as_str()) } else { (0, "") })
        .collect()
}

/// An entry with its record, of `bytes` in all.
fn entry(bytes: usize, pasid: u32) -> Vec<u8> {
    let header = EntryHeader::default()
        .with_desc_valid(true)
        .with_wq_idx_valid(true)
        .with_fault_rw(true)
        .with_error(0x1a)
        .with_operation(3)
        .with_batch(true)
        .with_batch_id(9)
        .with_batch_idx(2)
        .with_first_err_in_batch(true)
        .with_rcr(true)
        .with_pasid(pasid)
        .with_fault_addr(0x7f00_1000);
    let mut entry = header.as_bytes().to_vec();
    entry.resize(bytes / 2, 0);
    entry.push(1);
    entry.resize(bytes, 0);
    entry
}

/// What the driver prints of `log` (idxd-facts sections 2.9 and 5), in its steps of 64 bytes; `words` of each.
fn dump(log: &[u8], words: usize) -> String {
    let mut text = "Event Log head 1 tail 3 interrupt pending 0\n\n".to_owned();
    for (number, start) in (0..log.len()).step_by(64).enumerate() {
        let bytes: Vec<u8> =
            log[start..].iter().copied().chain(std::iter::repeat(0)).take(words * 8).collect();
        let (h, _) = <EntryHeader as zerocopy::FromBytes>::read_from_prefix(&bytes).unwrap();
        let _ = write!(
            text,
            "Event Log entry {number} (real index {number}) processed: {}\n\
             desc valid {} wq idx valid {}\n\
             batch {} fault rw {} priv {} error {:#x}\n\
             wq idx {} op {:#x} pasid {} batch idx {}\n\
             fault addr {:#x}\n\
             status {:#x} result {:#x} fault_info {:#x} bytes_completed {}\n\
             fault addr {:#x} inv flags {:#x}\n\n",
            u8::from(number == 0),
            u8::from(h.desc_valid()),
            u8::from(h.wq_idx_valid()),
            u8::from(h.batch()),
            u8::from(h.fault_rw()),
            u8::from(h.privileged()),
            h.error(),
            h.wq_idx(),
            h.operation(),
            h.pasid(),
            h.batch_idx(),
            h.fault_addr(),
            bytes[32],
            bytes[33],
            bytes[34],
            bytes[36],
            0,
            0,
        );
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            // C's %#llx.
            let word = if word == 0 { "0".into() } else { format!("{word:#x}") };
            let _ = writeln!(text, "entry[{index}] = {word}");
        }
        text.push('\n');
    }
    text
}

fn show(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        let _ = match item {
            Item::Note { line, text: note } => writeln!(text, "{line}: note: {note}"),
            Item::Problem { line, text: problem } => writeln!(text, "{line}: problem: {problem}"),
            Item::Decoded(d) => {
                let _ = writeln!(
                    text,
                    "{}: {} [{}] {}",
                    d.line,
                    d.device,
                    d.place.as_deref().unwrap_or(""),
                    d.sentence
                );
                for note in &d.notes {
                    let _ = writeln!(text, "    note: {note}");
                }
                for section in &d.sections {
                    let _ = writeln!(text, "    {} ({} fields)", section.title, section.fields.len());
                }
                Ok(())
            }
        };
    }
    text
}

#[test]
fn a_dump_of_dsa() {
    let text = dump(&[entry(64, 5), entry(64, 6)].concat(), 8);
    let items = read(Format::Dump, &text);
    insta::assert_snapshot!("dump_dsa", format!("{text}\n=> \n{}", show(&items)));
    assert_eq!(structures(&items)[1].bytes, crate::hex::encode(&entry(64, 6)));
}

#[test]
fn a_dump_of_iaa_is_put_right() {
    let text = dump(&[entry(128, 5), entry(128, 6)].concat(), 16);
    let items = read(Format::Dump, &text);
    insta::assert_snapshot!("dump_iaa", show(&items));
    assert_eq!(structures(&items)[2].bytes, crate::hex::encode(&entry(128, 6)));
}

#[test]
fn a_damaged_dump_is_decoded_as_far_as_it_goes() {
    let text = dump(&[entry(64, 5), entry(64, 6), entry(64, 7)].concat(), 8);
    let mut lines: Vec<&str> = text.lines().collect();
    lines[4] = "batch 1 fault rw 1 priv 0 error 0x27";
    lines[8] = "what is this?";
    lines.retain(|line| *line != "entry[3] = 0");
    lines.insert(0, "# cat event_log");
    let cut = lines.len() - 4;
    let items = read(Format::Dump, &lines[..cut].join("\n"));
    insta::assert_snapshot!("dump_damaged", show(&items));
    assert_eq!(structures(&items).len(), 3);
}

#[test]
fn every_way_to_write_the_same_bytes() {
    let bytes = entry(64, 5);
    let hex = crate::hex::encode(&bytes);
    let lines = |f: &dyn Fn(usize, &[u8]) -> String| -> String {
        bytes.chunks(16).enumerate().map(|(n, line)| f(n * 16, line) + "\n").collect()
    };
    let join = |line: &[u8], size: usize, turn: bool| -> String {
        let group = |group: &[u8]| {
            let mut group = group.to_vec();
            if turn {
                group.reverse();
            }
            crate::hex::encode(&group)
        };
        line.chunks(size).map(group).collect::<Vec<_>>().join(" ")
    };
    let texts = [
        hex.clone(),
        lines(&|_, line| join(line, 2, false)),
        lines(&|_, line| join(line, 1, false)),
        lines(&|at, line| format!("{at:08x}: {}  a|b: 12 zz", join(line, 2, false))),
        lines(&|at, line| {
            format!("{at:08x}  {}  {} |ab12|", join(&line[..8], 1, false), join(&line[8..], 1, false))
        }) + "00000040\n",
        lines(&|at, line| format!("{at:07x} {}", join(line, 2, true))) + "0000040\n",
        lines(&|at, line| format!("{at:07o} {}", join(line, 2, true))) + "0000100\n",
        bytes.chunks(8).map(|w| format!("{:#x}\n", u64::from_le_bytes(w.try_into().unwrap()))).collect(),
        bytes
            .chunks(8)
            .enumerate()
            .map(|(n, w)| match u64::from_le_bytes(w.try_into().unwrap()) {
                0 => format!("entry[{n}] = 0\n"),
                word => format!("entry[{n}] = {word:#x}\n"),
            })
            .collect(),
        bytes
            .chunks(16)
            .map(|w| {
                let word = |w: &[u8]| u64::from_le_bytes(w.try_into().unwrap());
                format!("0x7ffe10:\t0x{:016x}\t0x{:016x}\n", word(&w[..8]), word(&w[8..]))
            })
            .collect(),
    ];
    for text in texts {
        let items = read(DSA_ENTRY, &text);
        assert_eq!(problems(&items), [], "{text}");
        assert_eq!(structures(&items).iter().map(|d| &d.bytes).collect::<Vec<_>>(), [&hex], "{text}");
    }
}

#[test]
fn a_line_that_cannot_be_read_costs_its_own_structure_alone() {
    let bytes = [entry(64, 5), entry(64, 6), entry(64, 7)].concat();
    let xxd: Vec<String> = bytes
        .chunks(16)
        .enumerate()
        .map(|(n, line)| format!("{:08x}: {}", n * 16, crate::hex::encode(line)))
        .collect();
    let damaged = |line: usize, text: &str| {
        let mut lines = xxd.clone();
        lines[line] = text.into();
        lines.join("\n")
    };
    for text in [damaged(5, "00000050: 00zz"), damaged(5, "x"), damaged(5, "")] {
        let items = read(DSA_ENTRY, &text);
        let whole: Vec<_> =
            structures(&items).iter().filter(|d| d.bytes.len() == 128).map(|d| d.line).collect();
        assert_eq!(whole, [1, 9], "{text}\n{}", show(&items));
        assert!(problems(&items).iter().any(|(line, _)| *line == 6 || *line == 7), "{}", show(&items));
    }
    let items = read(
        DSA_ENTRY,
        &(crate::hex::encode(&entry(64, 5)) + "\nabc\n" + &crate::hex::encode(&entry(64, 6))),
    );
    assert_eq!(structures(&items).len(), 2);
    assert_eq!(problems(&items), [(2, "`abc` has an odd number of digits")]);
    let items = read(DSA_ENTRY, &crate::hex::encode(&entry(64, 5)[..40]));
    assert_eq!(problems(&items), [(1, "the event-log entry that begins here has 40 of 64 bytes")]);
    assert_eq!(structures(&items)[0].bytes.len(), 80);
}

#[test]
fn repeated_lines_are_filled_in_and_bounded() {
    let text =
        "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00000080\n";
    let items = read(DSA_ENTRY, text);
    assert_eq!((structures(&items).len(), problems(&items)), (2, vec![]));
    let items = read(DSA_ENTRY, &text.replace("00000080", "f0000000"));
    assert!(
        problems(&items).iter().any(|(line, text)| *line == 3 && text.starts_with("`*`")),
        "{}",
        show(&items)
    );
    assert_eq!(problems(&read(DSA_ENTRY, "*"))[0].0, 1);
}

#[test]
fn records_and_descriptors() {
    let record = Format::Hex { shape: Shape::Record, kind: DeviceKind::Dsa, operation: 1 };
    let items = read(record, "0501000003000000 0000000000000000 0000000000000000 0000000000000000");
    let decoded = structures(&items)[0];
    assert!(decoded.sentence.starts_with("The record says 0x05 BATCH_FAIL."), "{}", decoded.sentence);
    assert!(decoded.sections[0].fields.iter().any(|f| f.name == "descriptors completed" && f.value == "3"));
    let descriptor = Format::Hex { shape: Shape::Descriptor, kind: DeviceKind::Iax, operation: 0 };
    let items = read(descriptor, &format!("05000000 0c000043 0010000000000000 {}", "00".repeat(48)));
    assert_eq!(structures(&items)[0].sentence, "Asks for a compress, with its completion record at 0x1000.");
}

#[test]
fn what_is_no_dump_is_said_once() {
    for text in ["", "hello\nworld", "00000000: 1234"] {
        let items = read(Format::Dump, text);
        assert_eq!(items.len(), 1, "{}", show(&items));
        assert!(problems(&items)[0].1.contains("no dump"), "{}", show(&items));
    }
}

fn format() -> impl Strategy<Value = Format> {
    let shape = prop::sample::select(vec![Shape::Entry, Shape::Record, Shape::Descriptor]);
    let kind = prop::sample::select(vec![DeviceKind::Dsa, DeviceKind::Iax]);
    prop_oneof![
        Just(Format::Dump),
        (shape, kind, any::<u8>()).prop_map(|(shape, kind, operation)| Format::Hex {
            shape,
            kind,
            operation
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Words that are nearly right reach further than random characters.
    #[test]
    fn any_text_is_read(format in format(), words in prop::collection::vec(prop::sample::select(vec![
        "Event Log head 1 tail 3 interrupt pending 0\n", "Event Log entry ", "0 (real index 1) processed: 1\n", "(real index ",
        "18446744073709551615", "65535", "65536", ") processed: 2", "entry[0] = ", "entry[15] = ", "entry[16] = 0x1\n", "entry[", "] = 0x",
        "0x", "0xffffffffffffffff", "0x10000000000000000", "0", "\n", " ", "  ", "*", "*\n", "00000000: ", "00000010  ", "ffffffff  00\n",
        "ffffffffffffffff: 00\n", "0000000 ", "7777777 1234\n", "12345678", "ab", "abc", "|", "é", "\u{0}", "status ", "error 0x", "pasid -1\n",
        "desc valid 1 wq idx valid 1\n", ":",
    ]), 0..60)) {
        let text = words.concat();
        let items = read(format, &text);
        let lines = text.lines().count().max(1) as u64;
        for item in &items {
            let (Item::Note { line, .. } | Item::Problem { line, .. }) = item else { continue };
            prop_assert!((1..=lines).contains(line));
        }
    }

    #[test]
    fn any_characters_are_read(format in format(), text in "\\PC{0,300}(\n\\PC{0,100}){0,5}") {
        read(format, &text);
    }

    /// Whatever line is damaged, the other entries of a dump come out whole.
    #[test]
    fn damage_is_local(line in 0..60usize, text in "[ -~]{0,40}") {
        let log = [entry(64, 5), entry(64, 6), entry(64, 7), entry(64, 8)].concat();
        let dump = dump(&log, 8);
        let mut lines: Vec<&str> = dump.lines().collect();
        let line = line % lines.len();
        prop_assume!(!text.starts_with("Event Log") && !text.starts_with("entry["));
        lines[line] = &text;
        let items = read(Format::Dump, &lines.join("\n"));
        let whole = structures(&items).iter().filter(|d| d.bytes.len() == 128).count();
        prop_assert!(whole >= 3 || whole == 2 && !problems(&items).is_empty(), "{}", show(&items));
    }
}
