//! What a worker published, and its hash.

use wiretape_core::event::Event;
use wiretape_core::segment::SegmentView;
use wiretape_host::digest::Digest;

/// Every event of a ring that still holds them all.
pub fn events(view: &SegmentView<'_>) -> Vec<Event> {
    let (mut reader, mut events) = (view.events().reader_from_oldest(), Vec::new());
    while let Some((_, event)) = reader.next_event().expect("a ring that holds the day") {
        events.push(event);
    }
    events
}

/// Their hash and number.
pub fn digest(events: &[Event]) -> String {
    let mut digest = Digest::new();
    digest.add(events);
    format!("{} in {} events", digest.hex(), digest.events())
}
