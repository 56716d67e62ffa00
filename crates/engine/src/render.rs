//! Rendering: from a frozen component in an environment to the exact Kubernetes objects of its cell.
//!
//! A pure function of its [`Input`]. It collects every mistake rather than stopping at the first; when there is one,
//! nothing is rendered and what runs is left alone.

use std::collections::BTreeMap;

use choreo_api::conditions::reasons;
use choreo_api::v1alpha1::{
    DeployableArtifactSpec, RawObject, ReleaseResource, WorkloadTemplate,
    common::{Overrides, ReleaseState},
};
use serde_json::Value;

use crate::{
    expose::Exposure,
    place::Place,
    problem::{Problem, Problems},
    resolve::{configuration::Configuration, connections::Connections},
    world::Kind,
};

pub(crate) mod access;
mod api;
mod class;
mod config;
pub(crate) mod custom;
mod guard;
pub(crate) mod meta;
mod network;
mod order;
mod pod;
pub mod policy;
pub(crate) mod registry;
mod route;
mod scaling;
mod secret_provider;
mod service;
pub(crate) mod task;
mod workload;

pub use class::{cron_job_template_problems, deployment_template_problems, service_template_problems};
pub use guard::api_class_problems;
pub use order::{phase, sort, sort_for_deletion};

/// Everything that decides about a component's objects in a cell.
pub struct Input<'a> {
    /// The cell.
    pub place: &'a Place,
    /// The component.
    pub component: &'a str,
    /// The track.
    pub track: &'a str,
    /// The frozen component.
    pub source: &'a DeployableArtifactSpec,
    /// Its workload, with overrides applied.
    pub workload: &'a WorkloadTemplate,
    /// The overrides in force: the component's own under those of the environment.
    pub overrides: &'a Overrides,
    /// The settings that the workload uses.
    pub configuration: &'a Configuration,
    /// What the workload's connections amount to.
    pub connections: &'a Connections,
    /// The component's endpoints.
    pub exposures: &'a [Exposure],
    /// Whether it runs or rests.
    pub state: ReleaseState,
    /// Values for the `environmentConfigs` of a ComponentType.
    pub environment_configs: Option<&'a Value>,
    /// Values for the `environmentConfigs` of traits, by the name of the trait's use.
    pub trait_environment_configs: &'a BTreeMap<String, RawObject>,
    /// The API class that guards an API here instead of the artifact's.
    pub api_class: Option<&'a str>,
    /// The runs of a task that somebody asked for, and whose Jobs are to be there.
    pub runs: &'a [String],
}

/// The families of components: each has a rendering of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Runs all the time: a service or a web application.
    LongRunning,
    /// Runs and ends.
    Task,
    /// A door to something that runs elsewhere, or to a workload of its own.
    Api,
    /// Made by the templates of a ComponentType.
    Custom,
}

impl Family {
    /// The family of an artifact.
    pub fn of(artifact: &DeployableArtifactSpec) -> Self {
        match crate::binding::kind_for(artifact) {
            Kind::ComponentBinding => Self::Custom,
            Kind::APIBinding => Self::Api,
            Kind::ScheduledTaskBinding => Self::Task,
            _ => Self::LongRunning,
        }
    }
}

/// The objects of a component in its cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// The objects, in the order in which they are applied.
    pub resources: Vec<ReleaseResource>,
    /// Declared restrictions that this data plane cannot enforce.
    pub unenforced: Vec<String>,
}

/// Renders a component.
///
/// # Errors
/// Everything that is wrong, with object and field.
pub fn render(input: &Input<'_>) -> Result<Output, Problems> {
    let mut problems = Problems::new();
    let meta = meta::Meta::of_component(input);
    let mut objects = Vec::new();
    // What runs nothing needs no identity.
    if Family::of(input.source) != Family::Api || api::has_pods(input) {
        objects.push(meta.service_account());
    }
    let mut unenforced = input.connections.unenforced.clone();

    problems.extend(useless_overrides(input));
    objects.extend(problems.take(config::render(input, &meta)).unwrap_or_default());
    match Family::of(input.source) {
        Family::LongRunning => {
            objects.extend(problems.take(workload::render(input, &meta)));
            objects.extend(problems.take(service::render(input, &meta)).flatten());
            objects.extend(problems.take(scaling::render(input, &meta)).unwrap_or_default());
            objects.extend(problems.take(route::render(input, &meta)).unwrap_or_default());
        }
        Family::Task => objects.extend(problems.take(task::render(input, &meta)).unwrap_or_default()),
        Family::Api => objects.extend(problems.take(api::render(input, &meta)).unwrap_or_default()),
        Family::Custom => {
            objects.extend(problems.take(service::render(input, &meta)).flatten());
            objects.extend(problems.take(route::render(input, &meta)).unwrap_or_default());
        }
    }
    let objects = problems.take(custom::apply(input, &meta, objects));
    let mut objects = objects.unwrap_or_default();
    let network = network::render(input, &meta);
    objects.extend(network.objects);
    unenforced.extend(network.unenforced);

    problems.or_ok(Output {
        resources: sort(objects),
        unenforced,
    })
}

/// Overrides that would change nothing: whoever wrote them expects something of them.
fn useless_overrides(input: &Input<'_>) -> Vec<Problem> {
    let Overrides {
        replicas,
        containers: _,
        autoscaling,
        disruption,
        schedule,
        time_zone,
        restarted_at,
    } = input.overrides;
    let of_pods = [
        ("replicas", replicas.is_some()),
        ("autoscaling", autoscaling.is_some()),
        ("disruption", disruption.is_some()),
        ("restartedAt", restarted_at.is_some()),
    ];
    let of_tasks = [
        ("schedule", schedule.is_some()),
        ("timeZone", time_zone.is_some()),
    ];
    let (useless, why) = match Family::of(input.source) {
        Family::LongRunning => (of_tasks.to_vec(), "only a task has a schedule; remove it"),
        Family::Task => (of_pods.to_vec(), "a task has no replicas; remove it"),
        Family::Api | Family::Custom => return Vec::new(),
    };
    let given = useless.into_iter().filter(|(_, given)| *given);
    given
        .map(|(field, _)| Problem::error(reasons::INVALID, format!("overrides.{field}: {why}")))
        .collect()
}
