//! Debian packages, without a service left running by them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::step::{self, failure, find_program};

/// Debian asks this program before it starts a service (see `invoke-rc.d(8)`).
const START_POLICY: &str = "/usr/sbin/policy-rc.d";

/// By this line we know our own file again, should an earlier run have been killed.
const START_POLICY_TEXT: &str = "#!/bin/sh\n\
    # Made by `cargo xtask` while it installs test servers, so that none is started; may be deleted.\n\
    exit 101\n";

/// Installs packages, given with what each is for. Nothing that is installed is removed for them.
///
/// # Errors
/// There is no apt here, we are not root, or apt failed.
pub fn install(packages: &[(&'static str, &'static str)]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
    let list = names.join(" ");
    if find_program("apt-get").is_none() {
        return Err(failure(
            "there is no apt-get here, and only Debian's packages are known to work",
            "for the kernel programs: rustup toolchain install nightly --component rust-src, and a released \
             bpf-linker (https://github.com/aya-rs/bpf-linker/releases) on PATH; install the rest by hand",
        ));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(failure(
            "installing packages needs root",
            format!("sudo apt-get update && sudo apt-get install --no-install-recommends {list}"),
        ));
    }
    let _no_service_starts = StartPolicy::deny()?;
    step::run(
        apt_get().arg("update"),
        "apt-get update",
        "look at the apt sources of this machine and whether their mirror can be reached",
    )?;
    step::run(
        apt_get().args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(&names),
        "apt-get install",
        "read apt's message above; a package that another one stands against (Debian's own rustc, say) has to be \
         removed by you",
    )?;
    do_not_start_at_boot(&names);
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=600"]);
    command
}

/// The units of server packages that we installed ourselves are not wanted at the next boot. Best
/// effort: where there is no systemd there is nothing to do.
pub fn do_not_start_at_boot(packages: &[&str]) {
    if !Path::new("/run/systemd/system").exists() {
        return;
    }
    let units = packages.iter().filter_map(|package| match *package {
        "mariadb-server" => Some("mariadb.service"),
        "memcached" => Some("memcached.service"),
        "mosquitto" => Some("mosquitto.service"),
        "nats-server" => Some("nats-server.service"),
        "nginx-light" => Some("nginx.service"),
        "openssh-server" => Some("ssh.service"),
        "postgresql" => Some("postgresql.service"),
        "rabbitmq-server" => Some("rabbitmq-server.service"),
        "redis-server" => Some("redis-server.service"),
        "suricata" => Some("suricata.service"),
        _ => None,
    });
    let status = Command::new("systemctl").args(["--quiet", "disable", "--now"]).args(units).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!(
            "xtask: note: not every installed service could be disabled; see systemctl list-unit-files"
        );
    }
}

/// While it lives, no package starts a service. A policy that was there before stays as it is.
pub struct StartPolicy {
    ours: bool,
}

impl StartPolicy {
    /// # Errors
    /// Its file could not be written.
    pub fn deny() -> Result<Self> {
        let broken = |error: std::io::Error| {
            failure(
                format!("{START_POLICY} could not be written: {error}"),
                "make the directory writable: without that file the installed servers would be started",
            )
        };
        match fs::read_to_string(START_POLICY) {
            Ok(text) if text != START_POLICY_TEXT => return Ok(StartPolicy { ours: false }),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(broken(error)),
        }
        fs::write(START_POLICY, START_POLICY_TEXT).map_err(broken)?;
        // From here on the drop removes it again.
        let policy = StartPolicy { ours: true };
        fs::set_permissions(START_POLICY, fs::Permissions::from_mode(0o755)).map_err(broken)?;
        Ok(policy)
    }
}

impl Drop for StartPolicy {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(START_POLICY)
        {
            eprintln!("xtask: {START_POLICY} could not be removed: {error}; please delete it");
        }
    }
}
