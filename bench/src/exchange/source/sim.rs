//! The simulator as streams of messages.

use super::SourceError;
use crate::exchange::framing::MessageStream;
use crate::flow::deep::DeepEncoder;
use crate::flow::{Flow, FlowSpec, itch};

/// A simulated day as ITCH 5.0.
pub struct SimItch {
    flow: Flow,
    symbols: Vec<[u8; 8]>,
    midnight_ns: u64,
}

impl SimItch {
    /// A day whose midnight in New York is `midnight_ns`, UTC nanoseconds.
    pub fn new(spec: &FlowSpec, midnight_ns: u64) -> Result<SimItch, SourceError> {
        let flow = Flow::new(spec)?;
        let symbols = flow.symbols();
        Ok(SimItch { flow, symbols, midnight_ns })
    }
}

impl MessageStream for SimItch {
    fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<u64>, SourceError> {
        let Some(step) = self.flow.next() else { return Ok(None) };
        itch::encode(&step, &self.symbols, message);
        Ok(Some(self.midnight_ns + step.at_ns))
    }
}

/// A simulated day as DEEP 1.0.
pub struct SimDeep {
    flow: Flow,
    encoder: DeepEncoder,
}

impl SimDeep {
    /// A day whose midnight in New York is `midnight_ns`, UTC nanoseconds.
    pub fn new(spec: &FlowSpec, midnight_ns: u64) -> Result<SimDeep, SourceError> {
        let flow = Flow::new(spec)?;
        let encoder = DeepEncoder::new(flow.symbols(), midnight_ns);
        Ok(SimDeep { flow, encoder })
    }
}

impl MessageStream for SimDeep {
    fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<u64>, SourceError> {
        loop {
            if let Some((at_ns, bytes)) = self.encoder.pop() {
                *message = bytes;
                return Ok(Some(at_ns));
            }
            match self.flow.next() {
                Some(step) => self.encoder.push(&step),
                None => {
                    self.encoder.complete();
                    let Some((at_ns, bytes)) = self.encoder.pop() else { return Ok(None) };
                    *message = bytes;
                    return Ok(Some(at_ns));
                }
            }
        }
    }
}
