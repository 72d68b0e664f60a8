//! What there is to know of a network interface before a socket is bound to it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::OpenError;

/// Its index in this network namespace.
pub(super) fn interface_index(interface: &str) -> Result<u32, OpenError> {
    let no_interface =
        || OpenError::NoInterface { interface: interface.into(), there_are: interface_names() };
    let name = CString::new(interface).map_err(|_| no_interface())?;
    // SAFETY: the name is NUL-terminated.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index != 0 {
        return Ok(index);
    }
    let source = io::Error::last_os_error();
    match source.raw_os_error() {
        Some(libc::ENODEV) => Err(no_interface()),
        // Such as no descriptor to ask through: that says nothing about the interface.
        _ => Err(OpenError::Interface { interface: interface.into(), source }),
    }
}

/// Names of the interfaces in this network namespace, by index.
fn interface_names() -> Vec<String> {
    // Not from /sys: that shows the namespace it was mounted in.
    let mut names = Vec::new();
    // SAFETY: no argument; the result is checked and freed below.
    let list = unsafe { libc::if_nameindex() };
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: the list ends with an entry whose name is null; this one is not past it.
        let item = unsafe { entry.read() };
        if item.if_name.is_null() {
            break;
        }
        // SAFETY: names in the list are NUL-terminated strings that live until it is freed.
        let name = unsafe { std::ffi::CStr::from_ptr(item.if_name) };
        names.push(name.to_string_lossy().into_owned());
        // SAFETY: the terminating entry follows at the latest.
        entry = unsafe { entry.add(1) };
    }
    if !list.is_null() {
        // SAFETY: the list came from if_nameindex and is freed once.
        unsafe { libc::if_freenameindex(list) };
    }
    names
}

/// The MTU of an interface; 0 if it cannot be had.
pub(super) fn mtu(interface: &str) -> u32 {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return 0;
    }
    // SAFETY: `fd` is a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays NUL.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request is valid and NUL-terminated; the kernel fills in the MTU.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFMTU as _, &mut request) } != 0 {
        return 0;
    }
    // SAFETY: after this request the union holds the MTU.
    u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0)
}
