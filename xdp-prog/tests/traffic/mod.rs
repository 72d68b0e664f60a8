//! Packets to the group on `wire`, and an AF_XDP socket that they are redirected to.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use wiretape_xdp::{Pins, Status, Steering};

pub const PAYLOAD: [u8; 100] = [7; 100];
/// With Ethernet, IPv4 and UDP headers.
pub const FRAME_BYTES: u64 = 142;

/// A socket that sends on `out` to a group, without checksums: a veth leaves them to its peer, which
/// never sees them behind an XDP program.
pub fn sender(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("10.99.0.1:0").unwrap();
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that outlives the call, with its own size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    socket.connect(SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), port)).unwrap();
    socket
}

pub fn send(port: u16, count: usize) {
    let socket = sender(port);
    (0..count).for_each(|_| assert_eq!(socket.send(&PAYLOAD).unwrap(), PAYLOAD.len()));
}

/// Packets are counted in soft interrupt, soon after `send` returns.
pub fn settle(steering: &Steering, seen: u64) -> Status {
    for _ in 0..200 {
        let status = steering.status().unwrap();
        if status.total.seen >= seen {
            return status;
        }
        thread::sleep(Duration::from_millis(10));
    }
    steering.status().unwrap()
}

/// A socket bound to a queue of `wire`, with its memory; it receives nothing, since nobody fills its
/// fill ring, but the map takes it and packets are redirected to it.
pub struct XdpSocket {
    fd: OwnedFd,
    _frames: Vec<u8>,
}

/// `struct xdp_umem_reg` as of Linux 5.4.
#[repr(C)]
struct UmemRegistration {
    address: u64,
    len: u64,
    chunk_size: u32,
    headroom: u32,
    flags: u32,
    pad: u32,
}

impl XdpSocket {
    pub fn bind(interface_index: u32, queue: u32) -> io::Result<Self> {
        let check = |result: libc::c_int| match result {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(fd),
        };
        // SAFETY: takes numbers only.
        let fd =
            check(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: the kernel just returned this descriptor to us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut frames = vec![0u8; 64 * 4096 + 4096];
        let address = frames.as_mut_ptr() as usize;
        let registration = UmemRegistration {
            address: address.next_multiple_of(4096) as u64,
            len: 64 * 4096,
            chunk_size: 4096,
            headroom: 0,
            flags: 0,
            pad: 0,
        };
        let set = |option: libc::c_int, value: *const libc::c_void, len: usize| {
            // SAFETY: every caller passes a value that outlives the call, with its size.
            check(unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_XDP,
                    option,
                    value,
                    len as libc::socklen_t,
                )
            })
        };
        let len = size_of::<UmemRegistration>();
        set(libc::XDP_UMEM_REG, (&raw const registration).cast(), len)?;
        let entries: u32 = 64;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            set(ring, (&raw const entries).cast(), size_of::<u32>())?;
        }
        let name = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface_index,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: the address outlives the call, with its size.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), len) })?;
        Ok(Self { fd, _frames: frames })
    }

    /// From now on packets of queue 0 are redirected to it.
    pub fn enter(&self, pins: &Pins) {
        let xsks = MapHandle::from_pinned_path(pins.xsks()).unwrap();
        let fd = self.fd.as_raw_fd().to_ne_bytes();
        xsks.update(&0u32.to_ne_bytes(), &fd, MapFlags::ANY).unwrap();
    }
}
