//! Tasks, from what a developer says to runs that end.

use choreo_testkit::Platform;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::cell;

fn task(type_: &str, schedule: Option<&str>) -> Vec<Value> {
    let owner = json!({"projectName": "default", "componentName": "report"});
    let object = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": "report", "namespace": "default"},
            "spec": spec,
        })
    };
    let mut typed = json!({"owner": owner, "workloadName": "report"});
    if let Some(schedule) = schedule {
        typed["schedule"] = json!(schedule);
    }
    vec![
        object(
            "Component",
            json!({"owner": {"projectName": "default"}, "type": type_}),
        ),
        object(
            "Workload",
            json!({
                "owner": owner,
                "containers": {"main": {"image": "report:1"}},
                "initContainers": [
                    {"name": "migrate", "image": "migrate:1"},
                    {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"},
                ],
            }),
        ),
        object("ScheduledTask", typed),
    ]
}

async fn with_task(type_: &str, schedule: Option<&str>) -> anyhow::Result<Platform> {
    let platform = Platform::start().await?;
    for object in task(type_, schedule) {
        platform.control.apply(object).await?;
    }
    platform
        .control
        .wait_ready("Component", "default", "report")
        .await?;
    Ok(platform)
}

/// Asks for runs, and for nothing else.
async fn ask(platform: &Platform, runs: &[&str]) -> anyhow::Result<()> {
    let patch = json!({"spec": {"runs": runs}});
    platform
        .control
        .merge("ScheduledTaskBinding", "default", "report-development", patch)
        .await?;
    Ok(())
}

fn phases(binding: &DynamicObject) -> Vec<(String, String)> {
    let text = |run: &Value, field: &str| run[field].as_str().unwrap_or_default().to_owned();
    binding.data["status"]["runs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|run| (text(run, "id"), text(run, "phase")))
        .collect()
}

async fn wait_phases(platform: &Platform, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let wanted: Vec<(String, String)> = wanted
        .iter()
        .map(|(id, phase)| ((*id).to_owned(), (*phase).to_owned()))
        .collect();
    platform
        .control
        .wait_for(
            "ScheduledTaskBinding",
            "default",
            "report-development",
            &format!("{wanted:?}"),
            |binding| phases(binding) == wanted,
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_task_is_scheduled_and_rests_when_suspended() -> anyhow::Result<()> {
    let platform = with_task("ScheduledTask", Some("0 0 1 1 *")).await?;
    let cell = cell("development");
    let cron_job = platform.local.get("CronJob", &cell, "report").await?.unwrap();
    assert_eq!(cron_job.data["spec"]["schedule"], "0 0 1 1 *");
    let state = json!({"spec": {"releaseState": "Suspend"}});
    platform
        .control
        .merge("ScheduledTaskBinding", "default", "report-development", state)
        .await?;
    platform
        .local
        .wait_for("CronJob", &cell, "report", "suspended", |object| {
            object.data["spec"]["suspend"] == true
        })
        .await?;
    platform
        .control
        .wait_for(
            "ScheduledTaskBinding",
            "default",
            "report-development",
            "suspended",
            |object| choreo_testkit::ready_message(object) == "suspended: no pods run",
        )
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_runs_a_manual_task_once() -> anyhow::Result<()> {
    let platform = with_task("ManualTask", None).await?;
    let cell = cell("development");
    assert!(platform.local.list("Job", &cell).await?.is_empty());

    ask(&platform, &["a"]).await?;
    wait_phases(&platform, &[("a", "Succeeded")]).await?;
    let jobs = platform.local.list("Job", &cell).await?;
    assert_eq!(jobs.len(), 1);
    let first = jobs[0].name_any();
    let ran = jobs[0].data["status"]["startTime"].clone();
    let succeeded = jobs[0].data["status"]["completionTime"].clone();
    assert!(ran.is_string() && succeeded.is_string(), "{ran} {succeeded}");
    let (kind, name) = ("ScheduledTaskBinding", "report-development");
    platform
        .control
        .wait_for(kind, "default", name, "the times of the run", |binding| {
            let status = &binding.data["status"];
            status["lastRunTime"] == ran && status["lastSuccessTime"] == succeeded
        })
        .await?;

    // What a changed workload makes different holds for later runs, and what has run is not touched.
    let binding = platform.control.get(kind, "default", name).await?.unwrap();
    let artifact = binding.data["spec"]["artifactRef"].clone();
    let image = json!({"spec": {"containers": {"main": {"image": "report:2"}}}});
    platform
        .control
        .merge("Workload", "default", "report", image)
        .await?;
    // A run that is asked for earlier is one of the old artifact.
    platform
        .control
        .wait_for(kind, "default", name, "the new artifact", |binding| {
            binding.data["spec"]["artifactRef"] != artifact
        })
        .await?;
    ask(&platform, &["a", "b"]).await?;
    wait_phases(&platform, &[("a", "Succeeded"), ("b", "Succeeded")]).await?;
    let jobs = platform.local.list("Job", &cell).await?;
    let mut images: Vec<String> = jobs
        .iter()
        .map(|job| job.data["spec"]["template"]["spec"]["containers"][0]["image"].to_string())
        .collect();
    images.sort();
    assert_eq!(images, ["\"report:1\"", "\"report:2\""]);

    // Somebody cleans up: the run is over, and does not start again.
    platform.local.delete("Job", &cell, &first).await?;
    platform.local.wait_gone("Job", &cell, &first).await?;
    ask(&platform, &["a", "b", "c"]).await?;
    wait_phases(
        &platform,
        &[("a", "Succeeded"), ("b", "Succeeded"), ("c", "Succeeded")],
    )
    .await?;
    assert!(platform.local.get("Job", &cell, &first).await?.is_none());
    platform
        .control
        .wait_ready("Component", "default", "report")
        .await?;

    // Undeployed and back: nothing runs again.
    for state in ["Undeploy", "Active"] {
        let patch = json!({"spec": {"releaseState": state}});
        platform
            .control
            .merge("ScheduledTaskBinding", "default", "report-development", patch)
            .await?;
        if state == "Undeploy" {
            platform
                .control
                .wait_gone("Release", "default", "report-development")
                .await?;
        }
    }
    platform
        .control
        .wait_ready("Release", "default", "report-development")
        .await?;
    assert!(platform.local.list("Job", &cell).await?.is_empty());
    // When it last ran is known although nothing of the runs is left.
    let binding = platform.control.get(kind, "default", name).await?.unwrap();
    assert!(binding.data["status"]["lastSuccessTime"].as_str() >= succeeded.as_str());
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_is_told_until_a_later_one_succeeds() -> anyhow::Result<()> {
    let platform = with_task("ManualTask", None).await?;
    let class = |annotations: Value| {
        json!({"spec": {"cronJobTemplate": {"jobTemplate": {"spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"annotations": annotations}, "spec": {"restartPolicy": "Never"}},
        }}}}})
    };
    let behavior = "simulate.openchoreo.dev/behavior";
    let broken = class(json!({behavior: "crash-loop"}));
    platform
        .control
        .merge("ScheduledTaskClass", "default", "default", broken)
        .await?;
    platform
        .control
        .wait_for(
            "Release",
            "default",
            "report-development",
            "of the changed class",
            |release| release.data["spec"].to_string().contains("crash-loop"),
        )
        .await?;
    ask(&platform, &["bad"]).await?;
    wait_phases(&platform, &[("bad", "Failed")]).await?;
    platform
        .control
        .wait_unready("Component", "default", "report", "Job report-run-bad")
        .await?;

    let mended = class(json!({behavior: null}));
    platform
        .control
        .merge("ScheduledTaskClass", "default", "default", mended)
        .await?;
    platform
        .control
        .wait_for("Release", "default", "report-development", "mended", |release| {
            !release.data["spec"].to_string().contains("crash-loop")
        })
        .await?;
    ask(&platform, &["bad", "good"]).await?;
    wait_phases(&platform, &[("bad", "Failed"), ("good", "Succeeded")]).await?;
    platform
        .control
        .wait_ready("Component", "default", "report")
        .await?;
    platform.stop().await;
    Ok(())
}
