//! The project's real captures and day files, for the tests that hold the core against them.

use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;

/// A file of `../shared/data`, unpacked; `None`, said aloud, where it is absent. `WIRETAPE_SHARED` names
/// another folder than `../shared`.
pub fn read(name: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data").join(name);
    let packed = match std::fs::read(&path) {
        Ok(packed) => packed,
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            return None;
        }
    };
    if !name.ends_with(".gz") {
        return Some(packed);
    }
    let mut plain = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
    Some(plain)
}
