//! The worker's log, from defmt frames to sentences.
//!
//! The worker writes numbers ([`wiretape_core::segment::LogFrame`]); the strings that they belong
//! to are symbols of the program that it runs. [`LogStrings`] reads them from the program's file,
//! [`Sentence`] is a frame put together with its string.

mod sentence;
mod strings;

pub use sentence::{Level, Sentence};
pub use strings::{LogStrings, StringsError};
