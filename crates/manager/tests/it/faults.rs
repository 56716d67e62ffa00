//! Networks and servers at their worst: everything converges, nothing is deleted by mistake, nothing is doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use choreo_testkit::{Asked, Bed, Harm, TOKENS};
use http::Method;
use kube::api::{DeleteParams, DynamicObject};

use crate::support::{Running, alone, apply_greeter, cell, kinds, manager};

/// A bed with a manager, an organization, and the greeter in it.
pub(crate) async fn with_greeter(organization: &str) -> anyhow::Result<(Bed, Running)> {
    let bed = Bed::start().await?;
    let running = manager(&bed, organization).await;
    let running = greeter(&bed, organization, running).await?;
    Ok((bed, running))
}

async fn greeter(bed: &Bed, organization: &str, running: Running) -> anyhow::Result<Running> {
    kinds(&bed.control).await?;
    bed.organization(organization).await?;
    bed.control
        .wait_ready("DataPlane", organization, "default")
        .await?;
    apply_greeter(&bed.control, organization).await?;
    bed.control
        .wait_ready("Component", organization, "greeter")
        .await?;
    Ok(running)
}

pub(crate) async fn end(bed: Bed, running: Running, organization: &str) -> anyhow::Result<()> {
    bed.control.delete("Organization", "", organization).await?;
    running.stop().await?;
    bed.stop();
    Ok(())
}

fn connected(status: &'static str, text: &'static str) -> impl Fn(&DynamicObject) -> bool {
    move |object| {
        choreo_testkit::conditions(object)
            .iter()
            .any(|(type_, found, _, message)| {
                type_ == "Connected" && found == status && message.contains(text)
            })
    }
}

async fn plane_is(
    bed: &Bed,
    organization: &str,
    status: &'static str,
    text: &'static str,
) -> anyhow::Result<()> {
    bed.control
        .wait_for(
            "DataPlane",
            organization,
            "default",
            "connected or not",
            connected(status, text),
        )
        .await?;
    Ok(())
}

/// Identities of everything that we have in a cell.
async fn uids(bed: &Bed, organization: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for kind in ["Deployment.apps", "Service.", "HTTPRoute", "ConfigMap."] {
        for object in bed.plane.list(kind, &cell(organization)).await? {
            let name = object.metadata.name.unwrap_or_default();
            all.insert(format!("{kind}/{name}"), object.metadata.uid.unwrap_or_default());
        }
    }
    Ok(all)
}

/// Takes the images of the greeter on to the next one, and waits until it runs.
async fn roll(bed: &Bed, organization: &str, number: u32) -> anyhow::Result<()> {
    let image = format!("example.com/greeter:{number}");
    let patch = serde_json::json!({"spec": {"containers": {"main": {"image": image}}}});
    bed.control
        .merge("Workload", organization, "greeter", patch)
        .await?;
    let runs = move |object: &DynamicObject| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image
    };
    bed.plane
        .wait_for(
            "Deployment.apps",
            &cell(organization),
            "greeter",
            "the new image",
            runs,
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_plane_is_seen_within_seconds_and_so_is_its_return() -> anyhow::Result<()> {
    let _alone = alone().await;
    let (bed, running) = with_greeter("outage").await?;
    let before = uids(&bed, "outage").await?;
    assert!(before.len() >= 4, "{before:?}");
    for silent in [false, true] {
        let began = Instant::now();
        if silent {
            // Connections stay open and nothing comes: no watch breaks.
            bed.plane_proxy.rule(|_| Harm::Hang);
        } else {
            bed.plane_proxy.down();
        }
        plane_is(&bed, "outage", "False", "").await?;
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "seen after {:?}",
            began.elapsed()
        );
        // What changes meanwhile is done when it is back.
        let image = if silent {
            "example.com/greeter:b"
        } else {
            "example.com/greeter:a"
        };
        let patch = serde_json::json!({"spec": {"containers": {"main": {"image": image}}}});
        bed.control.merge("Workload", "outage", "greeter", patch).await?;
        let began = Instant::now();
        bed.plane_proxy.heal();
        plane_is(&bed, "outage", "True", "").await?;
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "back after {:?}",
            began.elapsed()
        );
        let runs = move |object: &DynamicObject| {
            object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image
        };
        bed.plane
            .wait_for("Deployment.apps", &cell("outage"), "greeter", "caught up", runs)
            .await?;
    }
    assert_eq!(
        uids(&bed, "outage").await?,
        before,
        "something was deleted or made twice"
    );
    end(bed, running, "outage").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_takes_effect_without_a_restart() -> anyhow::Result<()> {
    let _alone = alone().await;
    let (bed, running) = with_greeter("rotation").await?;
    // The old token is taken back.
    bed.plane_proxy
        .rule(|asked: &Asked<'_>| match asked.token == TOKENS[1] {
            true => Harm::None,
            false => Harm::Refuse(401, None),
        });
    bed.plane_proxy.cut_all();
    plane_is(&bed, "rotation", "False", "on purpose").await?;
    let began = Instant::now();
    bed.token("rotation", TOKENS[1]).await?;
    plane_is(&bed, "rotation", "True", "").await?;
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "after {:?}",
        began.elapsed()
    );
    roll(&bed, "rotation", 1).await?;
    end(bed, running, "rotation").await
}

/// Which harm a request comes to.
type Rule = Arc<dyn Fn(&Asked<'_>) -> Harm + Send + Sync>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_converges_through_every_kind_of_harm() -> anyhow::Result<()> {
    let _alone = alone().await;
    let (bed, running) = with_greeter("harm").await?;
    let before = uids(&bed, "harm").await?;
    let harms: [(&str, Rule); 9] = [
        ("late", Arc::new(|_| Harm::Late(Duration::from_millis(30)))),
        (
            "conflicts",
            Arc::new(|asked| {
                if asked.is_write() && asked.number % 3 == 0 {
                    Harm::Refuse(409, None)
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "busy",
            Arc::new(|asked| {
                if asked.number % 7 == 0 {
                    Harm::Refuse(429, Some(0))
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "errors",
            Arc::new(|asked| {
                if asked.is_write() && asked.number % 3 == 0 {
                    Harm::Refuse(500, None)
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "cut",
            Arc::new(|asked| {
                if asked.number % 4 == 0 {
                    Harm::Cut
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "lost answers",
            Arc::new(|asked| {
                if asked.is_write() && asked.number % 2 == 0 {
                    Harm::LoseAnswer
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "expired watches",
            Arc::new(|asked| {
                if asked.is_watch() && asked.number % 2 == 0 {
                    Harm::Expire
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "slow watches",
            Arc::new(|asked| {
                if asked.is_watch() {
                    Harm::Slow(Duration::from_millis(40))
                } else {
                    Harm::None
                }
            }),
        ),
        (
            "credentials that come and go",
            Arc::new(|asked| {
                if asked.number % 5 == 0 {
                    Harm::Refuse(401, None)
                } else {
                    Harm::None
                }
            }),
        ),
    ];
    for (number, (what, harm)) in (1..).zip(harms) {
        for proxy in [&bed.control_proxy, &bed.plane_proxy] {
            let (harm, is_control) = (Arc::clone(&harm), std::ptr::eq(proxy, &bed.control_proxy));
            // Who loses the lease stops, as it should: that is another test's subject.
            proxy.rule(move |asked| match is_control && asked.path.contains("/leases") {
                true => Harm::None,
                false => harm(asked),
            });
            // Watches that are open get a share of it, too.
            proxy.cut_all();
        }
        roll(&bed, "harm", number)
            .await
            .map_err(|error| error.context(what))?;
        bed.control_proxy.heal();
        bed.plane_proxy.heal();
        bed.control
            .wait_ready("Component", "harm", "greeter")
            .await
            .map_err(|error| error.context(what))?;
        let now = uids(&bed, "harm").await?;
        for (object, uid) in &before {
            // A ConfigMap's name may follow its content; everything else stays what it is.
            assert!(
                now.get(object) == Some(uid) || object.starts_with("ConfigMap"),
                "{what}: {object} is another one"
            );
        }
        let revisions = bed.control.list("Deployment.openchoreo.dev", "harm").await?.len();
        assert_eq!(
            revisions,
            usize::try_from(number)? + 1,
            "{what}: one revision for each change"
        );
    }
    end(bed, running, "harm").await
}

/// It answers, and yet what is to go stays: nothing may be given up, and everybody can see why it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_that_refuses_to_delete_is_told_and_everything_goes_once_it_does_not() -> anyhow::Result<()> {
    if Bed::is_foreign() {
        // An API server alone does not collect the release of a component that is gone.
        return Ok(());
    }
    let (bed, running) = with_greeter("refusing").await?;
    bed.plane_proxy
        .rule(|asked: &Asked<'_>| match *asked.method == Method::DELETE {
            true => Harm::Refuse(403, None),
            false => Harm::None,
        });
    bed.control.delete("Component", "refusing", "greeter").await?;
    let release = "greeter-development";
    let says_why = |object: &DynamicObject| {
        let all = choreo_testkit::conditions(object);
        all.iter().any(|(type_, status, reason, message)| {
            type_ == "Deleting"
                && status == "True"
                && reason == "Unreachable"
                && message.contains("on purpose")
                && message.contains("left behind: ")
                && message.contains("force-delete")
        })
    };
    bed.control
        .wait_for("Release", "refusing", release, "why it is still there", says_why)
        .await?;
    // All of it is there, and so is the release that knows of it.
    assert!(!uids(&bed, "refusing").await?.is_empty());
    bed.plane_proxy.heal();
    bed.control.wait_gone("Release", "refusing", release).await?;
    for kind in ["Deployment.apps", "HTTPRoute"] {
        bed.plane.wait_gone(kind, &cell("refusing"), "greeter").await?;
    }
    assert_eq!(uids(&bed, "refusing").await?, BTreeMap::new());
    end(bed, running, "refusing").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_plane_slows_no_other_one() -> anyhow::Result<()> {
    let _alone = alone().await;
    let (bed, running) = with_greeter("dead").await?;
    let five = async |from: u32| {
        let began = Instant::now();
        for number in from..from + 5 {
            roll(&bed, "dead", number).await?;
        }
        anyhow::Ok(began.elapsed())
    };
    let before = five(1).await?;
    // Another organization, whose data plane hangs.
    bed.organization("hanging").await?;
    let dead = choreo_testkit::Proxy::start(&bed.control_config()).await?;
    dead.rule(|_| Harm::Hang);
    let plane = bed.data_plane("hanging", "default", &dead.url());
    bed.control.apply(plane).await?;
    apply_greeter(&bed.control, "hanging").await?;
    plane_is(&bed, "hanging", "False", "no answer within").await?;
    let after = five(6).await?;
    // The machine that tests run on is shared; one time-out of the dead plane alone would take longer.
    assert!(
        after < before * 3 + Duration::from_secs(5),
        "{after:?} for five rollouts, {before:?} before"
    );
    bed.control.delete("Organization", "", "hanging").await?;
    end(bed, running, "dead").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_ends_in_every_order() -> anyhow::Result<()> {
    if Bed::is_foreign() {
        // An API server alone neither collects garbage nor empties namespaces.
        return Ok(());
    }
    let bed = Bed::start().await?;
    let running = manager(&bed, "orders").await;
    kinds(&bed.control).await?;
    for (number, first) in ["Organization", "DataPlane", "Environment", "Project", "Namespace"]
        .into_iter()
        .enumerate()
    {
        let organization = format!("order-{number}");
        bed.organization(&organization).await?;
        apply_greeter(&bed.control, &organization).await?;
        bed.control
            .wait_ready("Component", &organization, "greeter")
            .await?;
        let (namespace, name) = match first {
            "Organization" | "Namespace" => ("", organization.as_str()),
            "Environment" => (organization.as_str(), "development"),
            _ => (organization.as_str(), "default"),
        };
        let kind = if first == "Namespace" { "Namespace." } else { first };
        bed.control.delete(kind, namespace, name).await?;
        if !matches!(first, "Organization" | "Namespace") {
            bed.control.wait_gone(first, &organization, name).await?;
            bed.control.delete("Organization", "", &organization).await?;
        }
        bed.control
            .wait_gone("Namespace.", "", &organization)
            .await
            .map_err(|error| error.context(format!("{first} first")))?;
        bed.plane
            .wait_gone("Namespace.", "", &cell(&organization))
            .await
            .map_err(|error| error.context(format!("{first} first")))?;
    }
    running.stop().await?;
    bed.stop();
    Ok(())
}

/// As soon as it is there, which may be before the answer to the write that made it has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_away_again_and_again_always_comes_back() -> anyhow::Result<()> {
    let _alone = alone().await;
    let organization = "again";
    let (bed, running) = with_greeter(organization).await?;
    let services = bed.plane.api("Service.", &cell(organization)).await?;
    let mut before = services.get("greeter").await?.metadata.uid;
    for round in 0..150 {
        services.delete("greeter", &DeleteParams::default()).await?;
        // Asked for without a pause: a watch of ours would hear of it when the controllers' does.
        let again = async {
            loop {
                match services.get_opt("greeter").await? {
                    Some(other) if other.metadata.uid != before => return anyhow::Ok(other.metadata.uid),
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let again = tokio::time::timeout(Duration::from_secs(30), again).await;
        before = again.with_context(|| format!("it came back {round} times"))??;
    }
    end(bed, running, organization).await
}
