//! The agent at work: what was there at the start, what the engine tells, and a worker for each Pod.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, atomic::Ordering},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Agent, RECONNECT, Runtime, Worker,
    engine::{EngineError, EngineEvent},
    labels::{self, Role},
    pod,
};
use crate::{
    NODE,
    core::{Action, Context, Name, Result, Task},
    schedule,
};

/// How often removing everything is tried.
const ROUNDS: u32 = 5;
/// How long removing everything may take at the end.
const END: std::time::Duration = std::time::Duration::from_secs(8);

impl Agent {
    /// Begins to run the Pods of a cluster whose caches are complete.
    pub(crate) async fn begin(
        &self,
        context: &Arc<Context>,
        tasks: mpsc::UnboundedSender<Task>,
        shutdown: &CancellationToken,
    ) {
        let runtime = Arc::new(Runtime::new(context.clone(), &self.shared, tasks));
        if let Err(error) = take_stock(&runtime).await {
            // Everything is looked at again once the engine answers.
            runtime.away.send_replace(Some(error.to_string()));
        }
        self.shared.runtime.store(Some(runtime.clone()));
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ((), ()) = futures::future::join(prepare(&runtime), listen(&runtime)) => {}
            }
        });
    }

    /// Ends the workers. Containers go on: a new agent takes them over.
    pub(crate) fn end(&self) {
        if let Some(runtime) = self.shared.runtime.swap(None) {
            runtime.tasks.close();
            runtime.stop.cancel();
            runtime.workers.lock().clear();
        }
    }

    /// Removes every container, network and volume of this installation. For data folders that do not outlive the process.
    ///
    /// # Errors
    /// The engine's, for the first thing that could not be removed.
    pub async fn remove_everything(&self) -> Result<(), EngineError> {
        // What was being made when the agent ended may come to be only now.
        let mut outcome = Ok(());
        for _ in 0..ROUNDS {
            outcome = self.remove_what_is_there().await;
            if outcome.is_ok() {
                break;
            }
            sleep(std::time::Duration::from_millis(200)).await;
        }
        outcome
    }

    async fn remove_what_is_there(&self) -> Result<(), EngineError> {
        let engine = &self.shared.engine;
        let filter = labels::filter(&self.shared.instance);
        let work = async {
            let (sandboxes, others): (Vec<_>, Vec<_>) = engine
                .containers(&filter)
                .await?
                .into_iter()
                .partition(|(_, labels)| labels.get(labels::ROLE).map(String::as_str) == Some(Role::SANDBOX));
            for group in [others, sandboxes] {
                let all = group.iter().map(|(id, _)| engine.remove(id));
                futures::future::try_join_all(all).await?;
            }
            for network in engine.networks(&filter).await? {
                engine.remove_network(&network.name).await?;
            }
            for (volume, _) in engine.volumes(&filter).await? {
                engine.remove_volume(&volume).await?;
            }
            Ok(())
        };
        tokio::time::timeout(END, work).await.unwrap_or_else(|_| {
            Err(EngineError::Away(format!(
                "not all was removed within {} s",
                END.as_secs()
            )))
        })
    }
}

/// What a task of a Pod does where there is an agent.
pub(crate) async fn perform_pod(context: &Context, agent: &Agent, name: &Name) -> Result<Action> {
    let Some(runtime) = agent.shared.runtime.load_full() else {
        return Ok(Action::Wait);
    };
    let Some(pod) = context.world.pods.get(name) else {
        runtime.wake(name);
        return Ok(Action::Wait);
    };
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if node.is_empty() && pod.metadata.deletion_timestamp.is_none() {
        return schedule::schedule(context, &pod).await;
    }
    if node == NODE {
        runtime.wake(name);
        runtime.employ(&pod);
    }
    Ok(Action::Wait)
}

/// The Services of a namespace have changed, or it is gone.
pub(crate) fn perform_cell(agent: &Agent, namespace: &str) {
    let Some(runtime) = agent.shared.runtime.load_full() else {
        return;
    };
    if let Some(cell) = runtime.cells.get(namespace) {
        cell.update(&runtime);
    }
    let known = runtime.context.world.namespaces.get(&Name::new("", namespace));
    if known.is_none() {
        runtime.release(namespace);
    }
}

/// What Pods of a namespace may have mounted has changed.
pub(crate) fn perform_contents(agent: &Agent, namespace: &str) {
    if let Some(runtime) = agent.shared.runtime.load_full() {
        runtime.wake_namespace(namespace);
    }
}

/// A claim has changed. The folder of one that is gone goes with it.
pub(crate) fn perform_claim(agent: &Agent) {
    if let Some(runtime) = agent.shared.runtime.load_full() {
        remove_claims(&runtime);
    }
}

impl Runtime {
    /// Tells the workers of the Pods of a name that something has changed.
    fn wake(&self, name: &Name) {
        for worker in self.workers.lock().values().filter(|worker| worker.name == *name) {
            worker.changed.notify_one();
        }
    }

    /// Tells the workers of a namespace that a ConfigMap, a Secret or a claim has changed.
    fn wake_namespace(&self, namespace: &str) {
        for worker in self
            .workers
            .lock()
            .values()
            .filter(|worker| worker.name.namespace == namespace)
        {
            worker.changed.notify_one();
        }
    }

    /// Makes sure that a Pod has a worker.
    fn employ(self: &Arc<Self>, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let mut workers = self.workers.lock();
        if self.tasks.is_closed() || workers.contains_key(&uid) {
            return;
        }
        let worker = Worker {
            name: Name::of(pod),
            changed: Arc::new(Notify::new()),
            touched: Arc::default(),
            resync: Arc::default(),
        };
        let desk = pod::Desk {
            name: worker.name.clone(),
            uid: uid.clone(),
            changed: worker.changed.clone(),
            touched: worker.touched.clone(),
            resync: worker.resync.clone(),
        };
        workers.insert(uid.clone(), worker);
        drop(workers);
        let runtime = self.clone();
        self.tasks.spawn(async move {
            let namespace = desk.name.namespace.clone();
            tokio::select! {
                () = runtime.stop.cancelled() => return,
                () = pod::run(&runtime, desk) => {}
            }
            runtime.workers.lock().remove(&uid);
            runtime.release(&namespace);
        });
    }

    /// Removes the cell of a namespace in the background, if nothing needs it any longer.
    fn release(self: &Arc<Self>, namespace: &str) {
        if self.is_used(namespace) {
            return;
        }
        let (runtime, namespace) = (self.clone(), namespace.to_owned());
        self.tasks.spawn(async move {
            if let Err(error) = runtime.cells.release(&runtime, &namespace).await {
                tracing::warn!(
                    namespace,
                    "the network of a cell was not removed, and is at the next start: {error}"
                );
            }
        });
    }
}

/// Looks at what the engine has of this installation, and removes what nobody owns any longer.
async fn take_stock(runtime: &Arc<Runtime>) -> Result<(), EngineError> {
    let engine = &runtime.engine;
    let filter = labels::filter(&runtime.instance);
    let world = &runtime.context.world;
    let uids: BTreeSet<String> = world
        .pods
        .all()
        .iter()
        .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(NODE))
        .filter_map(|pod| pod.metadata.uid.clone())
        .collect();
    let mut orphans: Vec<(bool, String)> = Vec::new();
    let mut relays = Vec::new();
    for (id, labels) in engine.containers(&filter).await? {
        let text = |key: &str| labels.get(key).map(String::as_str).unwrap_or_default();
        match text(labels::ROLE) {
            Role::RELAY => relays.push((text(labels::CELL).to_owned(), id)),
            role if uids.contains(text(labels::POD_UID)) && role != Role::HELPER => {
                let uid = text(labels::POD_UID).to_owned();
                let has_worker = runtime.workers.lock().contains_key(&uid);
                if !has_worker {
                    runtime.found.lock().entry(uid).or_default().push(id);
                }
            }
            role => orphans.push((role == Role::SANDBOX, id)),
        }
    }
    // Those that live in a sandbox's network go before it.
    orphans.sort();
    for (_, id) in orphans {
        tracing::info!(container = id, "removing a container whose Pod is gone");
        engine.remove(&id).await?;
    }
    let known: BTreeSet<String> = runtime.cells.namespaces().into_iter().collect();
    let is_used = |namespace: &str| {
        world.namespaces.get(&Name::new("", namespace)).is_some()
            || !world.pods.in_namespace(namespace).is_empty()
    };
    for (namespace, id) in relays {
        if known.contains(&namespace) {
            runtime.cells.renew_relay(runtime, &namespace).await?;
        } else if is_used(&namespace) {
            runtime.found_relays.lock().insert(namespace, id);
        } else {
            engine.remove(&id).await?;
        }
    }
    for network in engine.networks(&filter).await? {
        let namespace = network.labels.get(labels::CELL).cloned().unwrap_or_default();
        match network.subnet {
            Some(subnet) if is_used(&namespace) => {
                runtime.subnets.lock().insert(subnet);
                if !known.contains(&namespace) {
                    runtime.found_networks.lock().insert(namespace, subnet);
                }
            }
            _ => engine.remove_network(&network.name).await?,
        }
    }
    for (volume, labels) in engine.volumes(&filter).await? {
        if labels.get(labels::POD_UID).is_none_or(|uid| !uids.contains(uid)) {
            engine.remove_volume(&volume).await?;
        }
    }
    for entry in fs::read_dir(runtime.options.data_dir.join("pods"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if !uids.contains(&*entry.file_name().to_string_lossy()) {
            pod::remove_folder(runtime, &entry.path()).await;
        }
    }
    remove_claims(runtime);
    Ok(())
}

fn remove_claims(runtime: &Arc<Runtime>) {
    let known: BTreeSet<String> = runtime
        .context
        .world
        .claims
        .all()
        .iter()
        .filter_map(|claim| claim.metadata.uid.clone())
        .collect();
    for entry in fs::read_dir(runtime.options.data_dir.join("volumes"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if !known.contains(&*entry.file_name().to_string_lossy()) {
            let (runtime, path) = (runtime.clone(), entry.path());
            runtime
                .clone()
                .tasks
                .spawn(async move { pod::remove_folder(&runtime, &path).await });
        }
    }
}

/// Follows the engine's events; where they break off, everything is looked at again once it is back.
async fn listen(runtime: &Arc<Runtime>) {
    let filter = labels::filter(&runtime.instance);
    let mut wait = RECONNECT.0;
    let mut first = true;
    loop {
        let reason = match runtime.engine.events(&filter).await {
            Ok(mut events) => {
                wait = RECONNECT.0;
                if !std::mem::take(&mut first) || runtime.away.borrow().is_some() {
                    come_back(runtime).await;
                }
                runtime.away.send_replace(None);
                runtime.tell_node();
                loop {
                    match events.next().await {
                        Some(Ok(event)) => dispatch(runtime, event),
                        Some(Err(error)) => break error.to_string(),
                        None => break "the connection to it has ended".to_owned(),
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!("the container engine is away: {reason}");
        runtime.away.send_replace(Some(reason));
        runtime.tell_node();
        sleep(wait).await;
        wait = (wait * 2).min(RECONNECT.1);
    }
}

/// Gives the engine the image that every Pod needs, so that the first one does not wait for it.
async fn prepare(runtime: &Runtime) {
    if let Err(error) = runtime.cells.image(runtime).await {
        tracing::debug!("the engine does not have the image of relays, the first Pod tries again: {error}");
    }
}

/// The engine is back, perhaps as a new process, perhaps with everything dead.
async fn come_back(runtime: &Arc<Runtime>) {
    runtime.cells.forget_image().await;
    if let Err(error) = take_stock(runtime).await {
        tracing::warn!("cannot see what the container engine has: {error}");
    }
    for worker in runtime.workers.lock().values() {
        worker.resync.store(true, Ordering::SeqCst);
        worker.changed.notify_one();
    }
}

fn dispatch(runtime: &Arc<Runtime>, event: EngineEvent) {
    let text = |key: &str| event.labels.get(key).map(String::as_str).unwrap_or_default();
    // Processes that are started in containers, and health checks, have events of their own.
    if event.action.starts_with("exec") || event.action.starts_with("health") {
        return;
    }
    if text(labels::ROLE) == Role::RELAY {
        if matches!(event.action.as_str(), "die" | "died" | "remove" | "destroy") {
            let (runtime, namespace) = (runtime.clone(), text(labels::CELL).to_owned());
            runtime.clone().tasks.spawn(async move {
                if let Err(error) = runtime.cells.renew_relay(&runtime, &namespace).await {
                    tracing::warn!(namespace, "the relay of a cell was not started again: {error}");
                }
            });
        }
        return;
    }
    if let Some(worker) = runtime.workers.lock().get(text(labels::POD_UID)) {
        worker.touched.lock().insert(event.container);
        worker.changed.notify_one();
    }
}
