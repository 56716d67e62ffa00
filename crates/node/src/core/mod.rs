//! What all controllers here stand on: caches fed by watches, tasks, writes.

mod cache;
mod conditions;
mod events;
mod feed;
mod index;
mod queue;
mod routes;
mod selector;
mod writes;

use std::sync::Arc;

use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use cache::{Cache, Name, World};
pub(crate) use conditions::set_condition;
pub(crate) use events::Recorder;
pub(crate) use queue::{Action, Task};
pub(crate) use selector::{matches, wants_node};
pub(crate) use writes::{Error, Result, controller_of, now, owner_reference};

use crate::{
    agent::{self, Agent},
    operators, simulator, workloads,
};

/// Which parts run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Controllers of Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs, autoscalers, budgets and endpoints. Off where the cluster has its own.
    pub workloads: bool,
    /// The simulated scheduler, node and kubelet.
    pub simulator: bool,
    /// Runs Pods as containers; then the simulator must be off.
    pub containers: Option<Agent>,
    /// The simulated secrets operator and workflow engine.
    pub operators: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workloads: true,
            simulator: true,
            containers: None,
            operators: true,
        }
    }
}

/// What a task works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) options: Options,
    pub(crate) recorder: Recorder,
}

/// Runs the controllers on the cluster of `client` until `shutdown`.
///
/// # Guarantees
/// Nothing is written before every cache is complete, so a restart makes no second set of Pods.
///
/// # Assumptions
/// Only one of these runs on a cluster, and no other controller of the same kinds.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) {
    let (sender, tasks) = mpsc::unbounded_channel();
    let recorder = Recorder::start(client.clone(), shutdown.clone());
    let context = Arc::new(Context {
        client,
        world: World::default(),
        options,
        recorder,
    });
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async {
            let feeds = feed::start(&context, &sender).await;
            if let Some(agent) = &context.options.containers {
                agent.begin(&context, sender.clone(), &shutdown).await;
            }
            if context.options.simulator || context.options.containers.is_some() {
                let _ = sender.send(Task::Node);
            }
            queue::work(&context, tasks).await;
            drop(feeds);
        } => {}
    }
    if let Some(agent) = &context.options.containers {
        agent.end();
    }
}

/// Carries out one task.
async fn perform(context: &Context, task: &Task) -> Result<Action> {
    match task {
        Task::Deployment(name) => workloads::deployment::reconcile(context, name).await,
        Task::ReplicaSet(name) => workloads::replicaset::reconcile(context, name).await,
        Task::StatefulSet(name) => workloads::statefulset::reconcile(context, name).await,
        Task::DaemonSet(name) => workloads::daemonset::reconcile(context, name).await,
        Task::Job(name) => workloads::job::reconcile(context, name).await,
        Task::CronJob(name) => workloads::cronjob::reconcile(context, name).await,
        Task::Autoscaler(name) => workloads::autoscaler::reconcile(context, name).await,
        Task::Budget(name) => workloads::budget::reconcile(context, name).await,
        Task::Endpoints(name) => workloads::endpoints::reconcile(context, name).await,
        Task::Node => match &context.options.containers {
            Some(agent) => agent::node::reconcile(context, agent).await,
            None => simulator::node::reconcile(context).await,
        },
        Task::Pod(name) => match &context.options.containers {
            Some(agent) => agent::perform_pod(context, agent, name).await,
            None => simulator::kubelet::reconcile(context, name).await,
        },
        Task::Claim(name) => {
            if let Some(agent) = &context.options.containers {
                agent::perform_claim(agent);
            }
            simulator::claim::reconcile(context, name).await
        }
        Task::Cell(name) => {
            if let Some(agent) = &context.options.containers {
                agent::perform_cell(agent, &name.namespace);
            }
            Ok(Action::Wait)
        }
        Task::Contents(name) => {
            if let Some(agent) = &context.options.containers {
                agent::perform_contents(agent, &name.namespace);
            }
            Ok(Action::Wait)
        }
        Task::Foreign(kind, name) => operators::reconcile(context, *kind, name).await,
    }
}
