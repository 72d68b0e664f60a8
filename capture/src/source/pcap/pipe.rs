//! A capture that comes through a pipe: read as a file is, but who waits for more can be told that
//! it is enough.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long a read waits before it asks whether it is enough.
const LOOK_EVERY_MS: libc::c_int = 50;

/// A pipe, terminal or device.
#[derive(Debug)]
pub(super) struct Pipe {
    file: File,
    enough: Arc<AtomicBool>,
}

impl Pipe {
    /// What `file` brings until `enough` is set. That has no more than a look each time nothing is
    /// there; what is there is read all the same.
    pub(super) fn new(file: File, enough: Arc<AtomicBool>) -> Pipe {
        Pipe { file, enough }
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut poll =
                libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, which lives as long as the call.
            match unsafe { libc::poll(&raw mut poll, 1, LOOK_EVERY_MS) } {
                // Whatever it is, reading tells.
                1.. => return self.file.read(bytes),
                0 if self.enough.load(Ordering::Relaxed) => return Ok(0),
                0 => {}
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}
