//! Ahead of others where processors are short: a monitor that waits its turn behind the load that it watches loses
//! first bytes of it. What it costs in all is the same. As auditd does it (auditd.conf(5), `priority_boost`). And who of
//! it is ended where memory is short (proc_pid_oom_score_adj(5)): as its unit has it, for the process that holds the
//! hooks; as any other, for what it starts and can start again.

use std::path::{Path, PathBuf};

use rustix::process::{getpriority_process, setpriority_process};

/// Puts this thread, and what it starts from now on, ahead by so much; 0: no. Whoever gave the process a nice value
/// of its own is obeyed.
///
/// # Errors
/// The kernel refuses: it takes CAP_SYS_NICE.
pub fn boost(by: u8) -> std::io::Result<()> {
    if by > 0 && getpriority_process(None)? == 0 {
        setpriority_process(None, -i32::from(by))?;
    }
    Ok(())
}

/// This thread, and what it starts from now on, waits its turn as any other.
pub fn as_others() {
    if getpriority_process(None).is_ok_and(|nice| nice < 0) {
        // To be slower is never refused.
        let _ = setpriority_process(None, 0);
    }
}

/// Where memory is short this process, or a child that runs its program already, is ended as any other would be.
/// Whoever gave it a value that makes that sooner is obeyed.
pub fn goes_as_others(child: Option<u32>) {
    let process =
        child.map_or_else(|| PathBuf::from("/proc/self"), |pid| PathBuf::from(format!("/proc/{pid}")));
    let_go(&process.join("oom_score_adj"));
}

fn let_go(value: &Path) {
    let before = std::fs::read_to_string(value).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if before.is_some_and(|before| before < 0) {
        // It is gone by now; or belongs to another user, as a program that is one by its file.
        let _ = std::fs::write(value, "0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_starts_is_ended_as_any_other_and_a_value_of_its_own_stays() {
        let directory = crate::temporary::directory();
        let value = directory.path().join("oom_score_adj");
        for (before, after) in [("-500\n", "0"), ("0\n", "0\n"), ("300\n", "300\n"), ("?", "?")] {
            std::fs::write(&value, before).expect("written");
            let_go(&value);
            assert_eq!(std::fs::read_to_string(&value).expect("read"), after);
        }
        std::fs::remove_file(&value).expect("removed");
        let_go(&value);
        assert!(!value.exists());
    }

    #[test]
    fn ahead_by_what_is_wanted_and_back_and_a_value_of_its_own_stays() {
        let nice = || getpriority_process(None).expect("a value");
        // Each in a thread: the value is a thread's.
        let of = |test: fn(&dyn Fn() -> i32)| {
            std::thread::spawn(move || test(&nice)).join().expect("it holds");
        };
        of(|nice| {
            boost(0).expect("nothing is asked");
            let before = nice();
            // Without the capability it is refused, and nothing has changed.
            match boost(4) {
                Ok(()) if before == 0 => assert_eq!(nice(), -4),
                _ => assert_eq!(nice(), before),
            }
            as_others();
            assert!(nice() >= 0);
        });
        of(|nice| {
            setpriority_process(None, 7).expect("slower");
            boost(4).expect("nothing is asked of the kernel");
            assert_eq!(nice(), 7);
            as_others();
            assert_eq!(nice(), 7);
        });
    }
}
