//! The format strings of a program, from its file.
//!
//! defmt makes each string a symbol whose name is a JSON object (`tag`, `data`, ...) and writes the
//! low 16 bits of its address in front of a frame. A hosted program is moved by the loader, by the
//! distance between where its first segment says it should lie and where it lies.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Object as _, ObjectSymbol as _};
use wiretape_core::segment::LogProgram;

use super::Level;

/// Why a program's strings cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StringsError {
    /// The file cannot be read.
    #[error("cannot read the program {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is no program that can be looked into.
    #[error("cannot look into the program {path}: {source}", path = path.display())]
    Program {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: object::Error,
    },
    /// The program has no strings.
    #[error(
        "the program {path} has no log strings: it was stripped of its symbols, or is not \
         wiretape-capture", path = path.display()
    )]
    None {
        /// Which.
        path: PathBuf,
    },
}

/// A format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogString {
    pub level: Level,
    pub format: String,
}

/// The format strings of one program, by the number that frames begin with.
#[derive(Clone, Debug, Default)]
pub struct LogStrings {
    by_number: HashMap<u16, LogString>,
    program: LogProgram,
}

impl LogStrings {
    /// Reads the strings of the program at `path`, which `program` ran.
    ///
    /// # Errors
    /// The file cannot be read, is no ELF program, or has no strings.
    pub fn read(path: &Path, program: &LogProgram) -> Result<LogStrings, StringsError> {
        let file = |source| StringsError::File { path: path.to_owned(), source };
        let bad = |source| StringsError::Program { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(file)?;
        if !metadata.is_file() {
            // A device may have no end.
            return Err(file(io::Error::other("it is no regular file")));
        }
        let bytes = fs::read(path).map_err(file)?;
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let elf =
            object::read::elf::ElfFile64::<object::Endianness>::parse(&bytes[..]).map_err(bad)?;
        let endian = elf.endian();
        let headers = elf.elf_header().program_headers(endian, &bytes[..]).map_err(bad)?;
        let first = headers.iter().find(|header| {
            header.p_type(endian) == object::elf::PT_LOAD && header.p_offset(endian) == 0
        });
        let linked = first.map_or(0, |header| header.p_vaddr(endian));
        let moved = program.load_address.wrapping_sub(linked);
        let mut by_number = HashMap::new();
        for symbol in elf.symbols() {
            let Some(string) = symbol.name().ok().and_then(string_of) else { continue };
            by_number.insert(symbol.address().wrapping_add(moved) as u16, string);
        }
        if by_number.is_empty() {
            return Err(StringsError::None { path: path.to_owned() });
        }
        let modified_ns = modified.map_or(0, |since| since.as_nanos() as u64);
        let found =
            LogProgram { load_address: program.load_address, bytes: metadata.len(), modified_ns };
        Ok(LogStrings { by_number, program: found })
    }

    /// Whether the file is still the one that `program` ran: another one's strings would make
    /// other sentences of the frames.
    pub fn are_of(&self, program: &LogProgram) -> bool {
        self.program == *program
    }

    pub(super) fn get(&self, number: u16) -> Option<&LogString> {
        self.by_number.get(&number)
    }

    #[cfg(test)]
    pub(super) fn of(strings: &[(u16, Level, &str)]) -> LogStrings {
        let string = |(number, level, format): &(u16, Level, &str)| {
            (*number, LogString { level: *level, format: (*format).to_owned() })
        };
        LogStrings { by_number: strings.iter().map(string).collect(), ..LogStrings::default() }
    }
}

/// The string that a symbol's name stands for, if it is one of defmt's log statements.
fn string_of(name: &str) -> Option<LogString> {
    if !name.starts_with('{') {
        return None;
    }
    let object: serde_json::Value = serde_json::from_str(name).ok()?;
    let level = match object.get("tag")?.as_str()? {
        "defmt_trace" | "defmt_debug" => Level::Debug,
        "defmt_info" => Level::Info,
        "defmt_warn" => Level::Warn,
        "defmt_error" => Level::Error,
        _ => return None,
    };
    Some(LogString { level, format: object.get("data")?.as_str()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_a_string_if_its_name_says_so() {
        let name = r#"{"package":"p","tag":"defmt_warn","data":"feed {=u8}","disambiguator":"1"}"#;
        let string = LogString { level: Level::Warn, format: "feed {=u8}".into() };
        assert_eq!(string_of(name), Some(string));
        for other in ["main", "{", "{}", r#"{"tag":"defmt_prim","data":"{=u8}"}"#, "[1]"] {
            assert_eq!(string_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_has_no_strings_is_said() {
        let read = |path: &Path| LogStrings::read(path, &LogProgram::default()).unwrap_err();
        let missing = read(Path::new("/no/such/program")).to_string();
        assert!(missing.contains("/no/such/program"), "{missing}");
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        fs::write(&text, "no program").unwrap();
        assert!(matches!(read(&text), StringsError::Program { .. }));
        // This test has symbols, but no log statement.
        let own = std::env::current_exe().unwrap();
        assert!(matches!(read(&own), StringsError::None { .. }));
    }
}
