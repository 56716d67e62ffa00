//! Classes: what in them is not theirs to say, found when they are written and not when somebody uses them.

use choreo_api::v1alpha1::{APIClass, ScheduledTaskClass, ServiceClass, WebApplicationClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::summary;
use crate::{
    plan::Plan,
    problem::Problems,
    render::{cron_job_template_problems, deployment_template_problems, service_template_problems},
};

pub(super) fn service(class: &ServiceClass) -> Plan {
    templates(
        &class.metadata,
        class.spec.deployment_template.as_ref(),
        class.spec.service_template.as_ref(),
    )
}

pub(super) fn web_application(class: &WebApplicationClass) -> Plan {
    templates(
        &class.metadata,
        class.spec.deployment_template.as_ref(),
        class.spec.service_template.as_ref(),
    )
}

pub(super) fn scheduled_task(class: &ScheduledTaskClass) -> Plan {
    let mut problems = Problems::new();
    let template = class.spec.cron_job_template.as_ref();
    for (field, why) in template.map(cron_job_template_problems).unwrap_or_default() {
        problems.invalid(format!("spec.cronJobTemplate.{field}: {why}"));
    }
    let status = summary(&class.metadata, &problems, "can be used");
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}

fn templates(meta: &ObjectMeta, deployment: Option<&Value>, service: Option<&Value>) -> Plan {
    let mut problems = Problems::new();
    for (field, why) in deployment.map(deployment_template_problems).unwrap_or_default() {
        problems.invalid(format!("spec.deploymentTemplate.{field}: {why}"));
    }
    for (field, why) in service.map(service_template_problems).unwrap_or_default() {
        problems.invalid(format!("spec.serviceTemplate.{field}: {why}"));
    }
    let status = summary(meta, &problems, "can be used");
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}

pub(super) fn api(class: &APIClass) -> Plan {
    let problems: Problems = crate::render::api_class_problems(&class.spec)
        .into_iter()
        .collect();
    let status = summary(&class.metadata, &problems, "can be used");
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}
