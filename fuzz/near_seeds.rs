//! What the tests of both crates with fuzz targets try on stable. Theirs by `#[path]`, since neither depends on the tests of the other.

use proptest::prelude::*;

/// The inputs that `fuzz/seeds` has for a target, and inputs that are near them: with other bytes, without some, with some
/// twice. Those that once led to a mistake are among them.
pub(crate) fn near_the_seeds(target: &str, each: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    });
    let mut seeds = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let seed = std::fs::read(file.unwrap().path()).unwrap();
        each(&seed);
        seeds += 1;
        let edits = prop::collection::vec(
            (any::<prop::sample::Index>(), 0_u8..3, any::<u8>(), 1_usize..9),
            1..5,
        );
        let tried = runner.run(&edits, |edits| {
            let mut near = seed.clone();
            for (at, edit, byte, length) in edits {
                let at = at.index(near.len() + 1);
                let end = (at + length).min(near.len());
                match edit {
                    0 if at < near.len() => near[at] = byte,
                    1 => drop(near.drain(at..end)),
                    _ => {
                        let again = near[at..end].to_vec();
                        near.splice(at..at, again);
                    }
                }
            }
            each(&near);
            Ok(())
        });
        tried.unwrap();
    }
    assert!(seeds > 0, "{} is empty", folder.display());
}
