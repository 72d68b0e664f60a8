//! Colours and screens, on a terminal only.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr, stdout};

/// Says a sentence on standard error, whether or not anyone still listens there.
pub fn say(text: &dyn Display) {
    let _ = writeln!(stderr(), "wiretape: {text}");
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Wrong.
    Bad,
    /// To be looked at.
    Notable,
    /// A heading.
    Heading,
}

/// Whether standard output is a terminal whose user wants colours (`NO_COLOR` is honoured).
pub fn coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` in the colour of its tone, where there are colours.
pub fn tinted(text: &str, tone: Tone, coloured: bool) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "1;31",
        Tone::Notable => "33",
        Tone::Heading => "1",
    };
    if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// What clears the screen for the next look.
pub const CLEAR: &str = "\x1b[H\x1b[2J";

/// A count with its thousands apart.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many of what: "1 gap", "2,000 gaps".
pub fn counted(count: u64, of: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{} {of}{many}", grouped(count))
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_not_several() {
        let of = |count| super::counted(count, "gap");
        assert_eq!([of(0), of(1), of(2_000)], ["0 gaps", "1 gap", "2,000 gaps"]);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(super::grouped(0), "0");
        assert_eq!(super::grouped(999), "999");
        assert_eq!(super::grouped(1_234_567), "1,234,567");
    }
}
