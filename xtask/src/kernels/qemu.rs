//! A machine under software emulation. In: a kernel and its initial file system. Out: what came over
//! its two serial lines. Has no network card: its traffic stays in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::directory;
use super::packages::{self, Archive};
use crate::step::{failure, find_program};

const PROGRAM: &str = "qemu-system-x86_64";

/// A run takes about a minute; a machine of which nothing comes for so long is stuck.
const LIMIT: Duration = Duration::from_secs(300);

/// How QEMU is started here.
pub struct Emulator {
    program: PathBuf,
    /// Where it is unpacked; `None`: it is installed.
    root: Option<PathBuf>,
}

impl Emulator {
    /// The installed one, else an unpacked one.
    ///
    /// # Errors
    /// There is none, and it cannot be downloaded.
    pub fn find(archive: &mut Option<Archive>) -> Result<Emulator> {
        if let Some(program) = find_program(PROGRAM) {
            return Ok(Emulator { program, root: None });
        }
        let root = packages::emulator(archive)?;
        Ok(Emulator { program: root.join("usr/bin").join(PROGRAM), root: Some(root) })
    }

    fn command(&self) -> Command {
        let Some(root) = &self.root else { return Command::new(&self.program) };
        // By its own loader, so that it runs with the libraries that came with it.
        let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|part| root.join(part));
        let path = libraries.map(|path| path.display().to_string()).join(":");
        command.arg("--library-path").arg(path).arg(&self.program);
        command.env("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu"));
        for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(root.join(data));
        }
        command
    }
}

/// What a machine said.
pub struct Session {
    pub console: String,
    /// See `guest.sh`.
    pub results: String,
    pub took: Duration,
}

/// Boots it and waits until it has turned itself off. One that does not is ended, and what it said
/// until then is what there is.
///
/// # Errors
/// QEMU did not start.
pub fn run(emulator: &Emulator, line: &str, processor: &str, kernel: &Path, image: &Path) -> Result<Session> {
    let console = directory().join(format!("{line}.console.log"));
    let results = directory().join(format!("{line}.results.log"));
    let began = Instant::now();
    let mut child = emulator
        .command()
        .args(["-accel", "tcg", "-cpu", processor, "-smp", "1", "-m", "1024"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| {
            failure(format!("QEMU did not start: {error}"), "run cargo xtask kernels without --no-install")
        })?;
    loop {
        if child.try_wait().context("QEMU cannot be waited for")?.is_some() {
            break;
        }
        if began.elapsed() > LIMIT {
            child.kill().context("QEMU cannot be ended")?;
            child.wait().context("QEMU cannot be waited for")?;
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Session {
        console: read(&console).unwrap_or_default(),
        results: read(&results).unwrap_or_default(),
        took: began.elapsed(),
    })
}
