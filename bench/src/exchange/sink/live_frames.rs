//! `bpf_prog_test_run` with live frames: a load generator inside the kernel.
//!
//! The kernel runs an XDP program over pages of its own, as if a driver had received them, and
//! does what the program answers; ours (`src/bpf/replay.bpf.c`) fills each page with the next
//! prepared frame and redirects it out of the interface. No socket, no queueing discipline, no
//! socket buffer: a core sends more than a million different packets a second.
//!
//! What it needs: CAP_BPF and CAP_NET_ADMIN, and an interface whose driver transmits XDP frames.
//! A veth does if its peer takes them in through NAPI, which it does when an XDP program is
//! attached to it in native mode or when its GRO is on (`ethtool -K PEER gro on`).

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, OpenObject, ProgramInput, libbpf_sys};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Sent, Sink, SinkError};
use crate::exchange::interface::Interface;
use crate::exchange::packet::Packet;

mod skeleton {
    #![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
    #![allow(clippy::multiple_unsafe_ops_per_block, unsafe_op_in_unsafe_fn)]
    include!(concat!(env!("OUT_DIR"), "/replay.skel.rs"));
}
pub use skeleton::{ReplaySkel, ReplaySkelBuilder};

/// As `REPLAY_SLOTS` in `replay.h`.
const SLOTS: usize = 1_024;
/// As `REPLAY_FRAME_MAX` in `replay.h`.
pub const FRAME_MAX: usize = 2_044;
const SLOT_BYTES: usize = 4 + FRAME_MAX;
/// An Ethernet header; the program refuses less.
const FRAME_MIN: usize = 14;
/// What a frame may have beside the bytes that the MTU counts.
const ETHERNET_AND_VLAN: usize = 18;
/// `BPF_F_TEST_XDP_LIVE_FRAMES` of `linux/bpf.h`.
const LIVE_FRAMES: u32 = 1 << 1;

/// Why live frames cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum LiveFramesError {
    /// The program could not be loaded.
    #[error(
        "cannot load the sender's XDP program: {0}; it needs root, or CAP_BPF and CAP_NET_ADMIN"
    )]
    Load(libbpf_rs::Error),
    /// Its frame array could not be mapped.
    #[error("cannot map the sender's frames: {0}")]
    Map(rustix::io::Errno),
    /// A run failed.
    #[error("cannot run the sender's XDP program on live frames (Linux 5.18 or later): {0}")]
    Run(libbpf_rs::Error),
    /// Frames were not built.
    #[error("the sender's XDP program refused {0} frames that it should have sent")]
    Refused(u64),
}

/// The mapped frame array.
struct Slots {
    start: NonNull<u8>,
}

impl Slots {
    const BYTES: usize = SLOTS * SLOT_BYTES;

    fn map(array: &impl MapCore) -> Result<Slots, LiveFramesError> {
        // SAFETY: a new shared mapping at an address that the kernel chooses touches no memory
        // of ours; the array has SLOTS values of SLOT_BYTES, a multiple of eight.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                Slots::BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                array.as_fd(),
                0,
            )
        }
        .map_err(LiveFramesError::Map)?;
        let start =
            NonNull::new(start.cast()).ok_or(LiveFramesError::Map(rustix::io::Errno::NOMEM))?;
        Ok(Slots { start })
    }

    /// All slots. The kernel reads them only during a run, when the borrow is over.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `start` is the start of a live mapping of BYTES readable and writable bytes
        // that only this object refers to; the borrow of `self` keeps it alive and unaliased.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), Slots::BYTES) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this start and length, and nothing borrows
        // from it any more.
        // A failure would leave the mapping until the process ends: harmless.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), Slots::BYTES) };
    }
}

/// Keeps a program in the kernel's XDP dispatcher.
///
/// A test run of more than one frame puts its program into the dispatcher and takes it out again,
/// and either waits for an RCU grace period: 25 ms a call, measured. A program that is attached
/// somewhere is in the dispatcher already. So ours is attached to the loopback device of a
/// network namespace that nobody is in.
struct Residence {
    _link: OwnedFd,
    _namespace: File,
}

impl Residence {
    /// `None` where the rights for a namespace are missing (CAP_SYS_ADMIN).
    fn take(program: BorrowedFd<'_>) -> Option<Residence> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                // SAFETY: only this thread's network namespace changes; nothing else runs on it.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.ok()?;
                let namespace = File::open("/proc/thread-self/ns/net").ok()?;
                let link = attach_to_loopback(program)?;
                Some(Residence { _link: link, _namespace: namespace })
            });
            inside.join().ok()?
        })
    }
}

/// Attaches to the only device of a new namespace.
fn attach_to_loopback(program: BorrowedFd<'_>) -> Option<OwnedFd> {
    const LOOPBACK: i32 = 1;
    // SAFETY: no options are passed, and the descriptor is borrowed for the call.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            LOOPBACK,
            libbpf_sys::BPF_XDP,
            std::ptr::null(),
        )
    };
    // SAFETY: the call returned a new descriptor that nobody else knows.
    (link >= 0).then(|| unsafe { OwnedFd::from_raw_fd(link) })
}

/// Sends frames out of an interface from inside the kernel.
pub struct LiveFramesSink {
    skel: ReplaySkel<'static>,
    slots: Slots,
    next_slot: usize,
    template: Vec<u8>,
    /// Longest frame that the interface takes. The kernel drops longer ones without a count.
    frame_max: usize,
    residence: Option<Residence>,
}

impl LiveFramesSink {
    /// Most packets per run. More would not be faster, and a run cannot be interrupted.
    pub const RUN_MAX: usize = SLOTS;

    /// Loads the program for an interface of this network namespace.
    pub fn open(interface: &Interface) -> Result<LiveFramesSink, LiveFramesError> {
        // The skeleton borrows its object for as long as it lives, which is as long as the
        // process sends: one small allocation that is never given back.
        let object = Box::leak(Box::new(MaybeUninit::<OpenObject>::uninit()));
        let mut open = ReplaySkelBuilder::default().open(object).map_err(LiveFramesError::Load)?;
        open.progs.swallow.set_autoload(false);
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.out_ifindex = interface.index;
        }
        let skel = open.load().map_err(LiveFramesError::Load)?;
        let slots = Slots::map(&skel.maps.slots)?;
        let frame_max = FRAME_MAX.min(interface.mtu as usize + ETHERNET_AND_VLAN);
        let residence = Residence::take(skel.progs.replay.as_fd());
        // Pages start as long as the longest frame: shortening one costs nothing, while growing
        // it clears the new bytes.
        Ok(LiveFramesSink {
            skel,
            slots,
            next_slot: 0,
            template: vec![0; FRAME_MAX],
            frame_max,
            residence,
        })
    }

    fn refused(&self) -> u64 {
        self.skel.maps.bss_data.as_deref().map_or(0, |data| data.refused)
    }
}

impl Sink for LiveFramesSink {
    const BATCH: usize = LiveFramesSink::RUN_MAX;

    fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError> {
        let mut sent = Sent::default();
        let slots = self.slots.bytes();
        for packet in packets.iter().take(Self::BATCH) {
            let length = packet.frame.len();
            if !(FRAME_MIN..=self.frame_max).contains(&length) {
                sent.skipped += 1;
                continue;
            }
            let at = self.next_slot * SLOT_BYTES;
            slots[at..at + 4].copy_from_slice(&(length as u32).to_ne_bytes());
            slots[at + 4..at + 4 + length].copy_from_slice(packet.frame);
            self.next_slot = (self.next_slot + 1) % SLOTS;
            sent.count(packet, length);
        }
        if sent.packets == 0 {
            return Ok(sent);
        }
        let before = self.refused();
        // Runs of a single frame leave the dispatcher alone: slow, but 25 ms faster than others.
        let (runs, repeat) = match self.residence {
            Some(_) => (1, sent.packets as u32),
            None => (sent.packets, 1),
        };
        for _ in 0..runs {
            let input = ProgramInput {
                data_in: Some(&self.template),
                flags: LIVE_FRAMES,
                repeat,
                ..ProgramInput::default()
            };
            self.skel.progs.replay.test_run(input).map_err(LiveFramesError::Run)?;
        }
        match self.refused().wrapping_sub(before) {
            0 => Ok(sent),
            refused => Err(LiveFramesError::Refused(refused).into()),
        }
    }
}
