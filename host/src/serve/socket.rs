//! The socket of a host: where it is, and that there is one host on it.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where a system-wide host listens.
pub const SYSTEM_SOCKET: &str = "/run/wiretape/host.sock";

/// Where a host listens if it is not told: `/run/wiretape/host.sock` for root,
/// `$XDG_RUNTIME_DIR/wiretape/host.sock` for others that have such a directory.
pub fn default_socket_path() -> PathBuf {
    let user = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match user {
        Some(dir) if !rustix::process::geteuid().is_root() => {
            PathBuf::from(dir).join("wiretape/host.sock")
        }
        _ => PathBuf::from(SYSTEM_SOCKET),
    }
}

/// Where a client looks if it is not told: the user's own host before the system's.
pub fn client_socket_path() -> PathBuf {
    let own = default_socket_path();
    if own.exists() { own } else { PathBuf::from(SYSTEM_SOCKET) }
}

/// Why a socket cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another host is there.
    #[error(
        "a host serves on {path} already: stop it, or give this one another --socket",
        path = path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The path cannot be used.
    #[error(
        "cannot {doing} {path}: {source}; choose another place with --socket",
        path = path.display()
    )]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A claimed socket: listening, and removed when dropped.
///
/// A lock beside the socket (`host.sock.lock`) is held for as long as the host lives, and let go
/// by the kernel when it is killed. What a killed host left is found by connecting to it.
#[derive(Debug)]
pub struct Claim {
    listener: UnixListener,
    path: PathBuf,
    // Dropped last: until then nobody else removes or makes the socket.
    _lock: File,
}

impl Claim {
    /// Listens at `path`, over the remains of a host that was killed if need be.
    pub fn new(path: &Path) -> Result<Claim, ClaimError> {
        let failed = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| ClaimError::File { doing, path, source }
        };
        let taken = || ClaimError::Taken { path: path.to_owned() };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .map_err(failed("make the socket's directory", directory))?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed("open the lock file", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken()),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path)(error)),
        }
        // Connecting to an ordinary file is refused too: only a socket can be stale.
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                let error = io::Error::other("it is there, and not a socket");
                return Err(failed("listen on", path)(error));
            }
            match UnixStream::connect(path) {
                Ok(_) => return Err(taken()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed("remove the stale socket", path))?;
                }
                Err(error) => return Err(failed("use what lies at", path)(error)),
            }
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
        listener.set_nonblocking(true).map_err(failed("listen on", path))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o660))
            .map_err(failed("set the mode of", path))?;
        Ok(Claim { listener, path: path.to_owned(), _lock: lock })
    }

    /// The listening socket, which does not block.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two hosts lock two files of one name.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_is_refused_and_the_remains_of_a_killed_one_are_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deeper/host.sock");
        let claim = Claim::new(&path).unwrap();
        let error = Claim::new(&path).unwrap_err().to_string();
        assert!(error.contains("serves on") && error.contains("--socket"), "{error}");
        drop(claim);
        assert!(!path.exists());

        // What kill -9 leaves: a socket file that nobody listens on.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let claim = Claim::new(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(claim);

        // Somebody else's file is not removed.
        std::fs::write(&path, "notes").unwrap();
        assert!(Claim::new(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }
}
