//! `dsascope decode`: a file or stdin in words. Reads lines, prints structures; what they mean is the core's.
//!
//! The input is untrusted: lines have a limit, each structure is printed as soon as it is whole, and nothing is kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use anyhow::{Context, Result};
use dsascope_common::hw::descriptor::opcode;
use dsascope_core::decode::text::{Decoded, Decoder, Format, Item, Shape, is_dump};
use dsascope_core::decode::{self, Field};
use dsascope_core::event::DeviceKind;
use dsascope_core::json::Line;

use crate::exit::{Code, Failure};
use crate::flags::{As, Decode, Device};
use crate::privileges;
use crate::trace::write_line;

/// A longer line is a mistake; plain digits of 8192 entries of 64 bytes fit.
const LINE_BYTES: u64 = 1 << 20;

pub(crate) fn run(flags: &Decode) -> Result<Code> {
    let hex = hex_format(flags)?;
    let stdin = flags.file.as_os_str() == "-";
    let name = if stdin { "stdin".into() } else { flags.file.display().to_string() };
    let input: Box<dyn Read> = if stdin {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&flags.file).map_err(|error| {
            Failure::new(
                Code::Failure,
                format!("open {name}: {error}"),
                "give a file that can be read, or `-`",
            )
        })?)
    };
    privileges::drop_all()?;
    let out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer { out, json: flags.json, name, problems: 0, result: Ok(()) };
    read(&mut BufReader::new(input), hex, &mut printer).with_context(|| format!("read {}", printer.name))?;
    match printer.result.and_then(|()| printer.out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to stdout")?,
        _ => {}
    }
    Ok(if printer.problems > 0 { Code::BadInput } else { Code::Ok })
}

fn hex_format(flags: &Decode) -> Result<Option<Format>, Failure> {
    let kind = match flags.device {
        Device::Dsa => DeviceKind::Dsa,
        Device::Iax => DeviceKind::Iax,
    };
    let operation = operation(kind, &flags.operation).ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("--operation {}: no operation of {}", flags.operation, kind.prefix()),
            "use a name such as memmove or batch, or a code such as 0x03",
        )
    })?;
    Ok(flags.shape.map(|shape| Format::Hex {
        shape: match shape {
            As::Entry => Shape::Entry,
            As::Record => Shape::Record,
            As::Descriptor => Shape::Descriptor,
        },
        kind,
        operation,
    }))
}

/// An operation by its name or its code.
fn operation(kind: DeviceKind, text: &str) -> Option<u8> {
    if text == "noop" {
        return Some(opcode::NOOP);
    }
    let by_name = (0..=u8::MAX).find(|&code| decode::operation(kind, code) == Some(text));
    let by_code = || text.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok());
    by_name.or_else(by_code)
}

/// Feeds the decoder line by line; the first line that holds anything tells a dump from hexadecimal text.
fn read(input: &mut impl BufRead, hex: Option<Format>, printer: &mut Printer<impl Write>) -> io::Result<()> {
    let mut decoder: Option<Decoder> = None;
    let mut number = 0;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if input.take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 || printer.result.is_err() {
            break;
        }
        number += 1;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        if decoder.is_none() && text.trim().is_empty() {
            continue;
        }
        let decoder = decoder.get_or_insert_with(|| {
            let format = if is_dump(text) { None } else { hex };
            Decoder::new(format.unwrap_or(Format::Dump))
        });
        if bytes.len() as u64 == LINE_BYTES && !bytes.ends_with(b"\n") {
            let why = format!("longer than {LINE_BYTES} bytes: left out");
            decoder.unreadable(number, &why, &mut |item| printer.item(item));
            input.skip_until(b'\n')?;
        } else {
            decoder.line(number, text, &mut |item| printer.item(item));
        }
    }
    let mut decoder = decoder.unwrap_or_else(|| Decoder::new(Format::Dump));
    decoder.finish(&mut |item| printer.item(item));
    Ok(())
}

struct Printer<W> {
    out: W,
    json: bool,
    name: String,
    problems: u64,
    /// The first failure to write; nothing is written after it.
    result: io::Result<()>,
}

impl<W: Write> Printer<W> {
    fn item(&mut self, item: Item) {
        let problem = if let Item::Problem { line, text } = &item {
            self.problems += 1;
            Some(format!("dsascope: {}:{line}: {text}", self.name))
        } else {
            None
        };
        if self.result.is_err() {
            return;
        }
        self.result = match (item, problem) {
            (item, _) if self.json => write_line(&Line::from(item), &mut self.out),
            (_, Some(problem)) => {
                // In its place between what is decoded, where both go to one terminal.
                let flushed = self.out.flush();
                eprintln!("{problem}");
                flushed
            }
            (Item::Decoded(decoded), _) => write!(self.out, "{}", text(&decoded)),
            (Item::Note { text, .. } | Item::Problem { text, .. }, _) => writeln!(self.out, "{text}\n"),
        };
    }
}

/// A structure as a heading, a sentence and a table of its fields.
fn text(decoded: &Decoded) -> String {
    use std::fmt::Write as _;
    let place = decoded.place.as_ref().map(|place| format!(": {place}")).unwrap_or_default();
    let mut out = format!("line {}: {} {}{place}\n", decoded.line, decoded.device, decoded.shape.name());
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {}", decoded.sentence);
    for note in &decoded.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    for section in &decoded.sections {
        // A reserved field says something only when it is set.
        let fields: Vec<&Field> =
            section.fields.iter().filter(|field| field.name != "reserved" || field.value != "0").collect();
        let longest = |pick: fn(&Field) -> usize| fields.iter().map(|field| pick(field)).max().unwrap_or(0);
        let (places, names) = (longest(|field| field.place.len()), longest(|field| field.name.len()));
        let values = longest(|field| field.value.len());
        let _ = writeln!(out, "  {}", section.title);
        for field in fields {
            let Field { name, place, value, words } = field;
            let line = format!("    {place:places$}  {name:names$}  {value:values$}  {words}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out.push('\n');
    out
}
