//! The Deployment of a component.

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        ServiceClassSpec,
        common::{Autoscaling, Disruption, Probes, ReleaseState},
    },
};
use serde_json::{Map, Value, json};

use super::{Input, class, meta::Meta, pod};
use crate::problem::{Problem, Problems};

/// A class of a long-running component, whatever its kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Class {
    /// How it is called in messages.
    pub(super) describe: String,
    /// A DeploymentSpec.
    pub(super) deployment_template: Value,
    /// A ServiceSpec.
    pub(super) service_template: Value,
    /// How replicas follow the load.
    pub(super) autoscaling: Option<Autoscaling>,
    /// How many may be missing.
    pub(super) disruption: Option<Disruption>,
    /// Checks of the main container.
    pub(super) probes: Option<Probes>,
}

impl Class {
    /// Reads the frozen class.
    pub(super) fn of(input: &Input<'_>) -> Result<Self, Problems> {
        let Some(frozen) = &input.source.class else {
            return Ok(Self::default());
        };
        let describe = format!("{} {:?}", frozen.kind, frozen.name);
        // ServiceClass and WebApplicationClass have the same fields.
        let spec: ServiceClassSpec = serde_json::from_value(frozen.spec.clone())
            .map_err(|e| Problem::error(reasons::RENDER_FAILED, format!("{describe} spec: {e}")))?;
        Ok(Self {
            describe,
            deployment_template: spec.deployment_template.unwrap_or_default(),
            service_template: spec.service_template.unwrap_or_default(),
            autoscaling: spec.autoscaling,
            disruption: spec.disruption,
            probes: spec.probes,
        })
    }

    /// The autoscaling in force: the overrides' or the class's; none while suspended.
    pub(super) fn autoscaling<'a>(&'a self, input: &'a Input<'_>) -> Option<&'a Autoscaling> {
        if input.state == ReleaseState::Suspend {
            return None;
        }
        input.overrides.autoscaling.as_ref().or(self.autoscaling.as_ref())
    }
}

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Value, Problems> {
    let class = Class::of(input)?;
    let pod = pod::template(input, meta, class.probes.as_ref())?;
    let mut template = class.deployment_template.clone();
    let replicas = template.get("replicas").is_some_and(|r| !r.is_null());

    let mut spec = Map::new();
    if input.state == ReleaseState::Suspend {
        spec.insert("replicas".to_owned(), json!(0));
    } else if class.autoscaling(input).is_some() {
        // The autoscaler owns the number; saying it here would fight over it.
        if let Some(template) = template.as_object_mut() {
            template.remove("replicas");
        }
    } else if let Some(replicas) = input.overrides.replicas {
        spec.insert("replicas".to_owned(), json!(replicas));
    } else if !replicas {
        spec.insert("replicas".to_owned(), json!(1));
    }
    spec.insert("selector".to_owned(), json!({"matchLabels": meta.selector}));
    spec.insert("template".to_owned(), pod);
    let mut generated = meta.object(
        &class::DEPLOYMENT.api_version(),
        class::DEPLOYMENT.kind,
        &meta.name,
    );
    generated.insert("spec".to_owned(), Value::Object(spec));
    class::DEPLOYMENT.assemble(
        input,
        &class.describe,
        template,
        &Value::Object(generated),
        &meta.selector,
    )
}
