//! The kinds of `openchoreo.dev/v1alpha1`, one module each.
//!
//! Field names and meanings follow the release of OpenChoreo that this project interoperates with; what goes beyond
//! it is optional everywhere.

// The schema derive repeats each struct inside a function, where its `pub` cannot be reached.
#![allow(unreachable_pub)]
// Clippy takes the arguments of different printer columns for one another.
#![allow(clippy::duplicated_attributes)]

pub mod api;
pub mod apibinding;
pub mod apiclass;
pub mod application;
pub mod build;
pub mod buildplane;
pub mod cluster;
pub mod common;
pub mod component;
pub mod componentbinding;
pub mod componenttype;
pub mod configurationgroup;
pub mod dataplane;
pub mod deployableartifact;
pub mod deployment;
pub mod deploymentpipeline;
pub mod deploymenttrack;
pub mod endpoint;
mod endpointpolicy;
pub mod environment;
pub mod gitcommitrequest;
pub mod managedresource;
pub mod organization;
mod overrides;
pub mod project;
pub mod promotion;
pub mod promotionbypass;
pub mod promotiondecision;
pub mod release;
pub mod resourcetype;
pub mod scheduledtask;
pub mod scheduledtaskbinding;
pub mod scheduledtaskclass;
pub mod service;
pub mod servicebinding;
pub mod serviceclass;
mod task;
mod template;
pub mod traits;
pub mod webapplication;
pub mod webapplicationbinding;
pub mod webapplicationclass;
pub mod workload;

pub use api::*;
pub use apibinding::*;
pub use apiclass::*;
pub use application::*;
pub use build::*;
pub use buildplane::*;
pub use cluster::*;
pub use common::*;
pub use component::*;
pub use componentbinding::*;
pub use componenttype::*;
pub use configurationgroup::*;
pub use dataplane::*;
pub use deployableartifact::*;
pub use deployment::*;
pub use deploymentpipeline::*;
pub use deploymenttrack::*;
pub use endpoint::*;
pub use environment::*;
pub use gitcommitrequest::*;
pub use managedresource::*;
pub use organization::*;
pub use project::*;
pub use promotion::*;
pub use promotionbypass::*;
pub use promotiondecision::*;
pub use release::*;
pub use resourcetype::*;
pub use scheduledtask::*;
pub use scheduledtaskbinding::*;
pub use scheduledtaskclass::*;
pub use service::*;
pub use servicebinding::*;
pub use serviceclass::*;
pub use task::*;
pub use template::*;
pub use traits::*;
pub use webapplication::*;
pub use webapplicationbinding::*;
pub use webapplicationclass::*;
pub use workload::*;
