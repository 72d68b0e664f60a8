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
