//! Which segment a command looks at.

use crate::failure::Failure;
use clap::Args;
use std::path::{Path, PathBuf};
use wiretape_host::reader::{DEFAULT_DIRECTORY, segment_files};

/// Names segments.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// Segment file, or the name of a worker in the directory [default: the only one there].
    #[arg(long, short, value_name = "FILE|WORKER")]
    pub segment: Option<PathBuf>,
    /// Directory in which capture keeps its segments.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY)]
    pub directory: PathBuf,
}

impl Source {
    /// The file of a segment named by its worker or its path.
    pub fn file_of(directory: &Path, named: impl AsRef<Path>) -> PathBuf {
        let named = named.as_ref();
        let is_worker = named.components().count() == 1
            && named.extension().is_none_or(|extension| extension != "seg");
        if !is_worker {
            return named.to_owned();
        }
        let mut name = named.as_os_str().to_owned();
        name.push(".seg");
        directory.join(name)
    }

    /// All segments meant, at least one.
    pub fn all(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(named) = &self.segment {
            return Ok(vec![Source::file_of(&self.directory, named)]);
        }
        let files = segment_files(&self.directory).map_err(|error| {
            Failure::Told(format!("cannot look into {}: {error}", self.directory.display()))
        })?;
        if files.is_empty() {
            return Err(Failure::Told(format!(
                "no segment in {}: is wiretape-capture running? If it keeps its segments \
                 elsewhere, name them with --directory or --segment",
                self.directory.display()
            )));
        }
        Ok(files)
    }

    /// The one segment meant.
    pub fn one(&self) -> Result<PathBuf, Failure> {
        let mut files = self.all()?;
        match files.pop() {
            Some(only) if files.is_empty() => Ok(only),
            last => {
                files.extend(last);
                let names = files.iter().filter_map(|file| file.file_stem());
                let names: Vec<String> =
                    names.map(|name| name.to_string_lossy().into_owned()).collect();
                Err(Failure::Usage(format!(
                    "there are {} segments ({}): name one with --segment",
                    files.len(),
                    names.join(", ")
                )))
            }
        }
    }
}
