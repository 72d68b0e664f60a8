//! The Arrow types of answers.
//!
//! | what | Arrow type | why |
//! |---|---|---|
//! | price | `Decimal128(19, 9)` | exact, and shown as the number it is |
//! | price × size | `Decimal128(38, 9)` | exact |
//! | time | `Timestamp(ns, "UTC")` | the nanosecond is kept, the zone is known |
//! | symbol, worker, action, side | dictionary of strings | small |
//!
//! What is absent (an empty side of the book, an undefined price or time) is null.

use crate::store::Coverage;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// Key of the schema's metadata under which the coverage stands, as JSON.
pub const COVERAGE_KEY: &str = "wiretape.coverage";
/// Key under which the number of rows stands: a stream that was broken off between two batches
/// looks like one that has ended.
pub const ROWS_KEY: &str = "wiretape.rows";

/// A price.
pub const PRICE: DataType = DataType::Decimal128(19, 9);
/// A sum of price × size.
pub const NOTIONAL: DataType = DataType::Decimal128(38, 9);

/// A point in time.
pub fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Strings of which there are few.
pub fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A schema of `(name, type, nullable)`.
pub fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let field =
        |(name, kind, null): &(&str, DataType, bool)| Field::new(*name, kind.clone(), *null);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

/// `schema` with the coverage in its metadata.
pub fn with_coverage(schema: &Schema, coverage: &Coverage) -> SchemaRef {
    let mut metadata = schema.metadata().clone();
    if let Ok(text) = serde_json::to_string(coverage) {
        metadata.insert(COVERAGE_KEY.to_owned(), text);
    }
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

/// The coverage in the metadata of a schema; `None` if there is none that can be read.
pub fn coverage_of(schema: &Schema) -> Option<Coverage> {
    serde_json::from_str(schema.metadata().get(COVERAGE_KEY)?).ok()
}

/// `schema` with the rows that its answer has in its metadata.
pub fn with_rows(schema: &Schema, rows: usize) -> SchemaRef {
    let mut metadata = schema.metadata().clone();
    metadata.insert(ROWS_KEY.to_owned(), rows.to_string());
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

/// The rows that the answer of a schema has; `None` if it does not tell.
pub fn rows_of(schema: &Schema) -> Option<u64> {
    schema.metadata().get(ROWS_KEY)?.parse().ok()
}
