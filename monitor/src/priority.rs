//! Ahead of others where processors are short: a monitor that waits its turn behind the load that it watches loses
//! first bytes of it. What it costs in all is the same. As auditd does it (auditd.conf(5), `priority_boost`).

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

#[cfg(test)]
mod tests {
    use super::*;

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
