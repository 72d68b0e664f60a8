//! What can go wrong in a command.

use crate::instant::InstantError;
use std::io;
use std::process::ExitCode;
use wiretape_host::dbn::{DbnError, sentence};
use wiretape_host::reader::AttachError;
use wiretape_host::record::RecordError;
use wiretape_host::result::format::PrintError;
use wiretape_host::serve::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The user asked for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A sentence of its own.
    #[error("{0}")]
    Told(String),
    /// A segment cannot be read.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The host did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// A time that is none.
    #[error(transparent)]
    Instant(#[from] InstantError),
    /// A DBN file cannot be used.
    #[error(transparent)]
    Dbn(#[from] DbnError),
    /// A DBN file cannot be written.
    #[error("cannot write DBN: {}", sentence(.0))]
    WriteDbn(#[from] dbn::Error),
    /// A recording cannot go on.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// Output failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

impl Failure {
    /// Whether the reader of our output went away.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Failure::Io(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Failure::Print(error) => error.is_broken_pipe(),
            Failure::WriteDbn(dbn::Error::Io { source, .. }) => {
                source.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    /// 2 for wrong usage, 1 otherwise.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) | Failure::Instant(_) => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }
}
