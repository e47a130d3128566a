//! What of ours is in the kernel: each link, program and map by its number there, which is not given again soon.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use super::*;

/// All that a daemon left, or is at work with.
#[derive(Debug)]
pub struct Ours {
    /// By the names of their pins.
    pub links: HashMap<String, u32>,
    /// By the names of their links.
    pub programs: HashMap<String, u32>,
    /// Those with names.
    pub pinned: HashMap<String, u32>,
    /// And those of the programs alone.
    maps: BTreeSet<u32>,
}

impl Ours {
    pub fn of(house: &House) -> Result<Ours> {
        let (mut links, mut programs) = (HashMap::new(), HashMap::new());
        let (mut pinned, mut maps) = (HashMap::new(), BTreeSet::new());
        for name in house.pins() {
            let object = bpf::open(&house.pin(&name)).with_context(|| name.clone())?;
            if name.starts_with("map_") {
                pinned.insert(name, bpf::id(object.as_fd())?);
                continue;
            }
            let info = bpf::link_info(object.as_fd()).with_context(|| name.clone())?;
            maps.extend(bpf::program_info(bpf::program(info.program)?.as_fd())?.maps);
            links.insert(name.clone(), info.id);
            programs.insert(name, info.program);
        }
        maps.extend(pinned.values());
        let ours = Ours { links, programs, pinned, maps };
        let (different, all): (HashSet<_>, _) = (ours.programs.values().collect(), ours.in_kernel());
        ensure!(ours.links.len() == LINKS && different.len() == LINKS, "{ours:?}");
        ensure!(ours.pinned.len() == MAPS && ours.maps.len() >= MAPS, "{ours:?}");
        // Otherwise that nothing is left would say nothing.
        ensure!(
            all.len() == 2 * LINKS + ours.maps.len(),
            "not all is found in the kernel: {all:?} of {ours:?}"
        );
        Ok(ours)
    }

    /// What the kernel has of it.
    fn in_kernel(&self) -> Vec<String> {
        let links: HashSet<u32> = self.links.values().copied().collect();
        let programs: HashSet<u32> = self.programs.values().copied().collect();
        // What others end meanwhile is not ours.
        let linked = aya::programs::loaded_links().filter_map(Result::ok).map(|link| link.id());
        let loaded = aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id());
        let made = aya::maps::loaded_maps().filter_map(Result::ok).map(|map| map.id());
        let linked = linked.filter(|id| links.contains(id)).map(|id| format!("link {id}"));
        let loaded = loaded.filter(|id| programs.contains(id)).map(|id| format!("program {id}"));
        let made = made.filter(|id| self.maps.contains(id)).map(|id| format!("map {id}"));
        linked.chain(loaded).chain(made).collect()
    }

    /// The links themselves.
    pub fn held(&self, house: &House) -> Result<Vec<OwnedFd>> {
        self.links.keys().map(|name| bpf::open(&house.pin(name)).with_context(|| name.clone())).collect()
    }

    /// Nothing is left, neither a name nor an object. `held`: descriptors of somebody else, who lets go of them then.
    pub fn gone(&self, house: &House, held: Vec<OwnedFd>) -> Result<()> {
        ensure!(house.pins().is_empty(), "pins are left: {:?}", house.pins());
        ensure!(!house.bpffs.place().exists(), "the directory is left");
        for link in &held {
            // Somebody else's descriptor does not keep it at work.
            let info = bpf::link_info(link.as_fd())?;
            ensure!(info.cgroup == 0, "a hook is still attached: {info:?}");
        }
        drop(held);
        // The kernel frees them in its own time (RCU).
        let deadline = Instant::now() + SOON;
        loop {
            let left = self.in_kernel();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left in the kernel: {left:?} of {self:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The same links and maps, each with another program: put in its place, and not made anew.
    pub fn replaced_by(&self, next: &Ours) -> Result<()> {
        ensure!(self.links == next.links, "not the same links: {self:?}, {next:?}");
        ensure!(self.pinned == next.pinned, "not the same maps: {self:?}, {next:?}");
        for (name, program) in &self.programs {
            ensure!(next.programs.get(name) != Some(program), "{name} runs the old program: {next:?}");
        }
        Ok(())
    }
}
