//! Runs a program to which the kernel refuses one command of bpf(2): `refuse COMMAND PROGRAM [ARGUMENT]...`, the
//! command as a number of `enum bpf_cmd`.

#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(command), Some(program)) = (arguments.next(), arguments.next()) else {
        bail!("usage: refuse COMMAND PROGRAM [ARGUMENT]...");
    };
    let command: u64 = command.to_string_lossy().parse().context("the command is no number")?;
    let is_that = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?;
    let filter = SeccompFilter::new(
        [(libc::SYS_bpf, vec![SeccompRule::new(vec![is_that])?])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    apply_filter(&BpfProgram::try_from(filter)?)?;
    Err(Command::new(&program).args(arguments).exec()).with_context(|| program.display().to_string())
}
