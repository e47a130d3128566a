//! What the machine boots into: the distribution's programs, ours (static, so that they need none of
//! its libraries), the kernel's modules, and `guest.sh` as the first process, with the scripts that it chooses from.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::directory;
use super::packages::Kernel;
use crate::{step, workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The first process.
const SCRIPT: &str = include_str!("guest/guest.sh");
const SCENARIOS: [(&str, &str); 3] = [
    ("traffic", include_str!("guest/traffic.sh")),
    ("clocks", include_str!("guest/clocks.sh")),
    ("power", include_str!("guest/power.sh")),
];
/// Modules that `guest.sh` loads.
const MODULES: [&str; 10] = [
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "veth",
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
];
/// What is not needed to run, below the guest's root.
const LEFT_OUT: [&str; 4] = ["usr/share", "var", "usr/lib/x86_64-linux-gnu/gconv", "usr/include"];

/// Builds the programs that run in the machine.
///
/// # Errors
/// They do not compile.
pub fn build_programs() -> Result<()> {
    println!("xtask: building static programs for the machines");
    for arguments in
        [["--package", "monitor", "--bin", "streamwatch"], ["--package", "tests", "--bin", "kernel_survey"]]
    {
        step::run(
            workspace::cargo(&["build", "--quiet", "--target", TARGET])
                .args(arguments)
                .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols"),
            "building static programs",
            "read the compiler's first error above",
        )?;
    }
    Ok(())
}

/// One of them.
pub fn program(name: &str) -> PathBuf {
    workspace::target().join(TARGET).join("debug").join(name)
}

/// Makes the initial file system of one machine.
///
/// # Errors
/// A file cannot be written, or a module unpacked.
pub fn image(line: &str, kernel: &Kernel, root: &Path) -> Result<PathBuf> {
    let own = directory().join(format!("own-{line}"));
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    for part in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(own.join(part)).with_context(|| format!("{} cannot be made", own.display()))?;
    }
    fs::write(own.join("init"), SCRIPT)?;
    fs::set_permissions(own.join("init"), fs::Permissions::from_mode(0o755))?;
    for (name, script) in SCENARIOS {
        fs::write(own.join(format!("{name}.sh")), script)?;
    }
    for name in ["streamwatch", "kernel_survey"] {
        fs::copy(program(name), own.join("bin").join(name))
            .with_context(|| format!("{name} is not there"))?;
    }
    fs::copy(workspace::target().join("bpf/streamwatch.bpf.o"), own.join("streamwatch.bpf.o"))?;
    for name in MODULES {
        // One that is built in needs no file; one that is missing shows in what the traffic lacks.
        if let Some(file) = kernel.module(name) {
            unpack_module(&file, &own.join(format!("modules/{name}.ko")))?;
        }
    }
    // The kernel takes several archives, one behind the other.
    let image = directory().join(format!("{line}.cpio"));
    let mut out = File::create(&image)?;
    out.write_all(&archive(root, &LEFT_OUT)?)?;
    out.write_all(&archive(&own, &[])?)?;
    fs::remove_dir_all(&own)?;
    Ok(image)
}

fn unpack_module(from: &Path, to: &Path) -> Result<()> {
    if from.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(from).output()?;
        if !output.status.success() {
            bail!("{} cannot be unpacked", from.display());
        }
        fs::write(to, output.stdout)?;
    } else {
        fs::copy(from, to)?;
    }
    Ok(())
}

/// The files below a directory, in the form that the kernel unpacks
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(directory: &Path, left_out: &[&str]) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    list(directory, Path::new(""), left_out, &mut names)?;
    let mut child = Command::new("cpio")
        .args(["--create", "--format=newc", "--quiet", "--null", "--owner=+0:+0"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cpio did not start")?;
    let mut input = child.stdin.take().context("cpio has no stdin")?;
    let feeder = std::thread::spawn(move || input.write_all(&names));
    let output = child.wait_with_output()?;
    if !output.status.success() || !feeder.join().is_ok_and(|fed| fed.is_ok()) {
        bail!("cpio failed on {}", directory.display());
    }
    Ok(output.stdout)
}

/// Names relative to the root, each ended by a zero, a directory before what is in it.
fn list(root: &Path, below: &Path, left_out: &[&str], names: &mut Vec<u8>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if left_out.iter().any(|one| Path::new(one) == name) {
            continue;
        }
        names.extend_from_slice(name.as_os_str().as_encoded_bytes());
        names.push(0);
        if entry.file_type()?.is_dir() {
            list(root, &name, left_out, names)?;
        }
    }
    Ok(())
}
