//! Which of the kernel programs does this kernel take, each tried by itself?
//!
//! In: the path of the kernel object. Out: a JSON line a program: `program`, `loads`, and, where it
//! loads, `verified` (instructions that the verifier went through; null before Linux 5.16, which
//! does not tell) and `translated` (bytes), else `reason` (the verifier's last words). Exit status 1
//! when something did not load. Must never attach anything.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::{Program, ProgramError, ProgramInfo};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: kernel_survey OBJECT")?;
    let mut object = Ebpf::load_file(&path).with_context(|| format!("the object {path} was refused"))?;
    let mut refused = false;
    for (name, program) in object.programs_mut() {
        let line = match load(program).and_then(|()| program.info()) {
            Ok(info) => taken(name, &info),
            Err(error) => {
                refused = true;
                json!({ "program": name, "loads": false, "reason": reason(&error) })
            }
        };
        println!("{line}");
    }
    std::process::exit(i32::from(refused));
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::SockOps(program) => program.load(),
        // A new kind of program: it has to be named here to be tried.
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn taken(name: &str, info: &ProgramInfo) -> Value {
    json!({
        "program": name,
        "loads": true,
        "verified": info.verified_instruction_count(),
        "translated": info.size_translated(),
    })
}

fn reason(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let mut last: Vec<&str> = log.lines().filter(|line| !line.is_empty()).rev().take(4).collect();
    last.reverse();
    format!("{io_error}; verifier: {}", last.join(" | "))
}
