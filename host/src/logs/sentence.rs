//! A frame and its format string, put together.
//!
//! The wire format is defmt's: arguments follow the string's number in order, little-endian, as
//! wide as their type. Plain numbers, characters, strings and byte slices are known; a statement
//! with other arguments is shown as far as it is understood, with the bytes left.

use std::fmt::{self, Write as _};

use defmt_parser::{DisplayHint, Fragment, ParserMode, Type, parse};
use wiretape_core::segment::LogFrame;

use super::LogStrings;

/// How grave a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A message of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// When it was written, UTC nanoseconds.
    pub ts: u64,
    /// How grave it is; [`Level::Error`] for a frame that could not be read.
    pub level: Level,
    /// The text.
    pub text: String,
}

impl Sentence {
    /// Puts `frame` together with its string. Where that speaks of a feed by its number, the text
    /// has the name that `feed_name` knows, if it does.
    pub fn of(
        frame: &LogFrame,
        strings: &LogStrings,
        feed_name: impl Fn(usize) -> Option<String>,
    ) -> Sentence {
        let bytes = frame.bytes();
        let number = bytes.first_chunk::<2>().map(|number| u16::from_le_bytes(*number));
        let found = number.and_then(|number| strings.get(number));
        let (level, text) = match found {
            Some(string) => {
                let arguments = bytes.get(2..).unwrap_or(&[]);
                (string.level, text(&string.format, arguments, feed_name))
            }
            None => (Level::Error, format!("a frame whose string is not known: {}", hex(bytes))),
        };
        Sentence { ts: frame.ts, level, text }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An argument.
enum Value {
    Unsigned(u128),
    Signed(i128),
    Float(f64),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(value) => value.fmt(f),
            Value::Signed(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Text(value) => value.fmt(f),
        }
    }
}

/// What stands in front of a feed's number in the worker's sentences.
const BEFORE_FEED: &str = "feed ";

fn text(format: &str, mut bytes: &[u8], feed_name: impl Fn(usize) -> Option<String>) -> String {
    let Ok(fragments) = parse(format, ParserMode::ForwardsCompatible) else {
        return format!("{format} [{}]", hex(bytes));
    };
    // Arguments lie in the order of their indices, whatever the order in the text.
    let mut types: Vec<(usize, Type)> = Vec::new();
    for fragment in &fragments {
        if let Fragment::Parameter(parameter) = fragment
            && !types.iter().any(|(index, _)| *index == parameter.index)
        {
            types.push((parameter.index, parameter.ty.clone()));
        }
    }
    types.sort_by_key(|(index, _)| *index);
    let mut values: Vec<(usize, Value)> = Vec::new();
    for (index, ty) in types {
        match take(&ty, &mut bytes) {
            Some(value) => values.push((index, value)),
            None => break,
        }
    }
    let mut out = String::new();
    let mut of_feed = false;
    for fragment in &fragments {
        match fragment {
            Fragment::Literal(literal) => {
                out.push_str(literal);
                of_feed = literal.ends_with(BEFORE_FEED);
            }
            Fragment::Parameter(parameter) => {
                let value = values.iter().find(|(index, _)| *index == parameter.index);
                let name = match value {
                    Some((_, Value::Unsigned(number))) if of_feed => {
                        usize::try_from(*number).ok().and_then(&feed_name)
                    }
                    _ => None,
                };
                of_feed = false;
                if let Some(name) = name {
                    out.push_str(&name);
                    continue;
                }
                match value {
                    Some((_, value)) => show(&mut out, value, parameter.hint.as_ref()),
                    None => out.push('?'),
                }
            }
        }
    }
    if !bytes.is_empty() {
        let _ = write!(out, " [{}]", hex(bytes));
    }
    out
}

fn show(out: &mut String, value: &Value, hint: Option<&DisplayHint>) {
    let _ = match (value, hint) {
        (Value::Unsigned(value), Some(DisplayHint::Hexadecimal { alternate: true, .. })) => {
            write!(out, "{value:#x}")
        }
        (Value::Unsigned(value), Some(DisplayHint::Hexadecimal { .. })) => write!(out, "{value:x}"),
        (value, _) => write!(out, "{value}"),
    };
}

/// Takes an argument off the front of `bytes`; `None` for a type that is not known here, or if
/// there is too little.
fn take(ty: &Type, bytes: &mut &[u8]) -> Option<Value> {
    let number = |bytes: &mut &[u8], width: usize| {
        let (head, rest) = bytes.split_at_checked(width)?;
        *bytes = rest;
        let mut wide = [0; 16];
        wide.get_mut(..width)?.copy_from_slice(head);
        Some(u128::from_le_bytes(wide))
    };
    let unsigned = |bytes: &mut &[u8], width| number(bytes, width).map(Value::Unsigned);
    let signed = |bytes: &mut &[u8], width: usize| {
        let shift = 128 - 8 * width as u32;
        Some(Value::Signed(((number(bytes, width)? << shift) as i128) >> shift))
    };
    let slice = |bytes: &mut &[u8]| {
        let length = number(bytes, 4)?;
        let (head, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        *bytes = rest;
        Some(head.to_vec())
    };
    match ty {
        Type::Bool => number(bytes, 1).map(|value| Value::Text((value != 0).to_string())),
        Type::Char => {
            let value = u32::try_from(number(bytes, 4)?).ok()?;
            char::from_u32(value).map(|value| Value::Text(value.to_string()))
        }
        Type::U8 => unsigned(bytes, 1),
        Type::U16 => unsigned(bytes, 2),
        Type::U32 => unsigned(bytes, 4),
        // Of a program for 64 bits.
        Type::U64 => unsigned(bytes, 8),
        Type::U128 => unsigned(bytes, 16),
        Type::I8 => signed(bytes, 1),
        Type::I16 => signed(bytes, 2),
        Type::I32 => signed(bytes, 4),
        Type::I64 => signed(bytes, 8),
        Type::I128 => signed(bytes, 16),
        Type::F32 => {
            let bits = u32::try_from(number(bytes, 4)?).ok()?;
            Some(Value::Float(f32::from_bits(bits).into()))
        }
        Type::F64 => {
            let bits = u64::try_from(number(bytes, 8)?).ok()?;
            Some(Value::Float(f64::from_bits(bits)))
        }
        Type::Str => slice(bytes).map(|text| Value::Text(String::from_utf8_lossy(&text).into())),
        Type::U8Slice => slice(bytes).map(|bytes| Value::Text(hex(&bytes))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(format: &str, arguments: &[u8]) -> String {
        let strings = LogStrings::of(&[(0xFA12, Level::Warn, format)]);
        let bytes = [&0xFA12u16.to_le_bytes()[..], arguments].concat();
        // Of two feeds.
        let name = |feed: usize| Some(["itch", "deep"].get(feed)?.to_string());
        let sentence = Sentence::of(&LogFrame::new(5, &bytes).unwrap(), &strings, name);
        assert_eq!((sentence.ts, sentence.level), (5, Level::Warn));
        sentence.text
    }

    #[test]
    fn arguments_stand_where_the_format_has_them() {
        let arguments = [&[3u8][..], &7u64.to_le_bytes(), &(-2i32).to_le_bytes()].concat();
        let text = said("feed {=u8}: {=u64} lost, {=i32} left", &arguments);
        assert_eq!(text, "feed 3: 7 lost, -2 left");
        assert_eq!(said("{1=u16} after {0=u8} {{}}", &[9, 0x34, 0x12]), "4660 after 9 {}");
        assert_eq!(said("{=u32:#x} {=bool}", &[0xEF, 0xBE, 0, 0, 1]), "0xbeef true");
        assert_eq!(said("{=str}!", &[2, 0, 0, 0, b'o', b'k']), "ok!");
        assert_eq!(said("{=f32} {=[u8]}", &[0, 0, 0xC0, 0x3F, 1, 0, 0, 0, 0xAB]), "1.5 ab");
    }

    #[test]
    fn a_feed_has_its_name_where_that_is_known() {
        let arguments = [&[1u8][..], &1u64.to_le_bytes()].concat();
        assert_eq!(said("feed {=u8}: lost {=u64}", &arguments), "feed deep: lost 1");
        assert_eq!(said("feed {=u8}: lost {=u64}", &[2, 1, 0, 0, 0, 0, 0, 0, 0]), "feed 2: lost 1");
        assert_eq!(said("feeds: {=u8}, then feed {=u8}", &[1, 0]), "feeds: 1, then feed itch");
    }

    #[test]
    fn what_is_too_short_too_long_or_unknown_is_shown_as_it_is() {
        assert_eq!(said("feed {=u8}: {=u64}", &[3, 1]), "feed 3: ? [01]");
        assert_eq!(said("done", &[0xAB, 0xCD]), "done [abcd]");
        let strings = LogStrings::of(&[(1, Level::Info, "x")]);
        let frame = LogFrame::new(0, &[2, 0, 9]).unwrap();
        let sentence = Sentence::of(&frame, &strings, |_| None);
        assert_eq!(sentence.level, Level::Error);
        assert_eq!(sentence.text, "a frame whose string is not known: 020009");
    }

    proptest! {
        #[test]
        fn no_frame_and_no_format_can_stop_it(
            format in "(\\{(=u8|=u64|=str|=\\[u8\\]|:x|)\\}|[a-z {}]){0,6}",
            bytes in prop::collection::vec(any::<u8>(), 0..47),
        ) {
            let strings = LogStrings::of(&[(0, Level::Info, &format)]);
            let bytes = [&[0, 0][..], &bytes].concat();
            if let Some(frame) = LogFrame::new(0, &bytes) {
                let _ = Sentence::of(&frame, &strings, |feed| Some(feed.to_string()));
            }
        }
    }
}
