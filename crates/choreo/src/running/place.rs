//! Where a component runs in an environment: its binding, its cell, and the data plane that the cell is in.

use choreo_api::v1alpha1::common::DEFAULT_TRACK;
use choreo_api::v1alpha1::{Component, DataPlane, Environment, Project, Release};
use choreo_api::{labels, names};
use choreo_engine::binding::Binding;
use choreo_engine::{World, promotion};
use std::path::PathBuf;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::online::{Connect, Kinds, Session, world};
use crate::text::nearest;

/// Which of a component's environments, and how its data plane is reached.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// The environment [default: the first one of the project's pipeline]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// The project that the component has to be of
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// The track
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRACK)]
    pub(crate) track: String,
    /// Kubeconfig file for a data plane outside of `choreo up`
    #[arg(long, value_name = "FILE")]
    pub(crate) data_plane_kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig for a data plane outside of `choreo up`
    #[arg(long, value_name = "NAME")]
    pub(crate) data_plane_context: Option<String>,
}

/// A component in an environment.
pub(crate) struct Place {
    /// The component.
    pub(crate) component: String,
    /// The environment.
    pub(crate) environment: String,
    /// What runs there.
    pub(crate) binding: Binding,
    /// The objects that it consists of, once there are any.
    pub(crate) release: Option<Release>,
    /// The control plane.
    pub(crate) session: Session,
    /// Its kinds.
    pub(crate) kinds: Kinds,
    data_plane: Option<DataPlane>,
}

impl Place {
    /// Finds a component.
    ///
    /// # Errors
    /// When there is no such component, or it does not run in the environment.
    pub(crate) async fn find(component: &str, target: &Target, connect: &Connect) -> Result<Place, Failure> {
        let session = Session::open(connect).await?;
        let kinds = Kinds::fetch(&session).await?;
        let world = world(&session, &kinds).await?;
        let organization = session.namespace.clone();
        let project = project_of(&world, &organization, component, target)?;
        let environment = environment_of(&world, &organization, &project, target)?;
        let bindings = Binding::of_component(&world, &organization, component);
        let of_track =
            |b: &Binding| b.track == target.track || b.track.is_empty() && target.track == DEFAULT_TRACK;
        let binding = bindings
            .iter()
            .find(|b| b.environment == environment && of_track(b));
        let Some(binding) = binding.cloned() else {
            let failure = Failure::new(format!(
                "component {component} is not deployed to environment {environment}"
            ))
            .status(ExitStatus::NotFound);
            let elsewhere: Vec<&str> = bindings.iter().map(|b| b.environment.as_str()).collect();
            return Err(if elsewhere.is_empty() {
                failure.hint(format!(
                    "`choreo tree component/{component}` says what it waits for"
                ))
            } else {
                failure.hint(format!("-e chooses: it is in {}", elsewhere.join(", ")))
            });
        };
        let release = world.get::<Release>(&organization, &names::release(binding.name()));
        let data_plane = world
            .get::<Environment>(&organization, &environment)
            .and_then(|environment| world.get::<DataPlane>(&organization, &environment.spec.data_plane_ref));
        Ok(Place {
            component: component.to_owned(),
            release: release.map(|release| (**release).clone()),
            data_plane: data_plane.map(|plane| (**plane).clone()),
            environment,
            binding,
            session,
            kinds,
        })
    }

    /// `greeter in development`, as messages name it.
    pub(crate) fn title(&self) -> String {
        format!("{} in {}", self.component, self.environment)
    }

    /// The namespace of its cell.
    pub(crate) fn namespace(&self) -> String {
        let owner = &self.binding.owner;
        names::cell_namespace(self.binding.namespace(), &owner.project_name, &self.environment)
    }

    /// The labels of its pods, as a selector.
    pub(crate) fn selector(&self) -> String {
        let track = match self.binding.track.as_str() {
            "" => DEFAULT_TRACK,
            track => track,
        };
        let labels = labels::Labels::new()
            .component(&self.component)
            .track(track)
            .build();
        let terms: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        terms.join(",")
    }

    /// The objects of its release that are of a kind.
    pub(crate) fn released(&self, kind: &str) -> Vec<serde_json::Value> {
        let opened = self.release.as_ref().map(|release| release.spec.resources.open());
        let resources = opened.and_then(Result::ok).unwrap_or_default();
        let objects = resources.iter().map(|resource| &resource.object);
        objects.filter(|object| object["kind"] == kind).cloned().collect()
    }

    /// A connection to its data plane.
    ///
    /// # Errors
    /// When the data plane is another cluster, and the command line does not say how it is reached.
    pub(crate) async fn data_plane(&self, target: &Target) -> Result<Session, Failure> {
        if target.data_plane_context.is_some() || target.data_plane_kubeconfig.is_some() {
            let connect = Connect {
                kubeconfig: target.data_plane_kubeconfig.clone(),
                context: target.data_plane_context.clone(),
                namespace: None,
            };
            return Session::open(&connect).await;
        }
        let Some(plane) = &self.data_plane else {
            return Err(
                Failure::new(format!("environment {} has no data plane yet", self.environment))
                    .hint("`choreo get environments,dataplanes` shows what is missing")
                    .status(ExitStatus::NotFound),
            );
        };
        let cluster = plane.spec.kubernetes_cluster.as_ref();
        let embedded = cluster.and_then(|cluster| cluster.embedded());
        embedded
            .and_then(|name| self.session.in_logical_cluster(name))
            .ok_or_else(|| {
                let name = plane.metadata.name.clone().unwrap_or_default();
                Failure::usage(format!(
                    "{} runs in data plane {name}, which is another cluster",
                    self.title()
                ))
                .cause("the platform's credentials for it are not handed out")
                .hint("say how you reach it: --data-plane-context NAME, with --data-plane-kubeconfig FILE if it is not in your kubeconfig")
            })
    }
}

/// The project of a component.
fn project_of(
    world: &World,
    organization: &str,
    component: &str,
    target: &Target,
) -> Result<String, Failure> {
    let Some(found) = world.get::<Component>(organization, component) else {
        let failure = Failure::new(format!(
            "there is no component {component} in organization {organization}"
        ))
        .status(ExitStatus::NotFound);
        let all: Vec<String> = world
            .in_namespace::<Component>(organization)
            .filter_map(|component| component.metadata.name.clone())
            .collect();
        return Err(match nearest(component, all.iter().map(String::as_str)) {
            Some(near) => failure.hint(format!("is it {near}?")),
            None => failure.hint("`choreo get components` lists those that are there"),
        });
    };
    let project = &found.spec.owner.project_name;
    match &target.project {
        Some(wanted) if wanted != project => Err(Failure::new(format!(
            "component {component} is of project {project}, not of {wanted}"
        ))
        .status(ExitStatus::NotFound)),
        _ => Ok(project.clone()),
    }
}

/// The environment that is meant.
///
/// # Errors
/// When there is none of the name, or the project has no pipeline with a first one.
pub(crate) fn environment_of(
    world: &World,
    organization: &str,
    project: &str,
    target: &Target,
) -> Result<String, Failure> {
    if let Some(named) = &target.environment {
        return match world.get::<Environment>(organization, named) {
            Some(_) => Ok(named.clone()),
            None => {
                let all: Vec<String> = world
                    .in_namespace::<Environment>(organization)
                    .filter_map(|environment| environment.metadata.name.clone())
                    .collect();
                Err(Failure::new(format!("there is no environment {named}"))
                    .hint(format!("there are {}", all.join(", ")))
                    .status(ExitStatus::NotFound))
            }
        };
    }
    let Some(found) = world.get::<Project>(organization, project) else {
        return Err(Failure::new(format!(
            "there is no project {project} in organization {organization}"
        ))
        .hint("`choreo get projects` lists those that are there; -n names another organization")
        .status(ExitStatus::NotFound));
    };
    let first = promotion::pipeline_of(world, organization, project).and_then(promotion::first_environment);
    first.ok_or_else(|| {
        Failure::new(format!("project {project} has no first environment"))
            .cause(format!(
                "its deployment pipeline {} does not exist, or has no environment that no path leads to",
                found.spec.deployment_pipeline_ref
            ))
            .hint("`choreo pipeline` shows it")
    })
}
