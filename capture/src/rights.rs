//! What the process gives up once everything is open: first its capabilities, then every system
//! call that it does not need any more. A packet that would take the worker over finds a process
//! that can do little but go on.
//!
//! Capabilities belong to threads: [`drop_capabilities`] is called before the worker's thread is
//! started, which inherits. [`filter_system_calls`] is called once all threads run, and binds them
//! all.
//!
//! Sources: capabilities(7), seccomp(2), Linux `Documentation/userspace-api/no_new_privs.rst`.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// How much is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confinement {
    /// Capabilities and system calls.
    #[default]
    Full,
    /// Capabilities alone: for debuggers, and for kernels without seccomp.
    Capabilities,
    /// Nothing: for tests inside a process that has more to do.
    None,
}

/// Why rights could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The kernel refused.
    #[error("cannot {what}: {source}; confine = \"none\" in [worker] leaves it out")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The filter could not be built or installed.
    #[error(
        "cannot filter system calls: {source}; confine = \"capabilities\" in [worker] leaves it out"
    )]
    Filter {
        /// Why.
        source: seccompiler::Error,
    },
    /// The filter has no rules for this processor.
    #[error(
        "cannot filter system calls on {arch}; confine = \"capabilities\" in [worker] leaves it out"
    )]
    Architecture {
        /// The processor.
        arch: &'static str,
    },
}

/// Gives up every capability of the calling thread, and of the threads and programs that it will
/// start, for good.
///
/// # Errors
/// The kernel refuses to set `no_new_privs` or to take the capabilities away.
pub fn drop_capabilities() -> Result<(), RightsError> {
    let refused = |what| move || RightsError::Refused { what, source: io::Error::last_os_error() };
    let prctl = |option: libc::c_int, argument: libc::c_ulong| {
        // SAFETY: the options used here take numbers and no pointers.
        unsafe {
            libc::prctl(
                option,
                argument,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
            )
        }
    };
    if prctl(libc::PR_SET_NO_NEW_PRIVS, 1) != 0 {
        return Err(refused("promise to gain no privileges (no_new_privs)")());
    }
    // The bounding set first, which needs CAP_SETPCAP. Without that it stays as it is and has no
    // effect: no_new_privs keeps files from giving capabilities.
    for capability in 0..64 {
        if prctl(libc::PR_CAPBSET_DROP, capability) != 0 {
            break;
        }
    }
    // Old kernels know no ambient set, and then there is nothing in it.
    let clear_all = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    let _ = prctl(libc::PR_CAP_AMBIENT, clear_all);
    set_no_capabilities()
        .map_err(|source| RightsError::Refused { what: "give up the capabilities", source })
}

fn set_no_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
    const VERSION: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let none = || Sets { effective: 0, permitted: 0, inheritable: 0 };
    let (header, sets) = (Header { version: VERSION, pid: 0 }, [none(), none()]);
    // SAFETY: header and sets are as version 3 wants them and outlive the call; pid 0 is the
    // calling thread.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The system calls of a capture that runs, and of its end.
const ALLOWED: &[libc::c_long] = &[
    // Frames: wake the driver, wait, and read the socket's statistics.
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_ppoll,
    libc::SYS_getsockopt,
    // A capture file instead of a socket.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    // Messages to whoever started it.
    libc::SYS_write,
    libc::SYS_writev,
    // Memory that is taken and given back at the edges.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Sleep, wake readers, and time.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // Whether the pins are there, and the segment's file at the end.
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_unlinkat,
    libc::SYS_close,
    // Signals and the end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same on processors that still have the older calls.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[libc::c_long] =
    &[libc::SYS_poll, libc::SYS_unlink, libc::SYS_stat, libc::SYS_lstat];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[libc::c_long] = &[];

/// Commands of bpf(2): read counters, put the socket into the XSKMAP, and take it out again.
const BPF_COMMANDS: [u64; 3] = [1, 2, 3];

/// Has all threads that are started from now on allocate from one heap. Those that glibc would give
/// them read files under /proc and /sys when they grow and shrink, which the filter does not allow.
pub fn share_one_heap() {
    // SAFETY: mallopt takes two numbers, and locks what it changes.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// What a capture does after this besides what every one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StillNeeded {
    /// Opens TCP connections over IPv4, to fetch snapshots, of feeds that come later too.
    pub connections: bool,
    /// Joins and leaves multicast groups, as feeds come and go.
    pub memberships: bool,
}

/// From now on, any other system call of any thread ends the process with SIGSYS.
///
/// # Errors
/// The kernel has no seccomp, or this processor has no rules.
pub fn filter_system_calls(needed: StillNeeded) -> Result<(), RightsError> {
    let program = filter(needed)?;
    seccompiler::apply_filter_all_threads(&program).map_err(|source| RightsError::Filter { source })
}

fn filter(needed: StillNeeded) -> Result<BpfProgram, RightsError> {
    let arch = std::env::consts::ARCH;
    let target = arch.try_into().map_err(|_| RightsError::Architecture { arch })?;
    let failed = |source: seccompiler::BackendError| RightsError::Filter { source: source.into() };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_OLD).map(|number| (*number, Vec::new())).collect();
    let only = |argument, value| {
        let length = SeccompCmpArgLen::Dword;
        let is = SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value);
        SeccompRule::new(vec![is.map_err(failed)?]).map_err(failed)
    };
    let commands: Result<Vec<_>, _> = BPF_COMMANDS.into_iter().map(|one| only(0, one)).collect();
    rules.insert(libc::SYS_bpf, commands?);
    // The standard library of a build with assertions looks whether a descriptor is open.
    rules.insert(libc::SYS_fcntl, vec![only(1, libc::F_GETFD as u64)?]);
    let word = |argument, value: libc::c_int| {
        let (length, is) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompCondition::new(argument, length, is, value as u64).map_err(failed)
    };
    let both = |a, b| SeccompRule::new(vec![a, b]).map_err(failed);
    let mut options = Vec::new();
    if needed.connections {
        let tcp = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let socket = both(word(0, libc::AF_INET)?, word(1, tcp)?)?;
        rules.insert(libc::SYS_socket, vec![socket]);
        rules.insert(libc::SYS_connect, Vec::new());
        rules.insert(libc::SYS_ioctl, vec![only(1, libc::FIONBIO)?]);
        options.push(both(word(1, libc::SOL_SOCKET)?, word(2, libc::SO_RCVTIMEO)?)?);
    }
    if needed.memberships {
        for option in [libc::IP_ADD_MEMBERSHIP, libc::IP_DROP_MEMBERSHIP] {
            options.push(both(word(1, libc::IPPROTO_IP)?, word(2, option)?)?);
        }
    }
    if !options.is_empty() {
        rules.insert(libc::SYS_setsockopt, options);
    }
    let (otherwise, allowed) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, otherwise, allowed, target).map_err(failed)?;
    BpfProgram::try_from(filter).map_err(failed)
}
