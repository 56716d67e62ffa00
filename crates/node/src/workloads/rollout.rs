//! How many Pods of which ReplicaSet: the rolling update.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    deployment::{DESIRED, MAX, Sets, available, scaled, wanted},
    pods::set,
};
use crate::core::{Context, Result};

/// How far a rolling update may stray from the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// More Pods than replicas.
    pub(super) surge: i32,
    /// Fewer available Pods than replicas.
    pub(super) unavailable: i32,
}

impl Bounds {
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self {
                surge: 0,
                unavailable: 0,
            };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let replicas = spec.replicas.unwrap_or(1);
        let surge = rolling
            .and_then(|rolling| rolling.max_surge.as_ref())
            .unwrap_or(&quarter);
        let unavailable = rolling
            .and_then(|rolling| rolling.max_unavailable.as_ref())
            .unwrap_or(&quarter);
        let (surge, mut unavailable) = (share(surge, replicas, true), share(unavailable, replicas, false));
        if surge == 0 && unavailable == 0 {
            // Otherwise nothing could ever move.
            unavailable = 1;
        }
        Self {
            surge,
            unavailable: unavailable.min(replicas),
        }
    }
}

/// A number, or a percentage of `total`, rounded up or down.
fn share(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let parts = percent * i64::from(total);
            i32::try_from(if up { (parts + 99) / 100 } else { parts / 100 }).unwrap_or(i32::MAX)
        }
    }
}

/// What a rolling update does next: the wanted replicas of the new set, and of each of the old ones (oldest first).
///
/// Sets are given as (wanted, available) replicas.
fn plan(replicas: i32, bounds: Bounds, new: (i32, i32), old: &[(i32, i32)]) -> (i32, Vec<i32>) {
    let total = new.0 + old.iter().map(|set| set.0).sum::<i32>();
    let grown = if new.0 >= replicas {
        replicas
    } else {
        new.0 + (replicas + bounds.surge - total).clamp(0, replicas - new.0)
    };
    let mut left: Vec<i32> = old.iter().map(|set| set.0).collect();

    let minimum = replicas - bounds.unavailable;
    let unavailable_new = (grown - new.1).max(0);
    let total = grown + left.iter().sum::<i32>();
    let mut may_go = total - minimum - unavailable_new;
    // Pods that serve nobody go first.
    for (left, (wanted, available)) in left.iter_mut().zip(old) {
        let broken = (wanted - available).clamp(0, may_go.max(0));
        *left -= broken;
        may_go -= broken;
    }
    let serving = new.1 + old.iter().map(|set| set.1).sum::<i32>();
    let mut may_go = (serving - minimum).min(may_go).max(0);
    for left in &mut left {
        let going = may_go.min(*left);
        *left -= going;
        may_go -= going;
    }
    (grown, left)
}

/// Takes the next step of a rolling update.
pub(super) async fn step(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets,
) -> Result<()> {
    let Some(new) = &sets.new else { return Ok(()) };
    let counts = |set: &Arc<ReplicaSet>| (wanted(set), available(set));
    let old: Vec<_> = sets.old.iter().map(counts).collect();
    let (grown, left) = plan(spec.replicas.unwrap_or(1), Bounds::of(spec), counts(new), &old);
    if grown != wanted(new) {
        scale(context, deployment, spec, new, grown).await?;
    }
    for (set, left) in sets.old.iter().zip(left) {
        if wanted(set) != left {
            scale(context, deployment, spec, set, left).await?;
        }
    }
    Ok(())
}

/// While a rollout is paused: a changed number of replicas goes to the set that has Pods.
pub(super) async fn scale_active(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets,
) -> Result<()> {
    let active: Vec<_> = sets.all().filter(|set| wanted(set) > 0).collect();
    let target = match (&active[..], &sets.new) {
        ([only], _) => only,
        ([], Some(new)) => new,
        _ => return Ok(()),
    };
    let replicas = spec.replicas.unwrap_or(1);
    if wanted(target) != replicas {
        scale(context, deployment, spec, target, replicas).await?;
    }
    Ok(())
}

pub(super) async fn scale(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    replica_set: &ReplicaSet,
    to: i32,
) -> Result<()> {
    let mut changed = replica_set.clone();
    let replicas = spec.replicas.unwrap_or(1);
    set(&mut changed.metadata.annotations, DESIRED, replicas.to_string());
    set(
        &mut changed.metadata.annotations,
        MAX,
        (replicas + Bounds::of(spec).surge).to_string(),
    );
    changed.spec.replicas = Some(to);
    context.replace(&changed).await?;
    scaled(context, deployment, replica_set, wanted(replica_set), to);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(surge: i32, unavailable: i32) -> Bounds {
        Bounds { surge, unavailable }
    }

    #[test]
    fn percentages_round_up_for_surge_and_down_for_unavailable() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!((share(&quarter, 3, true), share(&quarter, 3, false)), (1, 0));
        assert_eq!((share(&quarter, 10, true), share(&quarter, 10, false)), (3, 2));
        assert_eq!(share(&IntOrString::Int(4), 1, true), 4);
    }

    #[test]
    fn a_first_rollout_grows_at_once() {
        assert_eq!(plan(3, bounds(1, 0), (0, 0), &[]), (3, vec![]));
    }

    #[test]
    fn scaling_follows_the_number_of_replicas() {
        assert_eq!(plan(5, bounds(1, 0), (3, 3), &[]), (5, vec![]));
        assert_eq!(plan(0, bounds(1, 0), (3, 3), &[]), (0, vec![]));
    }

    #[test]
    fn broken_old_pods_go_first() {
        assert_eq!(plan(3, bounds(1, 1), (0, 0), &[(3, 2)]), (1, vec![2]));
    }

    /// From any number of old Pods to all new ones: never too few available, never too many in all, always an end.
    #[test]
    fn a_rollout_stays_within_its_bounds_and_ends() {
        for (replicas, surge, unavailable) in [
            (1, 1, 0),
            (3, 1, 0),
            (3, 0, 1),
            (10, 3, 2),
            (10, 10, 10),
            (4, 0, 4),
        ] {
            let bounds = bounds(surge, unavailable);
            let (mut new, mut old) = ((0, 0), vec![(replicas, replicas)]);
            let mut steps = 0;
            while new != (replicas, replicas) || old[0].0 != 0 {
                let (grown, left) = plan(replicas, bounds, new, &old);
                let serving = new.1.min(grown) + old[0].1.min(left[0]);
                assert!(
                    serving >= replicas - unavailable,
                    "{replicas} {bounds:?}: {serving} left"
                );
                assert!(
                    grown + left[0] <= replicas + surge,
                    "{replicas} {bounds:?}: {grown} + {}",
                    left[0]
                );
                new = (grown, (new.1 + 1).min(grown));
                old = vec![(left[0], old[0].1.min(left[0]))];
                steps += 1;
                assert!(steps < 100, "{replicas} {bounds:?}: stuck at {new:?} {old:?}");
            }
        }
    }
}
