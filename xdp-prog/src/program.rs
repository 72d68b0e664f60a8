//! The compiled XDP program and its maps, loaded into the kernel.
//!
//! [`SteerProgram`] is public so that tests and benchmarks can run the very program on packets of
//! their own, attached to nothing.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, MapCore, MapHandle, MapType, ProgramInput, libbpf_sys};

use crate::counters::{self, COUNTERS_BYTES, Counters, QUEUES, SLOTS};
use crate::error::{Error, MapError};
use crate::group::{self, GROUP_ENTRIES, Group, GroupKey};
use crate::kernel;
use crate::pin::Pins;
use crate::skel::SteerSkelBuilder;
use crate::skel::stamps::SteerStampsSkelBuilder;

/// The maps that the program and user space share.
#[derive(Debug)]
pub(crate) struct Maps {
    pub xsks: MapHandle,
    pub groups: MapHandle,
    pub counters: MapHandle,
}

impl Maps {
    /// Opens the pinned maps and checks that they are of this version's layout.
    pub fn open(pins: &Pins) -> Result<Self, Error> {
        let groups = open_groups(pins)?;
        let xsks = open_map(&pins.xsks(), "xsks")?;
        let counters = open_map(&pins.counters(), "counters")?;
        check_layout(&xsks, "xsks", MapType::Xskmap, [4, 4, QUEUES])?;
        let layout = [4, COUNTERS_BYTES as u32, SLOTS];
        check_layout(&counters, "counters", MapType::PercpuArray, layout)?;
        Ok(Self { xsks, groups, counters })
    }
}

/// Opens the pinned map of groups alone.
pub(crate) fn open_groups(pins: &Pins) -> Result<MapHandle, Error> {
    let groups = open_map(&pins.groups(), "groups")?;
    let layout = [size_of::<GroupKey>() as u32, 4, GROUP_ENTRIES];
    check_layout(&groups, "groups", MapType::Hash, layout)?;
    Ok(groups)
}

fn open_map(path: &Path, map: &'static str) -> Result<MapHandle, Error> {
    MapHandle::from_pinned_path(path)
        .map_err(|source| MapError { action: "open", map, source }.into())
}

/// `sizes` are those of key and value in bytes, and the number of entries.
fn check_layout(
    handle: &MapHandle,
    map: &'static str,
    kind: MapType,
    sizes: [u32; 3],
) -> Result<(), Error> {
    let found = [handle.key_size(), handle.value_size(), handle.max_entries()];
    match handle.map_type() == kind && found == sizes {
        true => Ok(()),
        false => Err(Error::Layout { map }),
    }
}

/// Which program is to be loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    /// Whether frames of several buffers may come.
    pub multi_buffer: bool,
    /// The interface to whose driver the program is bound, to ask it for receive times.
    pub stamps_of: Option<u32>,
}

macro_rules! reuse_maps {
    ($open:expr, $maps:expr) => {
        $open.maps.xsks.reuse_fd($maps.xsks.as_fd()).map_err(refused)?;
        $open.maps.groups.reuse_fd($maps.groups.as_fd()).map_err(refused)?;
        $open.maps.counters.reuse_fd($maps.counters.as_fd()).map_err(refused)?;
    };
}

/// Loads one of the two objects, whose skeletons are alike but of types of their own.
macro_rules! load {
    ($builder:ident, $variant:expr, $reuse:expr, $refused:ident) => {{
        let mut storage = MaybeUninit::uninit();
        let mut open = $builder::default().open(&mut storage).map_err($refused)?;
        let mut flags = 0;
        if $variant.multi_buffer {
            flags |= libbpf_sys::BPF_F_XDP_HAS_FRAGS;
        }
        if let Some(interface_index) = $variant.stamps_of {
            flags |= libbpf_sys::BPF_F_XDP_DEV_BOUND_ONLY;
            open.progs.steer.set_ifindex(interface_index);
        }
        open.progs.steer.set_flags(flags);
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.multi_buffer = u8::from($variant.multi_buffer);
        }
        if let Some(maps) = $reuse {
            reuse_maps!(open, maps);
        }
        let loaded = open.load().map_err($refused)?;
        let program = loaded.progs.steer.as_fd().try_clone_to_owned();
        Ok(Self {
            program: program.map_err(|error| $refused(error.into()))?,
            maps: Maps {
                xsks: MapHandle::try_from(&loaded.maps.xsks).map_err($refused)?,
                groups: MapHandle::try_from(&loaded.maps.groups).map_err($refused)?,
                counters: MapHandle::try_from(&loaded.maps.counters).map_err($refused)?,
            },
        })
    }};
}

/// The steering program, verified and in the kernel, attached to nothing yet.
#[derive(Debug)]
pub struct SteerProgram {
    pub(crate) program: OwnedFd,
    pub(crate) maps: Maps,
}

/// A frame for the program to judge.
#[derive(Clone, Copy, Debug)]
pub struct TestFrame<'a> {
    /// From the Ethernet header on, at least its 14 bytes.
    pub bytes: &'a [u8],
    /// Interface and receive queue that it seems to have come by; the queue must exist.
    pub received_by: Option<(u32, u32)>,
    /// How many times to run, at least one.
    pub repeat: u32,
}

/// What the program did with a frame.
#[derive(Clone, Copy, Debug)]
pub struct TestVerdict {
    /// `enum xdp_action`: 2 is XDP_PASS, 4 is XDP_REDIRECT.
    pub action: u32,
    /// Mean time of a run.
    pub duration: Duration,
}

impl SteerProgram {
    /// Loads the program, with maps of its own.
    ///
    /// `multi_buffer` lets it attach to interfaces whose MTU needs several buffers a frame; kernels
    /// before 5.18 refuse it.
    pub fn load(multi_buffer: bool) -> Result<Self, Error> {
        Self::load_on(Variant { multi_buffer, stamps_of: None }, None)
    }

    /// Loads the program, on the maps that another left if there are any.
    pub(crate) fn load_on(variant: Variant, reuse: Option<&Maps>) -> Result<Self, Error> {
        match variant.stamps_of {
            None => load!(SteerSkelBuilder, variant, reuse, refused),
            Some(_) => load!(SteerStampsSkelBuilder, variant, reuse, stamps_refused),
        }
    }

    /// Steers a group; `false` if it was steered already.
    pub fn add_group(&self, group: Group) -> Result<bool, Error> {
        group::add(&self.maps.groups, group)
    }

    /// A slot's counters, summed over all CPUs.
    pub fn counters(&self, slot: u32) -> Result<Counters, Error> {
        counters::read(&self.maps.counters, slot)
    }

    /// Runs the program on a frame; nothing is sent anywhere.
    pub fn test_run(&self, frame: TestFrame<'_>) -> Result<TestVerdict, Error> {
        let mut context = libbpf_sys::xdp_md {
            data_end: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        if let Some((interface, queue)) = frame.received_by {
            context.ingress_ifindex = interface;
            context.rx_queue_index = queue;
        }
        let (action, nanos) =
            kernel::test_run(self.program.as_fd(), frame.bytes, &context, frame.repeat).map_err(
                |source| Error::Bpf {
                    action: "test-run the program".to_string(),
                    source,
                    hint: "",
                },
            )?;
        Ok(TestVerdict { action, duration: Duration::from_nanos(nanos.into()) })
    }
}

/// Which queues have a socket: the probe's verdict for each, since the map cannot be read.
pub(crate) fn queues_with_socket(maps: &Maps) -> Result<Vec<u32>, Error> {
    let mut storage = MaybeUninit::uninit();
    let mut open = SteerSkelBuilder::default().open(&mut storage).map_err(refused)?;
    open.progs.steer.set_autoload(false);
    open.progs.probe.set_autoload(true);
    reuse_maps!(open, maps);
    let loaded = open.load().map_err(refused)?;

    let mut queues = Vec::new();
    for queue in 0..QUEUES {
        // A test run wants a whole Ethernet header.
        let mut frame = [0u8; 64];
        frame[..4].copy_from_slice(&queue.to_ne_bytes());
        let input = ProgramInput { data_in: Some(&frame), ..ProgramInput::default() };
        let output = loaded.progs.probe.test_run(input).map_err(refused)?;
        if output.return_value == libbpf_sys::XDP_REDIRECT {
            queues.push(queue);
        }
    }
    Ok(queues)
}

fn refused(source: libbpf_rs::Error) -> Error {
    let reason = match source.kind() {
        ErrorKind::PermissionDenied => {
            "it needs the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, so run as root; \
             if you do, --verbose shows what the verifier has against it"
        }
        ErrorKind::InvalidInput => {
            "the kernel refused it; kernels before 5.18 need --no-frags, \
             and --verbose shows what the verifier said"
        }
        _ => "the kernel refused it; --verbose shows what libbpf said",
    };
    Error::Program { reason, source }
}

fn stamps_refused(source: libbpf_rs::Error) -> Error {
    match source.kind() {
        ErrorKind::PermissionDenied => refused(source),
        _ => Error::Program {
            reason: "the kernel refused it; --receive-stamps needs kernel 6.3 or later, built with \
                     BTF (/sys/kernel/btf/vmlinux), and --verbose shows what it said",
            source,
        },
    }
}
