//! Files of gzip, of one member or several, padded with zeros to whole blocks or not.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// What the members of a gzip file hold, one behind the other.
///
/// As gzip does (its manual, "--decompress"), takes zeros behind a member for padding.
pub struct GzipMembers<R> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    /// Reads `file`.
    pub fn new(file: R) -> GzipMembers<R> {
        GzipMembers { member: Some(GzDecoder::new(file)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            skip_zeros(member.get_mut())?;
            let more = !member.get_mut().fill_buf()?.is_empty();
            let ended = self.member.take().filter(|_| more);
            self.member = ended.map(|ended| GzDecoder::new(ended.into_inner()));
        }
        Ok(0)
    }
}

/// Reads on to what is not zero, or to the end.
fn skip_zeros(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = file.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == bytes.len();
        file.consume(zeros);
        if zeros == 0 || !all {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn member(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        // A small buffer, so that members and padding lie across its ends.
        GzipMembers::new(BufReader::with_capacity(7, file)).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn members_are_read_one_behind_the_other_and_zeros_are_padding() {
        let [first, none, second] = [&b"one, "[..], b"", b"two"].map(member);
        let whole = [&first[..], &none, &second].concat();
        for zeros in [0, 1, 6, 7, 8, 5_000] {
            let padding = vec![0; zeros];
            assert_eq!(read_all(&[&whole[..], &padding].concat()).unwrap(), b"one, two");
            let within = [&first[..], &padding, &second, &padding].concat();
            assert_eq!(read_all(&within).unwrap(), b"one, two");
        }
    }

    #[test]
    fn what_is_cut_or_no_gzip_is_an_error_behind_what_was_there() {
        let whole = [member(b"one, "), member(b"two")].concat();
        assert!(read_all(&whole[..whole.len() - 1]).is_err());
        assert!(read_all(&[&whole[..], b"\0\0and then"].concat()).is_err());
        let mut all = Vec::new();
        let damaged = [&whole[..], b"behind"].concat();
        assert!(GzipMembers::new(&damaged[..]).read_to_end(&mut all).is_err());
        assert_eq!(all, b"one, two");
    }
}
