//! Hooks that are taken away, or whose cgroup is, while a daemon runs; and what it finds when it tries itself.

use super::*;

fn tampered(daemon: &Daemon, reason: &str) -> Result<Heard> {
    let of_rule = |record: &Value| is_alert(record) && text(record, "rule.id") == "monitor-tampered";
    daemon.wait_for("alert", SOON, is_alert, |record| {
        of_rule(record) && text(record, "event.reason").contains(reason)
    })
}

pub fn detached() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    bpf::link_detach(bpf::open(&house.pin("link_received"))?.as_fd())?;
    let alert = tampered(&daemon, "the hook received was detached; what passes there is not seen")?;
    ensure!(number(&alert.record, "event.severity") == Some(4), "not critical: {}", alert.record);
    // Whoever starts next does not go on with half of the hooks.
    daemon.kill()?;
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("the hook received was taken away"), "{}", daemon.stderr());
    Ok(())
}

pub fn put_right() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("[kernel]\nrestore = true\n")?;
    let _server = house.serve()?;
    bpf::link_detach(bpf::open(&house.pin("link_lifecycle"))?.as_fd())?;
    tampered(&daemon, "the hook lifecycle was detached; it was put right")?;
    // And again: it is told each time, though its alert is open.
    bpf::link_detach(bpf::open(&house.pin("link_lifecycle"))?.as_fd())?;
    let again = |record: &Value| {
        is_alert(record)
            && text(record, "event.action") == "alert_repeated"
            && text(record, "event.reason").contains("the hook lifecycle was detached; it was put right")
    };
    daemon.wait_for("alert of the second time", SOON, is_alert, again)?;
    std::fs::remove_file(house.pin("link_sent"))?;
    tampered(&daemon, "the hook sent lost its pin; it was put right")?;
    ensure!(house.pins().len() == PINS, "not every pin is back: {:?}", house.pins());
    house.request()?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    daemon.wait_for("end of a flow", SOON, ours, |record| ours(record) && action(record) == "flow_closed")?;
    let ended = daemon.stop_with(Signal::INT)?;
    ensure!(house.pins().is_empty(), "pins are left: {:?}", house.pins());
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    Ok(())
}

/// A daemon that watches one service's cgroup, which ends with it.
fn of_a_service(house: &House, config: &str) -> Result<(Cgroup, Daemon)> {
    let service = house.lab.cgroup.child("service")?;
    let options = DaemonOptions { cgroup: Some(service.path().to_owned()), ..house.options(config) };
    Ok((service, Daemon::start(&house.lab, options)?))
}

pub fn remade() -> Result<()> {
    let house = House::new()?;
    let (service, daemon) = of_a_service(&house, "[kernel]\nrestore = true\n")?;
    drop(service);
    tampered(&daemon, "the hook lifecycle was detached: its cgroup was removed; it cannot be put right")?;
    let again = house.lab.cgroup.child("service")?;
    until_attached(&daemon, true)?;
    ensure!(daemon.stderr().contains("was removed and made again"), "{}", daemon.stderr());
    ensure!(house.pins().len() == PINS, "not every pin is back: {:?}", house.pins());
    let _server = house.serve()?;
    let client = Place { cgroup: Some(again.path().to_owned()), ..house.lab.client() };
    house.request_from(&client)?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    daemon.wait_for("end of a flow", SOON, ours, |record| ours(record) && action(record) == "flow_closed")?;
    Ok(())
}

pub fn removed() -> Result<()> {
    let house = House::new()?;
    let (service, daemon) = of_a_service(&house, "")?;
    drop(service);
    let told = "the hook lifecycle was detached: its cgroup was removed; what passes there is not seen";
    tampered(&daemon, told)?;
    let _again = house.lab.cgroup.child("service")?;
    thread::sleep(Duration::from_secs(3));
    until_attached(&daemon, false)
}

/// Every hook is attached, or none is.
fn until_attached(daemon: &Daemon, wanted: bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let status = daemon.status()?;
        let hooks = field(&status, "hooks").as_array().cloned().unwrap_or_default();
        if hooks.iter().all(|hook| field(hook, "attached") == &Value::Bool(wanted)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "attached are not all or none: {hooks:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The whole way from a socket to a record, tried by the daemon itself.
pub fn self_check() -> Result<()> {
    let house = House::new()?;
    let daemon = house.of_the_host(|_| true)?;
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let status = daemon.status()?;
        let check = field(&status, "self_check");
        ensure!(field(check, "overdue") == &Value::Bool(false), "it is overdue: {check}");
        if !text(check, "last_seen").is_empty() {
            break;
        }
        ensure!(std::time::Instant::now() < deadline, "it was not seen: {status}");
        thread::sleep(Duration::from_millis(50));
    }
    // One hook fewer, and its bytes do not come.
    for name in ["link_sent", "link_received"] {
        bpf::link_detach(bpf::open(&house.pin(name))?.as_fd())?;
    }
    let silent = tampered(&daemon, "a datagram that the monitor sent to itself was not seen")?;
    ensure!(text(&silent.record, "event.reason").contains("its bytes"), "{}", silent.record);
    let status = daemon.status()?;
    let hooks = field(&status, "hooks").as_array().cloned().unwrap_or_default();
    let missing = hooks.iter().filter(|hook| field(hook, "attached") == &Value::Bool(false)).count();
    ensure!(missing == 2, "status says that {missing} hooks are missing, not 2: {hooks:?}");
    let heard = daemon.stop_with(Signal::INT)?.heard;
    let own = |record: &Value| {
        is_flow(record)
            && text(record, "network.transport") == "udp"
            && number(record, "client.port") == number(record, "server.port")
            && text(record, "process.name") == "streamwatch"
    };
    let told: Vec<&Value> = heard.iter().map(|heard| &heard.record).filter(|record| own(record)).collect();
    ensure!(told.is_empty(), "it was told as a flow: {told:?}");
    Ok(())
}
