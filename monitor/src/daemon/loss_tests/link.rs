//! Both ends of the socket between worker and loader, and a way between them that is slow at random and cuts
//! what passes anywhere.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, never};

use super::Pauses;
use crate::daemon::core::Found;
use crate::daemon::link::{ToLoader, ToWorker};
use crate::daemon::reader::Batch;
use crate::daemon::session::Asked;
use crate::daemon::session::ear::Ear;
use crate::daemon::session::mouth::{Mouth, Reporter};
use crate::daemon::stages::Loader;
use crate::daemon::worker::hear::{self, Ears, FromMaps, Policies};
use crate::daemon::worker::speak::{self, Mouths};
use crate::wire::Frames;

/// What goes to the worker and comes out at its end.
pub struct ToTheWorker {
    pub found: Receiver<Found>,
    pub events: Receiver<Batch>,
    pub found_out: Sender<Found>,
    pub events_out: Sender<Batch>,
    pub reporter: Reporter,
    pub loader: Arc<Loader>,
}

/// The threads at both ends and between them.
pub struct Link {
    replies: Sender<ToLoader>,
    direct: Sender<ToWorker>,
    worker: JoinHandle<()>,
    loader: JoinHandle<()>,
    way: [JoinHandle<()>; 2],
    hears: JoinHandle<()>,
    speaks: JoinHandle<()>,
}

/// `mouths`: what the worker says; `replies` of it is what [`Link::end`] ends it with. `ear`: where that goes.
pub fn start(mouths: Mouths, replies: Sender<ToLoader>, ear: Ear, to: ToTheWorker, pauses: &Pauses) -> Link {
    let (worker, near) = UnixStream::pair().unwrap();
    let (far, loader) = UnixStream::pair().unwrap();
    let way = [
        carry(near.try_clone().unwrap(), far.try_clone().unwrap(), pauses.clone()),
        carry(far, near, pauses.clone()),
    ];
    let (direct, direct_out) = bounded::<ToWorker>(1);
    let (orders, _) = bounded(1);
    let (stop, _) = bounded(1);
    let (late, _) = bounded(1);
    let (_until_here, _) = bounded(0);
    let ears = Ears {
        found: to.found_out,
        maps: Some(FromMaps { events: to.events_out, late, ring_read: Arc::default(), _until_here }),
        orders,
        policies: Policies::new(),
        replies: replies.clone(),
        loader: to.loader,
        alive: Arc::<AtomicU64>::default(),
        stop,
    };
    let mouth = Mouth {
        found: to.found,
        events: to.events,
        late: never(),
        orders: never(),
        direct: direct_out,
        asked: Arc::new(Mutex::new(Asked::default())),
        reporter: to.reporter,
    };
    let from_loader = BufReader::new(worker.try_clone().unwrap());
    let to_worker = loader.try_clone().unwrap();
    Link {
        replies,
        direct,
        worker: thread::spawn(move || {
            speak::run(mouths, worker.try_clone().unwrap()).unwrap();
            worker.shutdown(Shutdown::Write).unwrap();
        }),
        loader: thread::spawn(move || ear.run(loader)),
        way,
        hears: thread::spawn(move || hear::run(from_loader, ears).unwrap()),
        speaks: thread::spawn(move || {
            mouth.run(Frames::new(to_worker.try_clone().unwrap())).unwrap();
            to_worker.shutdown(Shutdown::Write).unwrap();
        }),
    }
}

impl Link {
    /// The worker has said all, and then the loader.
    pub fn end(self) {
        self.replies.send(ToLoader::Ended { all_told: true }).unwrap();
        self.worker.join().unwrap();
        self.loader.join().unwrap();
        drop(self.direct);
        self.speaks.join().unwrap();
        self.hears.join().unwrap();
        for way in self.way {
            way.join().unwrap();
        }
    }
}

fn carry(mut from: UnixStream, mut to: UnixStream, mut pauses: Pauses) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let most = 1 + (pauses.next() % buffer.len() as u64) as usize;
            let read = from.read(&mut buffer[..most]).unwrap();
            if read == 0 {
                // The other end may be gone.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            pauses.take();
            to.write_all(&buffer[..read]).unwrap();
        }
    })
}
