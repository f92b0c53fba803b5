//! `dsascope export`: the stream into a format of other tools.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use dsascope_core::event::Event;
use dsascope_core::model::Model;
use dsascope_export::{Exporter, Format, Options, Output};

use crate::exit::{Code, Failure};
use crate::flags::{self, Export};
use crate::lines::Consumer;
use crate::units::ns;

/// Written at once.
const OUT_BYTES: usize = 1 << 18;

/// Where it reads from: the file may stand alone or behind `--from`.
pub(crate) fn reading(flags: &Export) -> Result<flags::Reading, Failure> {
    let mut reading = flags.reading.clone();
    if let Some(file) = &flags.file {
        if reading.from.is_some() || reading.save.is_some() {
            let next = "give one capture, and neither --from nor --save with it";
            return Err(Failure::new(Code::Usage, "two sources are given", next));
        }
        reading.from = Some(file.clone());
    }
    Ok(reading)
}

fn format(flags: &Export) -> Result<Format, Failure> {
    if let Some(format) = flags.format {
        return Ok(match format {
            flags::Format::Hlog => Format::Hlog,
            flags::Format::Csv => Format::Csv,
            flags::Format::Json => Format::Json,
            flags::Format::Parquet => Format::Parquet,
            flags::Format::Perfetto => Format::Perfetto,
            flags::Format::Html => Format::Html,
        });
    }
    let extension = flags.output.extension().map(|end| end.to_string_lossy().into_owned());
    let named = |format: &Format| extension.as_deref().is_some_and(|end| format.extensions().contains(&end));
    Format::ALL.into_iter().find(named).ok_or_else(|| {
        let all: Vec<_> =
            Format::ALL.iter().filter_map(|format| format.extensions().first()).copied().collect();
        Failure::new(
            Code::Usage,
            "nothing says into which format",
            format!("give --format, or an -o that ends in one of .{}", all.join(", .")),
        )
    })
}

/// A report's page as the export that it is; `None`: text is wanted.
pub(crate) fn page(flags: &flags::Report) -> Result<Option<Export>, Failure> {
    let Some(output) = flags.output.clone() else { return Ok(None) };
    if output.extension().is_none_or(|end| end != "html") {
        let next = "name a file that ends in .html, or leave -o out for text on stdout";
        return Err(Failure::new(Code::Usage, "a report in a file is a page", next));
    }
    Ok(Some(Export {
        file: None,
        format: Some(flags::Format::Html),
        output,
        interval: Duration::from_secs(1),
        duration: flags.duration,
        faults: flags::Where::default(),
        reading: flags.reading.clone(),
    }))
}

/// Hands the stream to an exporter.
pub(crate) struct Exporting {
    exporter: Box<dyn Exporter>,
    /// `None`: stdout.
    path: Option<PathBuf>,
    on_terminal: bool,
    /// Rows come as they happen, and somebody may read along.
    live: bool,
}

impl Exporting {
    pub(crate) fn new(flags: &Export) -> Result<Self> {
        let format = format(flags)?;
        let to_stdout = flags.output == Path::new("-");
        let on_terminal = to_stdout && stdout().is_terminal();
        if on_terminal && !format.is_text() {
            let what = "this format is not for a terminal";
            return Err(
                Failure::new(Code::Usage, what, "name a file with -o, or send it through a pipe").into()
            );
        }
        let out: Output = if to_stdout {
            Box::new(BufWriter::with_capacity(OUT_BYTES, stdout()))
        } else {
            let file =
                File::create(&flags.output).with_context(|| format!("create {}", flags.output.display()))?;
            Box::new(BufWriter::with_capacity(OUT_BYTES, file))
        };
        let interval_ns = ns(flags.interval);
        let live = flags.file.is_none() && flags.reading.from.is_none();
        let exporter = format.exporter(out, Options { interval_ns })?;
        Ok(Self { exporter, path: (!to_stdout).then(|| flags.output.clone()), on_terminal, live })
    }

    fn place(&self) -> String {
        self.path
            .as_ref()
            .map_or_else(|| "write to stdout".into(), |path| format!("write {}", path.display()))
    }
}

impl Consumer for Exporting {
    fn event(&mut self, model: &Model, event: &Event) -> Result<()> {
        self.exporter.event(model, event).with_context(|| self.place())
    }

    fn flush(&mut self) -> Result<()> {
        if self.live { self.exporter.flush().with_context(|| self.place()) } else { Ok(()) }
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64) -> Result<()> {
        self.exporter.finish(model).with_context(|| self.place())
    }

    fn is_on_terminal(&self) -> bool {
        self.on_terminal
    }
}
