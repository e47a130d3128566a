//! What the fuzz target `identity` reaches: readers of other people's text, by number.

use super::{cgroup, command_line, namespaces, process, sockets, users, workload};
use crate::model::{Transport, Workload};

/// How many readers there are.
pub const READERS: usize = 9;

/// Gives the bytes to one of them, and every text that came of it.
pub fn read(which: usize, bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let place = |place: cgroup::Place| {
        let container = place.container.map(|it| [it.id, it.runtime, it.pod.unwrap_or_default()]);
        place.unit.into_iter().chain(container.into_iter().flatten()).collect()
    };
    match which {
        0 => place(cgroup::place_of_proc_cgroup(&text, &|_| cgroup::Maker::Host)),
        1 => place(cgroup::place_of_cgroup_path(&text, &|_| cgroup::Maker::Host)),
        2 => command_line::command_line(bytes).into_iter().collect(),
        3 => process::stat(bytes).map(|stat| stat.name).into_iter().collect(),
        4 => process::user_ids(bytes).map(|ids| format!("{ids:?}")).into_iter().collect(),
        5 => users::names(bytes).into_values().collect(),
        6 => text.lines().filter_map(namespaces::mount).map(|it| it.root + &it.kind).collect(),
        7 => {
            let mut found = Vec::new();
            let _ = sockets::read_answer(bytes, Transport::Tcp, &mut |socket| found.push(socket));
            found.iter().map(|socket| format!("{socket:?}")).collect()
        }
        _ => match serde_json::from_slice(bytes) {
            Ok(state) => workload::fuzzed(&state).into_iter().flat_map(texts).collect(),
            Err(_) => Vec::new(),
        },
    }
}

fn texts(workload: Workload) -> Vec<String> {
    let Workload { name, image, namespace, pod, labels } = workload;
    let labels = labels.unwrap_or_default().into_iter().flat_map(|(key, value)| [key, value]);
    [name, image, namespace, pod].into_iter().flatten().chain(labels).collect()
}
