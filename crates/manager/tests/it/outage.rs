//! Data planes that are away for long, or have taken their credentials back, while what is in them is to go.

use choreo_controllers::runtime::clock::{Clock, Hand};
use choreo_testkit::{Asked, Bed, Harm, TOKENS, conditions};
use jiff::SignedDuration;
use kube::api::DynamicObject;

use crate::support::{Running, alone, apply_greeter, cell, kinds, options, start};

struct Scene {
    bed: Bed,
    manager: Running,
    hand: Hand,
    clock: Clock,
    organization: &'static str,
}

/// The greeter runs, and the manager's clock can be moved.
async fn scene(organization: &'static str) -> anyhow::Result<Scene> {
    let bed = Bed::start().await?;
    let (clock, hand) = Clock::movable(SignedDuration::ZERO);
    let manager = with_clock(&bed, organization, &clock).await;
    kinds(&bed.control).await?;
    bed.organization(organization).await?;
    apply_greeter(&bed.control, organization).await?;
    bed.control
        .wait_ready("Component", organization, "greeter")
        .await?;
    Ok(Scene {
        bed,
        manager,
        hand,
        clock,
        organization,
    })
}

async fn with_clock(bed: &Bed, identity: &str, clock: &Clock) -> Running {
    let mut options = options(bed.control_config(), identity);
    options.clock = clock.clone();
    start(options).await
}

/// Takes the first token back: whoever comes with it is unknown.
fn revoke(bed: &Bed) {
    bed.plane_proxy
        .rule(|asked: &Asked<'_>| match asked.token == TOKENS[0] {
            true => Harm::Refuse(401, None),
            false => Harm::None,
        });
    bed.plane_proxy.cut_all();
}

impl Scene {
    async fn plane_says(&self, text: &str) -> anyhow::Result<()> {
        let said = |object: &DynamicObject| {
            conditions(object).iter().any(|(type_, status, _, message)| {
                type_ == "Connected" && status == "False" && message.contains(text)
            })
        };
        self.bed
            .control
            .wait_for("DataPlane", self.organization, "default", "not connected", said)
            .await?;
        Ok(())
    }

    /// What the release says about its deletion, once it says `text`.
    async fn release_says(&self, text: &str) -> anyhow::Result<String> {
        let deleting = |object: &DynamicObject| {
            let all = conditions(object);
            let found = all.into_iter().find(|(type_, ..)| type_ == "Deleting");
            found.map(|(.., message)| message).unwrap_or_default()
        };
        let said = |object: &DynamicObject| deleting(object).contains(text);
        let what = format!("deleting, saying {text:?}");
        let (organization, name) = (self.organization, "greeter-development");
        let release = self
            .bed
            .control
            .wait_for("Release", organization, name, &what, said)
            .await?;
        Ok(deleting(&release))
    }

    /// Waits until the releases have been looked at so many times more.
    async fn looks(&self, times: u64) {
        let runs = async || {
            let metrics = self.manager.probe("/metrics").await;
            let line = r#"choreo_reconcile_duration_seconds_count{controller="release"} "#;
            let count = metrics.lines().find_map(|found| found.strip_prefix(line));
            count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap()
        };
        let until = runs().await + times;
        while runs().await < until {
            tokio::task::yield_now().await;
        }
    }

    async fn nothing_is_left(&self) -> anyhow::Result<()> {
        self.bed
            .control
            .wait_all("Release", self.organization, "no release", <[_]>::is_empty)
            .await?;
        for kind in ["Deployment.apps", "Service.", "HTTPRoute"] {
            self.bed
                .plane
                .wait_all(kind, &cell(self.organization), "nothing", <[_]>::is_empty)
                .await?;
        }
        self.bed
            .plane
            .wait_gone("Namespace.", "", &cell(self.organization))
            .await?;
        if !Bed::is_foreign() {
            self.bed
                .control
                .wait_gone("Organization", "", self.organization)
                .await?;
        }
        Ok(())
    }

    async fn end(self) -> anyhow::Result<()> {
        self.manager.stop().await?;
        self.bed.stop();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_without_its_cluster_is_waited_for_and_told() -> anyhow::Result<()> {
    let _alone = alone().await;
    let scene = scene("hour").await?;
    scene.bed.plane_proxy.down();
    scene.plane_says("").await?;
    let control = &scene.bed.control;
    control.delete("Organization", "", "hour").await?;
    let message = scene.release_says("tried until").await?;
    // Which plane, until when, what is in it, and how to end it.
    for part in [
        "DataPlane hour/default",
        "Deployment",
        "openchoreo.dev/force-delete=\"true\"",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let says = |object: &DynamicObject| choreo_testkit::ready_message(object).contains("waiting for Release");
    let organization = control
        .wait_for("Organization", "", "hour", "the reason", says)
        .await?;
    assert!(organization.metadata.deletion_timestamp.is_some());
    // What is needed to clean up is still there.
    assert!(
        control
            .get("Secret.", "hour", "plane-credentials")
            .await?
            .is_some()
    );

    scene.hand.forward(SignedDuration::from_mins(58));
    scene.looks(4).await;
    assert!(
        control
            .get("Release", "hour", "greeter-development")
            .await?
            .is_some()
    );
    scene.bed.plane_proxy.heal();
    scene.nothing_is_left().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_hour_what_cannot_be_removed_is_left_behind_and_found() -> anyhow::Result<()> {
    if Bed::is_foreign() {
        // Only a collector of garbage deletes a component's release.
        return Ok(());
    }
    let scene = scene("abandoned").await?;
    scene.bed.plane_proxy.down();
    scene.plane_says("").await?;
    let control = &scene.bed.control;
    control.delete("Component", "abandoned", "greeter").await?;
    scene.release_says("tried until").await?;
    scene.hand.forward(SignedDuration::from_mins(61));
    // The cell's too, which nothing needs any more: a cluster that came back sooner would lose its namespace.
    control
        .wait_all("Release", "abandoned", "no release", <[_]>::is_empty)
        .await?;
    let given_up = |events: &[DynamicObject]| {
        events
            .iter()
            .any(|event| event.data["reason"] == "Abandoned" && event.data.to_string().contains("Deployment"))
    };
    control
        .wait_all(
            "Event.events.k8s.io",
            "abandoned",
            "what is left behind",
            given_up,
        )
        .await?;
    scene.bed.plane_proxy.heal();
    control.wait_ready("DataPlane", "abandoned", "default").await?;
    let connector = choreo_controllers::HttpConnector::default();
    let found = choreo_controllers::doctor::examine(&control.client, &connector).await?;
    let here = found
        .iter()
        .find(|finding| finding.data_plane == "abandoned/default");
    let orphans = here.unwrap().orphans.clone().unwrap();
    let said: Vec<String> = orphans.iter().map(|orphan| orphan.object.to_string()).collect();
    assert!(
        said.iter()
            .any(|object| object.starts_with("Deployment") && object.contains("greeter")),
        "{said:?}"
    );
    scene.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_were_taken_back_are_told_and_new_ones_clean_up() -> anyhow::Result<()> {
    let _alone = alone().await;
    let scene = scene("revoked").await?;
    revoke(&scene.bed);
    scene.plane_says("on purpose").await?;
    scene.bed.control.delete("Organization", "", "revoked").await?;
    scene.release_says("on purpose").await?;
    scene.bed.token("revoked", TOKENS[1]).await?;
    scene.nothing_is_left().await?;
    scene.end().await
}

/// Nothing but the release knows how to reach the cluster any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_a_data_plane_that_is_gone_may_still_be_changed() -> anyhow::Result<()> {
    let _alone = alone().await;
    let mut scene = scene("gone").await?;
    for restart in [false, true] {
        revoke(&scene.bed);
        let control = &scene.bed.control;
        if restart {
            // A manager that has never spoken to the cluster.
            let clock = scene.clock.clone();
            let next = with_clock(&scene.bed, "gone-next", &clock).await;
            std::mem::replace(&mut scene.manager, next).kill().await;
        } else {
            scene.plane_says("on purpose").await?;
            control.delete("DataPlane", "gone", "default").await?;
            control.wait_gone("DataPlane", "gone", "default").await?;
            control.delete("Environment", "gone", "development").await?;
            control.delete("Organization", "", "gone").await?;
        }
        scene.release_says("on purpose").await?;
    }
    scene.bed.token("gone", TOKENS[1]).await?;
    scene.nothing_is_left().await?;
    scene.end().await
}

/// The cluster goes first, then everything that says how to reach it, then it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_returns_after_its_data_plane_is_gone_is_cleaned() -> anyhow::Result<()> {
    let _alone = alone().await;
    let scene = scene("returns").await?;
    scene.bed.plane_proxy.down();
    scene.plane_says("").await?;
    let control = &scene.bed.control;
    control.delete("DataPlane", "returns", "default").await?;
    control.wait_gone("DataPlane", "returns", "default").await?;
    control.delete("Organization", "", "returns").await?;
    scene.release_says("tried until").await?;
    scene.bed.plane_proxy.heal();
    scene.nothing_is_left().await?;
    scene.end().await
}

/// Every order of what a release hangs on, one right after the other, with the cluster there and away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_in_every_order() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let manager = crate::support::manager(&bed, "orders").await;
    kinds(&bed.control).await?;
    let (plane, environment, project) = (
        ("DataPlane", "default"),
        ("Environment", "development"),
        ("Project", "default"),
    );
    let orders = [
        [plane, environment, project],
        [plane, project, environment],
        [environment, plane, project],
        [environment, project, plane],
        [project, plane, environment],
        [project, environment, plane],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let organization = format!("all-{number}");
        bed.organization(&organization).await?;
        apply_greeter(&bed.control, &organization).await?;
        bed.control
            .wait_ready("Component", &organization, "greeter")
            .await?;
        let away = number % 2 == 1;
        if away {
            bed.plane_proxy.down();
        }
        for (kind, name) in order {
            bed.control.delete(kind, &organization, name).await?;
        }
        bed.control.delete("Organization", "", &organization).await?;
        bed.plane_proxy.heal();
        let told = |error: anyhow::Error| error.context(format!("{order:?}, away: {away}"));
        bed.control
            .wait_all("Release", &organization, "no release", <[_]>::is_empty)
            .await
            .map_err(told)?;
        bed.plane
            .wait_gone("Namespace.", "", &cell(&organization))
            .await
            .map_err(told)?;
        if !Bed::is_foreign() {
            bed.control
                .wait_gone("Organization", "", &organization)
                .await
                .map_err(told)?;
        }
    }
    manager.stop().await?;
    bed.stop();
    Ok(())
}
