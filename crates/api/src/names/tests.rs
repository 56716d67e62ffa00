//! Vectors of the naming contract, and what holds for all names.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case(&["project", "component"], "project-component-932d1646")]
#[case(&["My_Project$", "Component@Name"], "my-project-component-name-40314333")]
#[case(&["", ""], "3973e022")]
#[case(&["-invalid-start", "invalid-end-"], "invalid-start-invalid-end-f124257d")]
fn k8s_name_vectors(#[case] parts: &[&str], #[case] expected: &str) {
    assert_eq!(k8s_name(253, parts), expected);
    assert_eq!(k8s_name(63, parts), expected);
}

#[test]
fn long_parts_share_the_room_and_the_first_get_one_more() {
    let long = "x".repeat(100);
    let name = k8s_name(63, &[&long, &long, &long]);
    let lengths: Vec<usize> = name.split('-').map(str::len).collect();
    // 63 - 8 for the hash - 3 hyphens = 52 = 18 + 17 + 17
    assert_eq!(lengths, [18, 17, 17, 8]);
    assert_eq!(name.len(), 63);
}

#[test]
fn a_cut_never_leaves_a_hyphen_or_dot_before_the_hash() {
    let name = k8s_name(12, &["ab.cdef"]);
    assert_eq!(name.split('-').next(), Some("ab"));
}

#[rstest]
#[case(workload("greeter", "default"), "greeter")]
#[case(workload("greeter", ""), "greeter")]
#[case(workload("greeter", "v2"), "greeter-v2")]
#[case(binding("greeter", "default", "dev"), "greeter-dev")]
#[case(binding("greeter", "v2", "dev"), "greeter-v2-dev")]
#[case(deployment("greeter-dev", 7), "greeter-dev-7")]
#[case(build_namespace("acme"), "openchoreo-ci-acme")]
#[case(endpoint("greeter", "default", "dev", "api"), "greeter-dev-api")]
#[case(api_path("shop", "cart", "default", "/api/v1"), "/shop/cart/api/v1")]
#[case(api_path("shop", "cart", "v2", ""), "/shop/cart-v2")]
#[case(cell_namespace("default", "default", "development"), k8s_name(63, &["dp", "default", "default", "development"]))]
fn names_of_the_contract(#[case] actual: String, #[case] expected: impl Into<String>) {
    assert_eq!(actual, expected.into());
}

#[test]
fn names_over_the_limit_are_hashed() {
    let long = "c".repeat(60);
    assert_eq!(workload(&long, "default"), long);
    assert_eq!(workload(&long, "feature"), k8s_name(63, &[&long, "feature"]));
    assert_eq!(cron_job(&long, "default").len(), 52, "one part gets all the room");
    assert!(cron_job(&long, "default").starts_with("ccc"));
}

#[test]
fn hosts() {
    let parts = HostParts {
        organization: "acme",
        environment: "dev",
        virtual_host: "apps.example.com",
        template: None,
    };
    assert_eq!(api_host(parts), "dev-acme.apps.example.com");
    assert_eq!(
        web_host("shop", "default", parts),
        "shop-dev-acme.apps.example.com"
    );
    let own = HostParts {
        template: Some("{component}.{env}.{virtualHost}"),
        ..parts
    };
    assert_eq!(web_host("shop", "v2", own), "shop-v2.dev.apps.example.com");
    let long = web_host(&"s".repeat(63), "default", parts);
    assert!(long.split('.').all(|label| label.len() <= 63), "{long}");
    assert!(long.ends_with(".apps.example.com"));
}

#[test]
fn artifacts_are_named_by_their_digest() {
    let digest = ArtifactDigest::of(b"content");
    assert_eq!(digest.short(), "ed7002b4");
    assert_eq!(artifact("greeter", "default", &digest), "greeter-ed7002b4");
    assert_eq!(artifact("greeter", "v2", &digest), "greeter-v2-ed7002b4");
    assert!(ArtifactDigest::try_from("sha256:abc".to_owned()).is_err());
}

#[test]
fn name_types_say_what_is_wrong() {
    let error = ComponentName::try_from("My_Component").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"My_Component\" is not a valid component name: it must be at most 63 lower-case letters, digits and '-', \
         without '-' at its ends"
    );
}

fn valid(name: &str) -> bool {
    !name.is_empty() && sanitize(name) == name && !name.contains(".-") && !name.contains("-.")
}

proptest! {
    #[test]
    fn k8s_name_is_valid_and_bounded(limit in 9usize..254, parts in prop::collection::vec("\\PC{0,80}", 0..6)) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let name = k8s_name(limit, &parts);
        prop_assert!(name.len() <= limit, "{name}");
        prop_assert!(sanitize(&name) == name, "{name}");
        prop_assert_eq!(&name, &k8s_name(limit, &parts));
    }

    #[test]
    fn namespaces_are_labels(org in "\\PC{0,70}", project in "\\PC{0,70}", env in "\\PC{0,70}") {
        prop_assert!(is_label(&cell_namespace(&org, &project, &env)));
    }

    #[test]
    fn names_in_the_cell_are_labels(component in "[a-z][a-z0-9-]{0,60}[a-z0-9]", track in "[a-z0-9]{1,63}") {
        prop_assert!(is_label(&workload(&component, &track)));
        let cron = cron_job(&component, &track);
        prop_assert!(is_label(&cron) && cron.len() <= 52);
    }

    #[test]
    fn parts_of_labels_give_names_without_odd_dots(parts in prop::collection::vec("[a-z0-9]{1,70}", 1..5)) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        prop_assert!(valid(&k8s_name(63, &parts)));
    }

    #[test]
    fn long_names_that_differ_at_the_end_stay_distinct(suffixes in prop::collection::btree_set("[a-z0-9]{1,8}", 2..20)) {
        let stem = "s".repeat(200);
        let names: BTreeSet<String> = suffixes.iter().map(|suffix| k8s_name(63, &["p", &format!("{stem}{suffix}")])).collect();
        prop_assert_eq!(names.len(), suffixes.len());
    }
}
