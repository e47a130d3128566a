//! `cargo xtask VERB`: set-up, build, run and test, on a machine with nothing on it.
//!
//! In: a verb and its arguments. Out: what it built or ran, and, when a step fails, a last line on
//! stderr that says what to do. Must never: install what is there already, install anything
//! without saying so first, or install at all under `--no-install`.

#![forbid(unsafe_code)]

// One file a verb.
mod bench;
mod build;
mod deny;
mod fuzz;
mod kernels;
mod miri;
mod run;
mod setup;
mod test;

// What the verbs stand on.
mod apt;
mod binaries;
mod bpf_linker;
mod kernel_object;
mod python;
mod report;
mod requirements;
mod step;
mod tally;
mod timing;
mod toolchain;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, runs and tests streamwatch")]
struct Arguments {
    /// Name what is missing instead of installing it, and fail
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Set up what is missing, build, and watch this host (`target/release/streamwatch run`)
    Run {
        /// A debug build, whose kernel programs say on stderr what they do
        #[arg(long)]
        debug: bool,
        /// Arguments for `streamwatch run`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Set up what is missing, check, and run every test, real servers included
    Test {
        /// Only tests whose name contains one of these
        filters: Vec<String>,
    },
    /// Set up what is missing and leave the release binary at `target/release/streamwatch`
    Build,
    /// Feed every parser with any bytes, for a while: a target each (docs/quic-ssh.md)
    Fuzz {
        /// Only these
        targets: Vec<String>,
        /// For each, without what it is kept waiting for a processor
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// What chance begins with: 1 is what `cargo xtask test` takes, on a corpus that is new
        #[arg(long)]
        seed: Option<u32>,
    },
    /// Hold licences, duplicates and sources of dependencies to deny.toml, and look for advisories on them
    Deny,
    /// Run the tests of the crate that casts bytes to structures under Miri
    Miri,
    /// Boot other kernels in QEMU: does everything load, and are the answers right?
    Kernels {
        /// Only these (5.10, 6.1, 6.12, 7.x, host)
        #[arg(long, value_name = "KERNEL")]
        only: Vec<String>,
        /// Name them, and whether they were downloaded
        #[arg(long)]
        list: bool,
    },
    /// Measure what watching costs, with and without in one run
    Bench {
        /// Only these benchmarks
        names: Vec<String>,
        /// Name them, and what each measures
        #[arg(long)]
        list: bool,
        /// Pairs of one comparison, at least
        #[arg(long, default_value_t = 7)]
        pairs: usize,
        /// Seconds that one comparison may go on with more pairs, to narrow its interval
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Put the tables into BENCHMARKS.md
        #[arg(long)]
        write: bool,
    },
    /// Install what building and testing need, and nothing else
    Setup,
}

fn main() -> ExitCode {
    let Arguments { no_install, verb } = Arguments::parse();
    let policy = if no_install { setup::Policy::NameOnly } else { setup::Policy::Install };
    let outcome = match verb {
        Verb::Run { debug, arguments } => run::run(policy, debug, &arguments),
        Verb::Test { filters } => test::test(policy, &filters),
        Verb::Build => build::build(policy),
        Verb::Fuzz { targets, seconds, seed } => fuzz::fuzz(policy, &targets, seconds, seed),
        Verb::Deny => deny::deny(policy),
        Verb::Miri => miri::miri(policy),
        Verb::Kernels { only, list } => kernels::kernels(policy, &only, list),
        Verb::Bench { names, list, pairs, seconds, write } => {
            bench::bench(policy, &bench::Selection { names, list, pairs, seconds, write })
        }
        Verb::Setup => setup::setup(policy),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            // What carries no remedy of its own is a file below target/ that we could not handle.
            let remedy = error
                .downcast_ref::<step::Failure>()
                .map_or("look whether target/ can be written and the disk is full", |failure| {
                    &failure.remedy
                });
            eprintln!("xtask: what to do: {remedy}");
            ExitCode::FAILURE
        }
    }
}
