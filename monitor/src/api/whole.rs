//! Places for answers that hold much: a copy of all streams, alerts or percentiles, which no table has room for.
//!
//! Must never: let so many be held at a time as there are connections, or one user hold all places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::core_link::Busy;

/// An answer with so many records, or fewer, holds no place while it is read.
pub(super) const FEW: usize = 256;

#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// Of those who have one, or wait.
    users: Mutex<HashMap<u32, Arc<Semaphore>>>,
    /// How long one is waited for.
    patience: Duration,
}

/// Room for one copy, given back with it.
#[derive(Debug)]
pub(super) struct Whole {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Places {
    /// So many at a time: one of them is kept for root, and each other user has one.
    pub fn new(count: usize, patience: Duration) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Places {
            all: places(count),
            others: places(count.saturating_sub(1)),
            users: Mutex::default(),
            patience,
        }
    }

    /// Before the core is asked for it.
    ///
    /// # Errors
    /// Others, or this user, have had all of them for too long.
    pub async fn take(&self, uid: u32) -> Result<Whole, Busy> {
        let mut of = vec![self.all.clone()];
        if uid != 0 {
            // Its own first: who waits for that takes no place of others'.
            of = vec![self.own(uid), self.others.clone(), self.all.clone()];
        }
        let all = async {
            let mut permits = Vec::new();
            for places in of {
                permits.push(places.acquire_owned().await.map_err(|_| Busy)?);
            }
            Ok(Whole { _permits: permits })
        };
        tokio::time::timeout(self.patience, all).await.map_err(|_| Busy)?
    }

    fn own(&self, uid: u32) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, own| Arc::strong_count(own) > 1 || own.available_permits() == 0);
        users.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn one_user_has_one_and_one_is_kept_for_root() {
        let places = Places::new(4, Duration::from_millis(30));
        let first = places.take(1000).await.unwrap();
        assert!(places.take(1000).await.is_err());
        let more = [places.take(1001).await.unwrap(), places.take(1002).await.unwrap()];
        assert!(places.take(1003).await.is_err(), "the last one is root's");
        let root = places.take(0).await.unwrap();
        assert!(places.take(0).await.is_err());
        drop((first, root));
        let again = (places.take(1000).await.unwrap(), places.take(0).await.unwrap());
        drop((again, more));
        for uid in 2000..2100 {
            drop(places.take(uid).await.unwrap());
        }
        assert!(places.users.lock().unwrap().len() <= 1, "who has none is not remembered");
    }
}
