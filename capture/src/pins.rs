//! The XDP program's maps, opened from their pins with the bare `bpf(2)` system call.
//!
//! `wiretape-xdp` pins its link and maps under the bpf file system; whoever may open the files
//! may use the maps, so capture needs no right to load programs. Layout of the pins: see
//! `docs/operating`, and `steer.h` of xdp-prog for the counters' structure.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

// Commands and map types of the kernel's uapi/linux/bpf.h.
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_MAP_DELETE_ELEM: i32 = 3;
const BPF_OBJ_GET: i32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
/// Of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xCAFE_4A11;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;

/// Why a pinned map could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The pin could not be opened.
    #[error(
        "cannot open the pinned map {path}: {source}{}", open_hint(path, source),
        path = path.display()
    )]
    Open {
        /// The pin.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pin is something else than expected.
    #[error(
        "{path} is not {expected}: its type is {kind}, its key {key_size} and its value \
         {value_size} bytes; it belongs to another program or version: run wiretape-xdp replace",
        path = path.display()
    )]
    Mismatch {
        /// The pin.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// `enum bpf_map_type` of what it is.
        kind: u32,
        /// Its key size in bytes.
        key_size: u32,
        /// Its value size in bytes.
        value_size: u32,
    },
    /// An operation on an open map failed.
    #[error("cannot {doing} {path} for queue {key}: {source}", path = path.display())]
    Access {
        /// What was attempted.
        doing: &'static str,
        /// The pin.
        path: PathBuf,
        /// The element.
        key: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The number of processors is unknown, so per-CPU values cannot be read.
    #[error("cannot read the possible processors from {POSSIBLE_CPUS}: {0}")]
    Processors(io::Error),
}

fn open_hint(path: &Path, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or load the XDP program with --pin-group for this user's group"
        }
        io::ErrorKind::NotFound if !is_on_bpffs(path) => {
            " (nor is there a bpf file system to hold it: `ip netns exec` hides it, nsenter \
             --net=/run/netns/NAME does not); load the XDP program first (wiretape-xdp load), or name \
             its pins with pin_dir"
        }
        io::ErrorKind::NotFound => {
            "; load the XDP program first (wiretape-xdp load), or name its pins with pin_dir"
        }
        _ => "",
    }
}

/// Whether a bpf file system is where `path` is, or would be.
fn is_on_bpffs(path: &Path) -> bool {
    let Some(there) = path.ancestors().find(|folder| folder.exists()) else { return false };
    let Ok(there) = CString::new(there.as_os_str().as_bytes()) else { return false };
    let mut about = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends in NUL, and the structure is writable for the call.
    if unsafe { libc::statfs(there.as_ptr(), about.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: every field is an integer, for which zeroes are a value.
    let about = unsafe { about.assume_init() };
    // The type differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    let kind = about.f_type as i64;
    kind == BPF_FS_MAGIC
}

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The map that names a socket for each receive queue (`BPF_MAP_TYPE_XSKMAP`).
#[derive(Debug)]
pub struct XskMap(Map);

impl XskMap {
    /// Opens the pin.
    pub fn open(path: &Path) -> Result<XskMap, PinError> {
        let map = Map::open(path)?;
        map.expect("an XSKMAP", |info| {
            info.kind == BPF_MAP_TYPE_XSKMAP && info.key_size == 4 && info.value_size == 4
        })?;
        Ok(XskMap(map))
    }

    /// Number of queues that the map can name a socket for.
    pub fn queues(&self) -> u32 {
        self.0.info.max_entries
    }

    /// Whether the pin that was opened is still there. It is gone when the program was unloaded,
    /// and another one when it was loaded anew; replacing the program keeps it.
    pub fn is_pinned(&self) -> bool {
        fs::metadata(&self.0.path).is_ok_and(|there| there.ino() == self.0.inode)
    }

    /// From now on packets of `queue` go to `socket`.
    pub fn insert(&self, queue: u32, socket: &impl AsFd) -> Result<(), PinError> {
        let mut value = socket.as_fd().as_raw_fd();
        let value = (&raw mut value).cast();
        self.0.element(BPF_MAP_UPDATE_ELEM, queue, value, "put a socket into")
    }

    /// From now on packets of `queue` go to the kernel. An empty place is fine.
    pub fn remove(&self, queue: u32) -> Result<(), PinError> {
        match self.0.element(BPF_MAP_DELETE_ELEM, queue, std::ptr::null_mut(), "remove from") {
            Err(PinError::Access { source, .. })
                if matches!(source.raw_os_error(), Some(libc::ENOENT)) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

/// What the XDP program writes in front of packets: the first word of it, or `None` if it writes
/// nothing. `path` is the pin of an array of one 64-bit word, which is there only if it does.
pub fn stamp_magic(path: &Path) -> Result<Option<u64>, PinError> {
    let map = match Map::open(path) {
        Ok(map) => map,
        Err(PinError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    map.expect("an array of one word", |info| {
        info.kind == BPF_MAP_TYPE_ARRAY && info.key_size == 4 && info.value_size == 8
    })?;
    let mut magic = 0u64;
    map.element(BPF_MAP_LOOKUP_ELEM, 0, (&raw mut magic).cast(), "read")?;
    Ok(Some(magic))
}

/// The map that names the groups whose packets the XDP program takes (`BPF_MAP_TYPE_HASH`).
#[derive(Debug)]
pub struct GroupMap(Map);

impl GroupMap {
    /// Opens the pin.
    pub fn open(path: &Path) -> Result<GroupMap, PinError> {
        let map = Map::open(path)?;
        map.expect("a map of groups", |info| {
            info.kind == BPF_MAP_TYPE_HASH && info.key_size == 8 && info.value_size == 4
        })?;
        Ok(GroupMap(map))
    }

    /// Whether packets of `group` are taken.
    pub fn contains(&self, group: SocketAddrV4) -> io::Result<bool> {
        // `struct steer_group` of steer.h.
        let mut key = [0_u8; 8];
        key[..4].copy_from_slice(&group.ip().octets());
        key[4..6].copy_from_slice(&group.port().to_be_bytes());
        let mut flags = 0_u32;
        let value = (&raw mut flags).cast();
        // SAFETY: a key has 8 bytes and a value 4, which was checked when the map was opened.
        match unsafe { self.0.raw_element(BPF_MAP_LOOKUP_ELEM, key.as_ptr(), value) } {
            Ok(()) => Ok(true),
            Err(source) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(source),
        }
    }
}

/// A map of counters per receive queue, kept apart for each processor: `WORDS` 64-bit counters in
/// the order of `steer.h`.
#[derive(Debug)]
pub struct CounterMap<const WORDS: usize> {
    map: Map,
    processors: usize,
}

impl<const WORDS: usize> CounterMap<WORDS> {
    /// Opens the pin.
    pub fn open(path: &Path) -> Result<CounterMap<WORDS>, PinError> {
        let map = Map::open(path)?;
        map.expect("a per-CPU array of the expected counters", |info| {
            info.kind == BPF_MAP_TYPE_PERCPU_ARRAY
                && info.key_size == 4
                && info.value_size as usize == WORDS * size_of::<u64>()
        })?;
        Ok(CounterMap { map, processors: possible_processors().map_err(PinError::Processors)? })
    }

    /// Number of queues counted.
    pub fn queues(&self) -> u32 {
        self.map.info.max_entries
    }

    /// The counters of `queue`, summed over the processors.
    pub fn read(&self, queue: u32) -> Result<[u64; WORDS], PinError> {
        // The kernel writes one value per possible processor, each rounded up to 8 bytes: ours
        // are whole words already.
        let mut values = vec![[0u64; WORDS]; self.processors];
        let value = values.as_mut_ptr().cast();
        self.map.element(BPF_MAP_LOOKUP_ELEM, queue, value, "read")?;
        let mut sum = [0u64; WORDS];
        for of_processor in &values {
            for (total, counter) in sum.iter_mut().zip(of_processor) {
                *total = total.wrapping_add(*counter);
            }
        }
        Ok(sum)
    }

    /// The counters of all queues, summed.
    pub fn read_all(&self) -> Result<[u64; WORDS], PinError> {
        let mut sum = [0u64; WORDS];
        for queue in 0..self.queues() {
            for (total, counter) in sum.iter_mut().zip(self.read(queue)?) {
                *total = total.wrapping_add(counter);
            }
        }
        Ok(sum)
    }
}

/// The start of the kernel's `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[derive(Debug)]
struct Map {
    fd: OwnedFd,
    path: PathBuf,
    inode: u64,
    info: MapInfo,
}

impl Map {
    fn open(path: &Path) -> Result<Map, PinError> {
        let fail = |source| PinError::Open { path: path.to_owned(), source };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| fail(e.into()))?;
        /// `BPF_OBJ_GET` of `union bpf_attr`.
        #[repr(C)]
        struct Get {
            pathname: u64,
            bpf_fd: u32,
            file_flags: u32,
        }
        let mut get = Get { pathname: name.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
        // SAFETY: the attribute is the one that the command reads; the name outlives the call.
        let fd = unsafe { bpf(BPF_OBJ_GET, &mut get) }.map_err(fail)?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let info = map_info(&fd).map_err(fail)?;
        let inode = fs::metadata(path).map_err(fail)?.ino();
        Ok(Map { fd, path: path.to_owned(), inode, info })
    }

    fn expect(
        &self,
        expected: &'static str,
        is: impl Fn(&MapInfo) -> bool,
    ) -> Result<(), PinError> {
        if is(&self.info) {
            return Ok(());
        }
        let MapInfo { kind, key_size, value_size, .. } = self.info;
        Err(PinError::Mismatch { path: self.path.clone(), expected, kind, key_size, value_size })
    }

    /// Looks up, updates or deletes one element.
    fn element(
        &self,
        command: i32,
        key: u32,
        value: *mut u8,
        doing: &'static str,
    ) -> Result<(), PinError> {
        // SAFETY: the key is 4 bytes, as the map's is, and the value as large as the map's (both
        // checked when it was opened).
        match unsafe { self.raw_element(command, (&raw const key).cast(), value) } {
            Ok(()) => Ok(()),
            Err(source) => Err(PinError::Access { doing, path: self.path.clone(), key, source }),
        }
    }

    /// # Safety
    /// `key` must point to as many bytes as the map's keys have, and `value` to as many as its values
    /// have, or be null where the command takes none.
    unsafe fn raw_element(&self, command: i32, key: *const u8, value: *mut u8) -> io::Result<()> {
        /// `BPF_MAP_*_ELEM` of `union bpf_attr`.
        #[repr(C)]
        struct Element {
            map_fd: u32,
            padding: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let mut element = Element {
            map_fd: self.fd.as_raw_fd() as u32,
            padding: 0,
            key: key as u64,
            value: value as u64,
            flags: 0,
        };
        // SAFETY: the attribute is the one that the commands read; key and value are the caller's
        // promise, and outlive the call.
        unsafe { bpf(command, &mut element) }.map(|_| ())
    }
}

fn map_info(fd: &OwnedFd) -> io::Result<MapInfo> {
    /// `BPF_OBJ_GET_INFO_BY_FD` of `union bpf_attr`.
    #[repr(C)]
    struct InfoByFd {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    // The kernel answers EINVAL for a program or link only after writing nothing; a map whose
    // information is longer is cut to what is asked for.
    let mut info = MapInfo::default();
    let mut ask = InfoByFd {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<MapInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attribute is the one that the command reads, and `info` is writable for the
    // length given and outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut ask) }?;
    Ok(info)
}

/// # Safety
/// `attribute` must be what `command` reads, with pointers that are valid for the call.
unsafe fn bpf<T>(command: i32, attribute: &mut T) -> io::Result<i32> {
    let attribute: *mut T = attribute;
    // SAFETY: passed on from the caller; the length is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Number of processors that could ever be there: what per-CPU maps are sized by, not the number
/// that is online.
fn possible_processors() -> io::Result<usize> {
    let text = fs::read_to_string(POSSIBLE_CPUS)?;
    last_processor(text.trim())
        .map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("'{}' is not a list of ranges", text.trim())))
}

/// The highest number in a list such as `0-3,7`.
fn last_processor(list: &str) -> Option<usize> {
    list.split(',')
        .map(|range| range.rsplit('-').next()?.parse().ok())
        .try_fold(0, |last, this: Option<usize>| Some(last.max(this?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possible_processors_are_read_from_any_kernel_list() {
        assert_eq!(last_processor("0"), Some(0));
        assert_eq!(last_processor("0-127"), Some(127));
        assert_eq!(last_processor("0-3,8-11,5"), Some(11));
        assert_eq!(last_processor(""), None);
        assert_eq!(last_processor("0-x"), None);
        assert!(possible_processors().unwrap() >= 1);
    }

    #[test]
    fn a_missing_pin_says_what_to_do() {
        let error = XskMap::open(Path::new("/nonexistent/wiretape/xsks")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nonexistent/wiretape/xsks") && text.contains("load"), "{text}");
        assert!(text.contains("nsenter --net"), "{text}");
        let on_bpffs = Path::new("/sys/fs/bpf/wiretape/nosuch0/xsks");
        if is_on_bpffs(on_bpffs) {
            let text = XskMap::open(on_bpffs).unwrap_err().to_string();
            assert!(text.contains("load") && !text.contains("nsenter"), "{text}");
        }
        let source = io::Error::from_raw_os_error(libc::EMFILE);
        let text = PinError::Open { path: PathBuf::from("xsks"), source }.to_string();
        assert!(text.contains("Too many open files") && !text.contains("load"), "{text}");
    }
}
