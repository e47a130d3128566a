//! Landlock: no file, no TCP, no abstract Unix socket, no signal to others.

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};

/// The newest that this was written for. A kernel with an older one enforces what it knows.
const KNOWN: ABI = ABI::V6;

/// Forbids all of it to this thread and those that it starts. Returns what holds, in words.
pub(super) fn forbid() -> String {
    match restrict() {
        Ok(RulesetStatus::FullyEnforced) => {
            "enforced: no file, no TCP, no signal to other processes".to_owned()
        }
        Ok(RulesetStatus::PartiallyEnforced) => {
            "enforced as far as this kernel has it: no file may be opened".to_owned()
        }
        Ok(RulesetStatus::NotEnforced) => {
            "this kernel has none: system calls that open files are refused all the same".to_owned()
        }
        Err(error) => format!("not enforced: {error}"),
    }
}

fn restrict() -> Result<RulesetStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, test_kill_process};

    use super::*;

    /// What nobody forbade this thread: a file, a directory, TCP both ways, a Unix socket by an abstract name, a signal.
    fn attempts(
        other: Pid,
        port: u16,
        name: &SocketAddr,
        file: &std::path::Path,
    ) -> Vec<(&'static str, io::Result<()>)> {
        vec![
            ("read a file", std::fs::File::open("/etc/passwd").map(drop)),
            ("list a directory", std::fs::read_dir("/").map(drop)),
            ("write a file", std::fs::OpenOptions::new().append(true).open(file).map(drop)),
            ("remove a file", std::fs::remove_file(file)),
            ("start a program", Command::new("/bin/true").status().map(drop)),
            ("connect over TCP", TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)),
            ("listen for TCP", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
            ("connect to an abstract Unix socket", UnixStream::connect_addr(name).map(drop)),
            ("signal another process", test_kill_process(other).map_err(io::Error::from)),
        ]
    }

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// With no other limit on them than this: seccomp refuses the worker the same, and would hide that this is missing.
    #[test]
    fn alone_it_refuses_files_tcp_and_signals() {
        let sleeper = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().map(Sleeper);
        let sleeper = sleeper.expect("sleep is there");
        let other = Pid::from_child(&sleeper.0);
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = tcp.local_addr().expect("it is bound").port();
        let name = SocketAddr::from_abstract_name(format!("streamwatch-{}", std::process::id()));
        let name = name.expect("a short name");
        let _unix = UnixListener::bind_addr(&name).expect("nobody has this name");
        let directory = crate::temporary::directory();
        let file = directory.path().join("file");
        let make = || std::fs::write(&file, "x").expect("a file can be made");
        make();
        for (what, done) in attempts(other, port, &name, &file) {
            assert!(done.is_ok(), "it is refused already, and a refusal says nothing: {what}: {done:?}");
        }
        make();
        // A thread of its own: what it is forbidden is forbidden to it alone.
        let (said, after) = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).expect("every kernel takes it");
                (forbid(), attempts(other, port, &name, &file))
            });
            confined.join().expect("it does not panic")
        });
        let abi = ABI::from(monitor_sys::confined::landlock_version());
        println!("{abi:?}: {said}");
        // Since when Landlock knows each.
        let known = |what: &str| match what {
            "connect over TCP" | "listen for TCP" => ABI::V4,
            "connect to an abstract Unix socket" | "signal another process" => ABI::V6,
            _ => ABI::V1,
        };
        for (what, done) in after {
            let refused = done.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            assert_eq!(refused, abi >= known(what), "{what}, with {abi:?}: {said}");
        }
        let words = match abi {
            ABI::Unsupported => "this kernel has none",
            older if older < KNOWN => "enforced as far as this kernel has it",
            _ => "enforced: ",
        };
        assert!(said.starts_with(words), "{abi:?}: {said}");
    }
}
