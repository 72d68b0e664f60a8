//! The ingest threads of a host, one per segment path, started as segments appear.

use super::tape_names::{named_twice, tape_names};
use crate::ingest::{Ingest, IngestSettings, SharedStore, lock, take_dbn_file};
use crate::reader::{DEFAULT_DIRECTORY, segment_files};
use crate::store::{Budget, WorkerStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which segments a host follows.
#[derive(Clone, Debug)]
pub enum Segments {
    /// Every segment of a directory, also those that appear later.
    Directory(PathBuf),
    /// These, there or not yet there.
    Paths(Vec<PathBuf>),
}

impl Default for Segments {
    fn default() -> Segments {
        Segments::Directory(PathBuf::from(DEFAULT_DIRECTORY))
    }
}

/// Takes what the host has to say, one sentence at a time.
pub type Notices = Arc<dyn Fn(&str) + Send + Sync>;

/// The stores of a host and the threads that fill them.
pub struct Hosted {
    segments: Segments,
    budget: Arc<Budget>,
    settings: IngestSettings,
    stop: Arc<AtomicBool>,
    followed: Mutex<BTreeMap<PathBuf, Followed>>,
    notices: Notices,
}

impl std::fmt::Debug for Hosted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Hosted { segments, budget, settings, stop, followed, notices: _ } = self;
        f.debug_struct("Hosted")
            .field("segments", segments)
            .field("budget", budget)
            .field("settings", settings)
            .field("stop", stop)
            .field("followed", followed)
            .finish()
    }
}

#[derive(Debug)]
struct Followed {
    store: SharedStore,
    thread: Option<JoinHandle<()>>,
}

/// Pause before a path is tried again whose segment could not be read.
const RETRY: Duration = Duration::from_millis(500);

impl Hosted {
    /// Nothing is followed until the first [`Hosted::look`].
    pub fn new(
        segments: Segments,
        budget: Arc<Budget>,
        settings: IngestSettings,
        notices: Notices,
    ) -> Hosted {
        let (stop, followed) = (Arc::new(AtomicBool::new(false)), Mutex::default());
        Hosted { segments, budget, settings, stop, followed, notices }
    }

    /// Says something.
    pub fn notice(&self, text: &str) {
        (self.notices)(text);
    }

    /// Starts to follow segments that were not there before; returns their paths. Stores that take
    /// nothing in at present give back what they hold beyond their share of the budget.
    pub fn look(&self) -> std::io::Result<Vec<PathBuf>> {
        for store in self.stores() {
            if self.budget.is_exceeded() {
                lock(&store).keep_to_budget();
            }
        }
        let paths = match &self.segments {
            Segments::Directory(directory) => segment_files(directory)?,
            Segments::Paths(paths) => paths.clone(),
        };
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for path in paths {
            if !followed.contains_key(&path) {
                followed.insert(path.clone(), self.follow(&path)?);
                new.push(path);
            }
        }
        Ok(new)
    }

    fn follow(&self, path: &Path) -> std::io::Result<Followed> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| "worker".to_owned());
        let store = Arc::new(Mutex::new(WorkerStore::new(&name, self.budget.clone())));
        let ingest = Ingest::into_store(path, store.clone(), self.settings.clone());
        let (stop, notices) = (self.stop.clone(), self.notices.clone());
        let run = move || {
            let mut said = String::new();
            while !stop.load(Ordering::Relaxed) {
                let Err(error) = ingest.run(&stop) else { break };
                let text = error.to_string();
                if text != said {
                    notices(&text);
                    said = text;
                }
                std::thread::sleep(RETRY);
            }
        };
        let thread = std::thread::Builder::new().name(format!("ingest {name}")).spawn(run)?;
        Ok(Followed { store, thread: Some(thread) })
    }

    /// Takes DBN files in, each on a thread of its own: tapes beside those that are followed, under
    /// the names of the files.
    ///
    /// # Errors
    /// A file is named twice, and nothing was done; or there can be no more threads.
    pub fn take_dbn(&self, files: &[PathBuf]) -> std::io::Result<()> {
        if let Some(file) = named_twice(files) {
            let text = format!("the DBN file {} is named twice", file.display());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
        }
        let names = tape_names(files);
        files.iter().zip(&names).try_for_each(|(file, name)| self.take_dbn_as(name, file))
    }

    fn take_dbn_as(&self, name: &str, path: &Path) -> std::io::Result<()> {
        let store = Arc::new(Mutex::new(WorkerStore::new(name, self.budget.clone())));
        let (stop, notices) = (self.stop.clone(), self.notices.clone());
        let (settings, file, into) = (self.settings.clone(), path.to_owned(), store.clone());
        let run = move || {
            let text = match take_dbn_file(&file, &into, &settings, &stop) {
                Ok(taken) => format!(
                    "{}: records taken in: {}, instruments: {}, left out, of other types: {}",
                    file.display(),
                    taken.records,
                    taken.instruments,
                    taken.others
                ),
                Err(error) => error.to_string(),
            };
            notices(&text);
        };
        let thread = std::thread::Builder::new().name(format!("dbn {name}")).spawn(run)?;
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.insert(path.to_owned(), Followed { store, thread: Some(thread) });
        Ok(())
    }

    /// The stores, in the order of their paths.
    pub fn stores(&self) -> Vec<SharedStore> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.values().map(|followed| followed.store.clone()).collect()
    }

    /// The budget that the stores share.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Stops the threads and waits for them.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        for followed in followed.values_mut() {
            if let Some(thread) = followed.thread.take()
                && thread.join().is_err()
            {
                self.notice("an ingest thread panicked; its columns may be short");
            }
        }
    }
}
