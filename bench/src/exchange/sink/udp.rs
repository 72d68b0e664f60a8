//! A UDP socket: what any program may send with.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketType, bind,
    sendmmsg, socket, sockopt,
};

use super::{Sent, Sink, SinkError};
use crate::exchange::interface::Interface;
use crate::exchange::packet::Packet;

/// Bytes that the kernel may hold for the interface.
const SEND_BUFFER: usize = 4 << 20;

/// Why packets cannot be sent through a socket.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// The socket could not be set up.
    #[error("cannot set up a UDP socket: {what}: {source}")]
    Setup {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The datagram is longer than the path takes.
    #[error(
        "cannot send a datagram of {length} bytes to {to}: it does not fit the interface's MTU; \
         make packets smaller (--max-payload) or the MTU larger (ip link set DEV mtu N)"
    )]
    TooLong {
        /// Bytes of payload.
        length: usize,
        /// Where to.
        to: SocketAddrV4,
    },
    /// Sending failed.
    #[error("cannot send to {to}: {source}{hint}")]
    Send {
        /// Where to.
        to: SocketAddrV4,
        /// The system's answer.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
}

/// How to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpOptions {
    /// Source address; else the system chooses.
    pub source: Option<Ipv4Addr>,
    /// Source port; else the system chooses.
    pub source_port: u16,
    /// Hops of multicast packets.
    pub ttl: u8,
}

/// A socket that sends each packet's datagram to its own destination.
pub struct UdpSink {
    socket: OwnedFd,
}

impl UdpSink {
    /// Opens a socket that sends multicast out of `interface`, or by the routing table.
    pub fn open(interface: Option<&Interface>, options: &UdpOptions) -> Result<UdpSink, UdpError> {
        let setup = |what: String| {
            move |errno: Errno| UdpError::Setup { what, source: io::Error::from(errno) }
        };
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
            .map_err(setup("open it".to_string()))?;
        if let Some(interface) = interface {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_multicast_if_with_ifindex(&socket, &any, &any, interface.index)
                .map_err(setup(format!("multicast out of {}", interface.name)))?;
        }
        sockopt::set_ip_multicast_ttl(&socket, u32::from(options.ttl))
            .map_err(setup(format!("a TTL of {}", options.ttl)))?;
        sockopt::set_ip_multicast_loop(&socket, true)
            .map_err(setup("multicast to listeners on this machine".to_string()))?;
        // Asked for, not insisted on: a smaller buffer only makes the sender wait more often.
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER));
        if options.source.is_some() || options.source_port != 0 {
            let source = options.source.unwrap_or(Ipv4Addr::UNSPECIFIED);
            let from = SocketAddrV4::new(source, options.source_port);
            bind(&socket, &from).map_err(setup(format!("send from {from}")))?;
        }
        Ok(UdpSink { socket })
    }

    fn send_all(&self, datagrams: &[(SocketAddrV4, &[u8])]) -> Result<(), UdpError> {
        let mut rest = datagrams;
        while let Some(&(to, payload)) = rest.first() {
            match self.send_some(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                // The interface's queue is full: it drains at its own pace.
                Err(Errno::AGAIN | Errno::NOBUFS) => std::thread::yield_now(),
                Err(Errno::INTR) => {}
                Err(Errno::MSGSIZE) => {
                    return Err(UdpError::TooLong { length: payload.len(), to });
                }
                Err(errno) => {
                    let hint = match errno {
                        Errno::NETUNREACH => "; name the interface to send on (--interface)",
                        Errno::PERM | Errno::ACCESS => "; a firewall forbids it",
                        _ => "",
                    };
                    return Err(UdpError::Send { to, source: errno.into(), hint });
                }
            }
        }
        Ok(())
    }

    fn send_some(&self, datagrams: &[(SocketAddrV4, &[u8])]) -> Result<usize, Errno> {
        let addresses: Vec<SocketAddrAny> = datagrams.iter().map(|(to, _)| (*to).into()).collect();
        let slices: Vec<[IoSlice<'_>; 1]> =
            datagrams.iter().map(|(_, payload)| [IoSlice::new(payload)]).collect();
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            datagrams.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut headers: Vec<MMsgHdr<'_>> = addresses
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((to, slice), control)| MMsgHdr::new_with_addr(to, slice, control))
            .collect();
        sendmmsg(&self.socket, &mut headers, SendFlags::empty())
    }
}

impl Sink for UdpSink {
    const BATCH: usize = 64;

    fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError> {
        let mut sent = Sent::default();
        let mut datagrams = Vec::with_capacity(packets.len());
        for packet in packets {
            match packet.datagram {
                Some((to, payload)) => {
                    datagrams.push((to, payload));
                    sent.count(packet, payload.len());
                }
                None => sent.skipped += 1,
            }
        }
        self.send_all(&datagrams)?;
        Ok(sent)
    }
}
