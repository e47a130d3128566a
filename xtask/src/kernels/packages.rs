//! Kernels, the machine that boots them, and the programs that make traffic in it, as the
//! distribution packs them.
//!
//! Out: unpacked packages below `target/kernels/`, downloaded once. Uses the mirror that this
//! machine's apt is set to, with a state directory of its own: nothing is installed here, and the
//! machine's own package lists stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::directory;
use crate::step::{self, ask};

/// The suites that have the kernels; the programs of the guest come from [`GUEST_SUITE`].
const SUITES: [&str; 4] = ["bullseye", "bookworm", "bookworm-backports", "trixie-backports"];
const GUEST_SUITE: &str = "bookworm";
/// Each with a file of it: a root from before a package was needed lacks that.
const GUEST_PACKAGES: [(&str, &str); 5] = [
    ("busybox-static", "bin/busybox"),
    ("e2fsprogs", "sbin/mke2fs"),
    ("iproute2", "bin/ip"),
    ("openssl", "usr/bin/openssl"),
    ("socat", "usr/bin/socat"),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FLAVOUR: &str = "-cloud-amd64";

/// The machine: unpacked with all that it needs, since to install it could mean to remove what stands
/// against it here (a backported qemu-utils, say).
const EMULATOR_PACKAGES: [&str; 1] = ["qemu-system-x86"];

/// An unpacked kernel.
pub struct Kernel {
    pub image: PathBuf,
    root: PathBuf,
}

impl Kernel {
    /// As `uname -r` will say.
    pub fn release(&self) -> String {
        let named = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let parent = path.parent()?.file_name()?.to_str()?;
            Some(name.strip_prefix("vmlinuz-").unwrap_or(parent).to_owned())
        };
        named(&self.image).unwrap_or_default()
    }

    /// A module's file, however it is compressed.
    pub fn module(&self, name: &str) -> Option<PathBuf> {
        let wanted = [format!("{name}.ko"), format!("{name}.ko.xz")];
        find(&self.root, &|file| wanted.iter().any(|one| one == file))
    }

    fn below(root: PathBuf) -> Option<Kernel> {
        let image = find(&root, &|file| file == "vmlinuz" || file.starts_with("vmlinuz-"))?;
        Some(Kernel { image, root })
    }
}

/// The kernel of a line, if it was downloaded before.
pub fn cached_kernel(line: &str) -> Option<Kernel> {
    Kernel::below(kernel_directory(line))
}

/// A kernel and the guest's root, downloaded where they are not there.
///
/// # Errors
/// There is no apt here, its mirror cannot be reached, or it has no such kernel.
pub fn fetch(line: &str, versions: &str, archive: &mut Option<Archive>) -> Result<(Kernel, PathBuf)> {
    let root = directory().join("guest");
    if !GUEST_PACKAGES.iter().all(|(_, file)| root.join(file).exists()) {
        let packages = GUEST_PACKAGES.map(|(package, _)| package.to_owned());
        opened(archive)?.unpack(&packages, Closure::Whole, &root)?;
    }
    if let Some(kernel) = cached_kernel(line) {
        return Ok((kernel, root));
    }
    let archive = opened(archive)?;
    let packages = archive.newest(versions).with_context(|| format!("no suite has a Linux {line}"))?;
    archive.unpack(&packages, Closure::Without, &kernel_directory(line))?;
    let kernel = cached_kernel(line).with_context(|| format!("{} holds no kernel", packages.join(", ")))?;
    Ok((kernel, root))
}

/// Where QEMU is unpacked, downloaded if it is not there.
///
/// # Errors
/// As for [`fetch`].
pub fn emulator(archive: &mut Option<Archive>) -> Result<PathBuf> {
    let root = directory().join("qemu");
    if !root.exists() {
        let packages = EMULATOR_PACKAGES.map(str::to_owned);
        opened(archive)?.unpack(&packages, Closure::Whole, &root)?;
    }
    Ok(root)
}

/// Read once, and only if something has to be downloaded.
fn opened(archive: &mut Option<Archive>) -> Result<&Archive> {
    let open = match archive.take() {
        Some(open) => open,
        None => Archive::open()?,
    };
    Ok(archive.insert(open))
}

fn kernel_directory(line: &str) -> PathBuf {
    directory().join(format!("linux-{line}"))
}

/// Whether the packages that a package needs come with it.
enum Closure {
    Without,
    /// All of them, down to the C library, from [`GUEST_SUITE`].
    Whole,
}

/// apt with a state of its own.
pub struct Archive {
    state: PathBuf,
}

impl Archive {
    fn open() -> Result<Self> {
        let state = directory().join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(part))
                .with_context(|| format!("{} cannot be made", state.display()))?;
        }
        fs::write(state.join("status"), "")?;
        fs::write(state.join("sources.list"), sources(&mirror()?))?;
        let archive = Archive { state };
        println!("xtask: reading the package lists of {}", SUITES.join(", "));
        step::run(archive.get().arg("update"), "apt-get update", "look whether the mirror can be reached")?;
        Ok(archive)
    }

    fn options(&self, program: &str) -> Command {
        let at = |part: &str| self.state.join(part).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::State={}", at("")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // Ours alone: it may be where apt's own user cannot go.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    fn get(&self) -> Command {
        let mut command = self.options("apt-get");
        command.arg("--quiet=2");
        command
    }

    /// The packages of the newest kernel whose version begins so.
    fn newest(&self, versions: &str) -> Option<Vec<String>> {
        let names = ask(self.options("apt-cache").args(["pkgnames", "linux-"]))?;
        let names: Vec<&str> = names.lines().collect();
        let version = names
            .iter()
            .filter_map(|name| version_of(name))
            .filter(|version| version.starts_with(versions))
            .max_by_key(|version| numbers(version))?;
        // Since 7.1 the image is only a name for these two.
        let split = ["linux-binary-", "linux-modules-"].map(|kind| format!("{kind}{version}{FLAVOUR}"));
        if split.iter().all(|package| names.contains(&package.as_str())) {
            return Some(split.into());
        }
        Some(vec![format!("linux-image-{version}{FLAVOUR}")])
    }

    /// Downloads and unpacks; what is there at the end is whole, and what was there before stays until then.
    fn unpack(&self, packages: &[String], closure: Closure, into: &Path) -> Result<()> {
        println!("xtask: downloading {}", packages.join(", "));
        let debs = into.with_extension("debs");
        let unfinished = into.with_extension("new");
        for directory in [&debs, &unfinished] {
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
            fs::create_dir_all(directory.join("partial"))?;
        }
        let mut command = self.get();
        match closure {
            Closure::Without => command.arg("download"),
            Closure::Whole => command
                .arg("-o")
                .arg(format!("Dir::Cache::archives={}", debs.display()))
                .args(["--target-release", GUEST_SUITE])
                .args(["install", "--yes", "--download-only", "--no-install-recommends"]),
        };
        command.args(packages).current_dir(&debs);
        step::run(&mut command, "the download", "look whether the mirror can be reached")?;
        for deb in fs::read_dir(&debs)? {
            let path = deb?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let mut command = Command::new("dpkg-deb");
                command.arg("--extract").arg(&path).arg(&unfinished);
                step::run(&mut command, "unpacking", "look whether the disk is full")?;
            }
        }
        let _ = fs::remove_dir(unfinished.join("partial"));
        fs::remove_dir_all(&debs)?;
        if into.exists() {
            fs::remove_dir_all(into)?;
        }
        fs::rename(&unfinished, into).with_context(|| format!("{} cannot be made", into.display()))
    }
}

/// The mirror of the distribution's own archive, from this machine's apt configuration.
fn mirror() -> Result<String> {
    let targets = ask(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]))
        .context("there is no apt here, and the kernels are Debian's packages")?;
    let own = targets.lines().find_map(|line| {
        let (address, release) = line.split_once(' ')?;
        let suite = SUITES.iter().any(|suite| release.starts_with(suite.split('-').next().unwrap_or(suite)));
        (suite && !release.contains("security")).then(|| address.to_owned())
    });
    match own {
        Some(address) => Ok(address),
        None => bail!("this machine's apt knows no mirror of Debian, whose packages the kernels are"),
    }
}

fn sources(mirror: &str) -> String {
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    SUITES.map(|suite| format!("deb {signed}{mirror} {suite} main\n")).concat()
}

/// `6.1.0-50` of `linux-image-6.1.0-50-cloud-amd64`.
fn version_of(package: &str) -> Option<&str> {
    let version = package
        .strip_prefix("linux-image-")
        .or_else(|| package.strip_prefix("linux-binary-"))?
        .strip_suffix(FLAVOUR)?;
    version.starts_with(|first: char| first.is_ascii_digit()).then_some(version)
}

/// By what versions are compared.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|one: char| !one.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The first file below a directory whose name fits.
fn find(directory: &Path, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut later = Vec::new();
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            later.push(entry.path());
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(fits) {
            return Some(entry.path());
        }
    }
    later.iter().find_map(|directory| find(directory, fits))
}

#[cfg(test)]
mod tests {
    use super::{numbers, version_of};

    #[test]
    fn only_bootable_kernels_have_a_version() {
        assert_eq!(version_of("linux-image-6.1.0-50-cloud-amd64"), Some("6.1.0-50"));
        assert_eq!(version_of("linux-binary-7.3.4+deb13-cloud-amd64"), Some("7.3.4+deb13"));
        assert_eq!(version_of("linux-image-6.1.0-50-cloud-amd64-dbg"), None);
        assert_eq!(version_of("linux-image-cloud-amd64"), None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("7.2.12+deb13") > numbers("7.2.9+deb13"));
        assert!(numbers("6.12.90+deb12.1") > numbers("6.12.90+deb12"));
    }
}
