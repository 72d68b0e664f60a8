//! The broadcast ring against a plain model: what each reader sees after any steps of the writer
//! and the readers, on one thread.
#![cfg(not(loom))]

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use wiretape_core::event::{EVENT_WORDS, Event};
use wiretape_core::ring::broadcast::{Reader, Ring, Slot};

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    PublishBatch(u8),
    Commit,
    Read(usize),
    ReadBatch(usize, usize),
    VisitCommitted(usize, usize),
    StartFromOldest(usize),
    StartFromNow(usize),
    StartFrom(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..40_u8).prop_map(Step::Publish),
        2 => (0..40_u8).prop_map(Step::PublishBatch),
        2 => Just(Step::Commit),
        6 => (0..3_usize).prop_map(Step::Read),
        6 => (0..3_usize, 0..40_usize).prop_map(|(reader, room)| Step::ReadBatch(reader, room)),
        6 => (0..3_usize, 0..40_usize).prop_map(|(reader, room)| Step::VisitCommitted(reader, room)),
        1 => (0..3_usize).prop_map(Step::StartFromOldest),
        1 => (0..3_usize).prop_map(Step::StartFromNow),
        1 => (0..3_usize, 0..300_u64).prop_map(|(reader, at)| Step::StartFrom(reader, at)),
    ]
}

fn event(number: u64) -> Event {
    let mut event = Event { words: [number; EVENT_WORDS] };
    event.words[3] = !number;
    event
}

/// The ring as anyone would describe it: the last of the published events, one fewer than it has slots.
struct Model {
    capacity: u64,
    published: u64,
    committed: u64,
}

impl Model {
    fn oldest(&self) -> u64 {
        (self.published + 2).saturating_sub(self.capacity).max(1)
    }

    /// A reader at `position` is told of a loss only if there is one, and goes on further ahead,
    /// but by no more than an eighth of the ring beyond the oldest event. (It may go on before
    /// that one, if the writer has not committed lately: then it is told of the rest next.)
    fn check_loss(&self, position: u64, first: u64, end: u64) -> Result<(), TestCaseError> {
        prop_assert_eq!(first, position);
        prop_assert!(position < self.oldest(), "{position} was still there");
        let latest = self.oldest() + self.capacity / 8;
        prop_assert!(end > first && end <= latest, "{end} for {}", self.oldest());
        prop_assert!(self.committed < self.published || end >= self.oldest());
        Ok(())
    }
}

fn read_one(model: &Model, reader: &mut Reader<'_>) -> Result<(), TestCaseError> {
    let position = reader.position();
    match reader.next_event() {
        Ok(Some((sequence, found))) => {
            prop_assert_eq!((sequence, found), (position, event(position)));
            prop_assert!(sequence >= model.oldest() && sequence <= model.published);
            prop_assert_eq!(reader.position(), position + 1);
        }
        Ok(None) => {
            prop_assert!(position > model.published);
            prop_assert_eq!(reader.position(), position);
        }
        Err(lost) => {
            model.check_loss(position, lost.first, lost.end)?;
            prop_assert_eq!(reader.position(), lost.end);
        }
    }
    Ok(())
}

fn read_batch(model: &Model, reader: &mut Reader<'_>, room: usize) -> Result<(), TestCaseError> {
    let position = reader.position();
    let mut events = vec![Event::default(); room];
    match reader.read_batch(&mut events) {
        Ok(count) => {
            let there = (model.published + 1).saturating_sub(position);
            prop_assert_eq!(count as u64, there.min(room as u64));
            let expected = (position..).take(count).map(event);
            prop_assert!(events[..count].iter().copied().eq(expected));
            prop_assert!(count == 0 || position >= model.oldest());
            prop_assert_eq!(reader.position(), position + count as u64);
        }
        Err(lost) => {
            model.check_loss(position, lost.first, lost.end)?;
            prop_assert_eq!(reader.position(), lost.end);
        }
    }
    Ok(())
}

fn visit_committed(
    model: &Model,
    reader: &mut Reader<'_>,
    limit: usize,
) -> Result<(), TestCaseError> {
    let position = reader.position();
    let mut events = Vec::new();
    match reader.visit_committed(limit, |sequence, event| events.push((sequence, *event))) {
        Ok(count) => {
            let there = (model.committed + 1).saturating_sub(position).min(limit as u64);
            prop_assert!(count as u64 <= there && (count > 0 || there == 0), "{count} {there}");
            let expected = (position..).take(count).map(|sequence| (sequence, event(sequence)));
            prop_assert!(events.iter().copied().eq(expected));
            prop_assert!(count == 0 || position >= model.oldest());
            prop_assert_eq!(reader.position(), position + count as u64);
        }
        Err(lost) => {
            model.check_loss(position, lost.first, lost.end)?;
            prop_assert_eq!(reader.position(), lost.end);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn readers_see_the_last_events_in_order_or_are_told_which_they_missed(
        log2 in 1..6_u32,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let slots: Vec<Slot> = (0..1 << log2).map(|_| Slot::default()).collect();
        let head = AtomicU64::new(0);
        let ring = Ring::new(&slots, &head).unwrap();
        let mut writer = ring.writer();
        let mut model = Model { capacity: 1 << log2, published: 0, committed: 0 };
        let mut readers = [1, 1, 1].map(|first| ring.reader_from(first));
        for step in steps {
            match step {
                Step::Publish(count) => {
                    for _ in 0..count {
                        model.published += 1;
                        let sequence = writer.publish(&event(model.published));
                        prop_assert_eq!(sequence, model.published);
                    }
                }
                Step::PublishBatch(count) => {
                    let first = model.published + 1;
                    model.published += u64::from(count);
                    let sequences = writer.publish_batch((first..=model.published).map(event));
                    prop_assert_eq!(sequences, first..model.published + 1);
                    model.committed = model.published;
                }
                Step::Commit => {
                    writer.commit();
                    model.committed = model.published;
                }
                Step::Read(reader) => read_one(&model, &mut readers[reader])?,
                Step::ReadBatch(reader, room) => read_batch(&model, &mut readers[reader], room)?,
                Step::VisitCommitted(reader, room) => {
                    visit_committed(&model, &mut readers[reader], room)?;
                }
                Step::StartFromOldest(reader) => {
                    readers[reader] = ring.reader_from_oldest();
                    prop_assert!(readers[reader].position() <= model.committed + 1);
                }
                Step::StartFromNow(reader) => {
                    readers[reader] = ring.reader_from_now();
                    prop_assert_eq!(readers[reader].position(), model.committed + 1);
                }
                Step::StartFrom(reader, at) => readers[reader] = ring.reader_from(at),
            }
            prop_assert_eq!(ring.head(), model.committed);
            prop_assert_eq!(writer.next_sequence(), model.published + 1);
            for reader in &readers {
                let lag = (model.committed + 1).saturating_sub(reader.position());
                prop_assert_eq!(reader.lag(), lag);
            }
        }
    }
}
