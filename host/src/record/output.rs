//! Recordings on disk: written by a thread of their own, under a name with `.part` until they are
//! whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::RecordError;

/// Bytes of a piece that travels to the writer thread.
pub(super) const PIECE: usize = 1 << 20;

/// How recordings are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the cheapest, and what tools can follow while it grows.
    #[default]
    None,
    /// zstd, level 1.
    Zstd,
    /// gzip, level 1: wireshark opens it directly.
    Gzip,
}

impl Compression {
    fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Zstd => ".zst",
            Compression::Gzip => ".gz",
        }
    }
}

/// What a recording does when the disk is full.
#[derive(Clone, Copy, Debug, Default)]
pub enum WhenFull {
    /// It ends.
    #[default]
    End,
    /// It waits for room, and tells of the wait and of its end. Packets that the buffer has no room for
    /// meanwhile are missed, and counted.
    Wait(fn(&Path, Room)),
}

/// Whether there is room for a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// None is left.
    Gone,
    /// There is some again.
    Back,
}

/// How often a full disk is tried again.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// What waits for room, where that is wanted.
#[derive(Clone)]
struct Patience {
    when_full: WhenFull,
    /// Set when nobody wants to wait any longer.
    stop: Arc<AtomicBool>,
}

impl Patience {
    /// Does what takes room on the disk, for `path`, until there is some.
    fn until_room<T>(
        &self,
        path: &Path,
        mut action: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut was_full = false;
        loop {
            match (action(), self.when_full) {
                (Err(error), WhenFull::Wait(tell))
                    if is_full(&error) && !self.stop.load(Ordering::Relaxed) =>
                {
                    if !was_full {
                        tell(path, Room::Gone);
                    }
                    was_full = true;
                    thread::sleep(TRY_EVERY);
                }
                (result, when_full) => {
                    if let (true, Ok(_), WhenFull::Wait(tell)) = (was_full, &result, when_full) {
                        tell(path, Room::Back);
                    }
                    return result;
                }
            }
        }
    }
}

/// A recording on a disk that may be full for a while.
struct PatientFile {
    file: File,
    path: PathBuf,
    patience: Patience,
}

impl Write for PatientFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &mut self.file;
        self.patience.until_room(&self.path, || file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

enum Order {
    Begin {
        stem: String,
    },
    Bytes {
        bytes: Vec<u8>,
        /// How many end in them.
        packets: u64,
    },
    End,
}

/// What the writer thread has to say when it ends.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Finished files.
    pub files: u64,
    /// The latest of them.
    pub last: Option<PathBuf>,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Packets on disk, also of a file that is not finished.
    packets: u64,
}

/// The reading thread's end of the writer thread.
pub(super) struct Output {
    /// `None` once the writer has been told to end.
    orders: Option<SyncSender<Order>>,
    empty: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<Result<Written, RecordError>>>,
}

/// The writer thread ended early; [`Output::finish`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriterGone;

impl Output {
    /// Starts the writer thread; up to `pieces` full pieces wait for it.
    pub fn start(
        directory: &Path,
        worker: &str,
        compression: Compression,
        keep: Option<usize>,
        when_full: WhenFull,
        stop: &Arc<AtomicBool>,
        pieces: usize,
    ) -> Result<Output, RecordError> {
        let failed = |doing| output_error(doing, directory);
        fs::create_dir_all(directory).map_err(failed("create the directory"))?;
        let (orders, received) = sync_channel(pieces.max(1));
        let (back, empty) = sync_channel(pieces.max(1) + 2);
        let mut writer = Writer {
            patience: Patience { when_full, stop: Arc::clone(stop) },
            directory: directory.to_owned(),
            worker: worker.to_owned(),
            compression,
            keep,
            current: None,
            written: Written::default(),
        };
        let thread = thread::Builder::new()
            .name("record-writer".to_owned())
            .spawn(move || {
                for order in received {
                    match order {
                        Order::Begin { stem } => writer.begin(&stem)?,
                        Order::Bytes { mut bytes, packets } => {
                            writer.write(&bytes)?;
                            writer.written.packets += packets;
                            bytes.clear();
                            // No room means that there are enough.
                            let _ = back.try_send(bytes);
                        }
                        Order::End => writer.end()?,
                    }
                }
                writer.end()?;
                Ok(writer.written)
            })
            .map_err(RecordError::Thread)?;
        Ok(Output { orders: Some(orders), empty, thread: Some(thread) })
    }

    /// An empty piece.
    pub fn piece(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE + (PIECE >> 4)))
    }

    /// Begins a file; blocks while the buffer is full, as all of these do.
    pub fn begin(&self, stem: String) -> Result<(), WriterGone> {
        self.send(Order::Begin { stem })
    }

    /// Hands bytes over, and with them so many packets.
    pub fn write(&self, bytes: Vec<u8>, packets: u64) -> Result<(), WriterGone> {
        self.send(Order::Bytes { bytes, packets })
    }

    /// Ends the file.
    pub fn end(&self) -> Result<(), WriterGone> {
        self.send(Order::End)
    }

    fn send(&self, order: Order) -> Result<(), WriterGone> {
        self.orders.as_ref().ok_or(WriterGone)?.send(order).map_err(|_| WriterGone)
    }

    /// Waits until everything is on disk.
    pub fn finish(mut self) -> Result<Written, RecordError> {
        self.orders = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(Written::default()),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Sink {
    Plain(PatientFile),
    Zstd(ZstdEncoder<'static, PatientFile>),
    Gzip(GzEncoder<PatientFile>),
}

impl Sink {
    /// Writes whole packets, in such a way that they can be read if there is nothing after them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sink: &mut dyn Write = match self {
            Sink::Plain(file) => file,
            Sink::Zstd(encoder) => encoder,
            Sink::Gzip(encoder) => encoder,
        };
        sink.write_all(bytes)?;
        sink.flush()
    }

    fn file(&self) -> &PatientFile {
        match self {
            Sink::Plain(file) => file,
            Sink::Zstd(encoder) => encoder.get_ref(),
            Sink::Gzip(encoder) => encoder.get_ref(),
        }
    }

    fn finish(self) -> io::Result<PatientFile> {
        match self {
            Sink::Plain(file) => Ok(file),
            Sink::Zstd(encoder) => encoder.finish(),
            Sink::Gzip(encoder) => encoder.finish(),
        }
    }
}

struct Writer {
    patience: Patience,
    directory: PathBuf,
    worker: String,
    compression: Compression,
    keep: Option<usize>,
    current: Option<(Sink, PathBuf)>,
    written: Written,
}

impl Writer {
    fn begin(&mut self, stem: &str) -> Result<(), RecordError> {
        self.end()?;
        let suffix = self.compression.suffix();
        let named = |number: u32| {
            let more = if number == 0 { String::new() } else { format!("-{number}") };
            self.directory.join(format!("{stem}{more}.pcapng{suffix}"))
        };
        // Two recorders of one worker, or a clock set back, may want the same name.
        let mut number = 0;
        let (path, file) = loop {
            let path = named(number);
            let aside = part(&path);
            // A disk can have no room for another file while those that it has could still grow.
            let new = self.patience.until_room(&aside, || {
                OpenOptions::new().write(true).create_new(true).open(&aside)
            });
            match new {
                Ok(_) if path.exists() => {
                    let _ = fs::remove_file(&aside);
                    number += 1;
                }
                Ok(file) => {
                    // Says that somebody still writes it; who cannot say so does without.
                    let _ = file.try_lock();
                    break (path, file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(self.failed("create", &aside)(source)),
            }
        };
        let file = PatientFile { file, path: part(&path), patience: self.patience.clone() };
        let sink = match self.compression {
            Compression::None => Sink::Plain(file),
            Compression::Gzip => Sink::Gzip(GzEncoder::new(file, flate2::Compression::fast())),
            Compression::Zstd => {
                let encoder = ZstdEncoder::new(file, 1);
                Sink::Zstd(encoder.map_err(output_error("compress", &part(&path)))?)
            }
        };
        self.current = Some((sink, path));
        self.remove_old()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        let Some((sink, path)) = &mut self.current else { return Ok(()) };
        // A file that was removed would take all that comes, until its end, to nowhere.
        let is_there = fs::symlink_metadata(&sink.file().path);
        let result = is_there.and_then(|_| sink.write(bytes));
        let aside = part(path);
        let result = result.map_err(self.failed("write", &aside));
        if result.is_err() {
            self.remove_if_empty();
        }
        result
    }

    fn end(&mut self) -> Result<(), RecordError> {
        let Some((sink, path)) = self.current.take() else { return Ok(()) };
        let aside = part(&path);
        let PatientFile { file, .. } = sink.finish().map_err(self.failed("write", &aside))?;
        file.sync_all().map_err(self.failed("write", &aside))?;
        fs::rename(&aside, &path).map_err(output_error("put in place", &path))?;
        self.written.files += 1;
        self.written.bytes += file.metadata().map_or(0, |metadata| metadata.len());
        self.written.last = Some(path);
        self.remove_old()
    }

    /// What a full disk means here depends on whether it was waited for.
    fn failed(
        &self,
        doing: &'static str,
        path: &Path,
    ) -> impl Fn(io::Error) -> RecordError + use<> {
        let waits = matches!(self.patience.when_full, WhenFull::Wait(_));
        let (written, path) = (self.written.packets, path.to_owned());
        move |source| match waits && is_full(&source) {
            true => RecordError::StoppedWithoutRoom {
                doing,
                path: path.clone(),
                source,
                written,
                unwritten: 0,
                missed: 0,
            },
            false => output_error(doing, &path)(source),
        }
    }

    /// Of a disk that has been full from the start nothing stays.
    fn remove_if_empty(&mut self) {
        let Some((_, path)) = &self.current else { return };
        let aside = part(path);
        if fs::metadata(&aside).is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(aside);
        }
    }

    /// Removes the oldest recordings of this worker beyond those that are to be kept, and as many of
    /// what recorders left that were killed, or found no room. Their names sort by time.
    fn remove_old(&self) -> Result<(), RecordError> {
        let Some(keep) = self.keep else { return Ok(()) };
        let failed = output_error("look into", &self.directory);
        let entries = fs::read_dir(&self.directory).map_err(failed)?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let (mut finished, mut left): (Vec<PathBuf>, Vec<PathBuf>) = paths
            .filter(|path| is_recording(path, &self.worker))
            .partition(|path| path.extension().is_none_or(|ending| ending != "part"));
        left.retain(|path| is_left(path));
        for names in [&mut finished, &mut left] {
            names.sort();
            let beyond = names.len().saturating_sub(keep.max(1));
            for path in names.iter().take(beyond) {
                match fs::remove_file(path) {
                    // By another recorder of the worker, or whoever tidies up here.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result.map_err(output_error("remove the old", path))?,
                }
            }
        }
        Ok(())
    }
}

/// Whether nobody writes this part of a recording any more.
fn is_left(part: &Path) -> bool {
    File::open(part).is_ok_and(|file| file.try_lock().is_ok())
}

/// The shape of the time in a recording's name, a 0 for each digit.
const TIME: &[u8] = b"00000000T000000.000000000Z";

/// Whether a path is a recording of `worker`, finished or not: `<worker>-<time>[-<number>].pcapng…`.
/// One of `itch-2` is none of `itch`, though its name begins like one.
fn is_recording(path: &Path, worker: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".part").unwrap_or(name);
    let endings = [".pcapng", ".pcapng.zst", ".pcapng.gz"];
    let Some(stem) = endings.iter().find_map(|ending| name.strip_suffix(ending)) else {
        return false;
    };
    let time = stem.strip_prefix(worker).and_then(|rest| rest.strip_prefix('-'));
    let Some((time, more)) = time.and_then(|rest| rest.split_at_checked(TIME.len())) else {
        return false;
    };
    let like = |(found, shape): (u8, &u8)| match shape {
        b'0' => found.is_ascii_digit(),
        _ => found == *shape,
    };
    let number = more.strip_prefix('-').unwrap_or(more);
    time.bytes().zip(TIME).all(like) && number.bytes().all(|digit| digit.is_ascii_digit())
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn output_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> RecordError + use<> {
    let path = path.to_owned();
    move |source| RecordError::Output { doing, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(directory: &Path, keep: usize) -> Writer {
        Writer {
            patience: Patience { when_full: WhenFull::End, stop: Arc::new(AtomicBool::new(false)) },
            directory: directory.to_owned(),
            worker: "itch".to_owned(),
            compression: Compression::None,
            keep: Some(keep),
            current: None,
            written: Written::default(),
        }
    }

    #[test]
    fn what_is_kept_is_counted_and_removed_by_worker() {
        let dir = tempfile::tempdir().unwrap();
        let time = "20261129T05234";
        let ours = [
            format!("itch-{time}6.000202088Z.pcapng"),
            format!("itch-{time}7.000202088Z-1.pcapng.zst"),
            format!("itch-{time}8.000202088Z.pcapng.gz.part"),
        ];
        let others = [
            format!("itch-2-{time}6.000202088Z.pcapng"),
            format!("itch-{time}6.000202088Z.pcapng.md5"),
            format!("itch-{time}6.pcapng"),
            "itch-2.pcapng".to_owned(),
            format!("itch2-{time}6.000202088Z.pcapng"),
        ];
        for name in ours.iter().chain(&others) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(ours.iter().all(|name| is_recording(Path::new(name), "itch")));
        writer(dir.path(), 1).remove_old().unwrap();
        let left = |names: &[String]| -> Vec<bool> {
            names.iter().map(|name| dir.path().join(name).exists()).collect()
        };
        assert_eq!((left(&ours), left(&others)), (vec![false, true, true], vec![true; 5]));
    }

    #[test]
    fn what_was_written_can_be_read_before_the_end() {
        for compression in [Compression::None, Compression::Zstd, Compression::Gzip] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = Writer { compression, ..writer(dir.path(), 1) };
            writer.begin("itch-x").unwrap();
            writer.write(b"some packets").unwrap();
            let (sink, _) = writer.current.as_ref().unwrap();
            let file = File::open(&sink.file().path).unwrap();
            let mut file: Box<dyn io::Read> = match compression {
                Compression::None => Box::new(file),
                Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file).unwrap()),
                Compression::Gzip => Box::new(flate2::read::GzDecoder::new(file)),
            };
            let mut read = [0; 12];
            io::Read::read_exact(&mut file, &mut read).unwrap();
            assert_eq!(&read, b"some packets");
        }
    }

    #[test]
    fn a_file_that_was_removed_is_written_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path(), 1);
        writer.begin("itch-x").unwrap();
        writer.write(b"some packets").unwrap();
        let (sink, _) = writer.current.as_ref().unwrap();
        fs::remove_file(&sink.file().path).unwrap();
        let error = writer.write(b"more of them").unwrap_err().to_string();
        assert!(error.contains("itch-x.pcapng.part") && error.contains("removed"), "{error}");
    }

    #[test]
    fn two_recorders_that_remove_the_same_files_do_not_end_each_other() {
        let dir = tempfile::tempdir().unwrap();
        for second in 0..600_u32 {
            let name =
                format!("itch-20261129T05{:02}{:02}.000000000Z.pcapng", second / 60, second % 60);
            fs::write(dir.path().join(name), "").unwrap();
        }
        let remove = || writer(dir.path(), 1).remove_old();
        let results = thread::scope(|scope| {
            let both = [scope.spawn(remove), scope.spawn(remove)];
            both.map(|thread| thread.join().unwrap().map_err(|error| error.to_string()))
        });
        assert_eq!(results, [Ok(()), Ok(())]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_takes_room_is_tried_until_there_is_some() {
        let patience =
            |when_full, stop| Patience { when_full, stop: Arc::new(AtomicBool::new(stop)) };
        let full_twice = |patience: Patience| {
            let mut tries = 0;
            let result = patience.until_room(Path::new("x"), || {
                tries += 1;
                match tries {
                    ..3 => Err(io::Error::from(io::ErrorKind::StorageFull)),
                    _ => Ok(()),
                }
            });
            (result.is_ok(), tries)
        };
        let wait = WhenFull::Wait(|_, _| {});
        assert_eq!(full_twice(patience(wait, false)), (true, 3));
        assert_eq!(full_twice(patience(wait, true)), (false, 1));
        assert_eq!(full_twice(patience(WhenFull::End, false)), (false, 1));
    }
}
