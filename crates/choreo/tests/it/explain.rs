//! Fields of kinds, told without a server.

use crate::support::{choreo, snapshot};

#[test]
fn kinds_and_fields_are_explained() {
    snapshot!(
        "explain-kind",
        choreo(["explain", "scheduledtask.spec"]).ok(),
        None
    );
    snapshot!(
        "explain-field",
        choreo(["explain", "workload.spec.containers.env.valueFrom"]).ok(),
        None
    );
    snapshot!(
        "explain-recursive",
        choreo(["explain", "project.spec", "--recursive"]).ok(),
        None
    );
    // By kind, plural and short name, in any case.
    let by_kind = choreo(["explain", "Component"]).ok();
    assert_eq!(by_kind, choreo(["explain", "components"]).ok());
    assert_eq!(by_kind, choreo(["explain", "COMP"]).ok());
}

#[test]
fn what_is_not_there_is_told_with_what_is_nearest() {
    let error = choreo(["explain", "componnent"]).fails(4);
    assert!(error.contains("did you mean `Component`?"), "{error}");
    let error = choreo(["explain", "workload.spec.container"]).fails(4);
    assert!(
        error.contains("Workload.spec has no field `container`") && error.contains("`containers`"),
        "{error}"
    );
    let error = choreo(["explain", "component.spec.type.name"]).fails(4);
    assert!(error.contains("no fields of its own"), "{error}");
}
