//! The machine under examination: files below a root, and what only calls to the kernel tell.
//!
//! Checks ask nothing else, so that tests can lay out a machine of their own in a folder.

use super::cpus::Cpus;
use super::inquiry::Inquiry;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Why a file told nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is not there.
    #[error("there is no {0}")]
    Missing(String),
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Denied {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It holds something else than expected.
    #[error("{path} holds {text:?}")]
    Strange {
        /// The file.
        path: String,
        /// What it holds.
        text: String,
    },
}

/// A machine.
pub struct Machine {
    root: PathBuf,
    /// What is asked of the kernel by call.
    pub kernel: Box<dyn Inquiry>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Machine {
    /// The machine whose files lie below `root`.
    pub fn new(root: impl Into<PathBuf>, kernel: Box<dyn Inquiry>) -> Machine {
        Machine { root: root.into(), kernel }
    }

    /// Where a file of the machine, named from its root, lies here.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether a file is there.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// What a file holds, without the space around it.
    pub fn text(&self, path: &str) -> Result<String, Unread> {
        match fs::read_to_string(self.path(path)) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(source) => Err(unread(path, source)),
        }
    }

    /// The one value that a file holds.
    pub fn value<T: FromStr>(&self, path: &str) -> Result<T, Unread> {
        let text = self.text(path)?;
        text.parse().map_err(|_| Unread::Strange { path: path.to_owned(), text })
    }

    /// The processors that a file lists.
    pub fn cpus(&self, path: &str) -> Result<Cpus, Unread> {
        let text = self.text(path)?;
        Cpus::parse(&text).ok_or_else(|| Unread::Strange { path: path.to_owned(), text })
    }

    /// The word in brackets, where a file lists the choices: `always [madvise] never`.
    pub fn chosen(&self, path: &str) -> Result<String, Unread> {
        let text = self.text(path)?;
        let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        match chosen {
            Some((word, _)) => Ok(word.to_owned()),
            None => Err(Unread::Strange { path: path.to_owned(), text }),
        }
    }

    /// Names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of what a symbolic link names.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(Path::new(&target).file_name()?.to_str()?.to_owned())
    }

    /// Whether processes of others are to be seen: a /proc mounted with hidepid hides them.
    pub fn sees_processes(&self) -> Result<(), Unread> {
        self.text("/proc/1/comm").map(|_| ())
    }

    /// Those of `programs` that run, among the processes that can be seen.
    pub fn running<'a>(&self, programs: &[&'a str]) -> Vec<&'a str> {
        let processes = self.names("/proc");
        let numbers = processes.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        let names: Vec<String> =
            numbers.filter_map(|pid| self.text(&format!("/proc/{pid}/comm")).ok()).collect();
        // The kernel keeps 15 characters of a name.
        let runs =
            |program: &&str| names.iter().any(|name| *name == program[..program.len().min(15)]);
        programs.iter().copied().filter(|program| runs(program)).collect()
    }

    /// The command that adds parameters to the kernel's command line.
    pub fn boot_with(&self, parameters: &str) -> String {
        if self.has("/usr/sbin/grubby") {
            return format!("grubby --update-kernel=ALL --args=\"{parameters}\"  # then reboot");
        }
        if !self.has("/etc/default/grub") {
            return format!("add \"{parameters}\" to the kernel's command line, then reboot");
        }
        format!(
            "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{parameters} /' /etc/default/grub && update-grub  \
             # then reboot"
        )
    }
}

fn unread(path: &str, source: io::Error) -> Unread {
    match source.kind() {
        io::ErrorKind::NotFound => Unread::Missing(path.to_owned()),
        _ => Unread::Denied { path: path.to_owned(), source },
    }
}
