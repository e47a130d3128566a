//! A machine under software emulation. In: a kernel and its initial file system. Out: what came over
//! its two serial lines. Has no network card: its traffic stays in it.

use std::fs::{self, File};
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

/// What boots, and in what.
pub struct Machine<'a> {
    pub emulator: &'a Emulator,
    pub line: &'a str,
    /// QEMU's `-cpu`.
    pub processor: &'a str,
    pub kernel: &'a Path,
    pub image: &'a Path,
}

/// What a machine said.
pub struct Session {
    /// What QEMU said of itself, and then the machine.
    pub console: String,
    /// See `guest.sh`.
    pub results: String,
    pub took: Duration,
    /// It has turned itself off.
    pub over: bool,
}

impl Session {
    /// What it said, taken apart: the name of each section, and its lines. One that is not whole is left out.
    pub fn sections(&self) -> Vec<(&str, Vec<&str>)> {
        let mut sections = Vec::new();
        let whole = self.results.rfind('\n').map_or("", |end| &self.results[..end]);
        for line in whole.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            match (line.strip_prefix("== "), sections.last_mut()) {
                (Some(name), _) => sections.push((name, Vec::new())),
                (None, Some((_, lines))) => lines.push(line),
                (None, None) => {}
            }
        }
        sections
    }
}

/// Boots a machine once more where the first ended before anything of ours ran in it.
pub fn twice(mut boot: impl FnMut() -> Result<Session>) -> Result<Session> {
    let session = boot()?;
    if !session.results.is_empty() {
        return Ok(session);
    }
    println!("xtask: the machine ended before anything of ours ran in it; once more");
    boot()
}

impl Machine<'_> {
    /// Boots it and waits until it has turned itself off. One that does not is ended, and what it said
    /// until then is what there is. One that ended before anything of ours ran in it is booted once more.
    ///
    /// # Errors
    /// QEMU did not start.
    pub fn run(&self, scenario: &str, words: &str) -> Result<Session> {
        twice(|| self.run_until(scenario, words, &[], |_| false))
    }

    /// The same, with more said to QEMU, and booted only once; it is killed as soon as `enough` was said.
    ///
    /// # Errors
    /// QEMU did not start.
    pub fn run_until(
        &self,
        scenario: &str,
        words: &str,
        options: &[String],
        mut enough: impl FnMut(&str) -> bool,
    ) -> Result<Session> {
        let log = |name: &str| directory().join(format!("{}.{scenario}.{name}.log", self.line));
        let (console, results, qemu) = (log("console"), log("results"), log("qemu"));
        // What an earlier one said is not what this one says.
        for path in [&console, &results] {
            let _ = fs::remove_file(path);
        }
        let errors = File::create(&qemu).with_context(|| format!("{} cannot be made", qemu.display()))?;
        let read = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let began = Instant::now();
        let mut child = self
            .emulator
            .command()
            .args(["-accel", "tcg", "-cpu", self.processor, "-smp", "1", "-m", "1024"])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("file:{}", results.display()))
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.image)
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 rdinit=/init scenario={scenario} {words}"))
            .args(options)
            .stdin(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|error| {
                failure(
                    format!("QEMU did not start: {error}"),
                    "run cargo xtask kernels without --no-install",
                )
            })?;
        let over = loop {
            if child.try_wait().context("QEMU cannot be waited for")?.is_some() {
                break true;
            }
            if began.elapsed() > LIMIT || enough(&read(&results)) {
                // SIGKILL: nothing that the machine holds is written any more.
                child.kill().context("QEMU cannot be ended")?;
                child.wait().context("QEMU cannot be waited for")?;
                break false;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let console = read(&qemu) + &read(&console);
        Ok(Session { console, results: read(&results), took: began.elapsed(), over })
    }
}
