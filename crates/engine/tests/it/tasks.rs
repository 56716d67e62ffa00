//! Tasks: schedules, runs on demand, and what suspending and undeploying make of them.

use choreo_engine::{Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::*;

fn task(type_: &str, spec: &str, workload: &str) -> String {
    let owner = "{projectName: default, componentName: report}";
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {{name: report}}, spec: {{owner: {{projectName: default}}, type: {type_}}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Workload, metadata: {{name: report}}, spec: {{owner: {owner}, {workload}}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: ScheduledTask, metadata: {{name: report}}, spec: {{owner: {owner}, workloadName: report{spec}}}}}"
    )
}

const MAIN: &str = "containers: {main: {image: 'report:1'}}";

const CLASS: &str = "{apiVersion: openchoreo.dev/v1alpha1, kind: ScheduledTaskClass, metadata: {name: default}, spec: {cronJobTemplate: \
                     {schedule: '0 * * * *', concurrencyPolicy: Forbid, successfulJobsHistoryLimit: 3, failedJobsHistoryLimit: 1, \
                     jobTemplate: {spec: {backoffLimit: 3, template: {spec: {restartPolicy: Never}}}}}}}";

fn cron_job(resources: &[Value]) -> Value {
    resource(resources, "CronJob", "report").clone()
}

fn binding(more: &str) -> String {
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ScheduledTaskBinding, metadata: {{name: report-development}}, spec: {{owner: \
         {{projectName: default, componentName: report}}, environment: development, workloadSpec: {{{MAIN}}}{more}}}}}"
    )
}

#[test]
fn a_scheduled_task_is_a_cron_job_of_its_class() {
    let spec = ", schedule: '30 6 * * mon-fri', timeZone: Europe/Berlin, failedJobsHistoryLimit: 5, activeDeadlineSeconds: 600";
    let rendered = render(&[CLASS, &task("ScheduledTask", spec, MAIN)]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("scheduled-task", resources(&rendered, "report-development"));
    assert!(names(&rendered).contains(&"ScheduledTaskBinding report-development".to_owned()));
}

#[rstest]
#[case(", schedule: '* * * *'", "it has 4 fields instead of 5")]
#[case(", schedule: '0 0 * * 7'", "day of week \"7\"")]
#[case(", timeZone: 'Local'", "\"Local\" is not a time zone")]
fn a_schedule_that_kubernetes_would_refuse(#[case] spec: &str, #[case] why: &str) {
    let rendered = render(&[CLASS, &task("ScheduledTask", spec, MAIN)]);
    let (reason, message) = ready(&rendered.world, Kind::ScheduledTaskBinding, "report-development");
    assert_eq!(reason, "RenderFailed");
    assert!(message.contains(why), "{message}");
}

#[test]
fn a_task_without_any_schedule_says_where_to_give_one() {
    let class = "{apiVersion: openchoreo.dev/v1alpha1, kind: ScheduledTaskClass, metadata: {name: default}, spec: {}}";
    let rendered = render(&[class, &task("ScheduledTask", "", MAIN)]);
    let (_, message) = ready(&rendered.world, Kind::ScheduledTaskBinding, "report-development");
    assert_eq!(
        message,
        "schedule: neither the ScheduledTask nor its class has one; give it in spec.schedule of the ScheduledTask"
    );
}

#[test]
fn a_task_answers_nobody() {
    let workload = format!("{MAIN}, endpoints: {{a: {{type: HTTP, port: 80}}}}");
    let rendered = render(&[CLASS, &task("ScheduledTask", "", &workload)]);
    let (_, message) = ready(&rendered.world, Kind::ScheduledTaskBinding, "report-development");
    assert!(
        message.starts_with("workload endpoints: a task answers nobody"),
        "{message}"
    );
}

#[test]
fn the_environment_has_the_last_word_on_the_schedule() {
    let spec = ", schedule: '0 1 * * *', overrides: {schedule: '0 2 * * *', timeZone: Asia/Tokyo}";
    let overridden = binding(", overrides: {schedule: '0 3 * * *'}");
    let rendered = render(&[CLASS, &task("ScheduledTask", spec, MAIN)]);
    let all = resources(&rendered, "report-development");
    assert_eq!(cron_job(&all)["spec"]["schedule"], "0 2 * * *");
    let rendered = render(&[CLASS, &task("ScheduledTask", "", MAIN), &overridden]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, "report-development");
    assert_eq!(cron_job(&all)["spec"]["schedule"], "0 3 * * *");
}

#[test]
fn a_manual_task_rests_and_runs_once_for_each_name() {
    let runs = binding(", runs: [first, second]");
    let rendered = render(&[CLASS, &task("ManualTask", "", MAIN), &runs]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, "report-development");
    assert_eq!(cron_job(&all)["spec"]["suspend"], true);
    let jobs: Vec<&Value> = all.iter().filter(|o| o["kind"] == "Job").collect();
    let told: Vec<Value> = jobs
        .iter()
        .map(|job| {
            let meta = &job["metadata"];
            json!([
                meta["labels"]["openchoreo.dev/run"],
                meta["annotations"]["openchoreo.dev/apply"],
                meta["annotations"]["openchoreo.dev/superseded"],
            ])
        })
        .collect();
    assert_eq!(
        told,
        [json!(["first", "once", "true"]), json!(["second", "once", null])]
    );
    for job in jobs {
        assert_eq!(job["spec"], cron_job(&all)["spec"]["jobTemplate"]["spec"]);
    }
    let scheduled = task("ManualTask", ", schedule: '* * * * *'", MAIN);
    let rendered = render(&[CLASS, &scheduled]);
    let (_, message) = ready(&rendered.world, Kind::ScheduledTaskBinding, "report-development");
    assert!(
        message.starts_with("schedule: a ManualTask runs when somebody starts it"),
        "{message}"
    );
}

/// The binding with a status, as if something had been written down before.
fn with_status(runs: &str, state: &str, status: &str) -> World {
    let text = binding(&format!(", runs: {runs}, releaseState: {state}"));
    let text = format!("{}, status: {status}}}", text.strip_suffix('}').unwrap());
    world(&[CLASS, &task("ManualTask", "", MAIN), &text])
}

fn jobs(world: &World) -> Vec<String> {
    let plan = plan_of(world, Kind::ScheduledTaskBinding, "report-development");
    let release = plan.children.iter().find(|c| c.kind() == "Release").unwrap();
    let all = release.object["spec"]["resources"].as_array().unwrap();
    all.iter()
        .filter(|r| r["object"]["kind"] == "Job")
        .map(|r| {
            r["object"]["metadata"]["labels"]["openchoreo.dev/run"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn what_has_run_does_not_run_again() {
    let known = "{runs: [{id: a, job: j, phase: Succeeded}]}";
    // As after a removal from the cluster: the status knows the run, no release has it.
    assert_eq!(jobs(&with_status("[a, b]", "Active", known)), ["b"]);
    assert_eq!(jobs(&with_status("[a, b]", "Active", "{}")), ["a", "b"]);
    // A name that was taken away and given again has run, too; and what it was is not forgotten meanwhile.
    let without = with_status("[b]", "Active", known);
    let plan = plan_of(&without, Kind::ScheduledTaskBinding, "report-development");
    let status = json!(plan.status.unwrap().fields["runs"]);
    assert_eq!(status[0]["id"], "a");
    assert_eq!(
        jobs(&with_status("[b, a]", "Active", &format!("{{runs: {status}}}"))),
        ["b"]
    );
    // While suspended nothing new starts.
    assert_eq!(
        jobs(&with_status("[a, b]", "Suspend", known)),
        Vec::<String>::new()
    );
}

#[test]
fn what_was_started_stays_in_the_release_while_suspended() {
    let active = binding(", runs: [a]");
    let rendered = render(&[CLASS, &task("ManualTask", "", MAIN), &active]);
    let mut suspended = rendered.world;
    add(&mut suspended, &binding(", runs: [a, b], releaseState: Suspend"));
    assert_eq!(jobs(&suspended), ["a"]);
    // And when it is undeployed, its end is remembered.
    add(&mut suspended, &binding(", runs: [a], releaseState: Undeploy"));
    let plan = plan_of(&suspended, Kind::ScheduledTaskBinding, "report-development");
    let runs = &plan.status.unwrap().fields["runs"];
    assert_eq!(runs[0]["id"], "a");
}

#[test]
fn a_suspended_task_keeps_its_cron_job() {
    let rendered = render(&[
        CLASS,
        &task("ScheduledTask", "", MAIN),
        &binding(", releaseState: Suspend"),
    ]);
    let all = resources(&rendered, "report-development");
    assert_eq!(cron_job(&all)["spec"]["suspend"], true);
}

#[test]
fn a_long_name_is_cut_to_what_a_cron_job_can_have() {
    let name = "a-component-whose-name-is-longer-than-a-cron-job-may-be-x";
    let text = task("ScheduledTask", "", MAIN).replace("report", name);
    let text = text.replace(&format!("{name}:1"), "report:1");
    let rendered = render(&[CLASS, &text]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, &format!("{name}-development"));
    let found = resource(&all, "CronJob", "a-component")["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(found.len() <= 52 && found != name, "{found}");
    assert_eq!(
        resource(&all, "ServiceAccount", "a-component")["metadata"]["name"],
        name,
        "63 characters are enough for this one"
    );
}

#[rstest]
#[case(
    "jobTemplate: {spec: {selector: {matchLabels: {a: b}}}}",
    "jobTemplate.spec.selector: the platform selects the pods"
)]
#[case(
    "jobTemplate: {spec: {template: {spec: {serviceAccountName: root}}}}",
    "jobTemplate.spec.template.spec.serviceAccountName: the platform gives"
)]
#[case(
    "jobTemplate: {spec: {template: {spec: {containers: [{name: main, image: evil}]}}}}",
    "spec.containers[main].image: the workload says it"
)]
#[case("schedule: often", "schedule: \"often\" is not a schedule")]
#[case(
    "jobTemplate: {spec: {backoffLimits: 3}}",
    "jobTemplate.spec.backoffLimits: unknown field"
)]
fn a_class_cannot_say_what_is_the_platforms(#[case] template: &str, #[case] why: &str) {
    let class = format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ScheduledTaskClass, metadata: {{name: default}}, spec: {{cronJobTemplate: {{{template}}}}}}}"
    );
    let (reason, message) = ready(&world(&[&class]), Kind::ScheduledTaskClass, "default");
    assert_eq!(reason, "Invalid");
    assert!(message.contains(why), "{message}");
}

#[rstest]
#[case("replicas: 2", "overrides.replicas: a task has no replicas; remove it")]
#[case(
    "autoscaling: {maxReplicas: 2}",
    "overrides.autoscaling: a task has no replicas; remove it"
)]
fn overrides_that_would_change_nothing_are_refused(#[case] overrides: &str, #[case] why: &str) {
    let spec = format!(", overrides: {{{overrides}}}");
    let rendered = render(&[CLASS, &task("ScheduledTask", &spec, MAIN)]);
    let (_, message) = ready(&rendered.world, Kind::ScheduledTaskBinding, "report-development");
    assert_eq!(message, why);
}
