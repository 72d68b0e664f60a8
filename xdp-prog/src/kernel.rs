//! The bpf(2) calls that libbpf-rs has no safe form of, one function each.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::libbpf_sys as sys;

use crate::mode::Mode;

/// What the kernel tells of an XDP link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkInfo {
    pub id: u32,
    pub program_id: u32,
    /// Zero once the interface is gone or the link detached.
    pub interface_index: u32,
}

/// What the kernel tells of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramInfo {
    pub id: u32,
    pub tag: [u8; 8],
}

/// What is attached to an interface, and what its driver offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XdpInfo {
    native_id: u32,
    generic_id: u32,
    offload_id: u32,
    /// `enum netdev_xdp_act`; zero where the kernel does not tell.
    pub features: u64,
}

impl XdpInfo {
    /// The mode that this program runs in, if it does.
    pub fn mode_of(&self, program_id: u32) -> Option<Mode> {
        self.attached().find(|(id, _)| *id == program_id).map(|(_, mode)| mode)
    }

    /// Programs attached, and how.
    pub fn attached(&self) -> impl Iterator<Item = (u32, Mode)> {
        [
            (self.native_id, Mode::Native),
            (self.generic_id, Mode::Generic),
            (self.offload_id, Mode::Offload),
        ]
        .into_iter()
        .filter(|(id, _)| *id != 0)
    }
}

/// libbpf returns an error as the negated errno.
fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn owned(result: i32) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Index of an interface of this thread's network namespace.
pub(crate) fn interface_index(name: &CStr) -> io::Result<u32> {
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Name of an interface of this thread's network namespace.
pub(crate) fn interface_name(index: u32) -> io::Result<String> {
    let mut name: [libc::c_char; libc::IF_NAMESIZE] = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has room for the longest name that an interface can have, and its NUL.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    let name = name.map(|byte| byte as u8);
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

/// Pins a program, map or link at a path in a bpf file system.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the descriptor is open while borrowed; `path` is NUL-terminated and outlives the call.
    check(unsafe { sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Opens a pin, for reading and writing.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    owned(unsafe { sys::bpf_obj_get(path.as_ptr()) })
}

/// Attaches a program to an interface behind a link; dropping the link detaches it.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    interface_index: u32,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let index = i32::try_from(interface_index).map_err(|_| io::ErrorKind::InvalidInput)?;
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        flags: match mode {
            Mode::Native => sys::XDP_FLAGS_DRV_MODE,
            Mode::Generic => sys::XDP_FLAGS_SKB_MODE,
            Mode::Offload => sys::XDP_FLAGS_HW_MODE,
        },
        ..Default::default()
    };
    // SAFETY: the descriptor is open while borrowed; `options` is initialised and outlives the call.
    owned(unsafe { sys::bpf_link_create(program.as_raw_fd(), index, sys::BPF_XDP, &options) })
}

/// Puts another program behind a link, between two packets.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open while borrowed; a null options pointer means none.
    check(unsafe { sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) })
        .map(drop)
}

/// Detaches a link's program, whoever else holds the link.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open while borrowed.
    check(unsafe { sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// Asks about an XDP link; fails on other kinds.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = sys::bpf_link_info::default();
    let mut len = size_of::<sys::bpf_link_info>() as u32;
    // SAFETY: `info` has `len` bytes to write to, and every bit pattern is valid in it.
    check(unsafe { sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &mut info, &mut len) })?;
    if info.type_ != sys::BPF_LINK_TYPE_XDP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the pin is not an XDP link's"));
    }
    // SAFETY: the kernel fills the member that belongs to the type, which was checked.
    let xdp = unsafe { info.__bindgen_anon_1.xdp };
    Ok(LinkInfo { id: info.id, program_id: info.prog_id, interface_index: xdp.ifindex })
}

/// Asks about a program.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = sys::bpf_prog_info::default();
    let mut len = size_of::<sys::bpf_prog_info>() as u32;
    // SAFETY: `info` has `len` bytes to write to; its lengths are zero, so no pointer is followed.
    check(unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut len) })?;
    Ok(ProgramInfo { id: info.id, tag: info.tag })
}

/// Asks about an interface of this thread's network namespace.
pub(crate) fn xdp_info(interface_index: u32) -> io::Result<XdpInfo> {
    let index = i32::try_from(interface_index).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut options = sys::bpf_xdp_query_opts {
        sz: size_of::<sys::bpf_xdp_query_opts>() as sys::size_t,
        ..Default::default()
    };
    // SAFETY: `options` carries its own size, and is written within it.
    check(unsafe { sys::bpf_xdp_query(index, 0, &mut options) })?;
    // With one program attached the kernel leaves the fields per mode empty: it names the mode.
    let only = |mode: u32| if u32::from(options.attach_mode) == mode { options.prog_id } else { 0 };
    let either = |id: u32, mode: u32| if id != 0 { id } else { only(mode) };
    Ok(XdpInfo {
        native_id: either(options.drv_prog_id, sys::XDP_ATTACHED_DRV),
        generic_id: either(options.skb_prog_id, sys::XDP_ATTACHED_SKB),
        offload_id: either(options.hw_prog_id, sys::XDP_ATTACHED_HW),
        features: options.feature_flags,
    })
}

/// Runs an XDP program on a frame; its action, and the mean time of a run in nanoseconds.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &sys::xdp_md,
    repeat: u32,
) -> io::Result<(u32, u32)> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut options = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).map_err(too_long)?,
        ctx_in: std::ptr::from_ref(context).cast(),
        ctx_size_in: size_of::<sys::xdp_md>() as u32,
        repeat: i32::try_from(repeat).map_err(|_| io::ErrorKind::InvalidInput)?,
        ..Default::default()
    };
    // SAFETY: the kernel reads `frame` and `context` within the sizes given, which are their own,
    // and writes to `options` alone, since no place for outgoing data is named.
    check(unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok((options.retval, options.duration))
}
