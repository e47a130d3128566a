//! seccomp: the system calls that the worker makes, and no other. Any other fails with EPERM.
//!
//! What is allowed works on descriptors it has, on its own memory and threads, and on clocks. Nothing here
//! opens, connects, executes, traces or loads.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::ConfineError;

/// Allowed whatever the arguments.
const ANY: &[libc::c_long] = &[
    // Descriptors that it has.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    // Its clients.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    // Its memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Its threads.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Clocks and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_uname,
];

/// The same, where there are no newer forms.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// Limits this thread, and those that it starts. Returns what holds, in words.
pub(super) fn limit() -> Result<String, ConfineError> {
    let failed = |error: &dyn std::fmt::Display| ConfineError::Syscalls(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
    let allowed = allowed().map_err(|error| failed(&error))?;
    let count = allowed.len();
    // EPERM = 1, ENOSYS = 38 (include/uapi/asm-generic/errno-base.h and errno.h).
    let others = filter(allowed, SeccompAction::Errno(1), SeccompAction::Allow, arch)
        .map_err(|error| failed(&error))?;
    // Its flags are in memory, where no filter looks. Without it glibc uses clone, whose flags are checked.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = filter(clone3, SeccompAction::Allow, SeccompAction::Errno(38), arch)
        .map_err(|error| failed(&error))?;
    apply_filter(&clone3).map_err(|error| failed(&error))?;
    apply_filter(&others).map_err(|error| failed(&error))?;
    Ok(format!("{count} system calls are allowed, the others fail"))
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
}

fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ANY.iter().chain(OLD).map(|number| (*number, Vec::new())).collect();
    let executable = libc::PROT_EXEC as u64;
    // Memory is never code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // Threads, no processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![argument(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // It may end itself, as a panic does, and nobody else.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![argument(0, SeccompCmpOp::Eq, own)?]);
    // Names of threads.
    rules.insert(libc::SYS_prctl, vec![argument(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)?]);
    // Between its own threads; with one of datagrams any socket that has a path can be reached (unix(7)).
    let kinds = 0xf;
    rules.insert(
        libc::SYS_socketpair,
        vec![SeccompRule::new(vec![
            condition(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?,
            condition(1, SeccompCmpOp::MaskedEq(kinds), libc::SOCK_STREAM as u64)?,
        ])?],
    );
    // Whether it waits, and whether it writes to a terminal, and how wide that is.
    let asked = [libc::FIONBIO, libc::TCGETS, libc::TIOCGWINSZ];
    let asked = asked.into_iter().map(|request| argument(1, SeccompCmpOp::Eq, request));
    rules.insert(libc::SYS_ioctl, asked.collect::<Result<_, _>>()?);
    Ok(rules)
}

fn argument(number: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(number, compare, value)?])
}

fn condition(number: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(number, SeccompCmpArgLen::Dword, compare, value)
}
