//! What a burst of work needed is given back when the runtime rests, whichever thread had asked for it.

use std::time::Duration;

#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

/// Megabytes of the process that are no pages of files.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}

/// A megabyte in pieces of the size of an object's strings.
fn pieces() -> Vec<Vec<u8>> {
    (0..8192).map(|_| vec![1_u8; 128]).collect()
}

#[test]
fn memory_is_given_back_at_rest() {
    let runtime = choreo_allocator::runtime().unwrap();
    let (before, during, after) = runtime.block_on(choreo_allocator::giving_back(async {
        let before = resident().unwrap();
        // Made by the runtime's threads and dropped by this one, which leaves the pages with the threads that made them.
        let made: Vec<_> = (0..200).map(|_| tokio::spawn(async { pieces() })).collect();
        let mut all = Vec::new();
        for task in made {
            all.push(task.await.unwrap());
        }
        let during = resident().unwrap();
        drop(all);
        let mut after = resident().unwrap();
        for _ in 0..60 {
            if after < before + 20 {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            after = resident().unwrap();
        }
        (before, during, after)
    }));
    assert!(during > before + 150, "the work took {during} MB after {before}");
    assert!(
        after < before + 20,
        "{after} MB are left of {during}, and it was {before} before"
    );
}
