//! Access to the containers of the local data plane: the node agent, as the API server asks for it.

use async_trait::async_trait;
use choreo_apiserver::pods::{
    AccessError, AttachRequest, Connection, ContainerStats, ExecRequest, ExecSession, LogQuery, LogStream,
    Output, PodAccess, PodStats,
};
use choreo_node::{self as node, Agent};
use futures::StreamExt as _;

/// The two sides say the same in types of their own: neither crate knows the other.
pub(super) struct Containers(pub(super) Agent);

#[async_trait]
impl PodAccess for Containers {
    async fn logs(&self, namespace: &str, pod: &str, query: LogQuery) -> Result<LogStream, AccessError> {
        let LogQuery {
            container,
            follow,
            previous,
            since,
            tail_lines,
            timestamps,
            limit_bytes,
        } = query;
        let query = node::LogQuery {
            container,
            follow,
            previous,
            since,
            tail_lines,
            timestamps,
            limit_bytes,
        };
        self.0.logs(namespace, pod, query).await.map_err(refused)
    }

    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        request: ExecRequest,
    ) -> Result<ExecSession, AccessError> {
        let ExecRequest {
            container,
            command,
            stdin,
            stdout,
            stderr,
            tty,
        } = request;
        let request = node::ExecRequest {
            container,
            command,
            stdin,
            stdout,
            stderr,
            tty,
        };
        let begun = self.0.exec(namespace, pod, request).await;
        begun.map(session).map_err(refused)
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        request: AttachRequest,
    ) -> Result<ExecSession, AccessError> {
        let AttachRequest {
            container,
            stdin,
            stdout,
            stderr,
            tty,
        } = request;
        let request = node::AttachRequest {
            container,
            stdin,
            stdout,
            stderr,
            tty,
        };
        let begun = self.0.attach(namespace, pod, request).await;
        begun.map(session).map_err(refused)
    }

    async fn port_forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Box<dyn Connection>, AccessError> {
        let connection = self.0.port_forward(namespace, pod, port).await.map_err(refused)?;
        Ok(Box::new(connection))
    }

    async fn stats(&self) -> Result<Vec<PodStats>, AccessError> {
        let all = self.0.stats().await.map_err(refused)?;
        let of = |pod: node::PodStats| PodStats {
            namespace: pod.namespace,
            pod: pod.pod,
            containers: pod.containers.into_iter().map(container).collect(),
        };
        Ok(all.into_iter().map(of).collect())
    }
}

fn container(stats: node::ContainerStats) -> ContainerStats {
    ContainerStats {
        name: stats.name,
        cpu_nanos_per_second: stats.cpu_nanos_per_second,
        memory_bytes: stats.memory_bytes,
    }
}

fn session(begun: node::ExecSession) -> ExecSession {
    let node::ExecSession {
        stdin,
        output,
        resize,
        exit,
    } = begun;
    let output = output.map(|part| {
        part.map(|part| match part {
            node::Output::Stdout(bytes) => Output::Stdout(bytes),
            node::Output::Stderr(bytes) => Output::Stderr(bytes),
        })
    });
    ExecSession {
        stdin,
        output: output.boxed(),
        resize,
        exit,
    }
}

fn refused(error: node::AccessError) -> AccessError {
    match error {
        node::AccessError::NotFound { what } => AccessError::NotFound { what },
        node::AccessError::NotRunning { what, why } => AccessError::NotRunning { what, why },
        node::AccessError::Unavailable { why } => AccessError::Unavailable { why },
        node::AccessError::ContainerRequired { names } => AccessError::ContainerRequired { names },
    }
}
