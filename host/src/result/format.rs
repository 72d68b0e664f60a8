//! Prints an answer: table, CSV, JSON lines or Arrow IPC stream.

use super::text::{Column, TimeStyle};
use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use jiff::tz::TimeZone;
use std::io::{self, Write};

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
    /// One JSON object a line; prices and other decimals as text, which keeps them exact.
    Json,
    /// Arrow IPC stream.
    Arrow,
}

/// What can go wrong while printing.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// The target refused the bytes.
    #[error("cannot write the answer: {0}")]
    Io(#[from] io::Error),
    /// The batch could not be encoded.
    #[error("cannot encode the answer as Arrow: {0}")]
    Arrow(ArrowError),
}

impl PrintError {
    /// Whether the reader of the output has gone away, as `head` does when it has enough.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, PrintError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ArrowError> for PrintError {
    fn from(error: ArrowError) -> PrintError {
        match error {
            ArrowError::IoError(_, error) => PrintError::Io(error),
            other => PrintError::Arrow(other),
        }
    }
}

/// Prints batches of one schema as they come.
pub struct Printer<W: Write> {
    schema: SchemaRef,
    zone: TimeZone,
    head: bool,
    widths: Vec<usize>,
    kind: Kind<W>,
}

enum Kind<W: Write> {
    Table(W),
    Csv(W),
    Json(W),
    Arrow(Box<StreamWriter<W>>),
}

impl<W: Write> Printer<W> {
    /// A printer of batches of `schema` to `out`, with times in `zone` (Arrow keeps UTC).
    pub fn new(
        format: Format,
        schema: SchemaRef,
        zone: TimeZone,
        out: W,
    ) -> Result<Printer<W>, PrintError> {
        let kind = match format {
            Format::Table => Kind::Table(out),
            Format::Csv => Kind::Csv(out),
            Format::Json => Kind::Json(out),
            Format::Arrow => Kind::Arrow(Box::new(StreamWriter::try_new(out, &schema)?)),
        };
        let widths = schema.fields().iter().map(|field| field.name().len()).collect();
        Ok(Printer { schema, zone, head: true, widths, kind })
    }

    /// Prints a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), PrintError> {
        let head = std::mem::take(&mut self.head);
        match &mut self.kind {
            Kind::Arrow(writer) => Ok(writer.write(batch)?),
            Kind::Csv(out) => Ok(csv(out, &self.schema, batch, &self.zone, head)?),
            Kind::Json(out) => Ok(json(out, &self.schema, batch, &self.zone)?),
            Kind::Table(out) => {
                Ok(table(out, &self.schema, batch, &self.zone, head, &mut self.widths)?)
            }
        }
    }

    /// Ends the output and gives the target back.
    pub fn finish(mut self) -> Result<W, PrintError> {
        if self.head && !matches!(self.kind, Kind::Arrow(_)) {
            let empty = RecordBatch::new_empty(self.schema.clone());
            self.write(&empty)?;
        }
        let mut out = match self.kind {
            Kind::Table(out) | Kind::Csv(out) | Kind::Json(out) => out,
            Kind::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
        };
        out.flush()?;
        Ok(out)
    }
}

fn csv(
    out: &mut impl Write,
    schema: &SchemaRef,
    batch: &RecordBatch,
    zone: &TimeZone,
    head: bool,
) -> io::Result<()> {
    let mut line = String::new();
    if head {
        for (i, field) in schema.fields().iter().enumerate() {
            line.push_str(if i == 0 { "" } else { "," });
            line.push_str(field.name());
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    let columns = Column::all(batch);
    let mut value = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (i, column) in columns.iter().enumerate() {
            value.clear();
            column.write(row, zone, TimeStyle::Offset, &mut value);
            line.push_str(if i == 0 { "" } else { "," });
            if value.contains([',', '"', '\n', '\r']) {
                line.push('"');
                line.push_str(&value.replace('"', "\"\""));
                line.push('"');
            } else {
                line.push_str(&value);
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn json(
    out: &mut impl Write,
    schema: &SchemaRef,
    batch: &RecordBatch,
    zone: &TimeZone,
) -> io::Result<()> {
    let columns = Column::all(batch);
    let (mut line, mut value) = (String::new(), String::new());
    for row in 0..batch.num_rows() {
        line.clear();
        line.push('{');
        for (i, (column, field)) in columns.iter().zip(schema.fields()).enumerate() {
            line.push_str(if i == 0 { "\"" } else { ",\"" });
            line.push_str(field.name());
            line.push_str("\":");
            value.clear();
            column.write(row, zone, TimeStyle::Offset, &mut value);
            if column.is_null(row) {
                line.push_str("null");
            } else if column.is_bare_in_json() {
                line.push_str(&value);
            } else {
                line.push_str(&serde_json::Value::from(value.as_str()).to_string());
            }
        }
        line.push_str("}\n");
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// Columns are as wide as the widest value so far: within a batch they are aligned, and a later
/// batch can only widen them.
fn table(
    out: &mut impl Write,
    schema: &SchemaRef,
    batch: &RecordBatch,
    zone: &TimeZone,
    head: bool,
    widths: &mut [usize],
) -> io::Result<()> {
    let columns = Column::all(batch);
    let mut cells: Vec<Vec<String>> = Vec::with_capacity(columns.len());
    for (column, width) in columns.iter().zip(widths.iter_mut()) {
        let mut values = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut value = String::new();
            if column.is_null(row) {
                value.push('-');
            }
            column.write(row, zone, TimeStyle::Plain, &mut value);
            *width = (*width).max(value.chars().count());
            values.push(value);
        }
        cells.push(values);
    }
    let mut line = String::new();
    let put = |line: &mut String, index: usize, value: &str| {
        let width = widths.get(index).copied().unwrap_or(0);
        let last = index + 1 == columns.len();
        let gap = width.saturating_sub(value.chars().count());
        line.push_str(if index == 0 { "" } else { "  " });
        if columns.get(index).is_some_and(Column::is_number) {
            line.extend(std::iter::repeat_n(' ', gap));
            line.push_str(value);
        } else {
            line.push_str(value);
            line.extend(std::iter::repeat_n(' ', if last { 0 } else { gap }));
        }
    };
    if head {
        for (index, field) in schema.fields().iter().enumerate() {
            put(&mut line, index, field.name());
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    for row in 0..batch.num_rows() {
        line.clear();
        for (index, values) in cells.iter().enumerate() {
            put(&mut line, index, &values[row]);
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}
