//! Controllers from workloads to Pods, and from Services to endpoints. Rules, reasons and texts are those of Kubernetes'
//! controller manager, since clients read them.

pub(crate) mod autoscaler;
pub(crate) mod budget;
pub(crate) mod cronjob;
pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod endpoints;
mod hash;
mod history;
pub(crate) mod job;
mod pods;
pub(crate) mod replicaset;
mod rollout;
pub(crate) mod statefulset;
