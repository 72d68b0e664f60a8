//! Netlink: one request, one answer.
//!
//! ```text
//! nlmsghdr   len 4 | type 2 | flags 2 | sequence 4 | port 4
//! genlmsghdr command 1 | version 1 | reserved 2            generic netlink only
//! attribute  len 2 | type 2 | value | up to 4 bytes        as many as there are; they nest
//! ```

use rustix::net::netlink::GENERIC;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 1 << 15;
/// Without the bits for nesting and byte order.
const NLA_TYPE: u16 = 0x3fff;

const CONTROL_FAMILY: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The kernel's answers are shorter than a page, most of them by far.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// It answers at once; a check should not hang where it does not.
const PATIENCE: Duration = Duration::from_secs(2);

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// For interfaces.
    pub fn route() -> io::Result<Netlink> {
        // Protocol 0 is the routing family.
        Netlink::open(None)
    }

    /// For families that have a name.
    pub fn generic() -> io::Result<Netlink> {
        Netlink::open(Some(GENERIC))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Netlink> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink { socket })
    }

    /// Sends a message and returns the body of its answer, empty where there is only a yes.
    pub fn ask(&self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        let len = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.extend(len.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        // One request per socket: neither its number nor our port needs to be told from another.
        message.extend([0; 8]);
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let (mut answer, mut buffer) = (Vec::new(), vec![0; ANSWER_BYTES_MAX]);
        loop {
            let (len, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..len];
            while let Some((kind, body, after)) = message_of(rest) {
                match kind {
                    NLMSG_ERROR => return accept(body).map(|()| answer),
                    NLMSG_DONE => return Ok(answer),
                    _ => answer = body.to_vec(),
                }
                rest = after;
            }
        }
    }

    /// Sends a command to a generic family; returns the attributes of its answer.
    pub fn call(&self, family: &str, command: u8, request: &Attributes) -> io::Result<Vec<u8>> {
        let mut name = Attributes::default();
        name.put_text(CTRL_ATTR_FAMILY_NAME, family);
        let control = self.command(CONTROL_FAMILY, CTRL_CMD_GETFAMILY, &name)?;
        let id = find(&control, CTRL_ATTR_FAMILY_ID).and_then(|id| id.try_into().ok());
        let id = id.map(u16::from_ne_bytes).ok_or(io::ErrorKind::InvalidData)?;
        self.command(id, command, request)
    }

    fn command(&self, family: u16, command: u8, request: &Attributes) -> io::Result<Vec<u8>> {
        let mut body = vec![command, 1, 0, 0];
        body.extend(&request.0);
        let mut answer = self.ask(family, &body)?;
        answer.drain(..GENERIC_HEADER.min(answer.len()));
        Ok(answer)
    }
}

/// The first message: type, body, and what comes after it.
fn message_of(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// An error message with number zero says that all is well.
fn accept(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|errno| i32::from_ne_bytes(*errno)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Attributes of a request.
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds a value.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        // Requests are built here, of a few names and numbers.
        let len = (4 + value.len()) as u16;
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Adds a text with its NUL.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// Adds attributes as a value.
    pub fn nest(&mut self, kind: u16, inner: &Attributes) {
        self.put(kind | NLA_F_NESTED, &inner.0);
    }
}

/// The attributes in `bytes`, up to the first that is cut.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE, value))
    })
}

/// The value of the first attribute of a type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(of, _)| *of == kind).map(|(_, value)| value)
}

/// The same, of 32 bits.
pub fn find_u32(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(find(bytes, kind)?.try_into().ok()?))
}

/// The same, of 8 bits.
pub fn find_u8(bytes: &[u8], kind: u16) -> Option<u8> {
    find(bytes, kind)?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let (mut inner, mut outer) = (Attributes::default(), Attributes::default());
        inner.put_text(2, "eth1");
        outer.put(7, &[9]);
        outer.nest(1, &inner);
        outer.put(8, &77u32.to_ne_bytes());
        assert_eq!(outer.0.len() % 4, 0);
        assert_eq!(find_u8(&outer.0, 7), Some(9));
        assert_eq!(find_u32(&outer.0, 8), Some(77));
        assert_eq!(find(&outer.0, 1).and_then(|inner| find(inner, 2)), Some(&b"eth1\0"[..]));
        assert_eq!(find(&outer.0, 3), None);
    }

    #[test]
    fn cut_messages_end_the_reading() {
        let mut all = Attributes::default();
        all.put(1, b"some");
        all.put(2, b"more of it");
        // The last two bytes are padding.
        for len in 0..all.0.len() - 2 {
            assert!(attributes(&all.0[..len]).count() < 2);
            assert!(message_of(&all.0[..len]).is_none());
        }
        // A length below that of a header would never end otherwise.
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert!(message_of(&[0; 64]).is_none());
        assert!(accept(&[]).is_err());
    }

    #[test]
    fn the_kernel_knows_its_own_families() {
        let mut request = Attributes::default();
        request.put_text(CTRL_ATTR_FAMILY_NAME, "nlctrl");
        let netlink = Netlink::generic().unwrap();
        let answer = netlink.call("nlctrl", CTRL_CMD_GETFAMILY, &request).unwrap();
        assert_eq!(find(&answer, CTRL_ATTR_FAMILY_ID), Some(&CONTROL_FAMILY.to_ne_bytes()[..]));
        let missing = netlink.call("no such family", 1, &request).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
