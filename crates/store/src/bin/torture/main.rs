//! Kills a writing process again and again and checks that nothing acknowledged is lost.
//!
//! `cargo run -p choreo-store -- torture --kills 1000 [--seed N] [--dir DIR]`
//!
//! A child process opens the store, lets several threads write to two logical clusters at once and prints every attempt and
//! every acknowledgement. The parent kills it at a random moment, also while it opens the store, opens the store itself and
//! holds it against an oracle made of what was printed:
//!
//! * every acknowledged write is there; of the one write that a thread had under way, either nothing or all;
//! * revisions only grow and none is used twice, also over all restarts;
//! * watches in the child, one that stays and one that breaks off and goes on, saw every change once, in order and as it was
//!   acknowledged, and nothing that is not there after the kill; after a restart a watch goes on from the last revision,
//!   and one from an older revision is told that it has expired.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to its user and its parent"
)]

mod child;
mod parent;

use std::process::ExitCode;

/// The logical clusters that are written to.
const CLUSTERS: [&str; 2] = ["alpha", "beta"];
/// The only resource.
const RESOURCE: &str = "things";
/// Printed by the child once it has opened the store.
const READY: &str = "ready";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("child") => child::run(&args[1..]),
        _ => parent::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// SplitMix64: small, and the same numbers for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
