//! One AF_XDP socket that receives from one queue of one interface.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use wiretape_core::segment::MAX_QUEUES;

use super::assembly::{Assembly, Part};
use super::custody::{AtOnce, Custody, Later};
use super::error::OpenError;
use super::interface::{interface_index, mtu};
use super::memory::Memory;
use super::retention::Retention;
use super::ring::{Consumer, Layout, Producer};
use super::umem::{FRONT_WORDS, HEADROOM, Umem};

/// How long a queue that was closed a moment ago may stay busy: the kernel tears a socket down
/// after a grace period, and gives the queue back on a thread of its own. Mostly that takes 40 ms;
/// more than 100 were seen one time in ten while the machine had other work, more than two seconds
/// once after a kill, and a capture that is restarted must not fail for it.
const BUSY_RETRY: Duration = Duration::from_secs(5);
/// Ethernet header with two VLAN tags.
const LINK_HEADERS: u32 = 22;
/// Packets handled per call: their descriptors fill 16 cache lines.
const BATCH: u32 = 64;

/// How frames get into the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Zero-copy where the driver has it, else copies: the kernel's choice.
    #[default]
    Auto,
    /// Zero-copy or an error.
    ZeroCopy,
    /// Copies, also where the driver could do without.
    Copy,
}

impl std::fmt::Display for BindMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BindMode::Auto => "auto",
            BindMode::ZeroCopy => "zero-copy",
            BindMode::Copy => "copy",
        })
    }
}

/// Preferred busy polling: the application's calls drive the driver, interrupts stay off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Microseconds that one call may poll.
    pub timeout_us: u32,
    /// Packets that one call may handle.
    pub budget: u32,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct XskOptions {
    /// Name of the interface.
    pub interface: String,
    /// Receive queue.
    pub queue: u32,
    /// Zero-copy or not.
    pub mode: BindMode,
    /// Busy polling, if wanted. Drivers without support (veth) ignore it.
    pub busy_poll: Option<BusyPoll>,
}

impl XskOptions {
    /// Whether the interface exists, to say so before anything else is set up.
    pub fn check_interface(&self) -> Result<(), OpenError> {
        interface_index(&self.interface).map(|_| ())
    }
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The driver writes frames straight into the UMEM.
    pub zero_copy: bool,
    /// The UMEM sits on huge pages.
    pub huge_pages: bool,
    /// Packets of several frames are taken: the interface's MTU is larger than a frame.
    pub multi_buffer: bool,
    /// The socket took the busy-polling settings.
    pub busy_poll: bool,
    /// The error number with which it refused them.
    pub busy_poll_refused: Option<i32>,
}

/// What one [`XskSocket::receive`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Frames that the callback saw.
    pub frames: u32,
    /// Packets of several frames that are too long, dropped whole.
    pub oversize: u32,
    /// Descriptors that point outside their frame, dropped.
    pub invalid: u32,
}

/// The kernel's drop counters of a socket (`XDP_STATISTICS`), since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets for which no frame was there (the fill ring was empty), or that no frame holds.
    pub rx_dropped: u64,
    /// Fill ring entries that were not addresses of frames.
    pub rx_invalid_descs: u64,
    /// Packets for which the RX ring had no room.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty: the same losses as in `rx_dropped`, seen again.
    pub rx_fill_ring_empty_descs: u64,
}

/// Reads a socket's statistics from another thread than the one that receives.
#[derive(Debug)]
pub struct StatisticsHandle {
    fd: OwnedFd,
}

impl StatisticsHandle {
    /// The counters now.
    pub fn read(&self) -> io::Result<Statistics> {
        statistics(self.fd.as_raw_fd())
    }

    /// Why nothing will be received any more, once: `ENETDOWN` after the interface went away.
    pub fn failure(&self) -> Option<io::Error> {
        match get_at::<i32>(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR) {
            Ok(0) => None,
            Ok(code) => Some(io::Error::from_raw_os_error(code)),
            Err(error) => Some(error),
        }
    }
}

/// Tells when packets were received.
pub trait ReceiveTime {
    /// Whether that is to be found in front of the packets, where the XDP program wrote it.
    const LOOKS_IN_FRONT: bool;

    /// Called once a batch, when its packets were found: the moment to read a clock. One that was read
    /// before the look is early for whatever came in between, and where the processor was taken away
    /// just then, by as long as that.
    fn begin_batch(&mut self);

    /// When a packet was received, in nanoseconds. `front` are the words that stand directly in front
    /// of it, if they are looked at and lie inside its frame; nobody finds the first of them again.
    fn of(&mut self, front: Option<[u64; FRONT_WORDS]>) -> u64;
}

/// One time for all packets.
impl ReceiveTime for u64 {
    const LOOKS_IN_FRONT: bool = false;

    #[inline]
    fn begin_batch(&mut self) {}

    #[inline]
    fn of(&mut self, _: Option<[u64; FRONT_WORDS]>) -> u64 {
        *self
    }
}

/// An AF_XDP socket with the UMEM and rings of its own.
pub struct XskSocket {
    // Fields are dropped in this order: the descriptor first, so that the kernel stops writing
    // before the memory goes.
    fd: OwnedFd,
    fill: Producer,
    rx: Consumer,
    umem: Umem,
    granted: Granted,
    /// Packets of several frames.
    assembly: Assembly,
    /// What stood in front of the one that is being put together.
    assembly_front: Option<[u64; FRONT_WORDS]>,
}

impl XskSocket {
    /// Opens a socket on `umem`. All frames go to the fill ring; the RX ring has half as many
    /// entries. A queue whose last socket was just closed is tried for a second.
    pub fn open(options: &XskOptions, umem: Umem) -> Result<XskSocket, OpenError> {
        let ifindex = interface_index(&options.interface)?;
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(OpenError::Socket { source: io::Error::last_os_error() });
        }
        // SAFETY: `fd` is a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (fill_entries, rx_entries) = (umem.frames(), umem.frames() / 2);
        register(fd.as_raw_fd(), &umem, fill_entries, rx_entries)?;
        let (mut fill, rx) = map_rings(fd.as_raw_fd(), fill_entries, rx_entries)?;
        for frame in 0..u64::from(umem.frames()) {
            let pushed = fill.push(frame * u64::from(umem.frame_size()));
            debug_assert!(pushed, "the fill ring holds every frame");
        }
        fill.submit();
        let needed = mtu(&options.interface) + LINK_HEADERS > umem.frame_size() - HEADROOM;
        let multi_buffer = bind(fd.as_raw_fd(), options, ifindex, needed)?;
        let busy = options.busy_poll.map(|wanted| busy_poll(fd.as_raw_fd(), wanted));
        let granted = Granted {
            zero_copy: zero_copy_granted(fd.as_raw_fd())?,
            huge_pages: umem.memory().is_huge(),
            multi_buffer,
            busy_poll: matches!(busy, Some(Ok(()))),
            busy_poll_refused: busy
                .and_then(|set| set.err().map(|error| error.raw_os_error().unwrap_or(0))),
        };
        let (assembly, assembly_front) = (Assembly::new(), None);
        Ok(XskSocket { fd, fill, rx, umem, granted, assembly, assembly_front })
    }

    /// Hands up to 64 received frames to `each` and gives them back to the kernel. Never blocks;
    /// makes a system call only where the kernel asked for a wake-up or busy polling is on.
    #[inline]
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Received {
        self.receive_into(AtOnce, 0, |bytes, _| each(bytes))
    }

    /// As [`receive`](XskSocket::receive), each frame with its receive time. With `retention` they
    /// are published to recorders and stay there until newer ones have come.
    #[inline]
    pub fn receive_timed(
        &mut self,
        time: impl ReceiveTime,
        retention: Option<&mut Retention<'_>>,
        each: impl FnMut(&[u8], u64),
    ) -> Received {
        match retention {
            None => self.receive_into(AtOnce, time, each),
            Some(retention) => self.receive_into(Later(retention), time, each),
        }
    }

    #[inline]
    fn receive_into<T: ReceiveTime>(
        &mut self,
        mut custody: impl Custody,
        mut time: T,
        mut each: impl FnMut(&[u8], u64),
    ) -> Received {
        let mut received = Received::default();
        // The kernel takes frames in the order in which they were given to it, so that the next packet
        // is most likely in this one. It writes packet, descriptor and index, in this order: what was
        // asked for while the index says nothing yet is here when it does.
        self.umem.expect(self.fill.pushed(self.rx.taken()));
        self.rx.expect();
        let count = self.rx.available(BATCH);
        if count > 0 {
            time.begin_batch();
        }
        for left in (0..count).rev() {
            let descriptor = self.rx.take();
            if left > 0 {
                // Its lines are on their way from the kernel's processor while this one is worked on.
                let next = self.rx.peek();
                self.umem.expect_packet(next.address, next.len);
            }
            let start = self.umem.frame_of(descriptor.address);
            // SAFETY: the frame just came out of the RX ring and goes back to the fill ring
            // below or later, after the callback is done with the slice.
            let bytes = unsafe { self.umem.bytes(descriptor.address, descriptor.len) };
            let front = match T::LOOKS_IN_FRONT {
                // SAFETY: as above.
                true => unsafe { self.umem.take_front(descriptor.address) },
                false => None,
            };
            let continued = descriptor.options & libc::XDP_PKT_CONTD != 0;
            if continued || self.assembly.is_inside() {
                if !self.assembly.is_inside() {
                    self.assembly_front = front;
                }
                custody.take_part(start, &descriptor, &mut self.fill);
                match self.assembly.take(bytes, continued) {
                    Part::Awaited => {}
                    Part::Dropped => {
                        received.oversize += 1;
                        custody.end_packet(None, &mut self.fill);
                    }
                    Part::Whole => {
                        let ts_recv = time.of(self.assembly_front);
                        each(self.assembly.packet(), ts_recv);
                        received.frames += 1;
                        custody.end_packet(Some(ts_recv), &mut self.fill);
                    }
                }
                continue;
            }
            match bytes {
                Some(bytes) => {
                    let ts_recv = time.of(front);
                    each(bytes, ts_recv);
                    received.frames += 1;
                    custody.take(start, &descriptor, ts_recv, &mut self.fill);
                }
                None => {
                    received.invalid += 1;
                    self.fill.push(start);
                }
            }
        }
        if count > 0 {
            custody.end_batch(&mut self.fill);
            self.rx.release();
            self.fill.submit();
        }
        if self.fill.needs_wakeup() || (count == 0 && self.granted.busy_poll) {
            self.wake_kernel();
        }
        received
    }

    /// Sleeps until a frame is there or `timeout` (rounded up to milliseconds) is over.
    pub fn wait(&self, timeout: Duration) {
        wait_any(std::iter::once(self), timeout);
    }

    #[cold]
    fn wake_kernel(&self) {
        // SAFETY: no buffer is passed. The result says nothing that the rings do not say.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// What the kernel granted.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// The packet memory.
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// The kernel's drop counters.
    pub fn statistics(&self) -> io::Result<Statistics> {
        statistics(self.fd.as_raw_fd())
    }

    /// A handle to read the counters from another thread. The queue stays taken until it is
    /// dropped too.
    pub fn statistics_handle(&self) -> io::Result<StatisticsHandle> {
        Ok(StatisticsHandle { fd: self.fd.try_clone()? })
    }
}

impl AsFd for XskSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tells the kernel about the packet memory and the sizes of the rings.
fn register(fd: RawFd, umem: &Umem, fill: u32, rx: u32) -> Result<(), OpenError> {
    let fail = |what| move |source| OpenError::Setup { what, source };
    let registration = libc::xdp_umem_reg {
        addr: umem.memory().base().as_ptr() as u64,
        len: umem.len(),
        chunk_size: umem.frame_size(),
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    let at = libc::SOL_XDP;
    set(fd, at, libc::XDP_UMEM_REG, &registration).map_err(fail("the packet memory"))?;
    set(fd, at, libc::XDP_UMEM_FILL_RING, &fill).map_err(fail("the fill ring"))?;
    // Nothing is ever sent, but the kernel does not bind a UMEM without a completion ring.
    set(fd, at, libc::XDP_UMEM_COMPLETION_RING, &1u32).map_err(fail("the completion ring"))?;
    set(fd, at, libc::XDP_RX_RING, &rx).map_err(fail("the RX ring"))
}

fn map_rings(fd: RawFd, fill: u32, rx: u32) -> Result<(Producer, Consumer), OpenError> {
    let fail = |what| move |source| OpenError::Setup { what, source };
    let offsets: libc::xdp_mmap_offsets =
        get(fd, libc::XDP_MMAP_OFFSETS).map_err(fail("the ring layout"))?;
    let layout = Layout::new(&offsets.fr);
    let at = libc::XDP_UMEM_PGOFF_FILL_RING as i64;
    let mapping = Memory::map(fd, layout.len(fill, 1), at).map_err(fail("the mapped fill ring"))?;
    let producer = Producer::new(mapping, layout, fill);
    let layout = Layout::new(&offsets.rx);
    let mapping = Memory::map(fd, layout.len(rx, 2), libc::XDP_PGOFF_RX_RING)
        .map_err(fail("the mapped RX ring"))?;
    Ok((producer, Consumer::new(mapping, layout, rx)))
}

/// Binds the socket, for packets of several frames if they are `needed` and the kernel has them
/// (6.6); whether it does.
fn bind(
    fd: RawFd,
    options: &XskOptions,
    ifindex: u32,
    mut needed: bool,
) -> Result<bool, OpenError> {
    let mode = match options.mode {
        BindMode::Auto => 0,
        BindMode::ZeroCopy => libc::XDP_ZEROCOPY,
        BindMode::Copy => libc::XDP_COPY,
    };
    let mut address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: mode | libc::XDP_USE_NEED_WAKEUP | if needed { libc::XDP_USE_SG } else { 0 },
        sxdp_ifindex: ifindex,
        sxdp_queue_id: options.queue,
        sxdp_shared_umem_fd: 0,
    };
    let deadline = Instant::now() + BUSY_RETRY;
    loop {
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is a valid sockaddr_xdp of the length given.
        if unsafe { libc::bind(fd, (&raw const address).cast(), len) } == 0 {
            return Ok(needed);
        }
        let source = io::Error::last_os_error();
        if needed && matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) {
            needed = false;
            address.sxdp_flags &= !libc::XDP_USE_SG;
            continue;
        }
        if source.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
            let (interface, queue) = (options.interface.clone(), options.queue);
            return Err(OpenError::Bind { interface, queue, mode: options.mode, source });
        }
        sleep(Duration::from_millis(2));
    }
}

fn zero_copy_granted(fd: RawFd) -> Result<bool, OpenError> {
    let options: libc::xdp_options = get(fd, libc::XDP_OPTIONS)
        .map_err(|source| OpenError::Setup { what: "the granted mode", source })?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

fn busy_poll(fd: RawFd, wanted: BusyPoll) -> io::Result<()> {
    // From the kernel's asm-generic/socket.h.
    const SO_BUSY_POLL: i32 = 46;
    const SO_PREFER_BUSY_POLL: i32 = 69;
    const SO_BUSY_POLL_BUDGET: i32 = 70;
    set(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, &1i32)?;
    set(fd, libc::SOL_SOCKET, SO_BUSY_POLL, &wanted.timeout_us)?;
    set(fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, &wanted.budget)
}

fn statistics(fd: RawFd) -> io::Result<Statistics> {
    let raw: libc::xdp_statistics = get(fd, libc::XDP_STATISTICS)?;
    Ok(Statistics {
        rx_dropped: raw.rx_dropped,
        rx_invalid_descs: raw.rx_invalid_descs,
        rx_ring_full: raw.rx_ring_full,
        rx_fill_ring_empty_descs: raw.rx_fill_ring_empty_descs,
    })
}

fn set<T>(fd: RawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes; the kernel copies it.
    match unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn get<T: Copy>(fd: RawFd, option: i32) -> io::Result<T> {
    get_at(fd, libc::SOL_XDP, option)
}

/// Reads an option whose structure consists of integers only.
fn get_at<T: Copy>(fd: RawFd, level: i32, option: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    let into = value.as_mut_ptr().cast();
    // SAFETY: `value` is writable for `len` bytes.
    if unsafe { libc::getsockopt(fd, level, option, into, &mut len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < size_of::<T>() {
        return Err(io::Error::other(format!("the kernel is too old for option {option}")));
    }
    // SAFETY: zeroed before, then written by the kernel; the callers' types hold integers only,
    // for which any bits are valid.
    Ok(unsafe { value.assume_init() })
}

/// Sleeps until a frame is there at one of `sockets`, of which the first [`MAX_QUEUES`] are looked at,
/// or `timeout` (rounded up to milliseconds) is over.
pub fn wait_any<'s>(sockets: impl Iterator<Item = &'s XskSocket>, timeout: Duration) {
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32;
    let mut polls = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; MAX_QUEUES];
    let mut count = 0;
    for (poll, socket) in polls.iter_mut().zip(sockets) {
        poll.fd = socket.fd.as_raw_fd();
        count += 1;
    }
    // SAFETY: the first `count` of the array are valid, and it outlives the call. An error (a
    // signal) means: look again, as a timeout does.
    unsafe { libc::poll(polls.as_mut_ptr(), count, millis) };
}

#[cfg(test)]
mod tests {
    use super::super::memory::HugePages;
    use super::*;

    #[test]
    fn a_wait_is_not_shorter_than_it_was_asked_for() {
        let asked = Duration::from_nanos(600);
        let start = Instant::now();
        (0..20).for_each(|_| wait_any(std::iter::empty(), asked));
        assert!(start.elapsed() >= 20 * asked, "{:?}", start.elapsed());
    }

    #[test]
    fn a_missing_interface_is_named_beside_those_that_exist() {
        let umem = Umem::new(Memory::memfd(64 * 2048, HugePages::Off).unwrap(), 64, 2048).unwrap();
        let options = XskOptions {
            interface: "no-such-if0".into(),
            queue: 0,
            mode: BindMode::Auto,
            busy_poll: None,
        };
        let Err(error) = XskSocket::open(&options, umem) else { panic!("opened") };
        let text = error.to_string();
        assert!(text.contains("no-such-if0") && text.contains("lo"), "{text}");
    }
}
