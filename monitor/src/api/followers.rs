//! What clients that wait for alerts were told, and what they were too slow for: each, and all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::LossRow;
use crate::status::ClientView;
use crate::tally::Tally;

/// What the API counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions to the core.
    pub requests: Tally,
    pub followers: Followers,
}

/// Everybody who follows, and the sums of those who have left.
#[derive(Debug, Default)]
pub struct Followers {
    here: Mutex<Vec<Arc<Follower>>>,
    gone: Tally,
    next: AtomicU64,
}

/// One client. An alert is offered to it if it came while the client was there; delivered if its connection
/// took it.
#[derive(Debug)]
struct Follower {
    number: u64,
    uid: u32,
    tally: Tally,
}

/// Counts for one client, until it leaves.
#[derive(Debug)]
pub(super) struct Following {
    counters: Arc<Counters>,
    follower: Arc<Follower>,
}

impl Followers {
    fn here(&self) -> MutexGuard<'_, Vec<Arc<Follower>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All together, those who have left included. What waits for somebody is in none of the sums.
    pub fn total(&self) -> LossRow {
        let here = self.here();
        let mut row = self.gone.row("followers", "alert");
        for follower in here.iter() {
            row.delivered += follower.tally.delivered();
            row.lost += follower.tally.lost();
        }
        LossRow { offered: row.delivered + row.lost, ..row }
    }

    /// Those who are here.
    pub fn views(&self) -> Vec<ClientView> {
        let view = |follower: &Arc<Follower>| ClientView {
            number: follower.number,
            uid: follower.uid,
            offered: follower.tally.offered(),
            delivered: follower.tally.delivered(),
            lost: follower.tally.lost(),
        };
        self.here().iter().map(view).collect()
    }
}

impl Following {
    pub fn begin(counters: &Arc<Counters>, uid: u32) -> Self {
        let followers = &counters.followers;
        let number = 1 + followers.next.fetch_add(1, Ordering::Relaxed);
        let follower = Arc::new(Follower { number, uid, tally: Tally::default() });
        followers.here().push(follower.clone());
        Following { counters: counters.clone(), follower }
    }

    pub fn tally(&self) -> &Tally {
        &self.follower.tally
    }
}

impl Drop for Following {
    /// What it has not taken by now it never will.
    fn drop(&mut self) {
        let followers = &self.counters.followers;
        let mut here = followers.here();
        here.retain(|other| !Arc::ptr_eq(other, &self.follower));
        let (offered, delivered) = (self.tally().offered(), self.tally().delivered());
        followers.gone.offer(offered);
        followers.gone.deliver(delivered);
        followers.gone.lose(offered.saturating_sub(delivered));
    }
}
