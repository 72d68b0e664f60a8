//! What a check found.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Costs time or safety, but loses nothing.
    Notable,
    /// Loses packets, or gives them wrong times.
    Bad,
    /// The machine does not tell.
    Unknown,
}

impl Verdict {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Notable => "notable",
            Verdict::Bad => "bad",
            Verdict::Unknown => "unknown",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The thing, by the name that the kernel, ethtool or sysctl give it.
    pub name: String,
    /// How it is.
    pub is: String,
    /// How it should be.
    pub should: String,
    /// What that means.
    pub verdict: Verdict,
    /// The command that mends it; of an unknown thing, the one that finds out.
    pub mend: Option<String>,
    /// What `--fix` does about it, where that is safe: it changes no wiring, ends at the next boot
    /// and can be undone.
    #[serde(skip)]
    pub fix: Option<Fix>,
}

/// A change, and what takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What takes each of them back.
    pub undo: Vec<Step>,
}

impl Fix {
    /// Writes `value` into a file that holds `before`.
    pub fn of_write(path: &str, value: &str, before: &str) -> Fix {
        Fix { steps: vec![Step::write(path, value)], undo: vec![Step::write(path, before)] }
    }

    /// Runs ethtool with one word for now and another to take it back.
    pub fn of_ethtool(arguments: &[&str], value: &str, before: &str) -> Fix {
        let run = |value: &str| {
            let arguments = arguments.iter().chain([&value]).map(|one| (*one).to_owned());
            Step::Run { program: "ethtool".to_owned(), arguments: arguments.collect() }
        };
        Fix { steps: vec![run(value)], undo: vec![run(before)] }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Write a value into a file of the kernel's.
    Write {
        /// The file.
        path: String,
        /// The value.
        value: String,
    },
    /// Run a program.
    Run {
        /// Its name.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl Step {
    /// Write `value` into `path`.
    pub fn write(path: &str, value: &str) -> Step {
        Step::Write { path: path.to_owned(), value: value.to_owned() }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write { path, value } => write!(f, "echo {value} > {path}"),
            Step::Run { program, arguments } => write!(f, "{program} {}", arguments.join(" ")),
        }
    }
}

impl Finding {
    /// A finding that nothing mends so far.
    pub fn new(
        name: impl Into<String>,
        verdict: Verdict,
        is: impl Into<String>,
        should: impl Into<String>,
    ) -> Finding {
        let (name, is, should) = (name.into(), is.into(), should.into());
        Finding { name, is, should, verdict, mend: None, fix: None }
    }

    /// A thing that could not be looked at.
    pub fn unknown(
        name: impl Into<String>,
        why: impl ToString,
        should: impl Into<String>,
    ) -> Finding {
        Finding::new(name, Verdict::Unknown, why.to_string(), should)
    }

    /// Names the command; what is good needs none.
    pub fn mend(mut self, command: impl Into<String>) -> Finding {
        if self.verdict != Verdict::Good {
            self.mend = Some(command.into());
        }
        self
    }

    /// Adds what `--fix` does; what is good needs nothing.
    pub fn fix(mut self, fix: Fix) -> Finding {
        if self.verdict != Verdict::Good {
            self.fix = Some(fix);
        }
        self
    }
}

/// The findings of one topic.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// What they are about.
    pub topic: String,
    /// One per check.
    pub findings: Vec<Finding>,
}

impl Section {
    /// Checks of a topic.
    pub fn new(topic: impl Into<String>, findings: Vec<Finding>) -> Section {
        Section { topic: topic.into(), findings }
    }
}
