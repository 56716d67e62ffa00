//! Overrides: what one component, or one environment, changes in a frozen workload.

use std::borrow::Cow;

use choreo_api::v1alpha1::{
    WorkloadTemplate,
    common::{ContainerOverride, ContainerResources, EnvVar, FileMount, Overrides, Probes},
};

use crate::problem::Problems;

/// Lays `over` on top of `base`: what `over` says wins, lists with keys are merged by key.
#[must_use]
pub fn layered(base: &Overrides, over: &Overrides) -> Overrides {
    // Exhaustive on purpose: a field that is added to the type must be decided here.
    let Overrides {
        replicas,
        containers,
        autoscaling,
        disruption,
        schedule,
        time_zone,
        restarted_at,
    } = over;
    let mut merged = base.clone();
    merged.replicas = replicas.or(merged.replicas);
    for (name, change) in containers {
        let slot = merged.containers.entry(name.clone()).or_default();
        layer_container(slot, change);
    }
    replace(&mut merged.autoscaling, autoscaling);
    replace(&mut merged.disruption, disruption);
    replace(&mut merged.schedule, schedule);
    replace(&mut merged.time_zone, time_zone);
    replace(&mut merged.restarted_at, restarted_at);
    merged
}

/// The workload with its containers changed as the overrides say.
///
/// # Errors
/// When an override names a container that the workload does not have.
pub fn apply<'a>(
    workload: &'a WorkloadTemplate,
    overrides: &Overrides,
    owner: &str,
) -> Result<Cow<'a, WorkloadTemplate>, Problems> {
    if overrides.containers.is_empty() {
        return Ok(Cow::Borrowed(workload));
    }
    let mut problems = Problems::new();
    let mut result = workload.clone();
    for (name, change) in &overrides.containers {
        let init = result.init_containers.iter_mut().find(|init| init.name == *name);
        let found = result
            .containers
            .get_mut(name)
            .or(init.map(|init| &mut init.container));
        let Some(container) = found else {
            let known = crate::problem::quoted_list(workload.all_containers().map(|(_, name, _)| name));
            problems.invalid(format!(
                "{owner} spec.overrides.containers[{name}]: the workload has no container {name:?} (it has {known})"
            ));
            continue;
        };
        let ContainerOverride {
            command,
            args,
            env,
            env_from,
            file_mounts,
            resources,
            probes,
        } = change;
        if !command.is_empty() {
            container.command.clone_from(command);
        }
        if !args.is_empty() {
            container.args.clone_from(args);
        }
        merge_env(&mut container.env, env);
        container.env_from.extend(env_from.iter().cloned());
        merge_files(&mut container.file_mounts, file_mounts);
        merge_resources(&mut container.resources, resources);
        merge_probes(&mut container.probes, probes.as_ref());
    }
    problems.or_ok(Cow::Owned(result))
}

fn layer_container(slot: &mut ContainerOverride, change: &ContainerOverride) {
    let ContainerOverride {
        command,
        args,
        env,
        env_from,
        file_mounts,
        resources,
        probes,
    } = change;
    if !command.is_empty() {
        slot.command.clone_from(command);
    }
    if !args.is_empty() {
        slot.args.clone_from(args);
    }
    merge_env(&mut slot.env, env);
    slot.env_from.extend(env_from.iter().cloned());
    merge_files(&mut slot.file_mounts, file_mounts);
    merge_resources(&mut slot.resources, resources);
    merge_probes(&mut slot.probes, probes.as_ref());
}

fn replace<T: Clone>(slot: &mut Option<T>, value: &Option<T>) {
    if value.is_some() {
        slot.clone_from(value);
    }
}

fn merge_env(into: &mut Vec<EnvVar>, from: &[EnvVar]) {
    for var in from {
        match into.iter_mut().find(|v| v.key == var.key) {
            Some(slot) => slot.clone_from(var),
            None => into.push(var.clone()),
        }
    }
}

fn merge_files(into: &mut Vec<FileMount>, from: &[FileMount]) {
    for file in from {
        match into.iter_mut().find(|f| f.mount_path == file.mount_path) {
            Some(slot) => slot.clone_from(file),
            None => into.push(file.clone()),
        }
    }
}

fn merge_resources(into: &mut ContainerResources, from: &ContainerResources) {
    into.requests
        .extend(from.requests.iter().map(|(k, v)| (k.clone(), v.clone())));
    into.limits
        .extend(from.limits.iter().map(|(k, v)| (k.clone(), v.clone())));
}

fn merge_probes(into: &mut Option<Probes>, from: Option<&Probes>) {
    let Some(from) = from else { return };
    let slot = into.get_or_insert_default();
    let Probes {
        readiness_probe,
        liveness_probe,
        startup_probe,
    } = from;
    replace(&mut slot.readiness_probe, readiness_probe);
    replace(&mut slot.liveness_probe, liveness_probe);
    replace(&mut slot.startup_probe, startup_probe);
}
