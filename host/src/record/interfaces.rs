//! Which interface of a recording a packet belongs to: its queue, and its line where it has one.
//!
//! The queues come first, in the order of the worker. An interface for a line on a queue is
//! described once the first packet of that line comes from that queue; so a file has those that
//! occur in it, and a feed that is added while the capture runs gets its own.

use wiretape_core::segment::SegmentView;
use wiretape_core::wire::frame::Datagram;

use super::RecordError;
use super::pcapng;

/// A line of a feed.
#[derive(Debug)]
struct Line {
    group: [u8; 4],
    port: u16,
    /// `itch:A`.
    name: String,
    /// Protocol, group and port.
    text: String,
}

/// The interfaces of a recording.
#[derive(Debug)]
pub(super) struct Interfaces {
    /// Names of the queues, which are the first interfaces of each file.
    queues: Vec<String>,
    lines: Vec<Line>,
    /// Feeds that the lines were taken from.
    feeds: usize,
    /// Number of the interface of a line on a queue in the file that is being written, the queues
    /// of a line side by side.
    numbers: Vec<Option<u32>>,
    next: u32,
}

impl Interfaces {
    /// Interfaces of queues with these names.
    pub fn new(queues: Vec<String>) -> Interfaces {
        let next = queues.len() as u32;
        Interfaces { queues, lines: Vec::new(), feeds: 0, numbers: Vec::new(), next }
    }

    /// Takes in the lines of feeds that are new.
    pub fn look_at(&mut self, view: &SegmentView<'_>) {
        for (index, feed) in view.feeds().enumerate().skip(self.feeds) {
            let identity = feed.identity();
            for (letter, group, port) in groups(view, index) {
                let [a, b, c, d] = group;
                let name = format!("{}:{letter}", identity.name);
                let text = format!("{} {a}.{b}.{c}.{d}:{port}", identity.protocol);
                self.lines.push(Line { group, port, name, text });
                self.numbers.resize(self.lines.len() * self.queues.len(), None);
            }
            self.feeds = index + 1;
        }
    }

    /// A new file: it describes the queues, and no line yet.
    pub fn begin_file(&mut self) {
        self.numbers.fill(None);
        self.next = self.queues.len() as u32;
    }

    /// The number of the interface of a packet that came from queue number `queue`; appends its
    /// description to `out` if the file has none yet.
    pub fn number(
        &mut self,
        queue: usize,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<u32, RecordError> {
        let Some((index, line)) = self.line(packet) else { return Ok(queue as u32) };
        let at = index * self.queues.len() + queue;
        if let Some(number) = self.numbers.get(at).copied().flatten() {
            return Ok(number);
        }
        let on = self.queues.get(queue).map_or("", String::as_str);
        pcapng::interface(out, &line.name, &format!("{} on {on}", line.text))?;
        let number = self.next;
        self.next += 1;
        if let Some(place) = self.numbers.get_mut(at) {
            *place = Some(number);
        }
        Ok(number)
    }

    /// The line that a packet belongs to. Of two with the same group the later feed's: it took
    /// the place of the other.
    fn line(&self, packet: &[u8]) -> Option<(usize, &Line)> {
        let datagram = Datagram::from_frame(packet).ok()?;
        let is_its = |line: &Line| line.group == datagram.dst && line.port == datagram.dst_port;
        self.lines.iter().enumerate().rev().find(|(_, line)| is_its(line))
    }
}

/// The groups of a feed's lines. A feed with one line has no entries for lines.
fn groups(view: &SegmentView<'_>, feed: usize) -> Vec<(char, [u8; 4], u16)> {
    let of_line = |line: usize, letter: char| {
        let (group, port) = view.line(feed, line)?.address()?;
        Some((letter, group, port))
    };
    let lines: Vec<_> = [of_line(0, 'A'), of_line(1, 'B')].into_iter().flatten().collect();
    match view.feed(feed) {
        Some(feed) if lines.is_empty() => {
            let identity = feed.identity();
            vec![('A', identity.group, identity.port)]
        }
        _ => lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_parser::pcapng::{Block, OptionCode, parse_block_le};
    use wiretape_core::segment::{FeedIdentity, SegmentLayout, SegmentSpec, SegmentWriter};
    use wiretape_core::sync::AtomicU64;
    use wiretape_core::wire::frame::Route;

    const A: [u8; 4] = [239, 54, 12, 111];
    const B: [u8; 4] = [239, 54, 12, 112];

    fn to(group: [u8; 4]) -> Vec<u8> {
        let (route, mut bytes) = (Route::to_group([10, 0, 0, 1], group, 9, 26_477), vec![0; 80]);
        let len = route.emit(1, b"payload", &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    /// Names of the interfaces that are described in `blocks`.
    fn described(mut blocks: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        while !blocks.is_empty() {
            let (rest, block) = parse_block_le(blocks).unwrap();
            blocks = rest;
            let Block::InterfaceDescription(description) = block else { panic!("{block:?}") };
            let text = |code| {
                let option = description.options.iter().find(|option| option.code == code).unwrap();
                String::from_utf8_lossy(option.as_bytes().unwrap()).into_owned()
            };
            let (name, more) = (text(OptionCode::IfName), text(OptionCode::IfDescription));
            names.push(format!("{name}, {more}"));
        }
        names
    }

    #[test]
    fn lines_are_described_when_they_occur_and_feeds_may_come_later() {
        let spec = SegmentSpec {
            worker: "w",
            epoch: 1,
            pid: 1,
            event_slots: 64,
            instruments: 8,
            feeds: 3,
            depths: 0,
        };
        let bytes = SegmentLayout::new(&spec).unwrap().total_bytes();
        let words: Vec<AtomicU64> = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
        let segment = SegmentWriter::create(&words, &spec).unwrap();
        segment.start();
        let view = SegmentView::attach(&words).unwrap();
        let add = |index: usize, name: &str, group| {
            let (name, protocol) = (name.try_into().unwrap(), "itch50".try_into().unwrap());
            let identity =
                FeedIdentity { name, protocol, group, port: 26_477, ..FeedIdentity::default() };
            segment.feed(index).unwrap().set_identity(&identity);
        };
        add(0, "one", A);
        for (line, group) in [A, B].into_iter().enumerate() {
            segment.line(0, line).unwrap().set_address(group, 26_477);
        }
        let mut interfaces = Interfaces::new(vec!["eth1 queue 0".into(), "eth2 queue 5".into()]);
        interfaces.look_at(&view);
        interfaces.begin_file();
        let mut out = Vec::new();
        let mut number = |interfaces: &mut Interfaces, queue, group| {
            interfaces.number(queue, &to(group), &mut out).unwrap()
        };
        // Queues are 0 and 1; what belongs to no line is theirs.
        assert_eq!(number(&mut interfaces, 1, [239, 1, 1, 1]), 1);
        assert_eq!(number(&mut interfaces, 1, B), 2);
        assert_eq!(number(&mut interfaces, 0, A), 3);
        assert_eq!(number(&mut interfaces, 0, B), 4);
        assert_eq!(number(&mut interfaces, 1, B), 2);
        let on = |line, group: &str, queue| {
            format!("one:{line}, itch50 239.54.12.{group}:26477 on {queue}")
        };
        let expected = [
            on('B', "112", "eth2 queue 5"),
            on('A', "111", "eth1 queue 0"),
            on('B', "112", "eth1 queue 0"),
        ];
        assert_eq!(described(&out), expected);

        // Another file begins anew. Feeds that are added get lines of their own, and one with the
        // group of another takes its place.
        interfaces.begin_file();
        add(1, "two", [239, 1, 1, 1]);
        add(2, "three", A);
        interfaces.look_at(&view);
        let mut out = Vec::new();
        for (group, number) in [([239, 1, 1, 1], 2), (A, 3), (B, 4), (A, 3)] {
            assert_eq!(interfaces.number(0, &to(group), &mut out).unwrap(), number);
        }
        assert_eq!(interfaces.number(1, b"no datagram", &mut out).unwrap(), 1);
        let names: Vec<_> = described(&out).iter().map(|one| one[..5].to_owned()).collect();
        assert_eq!(names, ["two:A", "three", "one:B"]);
    }
}
