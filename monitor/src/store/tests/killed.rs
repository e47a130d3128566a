//! A process that keeps things, killed at any moment.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// What another process acknowledges is there when it was killed at any moment.
#[test]
fn what_was_acknowledged_outlives_kill_9() {
    const TIMES: u32 = 120;
    let site = Site::new("kill");
    let began = Instant::now();
    let mut random = random(4);
    let mut acknowledged = 0_u64;
    let mut times = 0;
    while times < TIMES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::killed::writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("STREAMWATCH_TEST_STATE", &site.path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // At least one commit, and then some: killed in the middle of one of them.
        let number = |line: String| line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
        let some = random.random_range(1..5);
        for _ in 0..some {
            let line = lines.by_ref().find(|line| line.contains("kept ")).expect("the child keeps");
            acknowledged = acknowledged.max(number(line).unwrap());
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.filter(|line| line.contains("kept ")) {
            acknowledged = acknowledged.max(number(line).unwrap());
        }
        let Opened { saved, damage, .. } = site.open();
        assert_eq!(damage, Vec::<String>::new(), "after {times} times");
        let last = saved.told.last().map(|alert| alert.cursor);
        // One that was kept and not acknowledged any more may be there.
        assert!(last >= Some(acknowledged), "{acknowledged} was acknowledged, {last:?} is there");
        let expected = last.unwrap().min(KEPT as u64) as usize;
        assert_eq!(saved.told.len(), expected, "something in between is missing");
        assert_eq!(saved.open.len(), 1);
        acknowledged = last.unwrap();
        times += 1;
    }
    eprintln!("killed {times} times in {:?}, {acknowledged} commits", began.elapsed());
}

/// The other process of the test above; by itself it does nothing.
#[test]
#[ignore = "is run by what_was_acknowledged_outlives_kill_9"]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("STREAMWATCH_TEST_STATE").map(PathBuf::from) else { return };
    let keys = Keys::new(&State::default(), &path).unwrap();
    let Opened { mut store, saved, .. } = Store::open(&path, &keys).unwrap();
    let mut cursor = saved.told.last().map_or(0, |alert| alert.cursor);
    let mut out = std::io::stdout();
    loop {
        cursor += 1;
        let open = SavedAlert { count: cursor, ..alert(1) };
        store.keep(&[Change::Told(alert(cursor)), Change::Open(open)]).unwrap();
        writeln!(out, "kept {cursor}").unwrap();
        out.flush().unwrap();
    }
}
