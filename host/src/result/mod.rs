//! Answers: Arrow record batches with their coverage, and how they are printed.

pub mod schema;
pub mod build;
pub mod text;
pub mod format;

pub use build::Answer;
pub use format::{Format, Printer};
pub use schema::{COVERAGE_KEY, ROWS_KEY, coverage_of, rows_of, with_coverage, with_rows};
