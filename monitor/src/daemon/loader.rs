//! What the loader holds for its workers, one after the other.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::confine::User;
use super::control::Watched;
use super::link::{Descriptors, Life, Report, Start};
use super::pinned;
use super::resolve::LeftHanging;
use super::start::{RunError, sizes};
use crate::alert::Saved;
use crate::api::{Door, InstanceLock, SocketFile};
use crate::config::Config;
use crate::hook::{Posted, Ready};
use crate::identity::{Asked, Realm};
use crate::kernel::{Beginning, Control, Kernel, LoadError};
use crate::policy::PolicyTexts;
use crate::record::Context;
use crate::status::HookView;

/// All of it; see [`super::start`].
pub struct Loader {
    pub config: Config,
    pub policy: PolicyTexts,
    pub resolvers: Vec<IpAddr>,
    pub context: Context,
    pub boot_id: String,
    /// What its network namespace is called, and whose it is.
    pub own_netns: Option<(u64, Option<Realm>)>,
    pub started_ns: u64,
    pub cgroup: PathBuf,
    pub kernel: Kernel,
    pub watched: Watched,
    pub door: Door,
    /// The door's place in the file system.
    pub socket: SocketFile,
    pub lock: InstanceLock,
    /// What was told, for the next worker or the next daemon.
    pub told: File,
    /// What is told of alerts, for each worker in turn.
    pub hooks_ready: Vec<Arc<Ready>>,
    /// How far hooks have come, for the same.
    pub posted: Arc<Posted>,
    pub user: User,
    /// What the policy in force asks of identities.
    pub wanted: Asked,
    /// What the sessions so far left hanging of looks at processes.
    pub hanging: LeftHanging,
    /// Datagrams of this process are seen by the hooks.
    pub is_watched: bool,
    /// Lent to the worker's session.
    pub control: Option<Control>,
    /// Of sessions that have ended: they write what is left.
    pub keepers: Vec<JoinHandle<()>>,
}

impl Loader {
    /// What a worker is told first.
    ///
    /// # Errors
    /// The ring cannot be asked.
    pub fn start(
        &self,
        life: Life,
        saved: Option<Saved>,
        report: Report,
        alerts: bool,
    ) -> Result<Start, RunError> {
        let (_, ring_bytes) = self.kernel.ring()?;
        Ok(Start {
            config: self.config.clone(),
            policy: self.policy.clone(),
            resolvers: self.resolvers.clone(),
            context: self.context.clone(),
            boot_id: self.boot_id.clone(),
            own_netns: self.own_netns,
            access: self.door.access,
            hooks: self.hooks(),
            ring_bytes,
            ring_id: u64::from(self.kernel.ring_id()?),
            started_ns: self.started_ns,
            taken_over: self.is_taken_over(&life),
            pinned: self.kernel.pinned_at().is_some(),
            user: (self.user.id, self.user.group),
            life,
            saved,
            report,
            alerts,
        })
    }

    /// The hooks went on while no worker ran.
    pub fn is_taken_over(&self, life: &Life) -> bool {
        *self.kernel.beginning() == Beginning::TakenOver || life.number > 0
    }

    fn hooks(&self) -> Vec<HookView> {
        let hooks = self.kernel.hooks().iter();
        hooks
            .map(|hook| HookView {
                name: hook.attach.to_owned(),
                attached: true,
                detail: Some(format!("{} at {}", hook.name, self.cgroup.display())),
            })
            .collect()
    }

    /// Gives a worker its descriptors.
    ///
    /// # Errors
    /// It is gone, or the ring is.
    pub fn hand_over(&self, to: &UnixStream, newcomers: BorrowedFd<'_>) -> Result<(), RunError> {
        let (ring, _) = self.kernel.ring()?;
        let descriptors = Descriptors {
            ring,
            journal: self.kernel.journal()?,
            told: self.told.as_fd(),
            listener: self.door.listener.as_fd(),
            lock: self.lock.share(),
            newcomers,
            executed: self.kernel.executed_at()?,
        };
        descriptors.send(to).map_err(|error| RunError::Host(format!("the worker cannot be started: {error}")))
    }

    /// Does without what the daemon before left: it cannot be taken over, for this reason. No session runs.
    ///
    /// # Errors
    /// The kernel refuses the new hooks, too.
    pub fn move_over(&mut self, why: String) -> Result<(), RunError> {
        let (sizes, cgroup) = (sizes(&self.config), &self.cgroup);
        self.kernel.move_over(&sizes, cgroup, why)?;
        pinned::tell(&self.kernel);
        self.watched.hooks = self.kernel.shared_hooks();
        self.control = Some(self.kernel.take_control()?);
        Ok(())
    }

    /// The maps, for a session.
    ///
    /// # Errors
    /// They are lent already.
    pub fn take_control(&mut self) -> Result<Control, RunError> {
        self.control.take().ok_or_else(|| LoadError::Map("DECISIONS".to_owned()).into())
    }

    /// They come back.
    pub fn give_back(&mut self, control: Control) {
        self.control = Some(control);
    }
}
