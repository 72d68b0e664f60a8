//! What is wrong with a configuration, where, and what would do.

use std::fmt;
use std::io;

/// One sentence about one mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or "the command line".
    pub name: String,
    /// Line in the file, from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    /// What is wrong and what would do.
    pub sentence: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.name, self.sentence),
            None => write!(f, "{}: {}", self.name, self.sentence),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A file's name and text, to turn offsets into lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// What to write instead, if the line of `offset` is a table's head with the other's brackets.
    fn brackets(&self, offset: usize) -> Option<String> {
        let head = self.text.lines().nth(self.line(offset) - 1)?.trim();
        let (name, many) = match head.strip_prefix("[[") {
            Some(rest) => (rest.split_once("]]")?.0, true),
            None => (head.strip_prefix('[')?.split_once(']')?.0, false),
        };
        match (name.trim(), many) {
            ("feed", false) => Some("write [[feed]]: there may be several".to_owned()),
            (name @ ("worker" | "source"), true) => {
                Some(format!("write [{name}]: there is only one"))
            }
            _ => None,
        }
    }

    /// The key on the line of `offset`, if the line reads `key = ...`.
    fn key(&self, offset: usize) -> Option<&str> {
        let line = self.text.lines().nth(self.line(offset) - 1)?;
        let (key, _) = line.split_once('=')?;
        Some(key.trim()).filter(|key| !key.is_empty() && !key.contains(char::is_whitespace))
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Byte offset in the file.
    File(usize),
    /// A flag of the command line.
    Flag(&'static str),
    /// Nowhere: something is missing.
    Absent,
}

impl ConfigError {
    pub(super) fn unreadable(name: &str, source: &io::Error) -> ConfigError {
        let sentence = format!("cannot read the configuration: {source}");
        ConfigError { name: name.to_owned(), line: None, sentence }
    }

    pub(super) fn at(place: Place<'_>, origin: Origin, sentence: impl Into<String>) -> ConfigError {
        let sentence = sentence.into();
        let (name, line, sentence) = match origin {
            Origin::File(offset) => (place.name, Some(place.line(offset)), sentence),
            Origin::Flag(flag) => ("the command line", None, format!("{flag}: {sentence}")),
            Origin::Absent => (place.name, None, sentence),
        };
        ConfigError { name: name.to_owned(), line, sentence }
    }

    /// Explains an error of the TOML reader. Unknown keys and values come with serde's list of
    /// the known ones, in backquotes: the nearest is suggested.
    pub(super) fn from_toml(place: Place<'_>, error: &toml::de::Error) -> ConfigError {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let message = without_types(&message);
        let offset = error.span().map(|span| span.start);
        if let Some(sentence) = offset.and_then(|offset| place.brackets(offset)) {
            let line = offset.map(|offset| place.line(offset));
            return ConfigError { name: place.name.to_owned(), line, sentence };
        }
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let sentence = match (message.split_whitespace().next(), quoted.split_first()) {
            (Some("unknown"), Some((unknown, known))) if !known.is_empty() => {
                let what = if message.starts_with("unknown field") { "key" } else { "value" };
                format!("there is no {what} '{unknown}' here; {}", suggestion(unknown, known))
            }
            _ => match offset.and_then(|offset| place.key(offset)) {
                Some(key) => format!("'{key}': {message}"),
                None => message,
            },
        };
        ConfigError {
            name: place.name.to_owned(),
            line: offset.map(|offset| place.line(offset)),
            sentence,
        }
    }
}

/// Says what a number can be, where the TOML reader names a type of Rust.
fn without_types(message: &str) -> String {
    let in_words = |ending: &str| match ending {
        "u16" => Some(format!("a whole number from 0 to {}", u16::MAX)),
        "u32" => Some(format!("a whole number from 0 to {}", u32::MAX)),
        "u64" | "usize" => Some("a whole number, 0 or more".to_owned()),
        _ => None,
    };
    let parts = message.rsplit_once("expected ");
    match parts.and_then(|(rest, ending)| Some((rest, in_words(ending)?))) {
        Some((rest, words)) => format!("{rest}expected {words}"),
        None => message.to_owned(),
    }
}

/// "did you mean ...", where a known name is near, else the list of all.
pub(super) fn suggestion(unknown: &str, known: &[&str]) -> String {
    // The start of a name is as good a hint as a few wrong letters.
    let edits = |name: &str| match name.starts_with(unknown) && unknown.len() > 2 {
        true => 0,
        false => distance(unknown, name),
    };
    match known.iter().min_by_key(|name| edits(name)) {
        Some(name) if edits(name) <= name.len().max(3) / 3 + 1 => {
            format!("did you mean '{name}'?")
        }
        _ => format!("there are: {}", known.join(", ")),
    }
}

/// Edits (insertions, deletions, replacements) between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(distance("qeue", "queue"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(suggestion("qeue", &["queue", "mode"]), "did you mean 'queue'?");
        assert_eq!(suggestion("itch", &["deep10", "itch50"]), "did you mean 'itch50'?");
        assert_eq!(suggestion("colour", &["queue", "mode"]), "there are: queue, mode");
    }
}
