//! What is there, for listings: read along beside the core, a chunk at a time.
//!
//! Not a snapshot: a flow is shown as it stands when the walk comes by. What ends during a walk may be
//! left out; nothing is shown twice.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use super::Flow;
use super::slab::{CHUNK, Chunk, Chunks, read};
use crate::model::FlowView;

/// What a listing needs to know of the daemon.
#[derive(Clone, Debug)]
pub struct Scene {
    pub boot_id: Arc<str>,
    /// CLOCK_MONOTONIC ns.
    pub now_ns: u64,
    /// Wall clock less monotonic clock, ns.
    pub wall_offset_ns: i128,
}

impl Scene {
    /// The label of a monotonic time.
    pub fn wall(&self, monotonic_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(self.wall_offset_ns + i128::from(monotonic_ns))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Live flows, then the last closed ones.
#[derive(Clone, Debug)]
pub struct FlowsReader {
    chunks: Chunks,
    closed: Vec<Arc<FlowView>>,
    scene: Scene,
}

/// One flow of a walk.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    Live {
        flow: &'a Flow,
        scene: &'a Scene,
        /// In the table.
        index: u32,
    },
    /// Closed (`place` is `None`), or read before it is looked at.
    Read { view: &'a Arc<FlowView>, place: Option<Place>, now: Timestamp },
}

/// Where a live flow was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: u32,
    cookie: u64,
    opened_ns: u64,
}

impl FlowsReader {
    pub(super) fn new(chunks: Chunks, closed: Vec<Arc<FlowView>>, scene: Scene) -> Self {
        FlowsReader { chunks, closed, scene }
    }

    /// These flows and no others.
    pub fn of(closed: Vec<Arc<FlowView>>) -> Self {
        let scene = Scene { boot_id: "".into(), now_ns: 0, wall_offset_ns: 0 };
        FlowsReader { chunks: Chunks::default(), closed, scene }
    }

    /// When the walk began, for people.
    pub fn now(&self) -> Timestamp {
        self.scene.wall(self.scene.now_ns)
    }

    /// Looks at every flow, until `each` breaks off. The core may have to wait for `each`, a chunk of it at
    /// most.
    pub fn each(&self, mut each: impl FnMut(Row<'_>) -> ControlFlow<()>) {
        let chunks: Vec<Arc<Chunk>> = self.chunks.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (number, chunk) in chunks.iter().enumerate() {
            for (at, flow) in read(chunk).iter().enumerate() {
                let Some(flow) = flow else { continue };
                let index = (number * CHUNK + at) as u32;
                if each(Row::Live { flow, scene: &self.scene, index }).is_break() {
                    return;
                }
            }
        }
        self.each_closed(each);
    }

    /// The same for an `each` that takes long: nobody has to wait for it.
    pub fn each_apart(&self, mut each: impl FnMut(Row<'_>) -> ControlFlow<()>) {
        let chunks: Vec<Arc<Chunk>> = self.chunks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut views = Vec::with_capacity(CHUNK);
        for (number, chunk) in chunks.iter().enumerate() {
            views.clear();
            for (at, flow) in read(chunk).iter().enumerate() {
                if let Some(flow) = flow {
                    views.push((
                        Arc::new(self.scene.view(flow)),
                        Place::of(flow, (number * CHUNK + at) as u32),
                    ));
                }
            }
            for (view, place) in &views {
                if each(Row::Read { view, place: Some(*place), now: self.now() }).is_break() {
                    return;
                }
            }
        }
        self.each_closed(each);
    }

    fn each_closed(&self, mut each: impl FnMut(Row<'_>) -> ControlFlow<()>) {
        for view in &self.closed {
            if each(Row::Read { view, place: None, now: self.now() }).is_break() {
                return;
            }
        }
    }

    /// The flow that was met there, as it stands now; `None`: it has ended.
    pub fn view(&self, place: Place) -> Option<FlowView> {
        let index = place.index as usize;
        let chunk = self.chunks.read().unwrap_or_else(PoisonError::into_inner).get(index / CHUNK)?.clone();
        let flows = read(&chunk);
        let flow = flows.get(index % CHUNK)?.as_ref()?;
        (flow.cookie() == place.cookie && flow.opened_ns == place.opened_ns).then(|| self.scene.view(flow))
    }
}

impl Place {
    fn of(flow: &Flow, index: u32) -> Self {
        Place { index, cookie: flow.cookie(), opened_ns: flow.opened_ns }
    }
}

impl Scene {
    fn view(&self, flow: &Flow) -> FlowView {
        flow.view(&self.boot_id, self.now_ns, |ns| self.wall(ns))
    }
}

impl Row<'_> {
    pub fn view(&self) -> Arc<FlowView> {
        match self {
            Row::Live { flow, scene, .. } => Arc::new(scene.view(flow)),
            Row::Read { view, .. } => Arc::clone(view),
        }
    }

    /// `None`: it is closed.
    pub fn place(&self) -> Option<Place> {
        match self {
            Row::Live { flow, index, .. } => Some(Place::of(flow, *index)),
            Row::Read { place, .. } => *place,
        }
    }

    /// As [`FlowView::id`].
    pub fn id(&self) -> String {
        match self {
            Row::Live { flow, scene, .. } => flow.id(&scene.boot_id),
            Row::Read { view, .. } => view.id.clone(),
        }
    }
}
