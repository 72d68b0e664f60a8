//! Sets of processors, as the kernel lists them: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;

/// A set of logical processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub BTreeSet<usize>);

/// A list longer than this is none: the kernel's own limit is 8,192.
const CPU_MAX: usize = 1 << 16;

impl Cpus {
    /// Reads a kernel list; the empty text is the empty set.
    pub fn parse(text: &str) -> Option<Cpus> {
        let mut set = BTreeSet::new();
        let text = text.trim();
        // A kernel booted without the parameter says so in this word.
        if text.is_empty() || text == "(null)" {
            return Some(Cpus(set));
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last > CPU_MAX {
                return None;
            }
            set.extend(first..=last);
        }
        Some(Cpus(set))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `others` are in it.
    pub fn holds(&self, others: &Cpus) -> bool {
        others.0.is_subset(&self.0)
    }

    /// Those of it that are not among `others`.
    pub fn without(&self, others: &Cpus) -> Cpus {
        Cpus(self.0.difference(&others.0).copied().collect())
    }

    /// Those that are in both.
    pub fn and(&self, others: &Cpus) -> Cpus {
        Cpus(self.0.intersection(&others.0).copied().collect())
    }
}

impl FromIterator<usize> for Cpus {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Cpus {
        Cpus(cpus.into_iter().collect())
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last == first {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        if self.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Cpus;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for list in ["0", "0-3,8", "1,3,5-7,64-127"] {
            assert_eq!(Cpus::parse(list).unwrap().to_string(), list);
        }
        assert!(Cpus::parse("\n").unwrap().is_empty());
        assert!(Cpus::parse("(null)").unwrap().is_empty());
        for wrong in ["3-1", "x", "1,,2", "0-99999999999", "-"] {
            assert_eq!(Cpus::parse(wrong), None, "{wrong}");
        }
    }
}
