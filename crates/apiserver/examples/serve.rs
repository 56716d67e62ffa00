//! A Kubernetes API on a port of this machine, without anything behind it, to try operators and tools against:
//!
//! ```text
//! cargo run -p choreo-apiserver --example serve -- /tmp/api &
//! KUBECONFIG=/tmp/api/kubeconfig kubectl get namespaces
//! ```
//!
//! With a folder the objects are kept in it, without one they are gone with the process and the kubeconfig is in `.`.

use std::path::PathBuf;
use std::sync::Arc;

use choreo_apiserver::authn::Authenticator;
use choreo_apiserver::kubeconfig::{self, Context};
use choreo_apiserver::serve::{ServeOptions, serve, tls_settings};
use choreo_apiserver::tls::{Pki, local_names};
use choreo_apiserver::{ApiServer, Options};
use choreo_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

// The product's, so that what is measured here says something about it.
#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let store = match &folder {
        Some(folder) => Store::open(folder)?,
        None => Store::in_memory(),
    };
    let folder = folder.unwrap_or_default();
    let clusters = vec!["control".to_owned(), "local".to_owned()];
    let server = ApiServer::new(
        store,
        Options {
            clusters: clusters.clone(),
            ..Options::default()
        },
    )?;
    let shutdown = CancellationToken::new();
    server.start_controllers(&shutdown);

    let pki = Pki::open(&folder.join("pki"), &local_names(), jiff::Timestamp::now())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let contexts: Vec<Context> = clusters
        .iter()
        .map(|name| Context {
            name: name.clone(),
            server: format!("https://{address}/clusters/{name}"),
            namespace: "default".to_owned(),
        })
        .collect();
    kubeconfig::write(
        &folder.join("kubeconfig"),
        &contexts,
        pki.authority_pem(),
        pki.admin(),
    )?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    let tls = tls_settings(pki.server_config()?);
    serve(
        listener,
        tls,
        Arc::new(Authenticator::new()),
        server.router(),
        ServeOptions::default(),
        shutdown,
    )
    .await;
    Ok(())
}
