//! `choreo top`.

use choreo_api::v1alpha1::Component;
use choreo_apimachinery::quantity::Quantity;
use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kinds, Session, percent_encode, world};
use crate::output::{Column, Printer, Table};
use crate::running::{Place, Target, list, refused};

/// Arguments of `choreo top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Processor in thousandths of one (m), memory as it could not be taken away (Mi).

For example: choreo top
             choreo top greeter -e production")]
pub(crate) struct Args {
    /// The component [default: all that run in the environment]
    #[arg(value_name = "COMPONENT")]
    component: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let components = match &args.component {
        Some(one) => vec![one.clone()],
        None => all(args, connect).await?,
    };
    let mut table = Table::new(["component", "pod", "cpu", "memory"].map(Column::new).to_vec());
    let mut rows = 0;
    for component in &components {
        let place = match Place::find(component, &args.target, connect).await {
            Ok(place) => place,
            // One of many, which is not in this environment.
            Err(failure) if args.component.is_none() && failure.status == ExitStatus::NotFound => continue,
            Err(failure) => return Err(failure),
        };
        for pod in used(&place, args).await? {
            let (cpu, memory) = sums(&pod);
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            table.row([
                component.clone(),
                name.to_owned(),
                format!("{cpu}m"),
                format!("{memory}Mi"),
            ]);
            rows += 1;
        }
    }
    if rows == 0 {
        printer.note("no pod runs")?;
        return Ok(ExitStatus::Success);
    }
    printer.line(table.heading())?;
    for line in table.lines() {
        printer.line(line)?;
    }
    Ok(ExitStatus::Success)
}

/// Every component that may be meant.
async fn all(args: &Args, connect: &Connect) -> Result<Vec<String>, Failure> {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let of_project = |component: &Component| {
        let project = args.target.project.as_ref();
        project.is_none_or(|project| component.spec.owner.project_name == *project)
    };
    let components = world.in_namespace::<Component>(&session.namespace);
    Ok(components
        .filter(|component| of_project(component))
        .filter_map(|component| component.metadata.name.clone())
        .collect())
}

/// What the pods of a component use.
async fn used(place: &Place, args: &Args) -> Result<Vec<Value>, Failure> {
    let data_plane = place.data_plane(&args.target).await?;
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods?labelSelector={}",
        place.namespace(),
        percent_encode(&place.selector())
    );
    match data_plane.get(&path).await {
        Ok(mut list) => Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }),
        Err(error) => {
            let pods = list(place, &data_plane).await?;
            let what = format!("cannot tell what {} uses", place.title());
            if error.not_found() {
                // Nobody measures what is simulated.
                let missing = crate::online::CallError::unavailable(
                    "the data plane has no metrics API (metrics.k8s.io)",
                );
                return Err(refused(place, &pods, missing, what));
            }
            Err(refused(place, &pods, error, what))
        }
    }
}

/// Thousandths of a processor, and MiB.
fn sums(pod: &Value) -> (u64, u64) {
    let (mut cpu, mut memory) = (0.0, 0.0);
    for container in pod["containers"].as_array().into_iter().flatten() {
        let number = |field: &str| {
            let text = container["usage"][field].as_str().unwrap_or_default();
            text.parse::<Quantity>().map_or(0.0, |quantity| quantity.as_f64())
        };
        cpu += number("cpu");
        memory += number("memory");
    }
    // Rounded up: what uses a little does not use nothing.
    let whole = |number: f64| number.ceil().max(0.0) as u64;
    (whole(cpu * 1000.0), whole(memory / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_summed() {
        let pod = json!({"containers": [
            {"name": "a", "usage": {"cpu": "250000000n", "memory": "65536Ki"}},
            {"name": "b", "usage": {"cpu": "1m", "memory": "1Mi"}},
        ]});
        assert_eq!(sums(&pod), (251, 65));
        assert_eq!(sums(&json!({})), (0, 0));
    }
}
