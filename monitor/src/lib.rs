//! streamwatch: for every data stream on this host, is it encrypted, authenticated, authorised and
//! watched? Data goes one way: `kernel` → `event` → `flows` → (`dissect`, `identity`, `policy`) →
//! `verdict` → `detect` → `alert` → `sink` and `api`. A stage knows those before it, never one after
//! it; only `daemon` sees them all.

#![forbid(unsafe_code)]

#[macro_use]
mod say;

pub mod alert;
pub mod api;
pub mod audit;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod detect;
pub mod doctor;
pub mod event;
pub mod flows;
pub mod hist;
pub mod hook;
pub mod https;
pub mod identity;
pub mod inventory;
pub mod kernel;
pub mod keys;
mod lock;
pub mod model;
pub mod names;
pub mod policy;
pub mod posture;
mod priority;
pub mod record;
mod regular;
pub mod sink;
pub mod status;
pub mod store;
pub mod tally;
#[cfg(test)]
mod temporary;
mod trust;
pub mod tunnel;
pub mod verdict;
pub mod watch;
pub mod wire;
