//! An image from its first answer to a laptop that is closed and opened again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use choreo_testkit::probe;

use super::{Laptop, PUBLIC, engine, get};
use crate::support::PATIENCE;

#[test]
fn an_image_runs_and_its_url_answers_until_the_laptop_is_closed_and_opened_again() {
    let Some(host) = engine() else { return };
    let mut laptop = Laptop::start(host);
    // The port is the one that the image exposes.
    let said = laptop.choreo(&[
        "run",
        probe::IMAGE,
        "--name",
        "web",
        "--public",
        "--yes",
        "--",
        "serve",
        "--port",
        "8080",
        "--name",
        "web",
    ]);
    let url = said.lines().last().unwrap();
    assert_eq!(url, format!("http://{PUBLIC}:{}/default/web", laptop.port()));
    // The address is there before the gateway's last endpoint.
    let (_, body) = laptop.until(PUBLIC, "/default/web", |status, _| status == 200);
    assert_eq!(body, "web");

    // What runs can be looked into.
    assert!(laptop.choreo(&["logs", "web"]).contains("web listens on 8080"));
    let exec = laptop.up().choreo(["exec", "web", "--", "/probe", "exit", "7"]);
    assert_eq!((exec.status, exec.out.as_str()), (7, "out: ending with 7\n"));
    assert!(laptop.choreo(&["top", "web"]).contains("web"));

    // None, and again two.
    laptop.choreo(&["scale", "web", "0", "-e", "development"]);
    laptop.until(PUBLIC, "/default/web", |status, body| {
        status == 503 && body.contains("no healthy upstream")
    });
    laptop.choreo(&["scale", "web", "2", "-e", "development"]);
    laptop.until(PUBLIC, "/default/web", |status, _| status == 200);
    let mut seen = std::collections::BTreeSet::new();
    laptop.until(PUBLIC, "/default/web/id", |_, id| {
        seen.insert(id.to_owned());
        seen.len() == 2
    });

    // New pods, one after the other, while somebody calls.
    let (stop, port) = (Arc::new(AtomicBool::new(false)), laptop.port());
    let caller = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut answers = std::collections::BTreeMap::<u16, usize>::new();
            while !stop.load(Ordering::Relaxed) {
                *answers.entry(get(port, PUBLIC, "/default/web").0).or_default() += 1;
            }
            answers
        }
    });
    laptop.choreo(&["restart", "web", "-e", "development"]);
    let old = seen;
    let mut new = std::collections::BTreeSet::new();
    laptop.until(PUBLIC, "/default/web/id", |status, id| {
        if status == 200 && !old.contains(id) {
            new.insert(id.to_owned());
        }
        new.len() == 2
    });
    stop.store(true, Ordering::Relaxed);
    let answers = caller.join().unwrap();
    assert!(answers.len() == 1 && answers[&200] > 10, "{answers:?}");

    // The process is killed; the containers are not.
    let two_run = || {
        laptop.choreo(&["tree", "component/web"]).matches('✓').count() > 5 && laptop.containers().len() == 5
    };
    let deadline = Instant::now() + PATIENCE;
    while !two_run() {
        assert!(Instant::now() < deadline, "{:?}", laptop.containers());
        std::thread::sleep(Duration::from_millis(100));
    }
    let before = laptop.containers();
    laptop.up.take().unwrap().kill();
    assert_eq!(laptop.containers(), before);
    laptop.restart();
    laptop.until(PUBLIC, "/default/web", |status, body| {
        (status, body) == (200, "web")
    });
    assert_eq!(laptop.containers(), before);
}
