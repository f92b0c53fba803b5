//! Parquet of the table of [`crate::row`]: files of many hosts, devices and days are one table when they lie in one folder.
//!
//! Repeated texts are dictionaries; numbers are differences, bit-packed. A row group holds at most [`GROUP_ROWS`] rows, which is also all
//! that is kept in memory. The file's key-value metadata has the session, the loss ledger and the bucket error (none: durations are whole).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use dsascope_core::model::Model;
use parquet::basic::{Compression, Encoding, GzipLevel, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type};

use crate::row::{Cell, Column, Kind, Row, VERSION};
use crate::table::Sink;
use crate::{ExportError, Output};

const FORMAT: &str = "Parquet";
/// Rows that are held until they are written; readers work on row groups side by side.
pub const GROUP_ROWS: usize = 1 << 16;
/// Dictionary of a column of numbers: what repeats stays below it, what does not is written as differences soon.
const NUMBERS_BYTES: usize = 4096;
/// Takes a fifth of what the encodings leave; higher levels take no more, for twice the time.
const GZIP_LEVEL: u32 = 3;
/// Texts handed to the writer at once.
const BATCH: usize = 1024;

/// See the module.
pub struct Parquet {
    out: SerializedFileWriter<Output>,
    columns: Vec<Buffer>,
    rows: usize,
}

/// Values of one column until their row group is written.
#[derive(Debug)]
struct Buffer {
    values: Values,
    /// 1 where there is a value, 0 where there is none; empty for columns without nulls.
    levels: Vec<i16>,
    nullable: bool,
}

#[derive(Debug)]
enum Values {
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Text(Texts),
}

/// Texts by their number among the different ones of the row group.
#[derive(Debug, Default)]
struct Texts {
    numbers: Vec<u32>,
    different: Vec<ByteArray>,
    known: HashMap<Box<str>, u32>,
}

impl Parquet {
    /// Writes the file's head.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn new(out: Output) -> Result<Self, ExportError> {
        let out = schema()
            .and_then(|schema| SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties()?)))
            .map_err(failed)?;
        Ok(Self { out, columns: Row::COLUMNS.iter().map(Buffer::new).collect(), rows: 0 })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for buffer in &mut self.columns {
            let Some(column) = group.next_column()? else { break };
            buffer.write(column)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Sink for Parquet {
    fn row(&mut self, row: &Row<'_>) -> Result<(), ExportError> {
        let mut columns = self.columns.iter_mut();
        row.cells(|cell| columns.next().map_or(Ok(()), |column| column.push(cell)))?;
        self.rows += 1;
        if self.rows == GROUP_ROWS { self.write_group().map_err(failed) } else { Ok(()) }
    }

    fn finish(&mut self, model: &Model) -> Result<(), ExportError> {
        self.write_group().map_err(failed)?;
        let json = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| ExportError::Encode { format: FORMAT, what: error.to_string() })
        };
        let metadata = [
            ("version", VERSION.to_string()),
            ("session", json(serde_json::to_string(&model.session()))?),
            ("ledger", json(serde_json::to_string(model.ledger()))?),
            ("balance", json(serde_json::to_string(&model.ledger().balance()))?),
            ("bucket_error", "0".to_owned()),
        ];
        for (key, value) in metadata {
            self.out.append_key_value_metadata(KeyValue::new(format!("dsascope.{key}"), value));
        }
        self.out.finish().map(drop).map_err(failed)
    }
}

fn failed(error: ParquetError) -> ExportError {
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => ExportError::write(FORMAT, *source),
            Err(other) => ExportError::Encode { format: FORMAT, what: other.to_string() },
        },
        other => ExportError::Encode { format: FORMAT, what: other.to_string() },
    }
}

impl Buffer {
    fn new(column: &Column) -> Self {
        let values = match column.kind {
            Kind::Text => Values::Text(Texts::default()),
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::Date => Values::I32(Vec::new()),
            Kind::Integer | Kind::Word | Kind::Time => Values::I64(Vec::new()),
        };
        Self { values, levels: Vec::new(), nullable: column.nullable }
    }

    fn push(&mut self, cell: Cell<'_>) -> Result<(), ExportError> {
        if self.nullable {
            self.levels.push(i16::from(cell != Cell::Null));
        }
        match (&mut self.values, cell) {
            (_, Cell::Null) if self.nullable => {}
            (Values::Bool(values), Cell::Bool(value)) => values.push(value),
            // The bits stay; the logical type says that they have no sign.
            (Values::I32(values), Cell::Small(value)) => values.push(value.cast_signed()),
            (Values::I32(values), Cell::Date(date)) => values.push(date.0),
            (Values::I64(values), Cell::Word(value)) => values.push(value.cast_signed()),
            (Values::I64(values), Cell::Integer(value)) => {
                values.push(i64::try_from(value).unwrap_or(i64::MAX));
            }
            (Values::I64(values), Cell::Time(time)) => values.push(time.0),
            (Values::Text(texts), Cell::Text(text)) => texts.push(text),
            (_, cell) => {
                let what = format!("{cell:?} in a column of another type");
                return Err(ExportError::Encode { format: FORMAT, what });
            }
        }
        Ok(())
    }

    fn write(&mut self, mut column: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = self.nullable.then_some(self.levels.as_slice());
        match (column.untyped(), &mut self.values) {
            (ColumnWriter::BoolColumnWriter(writer), Values::Bool(values)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            (ColumnWriter::Int32ColumnWriter(writer), Values::I32(values)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            (ColumnWriter::Int64ColumnWriter(writer), Values::I64(values)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(texts)) => {
                let mut values = Vec::with_capacity(BATCH);
                let mut numbers = texts.numbers.iter();
                let mut rows = levels.map_or(texts.numbers.len(), <[i16]>::len);
                let mut levels = levels.map(|levels| levels.chunks(BATCH));
                while rows > 0 {
                    let taken = rows.min(BATCH);
                    let levels = levels.as_mut().and_then(Iterator::next);
                    let some =
                        levels.map_or(taken, |levels| levels.iter().filter(|&&level| level > 0).count());
                    values.clear();
                    values.extend(numbers.by_ref().take(some).map(|&number| texts.text(number)));
                    writer.write_batch(&values, levels, None)?;
                    rows -= taken;
                }
                *texts = Texts::default();
            }
            _ => return Err(ParquetError::General("a column of another type than its schema".into())),
        }
        self.levels.clear();
        column.close()
    }
}

impl Texts {
    fn push(&mut self, text: &str) {
        let last = self.numbers.last().copied();
        let number = match last.filter(|&last| self.bytes(last) == Some(text.as_bytes())) {
            Some(same) => same,
            None => self.number(text),
        };
        self.numbers.push(number);
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        // No more than rows in a group.
        let new = u32::try_from(self.different.len()).unwrap_or(u32::MAX);
        self.different.push(ByteArray::from(text.as_bytes().to_vec()));
        self.known.insert(text.into(), new);
        new
    }

    fn bytes(&self, number: u32) -> Option<&[u8]> {
        self.different.get(number as usize).map(ByteArray::data)
    }

    fn text(&self, number: u32) -> ByteArray {
        self.different.get(number as usize).cloned().unwrap_or_default()
    }
}

/// The file's schema, made from the table's columns.
fn schema() -> Result<Type, ParquetError> {
    let fields = Row::COLUMNS.iter().map(|column| {
        let (physical, logical) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::U8 => (Physical::INT32, Some(LogicalType::integer(8, false))),
            Kind::U16 => (Physical::INT32, Some(LogicalType::integer(16, false))),
            Kind::U32 => (Physical::INT32, Some(LogicalType::integer(32, false))),
            Kind::Integer => (Physical::INT64, Some(LogicalType::integer(64, true))),
            Kind::Word => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
            Kind::Date => (Physical::INT32, Some(LogicalType::Date)),
        };
        let repetition = if column.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        Type::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    });
    Type::group_type_builder("dsascope").with_fields(fields.collect::<Result<_, _>>()?).build()
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("dsascope ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::GZIP(GzipLevel::try_new(GZIP_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None);
    let numbers = |kind| !matches!(kind, Kind::Text | Kind::Bool);
    for column in Row::COLUMNS.iter().filter(|column| numbers(column.kind)) {
        let path = ColumnPath::from(column.name);
        properties = properties
            .set_column_dictionary_page_size_limit(path.clone(), NUMBERS_BYTES)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(properties.build())
}

impl fmt::Debug for Parquet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parquet").field("rows", &self.rows).finish_non_exhaustive()
    }
}
