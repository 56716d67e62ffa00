//! Several promotions as one.

use super::*;

fn component(name: &str, image: &str, connections: &str) -> String {
    app(image)
        .replace("cart", name)
        .replace(
            &format!("registry.example.com/{name}"),
            "registry.example.com/cart",
        )
        .replace(
            "  endpoints:",
            &format!("  connections: {connections}\n  endpoints:"),
        )
}

#[track_caller]
fn both_built(up: &Up, version: u32) {
    let image = format!("registry.example.com/cart:{version}");
    let to_stock = "{stock: {type: api, params: {componentName: stock, endpoint: http}, inject: {env: [{name: STOCK, value: '{{ .host }}'}]}}}";
    up.apply(&component("cart", &image, to_stock)).ok();
    up.apply(&component("stock", &image, "{}")).ok();
    for name in ["cart", "stock"] {
        wait(&format!("{name} never ran in development"), || {
            let release = read(up, &format!("release/{name}-development"));
            let binding = read(up, &format!("servicebinding/{name}-development"));
            let ready = binding["status"]["conditions"]
                .as_array()?
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            (ready && runs(&release, name, &image)).then_some(())
        });
    }
}

fn last(up: &Up, component: &str) -> Value {
    promotions(up, component, "staging").pop().unwrap_or_default()
}

#[track_caller]
fn says_of(up: &Up, component: &str, words: &[&str]) -> Value {
    wait(&format!("{component} never said {words:?}"), || {
        let last = last(up, component);
        let said = says(&last);
        words.iter().all(|word| said.contains(word)).then_some(last)
    })
}

fn in_staging(up: &Up, component: &str, version: u32) -> bool {
    let release = read(up, &format!("release/{component}-staging"));
    runs(
        &release,
        component,
        &format!("registry.example.com/cart:{version}"),
    ) && !release.to_string().contains("-canary")
}

#[test]
fn a_project_goes_as_one_in_the_order_of_its_connections_or_not_at_all() {
    let up = Up::in_memory();
    let server = Server::start(|_| Answer::Code(200));
    up.apply(&shop(&path(
        "development",
        "staging",
        &format!(
            "gates: [{{name: change, webhook: {{url: '{}'}}}}], strategy: {{type: Canary, steps: [{{weight: 50}}]}}",
            server.address
        ),
    )))
    .ok();
    both_built(&up, 1);
    up.choreo(["promote", "--project", "shop", "--to", "staging", "--wait"])
        .ok();
    let (cart, stock) = (last(&up, "cart"), last(&up, "stock"));
    assert_eq!(
        (&cart["status"]["phase"], &stock["status"]["phase"]),
        (&json!("Succeeded"), &json!("Succeeded"))
    );
    assert_eq!(cart["spec"]["set"], stock["spec"]["set"]);
    assert_eq!(cart["spec"]["set"]["members"], 2);

    // The cart connects to the stock, and begins when that is through its canary.
    both_built(&up, 2);
    up.choreo(["promote", "--project", "shop", "--to", "staging"])
        .ok();
    says_of(&up, "stock", &["step 1 of 1 (50%): somebody has to say to go on"]);
    let waiting = says_of(
        &up,
        "cart",
        &["the others of its set cannot begin yet, or those that it connects to"],
    );
    assert_eq!(waiting["status"]["startTime"], Value::Null);
    assert!(in_staging(&up, "cart", 1));
    up.choreo(["approve", "stock"]).ok();
    says_of(&up, "cart", &["step 1 of 1 (50%): somebody has to say to go on"]);
    says_of(&up, "stock", &["it runs; the others of its set do not yet"]);
    // One is stopped in the middle: both go back, the one that was done as well.
    up.choreo(["reject", "cart", "-m", "errors"]).ok();
    says_of(&up, "cart", &["RolledBack", "Aborted"]);
    says_of(&up, "stock", &["RolledBack", "SetFailed"]);
    for name in ["cart", "stock"] {
        wait(&format!("{name} did not go back"), || {
            in_staging(&up, name, 1).then_some(())
        });
    }

    // One does not pass its gate: none begins.
    server.say(|asked| {
        Answer::Code(if asked.body.contains("\"component\":\"stock\"") {
            403
        } else {
            200
        })
    });
    let said = up
        .choreo(["promote", "--project", "shop", "--to", "staging", "--wait"])
        .fails(1);
    assert!(said.contains("ended as"), "{said}");
    says_of(&up, "stock", &["Failed", "GateFailed"]);
    let cart = says_of(&up, "cart", &["Rejected", "SetFailed"]);
    assert_eq!(cart["status"]["startTime"], Value::Null);
    assert!(in_staging(&up, "cart", 1) && in_staging(&up, "stock", 1));
}
