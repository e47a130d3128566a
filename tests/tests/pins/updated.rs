//! Hooks whose programs somebody exchanges (BPF_LINK_UPDATE) while a daemon runs: the links stay where they are, and
//! what they do is another's.

use super::*;
use tests::traffic::Talk;

const ALL: usize = 9;
const TALK: u16 = PORT + 1;

/// The hook that a pin is of.
fn hook(link: &str) -> &str {
    link.trim_start_matches("link_")
}

impl House {
    fn link_names(&self) -> Result<Vec<String>> {
        let names = self.links()?.into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let names: Vec<String> = names.collect();
        ensure!(names.len() == ALL, "{names:?}");
        Ok(names)
    }

    /// The numbers of a link, and of the program that it runs.
    fn ids(&self, link: &str) -> Result<(u32, u32)> {
        let info = bpf::link_info(self.open(link)?.as_fd())?;
        Ok((info.id, info.program))
    }
}

/// By one of ours that belongs elsewhere, and by the same one of somebody else, which works on other maps.
pub fn told() -> Result<()> {
    let house = House::new()?;
    let theirs = House::new()?;
    let their_daemon = theirs.daemon("")?;
    for (link, by, of) in
        [("link_sent", &house, "link_received"), ("link_lifecycle", &theirs, "link_lifecycle")]
    {
        let daemon = house.daemon("")?;
        // What was done to the one before is not what is told here.
        ensure!(tampered_count(&daemon) == 0, "something is told before anything was done");
        let other = by.program(of)?;
        bpf::link_update(house.open(link)?.as_fd(), other.as_fd())?;
        let hook = hook(link);
        tampered(&daemon, &format!("the hook {hook} runs another program; what passes there is not seen"))?;
        ensure!(house.ids(link)?.1 == bpf::id(other.as_fd())?, "it was put right, which nobody asked for");
        let status = daemon.status()?;
        let hooks = field(&status, "hooks").as_array().cloned().unwrap_or_default();
        let missing = hooks.iter().filter(|hook| field(hook, "attached") == &Value::Bool(false));
        let why = format!("hook {hook} runs another program");
        ensure!(missing.map(|one| text(one, "detail")).eq([why.as_str()]), "{hooks:?}");
        // What stays is not called whole, and the next one does not go on with it.
        let ended = ends_well(daemon, Signal::TERM)?;
        let said = ended.stderr;
        ensure!(said.contains(&format!("changed, or lost their pins: {hook};")), "{said}");
        let daemon = house.daemon("")?;
        let why = format!("since the hook {hook} ran another program");
        ensure!(daemon.stderr().contains(&why), "{}", daemon.stderr());
        house.sees(&daemon)?;
        ends_well(daemon, Signal::INT)?;
    }
    ends_well(their_daemon, Signal::INT).map(drop)
}

fn tampered_count(daemon: &Daemon) -> usize {
    let heard = daemon.heard();
    heard.iter().filter(|heard| text(&heard.record, "rule.id") == "monitor-tampered").count()
}

fn say(talk: &mut Talk) -> Result<()> {
    let line = "x".repeat(999);
    (0..10).try_for_each(|_| talk.say(&line))
}

/// Its end is told by both of its ends, with all that was ever said.
fn end(mut talk: Talk, daemon: &Daemon) -> Result<()> {
    let said = talk.end()?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(TALK.into());
    for direction in ["egress", "ingress"] {
        let end = daemon.wait_for("end of the connection", SOON, ours, |record| {
            ours(record)
                && text(record, "event.action") == "flow_closed"
                && text(record, "network.direction") == direction
        })?;
        let bytes = (number(&end.record, "client.bytes"), number(&end.record, "server.bytes"));
        ensure!(bytes == (Some(said), Some(said)), "not {said}: {}", end.record);
    }
    Ok(())
}

/// Each of them in its turn, and then all at once; a connection is open all the while, on which bytes pass while others'
/// programs run.
pub fn put_right() -> Result<()> {
    let house = House::new()?;
    let theirs = House::new()?;
    let their_daemon = theirs.daemon("")?;
    let daemon = house.daemon(RESTORE)?;
    let links = house.link_names()?;
    let ours: Vec<(u32, u32)> = links.iter().map(|link| house.ids(link)).collect::<Result<_>>()?;
    let mut talk = Talk::new(&house.lab, TALK)?;
    say(&mut talk)?;
    for (link, before) in links.iter().zip(&ours) {
        bpf::link_update(house.open(link)?.as_fd(), theirs.program(link)?.as_fd())?;
        say(&mut talk)?;
        tampered(&daemon, &format!("the hook {} runs another program; it was put right", hook(link)))?;
        ensure!(house.ids(link)? == *before, "{link} does not run ours, or is another link");
    }
    for link in &links {
        bpf::link_update(house.open(link)?.as_fd(), theirs.program(link)?.as_fd())?;
    }
    say(&mut talk)?;
    let deadline = Instant::now() + SOON;
    for (link, before) in links.iter().zip(&ours) {
        while house.ids(link)? != *before {
            ensure!(Instant::now() < deadline, "{link} is not put right");
            thread::sleep(Duration::from_millis(20));
        }
    }
    say(&mut talk)?;
    end(talk, &daemon)?;
    // Bytes are counted by ours again, and theirs are told none of them.
    house.sees(&daemon)?;
    let ended = ends_well(daemon, Signal::TERM)?;
    ensure!(ended.stderr.contains("stay and go on counting"), "{}", ended.stderr);
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("took over the hooks"), "{}", daemon.stderr());
    house.sees(&daemon)?;
    ends_well(daemon, Signal::INT)?;
    let heard = ends_well(their_daemon, Signal::INT)?.heard;
    // While theirs ran here, they were told what passed.
    let later = |record: &Value| is_flow(record) && number(record, "server.port") == Some(PORT.into());
    ensure!(!heard.iter().any(|heard| later(&heard.record)), "others are told what passes here");
    Ok(())
}
