//! Changes of what is different in one environment: the overrides of a binding.

use choreo_api::labels::GROUP;
use choreo_engine::Kind as EngineKind;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

use super::Place;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::online::{Body, Seen, Watched, until};
use crate::output::Printer;

/// As whom bindings are changed.
const MANAGER: &str = "choreo-cli";

impl Place {
    /// Says something different in the overrides of the environment's binding. Gives the binding as it is then.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn override_with(&self, overrides: Value) -> Result<Value, Failure> {
        let kind = self.kind()?;
        let url = format!(
            "{}?fieldManager={MANAGER}&fieldValidation=Strict",
            kind.path(Some(&self.session.namespace), Some(self.binding.name()))
        );
        let change = json!({"spec": {"overrides": overrides}});
        let answer = self.session.send(Method::PATCH, &url, Body::Merge(change)).await;
        let answer = answer.map_err(|error| {
            error.failure(format!("cannot change {}", kind.title_of(self.binding.name())))
        })?;
        Ok(answer.body)
    }

    /// Whether the component's pods stay, so that there is a number of them and they can be replaced.
    ///
    /// # Errors
    /// When it is a task, or of a type of its own.
    pub(crate) fn check_long_running(&self, what: &str) -> Result<(), Failure> {
        let failure = |why: &str, hint: &str| {
            let title = format!("{} cannot be {what}", self.title());
            Err(Failure::usage(title).cause(why).hint(hint))
        };
        match self.binding.reference.kind {
            EngineKind::ServiceBinding | EngineKind::WebApplicationBinding => Ok(()),
            EngineKind::ScheduledTaskBinding => failure(
                "it is a task: its pods run once, and each run has new ones",
                "spec.runs of its binding starts a run (docs/reference/running.md)",
            ),
            EngineKind::APIBinding => failure(
                "it is an API: what answers is another component, or a server outside",
                "name the component that answers",
            ),
            _ => failure(
                "its pods are made by its ComponentType, which decides about them",
                "change spec.environmentConfigs of its binding if the type has a parameter for it",
            ),
        }
    }

    fn kind(&self) -> Result<&crate::online::Kind, Failure> {
        self.kinds
            .find(&format!("{}.{GROUP}", self.binding.reference.kind.as_str()))
    }

    /// Waits until what the binding says now has come about.
    ///
    /// # Errors
    /// When it has not within the time; what it waits for is in the failure.
    pub(crate) async fn settle(
        &self,
        changed: &Value,
        patience: Duration,
        printer: &mut Printer,
    ) -> Result<(), Failure> {
        let kind = self.kind()?;
        let generation = changed["metadata"]["generation"].as_i64().unwrap_or_default();
        let mut told = String::new();
        let look = |object: Option<&Value>| match object.map(|object| (object, ready(object))) {
            // It has gone: there is nothing left to wait for.
            None => Seen::Done(false),
            Some((object, Some(ready))) => {
                let observed = object["status"]["observedGeneration"]
                    .as_i64()
                    .unwrap_or_default();
                if observed < generation {
                    return Seen::NotYet;
                }
                if ready["status"] == "True" {
                    return Seen::Done(true);
                }
                let text = ready["message"].as_str().unwrap_or_default();
                if text != told {
                    text.clone_into(&mut told);
                    // A view that cannot be shown any more is no reason not to wait.
                    let _ = printer.note(format!("  {text}"));
                }
                Seen::NotYet
            }
            Some((_, None)) => Seen::NotYet,
        };
        let deadline = Instant::now() + patience;
        let namespace = Some(self.session.namespace.as_str());
        match until(
            &self.session,
            kind,
            namespace,
            self.binding.name(),
            deadline,
            look,
        )
        .await?
        {
            Watched::Done(true) => Ok(()),
            Watched::Done(false) => Err(Failure::new(format!(
                "{} is gone",
                kind.title_of(self.binding.name())
            ))
            .status(ExitStatus::NotFound)),
            Watched::TimedOut(last) => {
                let why = last
                    .as_ref()
                    .and_then(ready)
                    .and_then(|ready| ready["message"].as_str());
                Err(
                    Failure::new(format!("{} is not ready after {patience:?}", self.title()))
                        .cause(why.unwrap_or("nobody has looked at the change yet"))
                        .hint(format!("`choreo tree component/{}` says more", self.component))
                        .status(ExitStatus::TimedOut),
                )
            }
        }
    }
}

fn ready(object: &Value) -> Option<&Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")
}
