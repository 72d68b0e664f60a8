//! An `AF_PACKET` socket: every frame that arrives at one interface, and any frame out of it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What the kernel keeps for a socket that is not read for a while; a kilobyte or two a frame.
const RECEIVE_BYTES: libc::c_int = 128 << 20;

/// The socket.
pub struct PacketSocket {
    fd: OwnedFd,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl PacketSocket {
    /// Opens it on `interface` of the calling thread's network namespace.
    pub fn open(interface: &str) -> io::Result<PacketSocket> {
        let name = CString::new(interface)?;
        // SAFETY: the name is a C string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing comes before the socket is bound.
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor is nobody else's.
        let socket = PacketSocket { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BYTES)?;
        // What is sent here is not to be taken for what comes.
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        // SAFETY: all zeroes are a socket address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the address is valid and of that length.
        check(unsafe { libc::bind(socket.raw(), (&raw const address).cast(), length) })?;
        // Frames that are not for this host's address are for capture's or the exchange's.
        // SAFETY: all zeroes are a request.
        let mut all: libc::packet_mreq = unsafe { std::mem::zeroed() };
        all.mr_ifindex = index as i32;
        all.mr_type = libc::PACKET_MR_PROMISC as u16;
        socket.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, all)?;
        Ok(socket)
    }

    fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn set<T>(&self, level: i32, option: i32, value: T) -> io::Result<()> {
        let length = size_of::<T>() as u32;
        // SAFETY: the value is valid and of that length.
        check(unsafe {
            libc::setsockopt(self.raw(), level, option, (&raw const value).cast(), length)
        })?;
        Ok(())
    }

    /// The next frame that came, if one did.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match rustix::net::recv(&self.fd, &mut *buffer, rustix::net::RecvFlags::TRUNC) {
            Ok((_, length)) => {
                assert!(length <= buffer.len(), "a frame of {length} bytes: merged on the way?");
                Ok(Some(&buffer[..length]))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a frame; `false` if the interface has no room for it now.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match rustix::net::send(&self.fd, frame, rustix::net::SendFlags::empty()) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Frames that came while there was no room for them, since this was last asked.
    pub fn missed(&self) -> io::Result<u32> {
        // SAFETY: all zeroes are such statistics.
        let mut statistics: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as u32;
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        // SAFETY: there is room for that many bytes.
        check(unsafe {
            let to = (&raw mut statistics).cast();
            libc::getsockopt(self.raw(), level, option, to, &raw mut length)
        })?;
        Ok(statistics.tp_drops)
    }

    /// Its descriptor, to wait on.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}
