//! The local data plane: the controllers of workloads, a node agent that runs Pods as containers of Docker or Podman, and a simulator that
//! plays scheduler and kubelet where there is no engine, and the secrets operator. It works on any Kubernetes API through a client, and knows none of our kinds.
//!
//! ```text
//!  Deployment ─▶ ReplicaSet ─▶ Pod ◀─ StatefulSet, DaemonSet, Job ◀─ CronJob   workloads
//!                               │
//!                               ├─▶ node choreo-local: scheduled, running, ready      agent, or simulator
//!                               └─▶ EndpointSlice, Endpoints ◀─ Service               workloads
//!  ExternalSecret, Workflow (of Argo)                                          operators (simulated)
//! ```
//!
//! One watch per kind feeds one cache; what changed says which tasks to run; a task compares what is with what should be and
//! writes the difference. Tasks are repeated freely: they are idempotent and nobody polls.
//!
//! # Containers
//!
//! With [`Options::containers`] an [`Agent`] runs the Pods: see `docs/reference/local-data-plane.md`. Who embeds it must call [`command`] first thing in
//! `main`, since the containers of cells run the same executable.
//!
//! # What is simulated
//!
//! Every object that the simulator makes or speaks for has the annotation [`SIMULATED`]. Pods run at once and stay
//! ready. An annotation on a Pod (that is, on the Pod template of its workload) makes it fail:
//!
//! | [`BEHAVIOR`] | what one sees |
//! | --- | --- |
//! | `crash-loop` | restarts with growing back-off, `CrashLoopBackOff`; a Pod that never restarts is `Failed` |
//! | `image-pull-error` | `ErrImagePull`, then `ImagePullBackOff` |
//! | `slow-start` | runs, and is ready [`DELAY`] later (`30s`, `2m`, seconds; 10 s if not given) |
//! | `not-ready` | runs and never becomes ready |
//!
//! [`CONTAINER`] limits a failure to one container. Pods of Jobs complete at once, or after [`DELAY`].
//!
//! A Workflow has no Pods: its steps succeed at once, or after [`DELAY`]. The same annotations on the Workflow make a step fail,
//! the one that [`CONTAINER`] names or else `build-step`. Commits and images are made up from the parameters.

mod agent;
mod core;
mod node;
mod operators;
pub mod relay;
mod schedule;
mod simulator;
mod workloads;

pub use crate::core::{Options, run};
pub use agent::{
    Agent, AgentOptions, DEFAULT_POOL, EngineError, Finding, GatewayAddresses, ImageFacts, StartError,
    diagnose, diagnose_engine, image_facts, install_hint,
    node::{ENGINE_SOCKET, HOST_REACHABLE, POLICY_PARTLY_ENFORCED},
};
pub use relay::command;
pub use simulator::{BEHAVIOR, CONTAINER, DELAY, NODE, SIMULATED};
