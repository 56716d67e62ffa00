//! What `choreo up` says.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::output::{Printer, style};

/// Where everything is, once it runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The kubeconfig file.
    pub(crate) kubeconfig: PathBuf,
    /// URL of the control plane's API.
    pub(crate) api: String,
    /// URL of the local data plane's API.
    pub(crate) data_plane: String,
    /// Port of the gateway for HTTP.
    pub(crate) http_port: u16,
    /// Port of the gateway for HTTPS.
    pub(crate) https_port: u16,
    /// The certificate of the authority that signs for the gateway's hosts.
    pub(crate) authority_file: PathBuf,
    /// The data folder.
    pub(crate) folder: PathBuf,
    /// Whether objects are kept in memory only.
    pub(crate) in_memory: bool,
    /// The engine that runs Pods, if one does.
    pub(crate) engine: Option<String>,
}

/// Tells each step on standard error when it is done, and on standard output where everything is.
pub(crate) struct Progress<'a> {
    printer: &'a mut Printer,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(printer: &'a mut Printer) -> Self {
        Self { printer }
    }

    /// A step is done.
    pub(crate) fn done(&mut self, step: &str, detail: impl AsRef<str>) -> io::Result<()> {
        let mark = style::paint(style::GOOD, "✓");
        self.printer.note(format!(
            "{mark} {step:<22}{}",
            style::paint(style::DIM, detail.as_ref())
        ))
    }

    /// Everything runs.
    pub(crate) fn ready(&mut self, facts: &Facts, after: Duration) -> io::Result<()> {
        let copy = |text: &str| style::paint(style::COPY, text);
        let folder = match facts.in_memory {
            true => format!(
                "{}   (objects are in memory and go when it stops)",
                facts.folder.display()
            ),
            false => facts.folder.display().to_string(),
        };
        let kubeconfig = facts.kubeconfig.display().to_string();
        let lines = [
            String::new(),
            format!(
                "{} in {} ms",
                style::paint(style::BOLD, "Choreo is up"),
                after.as_millis()
            ),
            String::new(),
            format!("  Control plane   {}   context choreo", copy(&facts.api)),
            format!("  Data plane      {}   context local", copy(&facts.data_plane)),
            format!(
                "                  {}",
                match &facts.engine {
                    Some(engine) => format!("Pods run as containers of {engine}"),
                    None => style::paint(style::WAIT, "simulated: objects are real, no container is run"),
                }
            ),
            format!(
                "  Gateway         {}",
                copy(&format!("http://*.openchoreoapis.localhost:{}", facts.http_port))
            ),
            format!(
                "                  https on port {}, signed by {}",
                facts.https_port,
                facts.authority_file.display()
            ),
            format!("  Kubeconfig      {}", copy(&kubeconfig)),
            format!("  Data folder     {folder}"),
            String::new(),
            "  Next, in another terminal:".to_owned(),
            String::new(),
            format!("    export KUBECONFIG={}", copy(&kubeconfig)),
            format!("    {}", copy("choreo apply -f examples/greeter.yaml")),
            format!("    {}", copy("choreo tree component/greeter")),
            String::new(),
            style::paint(style::DIM, "Ctrl-C stops it."),
        ];
        for line in lines {
            self.printer.line(line)?;
        }
        Ok(())
    }
}
