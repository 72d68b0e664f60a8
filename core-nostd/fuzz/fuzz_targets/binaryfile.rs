//! The messages of a file, framed again, are the file up to where it ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::binaryfile::{BinaryFile, Ending, frame};

fuzz_target!(|bytes: &[u8]| {
    let mut file = BinaryFile::new(bytes);
    let mut buffer = vec![0; bytes.len()];
    let mut at = 0;
    for message in file.by_ref() {
        at += frame(message, &mut buffer[at..]).unwrap();
    }
    assert_eq!(&buffer[..at], &bytes[..at]);
    assert_eq!(file.rest(), &bytes[at..]);
    match file.ending() {
        Ending::Whole => assert_eq!(at, bytes.len()),
        Ending::Marked => assert_eq!(&bytes[at..at + 2], &[0, 0]),
        Ending::Inside { needed, found } => {
            assert_eq!(found, bytes.len() - at);
            assert!(needed > found);
        }
    }
});
