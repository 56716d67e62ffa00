//! Requests for certificates: what of them who writes them may set, and what has to hold.
//!
//! Whoever signs believes what a request says of who asks for it, so that is written down by the server and by nobody else, and
//! nothing of it changes afterwards. Approval and signature come by subresources of their own, each with rights of its own
//! ([`crate::admission`] asks for these).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::meta::names;
use choreo_apimachinery::registry::ResourceInfo;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{now, text};
use crate::user::UserInfo;

/// What may be written in `spec.usages`.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The conditions that decide about a request. Only `approval` sets them.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
/// Conditions that are there or not, and never false.
const TRUE_ONLY: [&str; 3] = ["Approved", "Denied", "Failed"];
/// The signer of the past that anything could ask.
const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Shorter is not worth signing.
const SHORTEST: i64 = 600;
/// The longest label of a domain, and the longest domain.
const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;

/// Whether objects of this resource are requests for certificates.
pub(super) fn are(info: &ResourceInfo) -> bool {
    info.group == "certificates.k8s.io" && info.plural == "certificatesigningrequests"
}

/// Writes down who asks.
pub(super) fn prepare_create(user: &UserInfo, request: &mut Value) {
    let Some(spec) = request.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, value) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        let is_empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if is_empty {
            spec.remove(field);
        } else {
            spec.insert(field.to_owned(), value);
        }
    }
}

/// Leaves to each subresource what it is for.
pub(super) fn prepare_update(subresource: &str, old: &Value, new: &mut Value) {
    put(new, "spec", old.get("spec"));
    match subresource {
        "status" => {
            for decision in DECISIONS {
                keep(decision, old, new);
            }
            stamp(old, new);
        }
        "approval" => {
            let conditions = new.pointer("/status/conditions").cloned();
            put(new, "status", old.get("status"));
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            put(&mut new["status"], "conditions", conditions.as_ref());
            stamp(old, new);
        }
        _ => put(new, "status", old.get("status")),
    }
}

fn put(object: &mut Value, field: &str, value: Option<&Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) => map.insert(field.to_owned(), value.clone()),
            None => map.remove(field),
        };
    }
}

fn conditions(request: &Value) -> &[Value] {
    let found = request.pointer("/status/conditions").and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn of_type<'v>(request: &'v Value, kind: &str) -> Vec<&'v Value> {
    let all = conditions(request).iter();
    all.filter(|condition| condition["type"] == kind).collect()
}

/// Conditions of a type stay as they were. If there are more or fewer of them, that is for the validation to say.
fn keep(kind: &str, old: &Value, new: &mut Value) {
    let were = of_type(old, kind);
    if were.len() != of_type(new, kind).len() {
        return;
    }
    let list = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut);
    let present = list
        .into_iter()
        .flatten()
        .filter(|condition| condition["type"] == kind);
    for (condition, was) in present.zip(were) {
        condition.clone_from(was);
    }
}

/// Fills in times that are missing.
fn stamp(old: &Value, new: &mut Value) {
    let is_missing = |condition: &Value, field: &str| condition.get(field).is_none_or(Value::is_null);
    let list = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut);
    for condition in list
        .into_iter()
        .flatten()
        .filter(|condition| condition.is_object())
    {
        if is_missing(condition, "lastUpdateTime") {
            condition["lastUpdateTime"] = now().into();
        }
        if is_missing(condition, "lastTransitionTime") {
            let same = conditions(old).iter().find(|was| {
                was["type"] == condition["type"]
                    && was["status"] == condition["status"]
                    && !is_missing(was, "lastTransitionTime")
            });
            let since = same.map(|was| was["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| now().into());
        }
    }
}

/// Checks a new request, or a changed one against what it was.
pub(super) fn validate(subresource: &str, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // What cannot change was right, or is from a time when less was checked.
    if old.is_none() {
        check_spec(new, &mut errors);
    }
    check_conditions(new, old, &mut errors);
    let certificate = |request: &Value| text(request, "/status/certificate").to_owned();
    let (is, was) = (certificate(new), old.map(certificate));
    let status = FieldPath::new("status");
    let at = status.child("certificate");
    if was.as_ref() != Some(&is)
        && let Err(why) = check_certificate(&is)
    {
        errors.push(FieldError::invalid(&at, "<certificate data>", why));
    }
    if let Some(old) = old {
        check_decisions(subresource, new, old, &mut errors);
        if was.as_ref().is_some_and(|was| *was != is) {
            if subresource != "status" {
                errors.push(FieldError::forbidden(
                    &at,
                    "updates may not set certificate content",
                ));
            } else if was.is_some_and(|was| !was.is_empty()) {
                let why = "updates may not modify existing certificate content";
                errors.push(FieldError::forbidden(&at, why));
            }
        }
    }
    errors
}

fn check_spec(request: &Value, errors: &mut Vec<FieldError>) {
    let spec = FieldPath::new("spec");
    let encoded = text(request, "/spec/request");
    // Bytes that are not base64 have been refused before.
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    if let Err(why) = check_request(&pem) {
        errors.push(FieldError::invalid(&spec.child("request"), encoded, why));
    }
    let usages = spec.child("usages");
    let listed = request.pointer("/spec/usages").and_then(Value::as_array);
    let listed = listed.map_or(&[][..], Vec::as_slice);
    if listed.is_empty() {
        errors.push(FieldError::required(&usages, ""));
    }
    for (index, usage) in listed.iter().enumerate() {
        if !usage.as_str().is_some_and(|usage| USAGES.contains(&usage)) {
            errors.push(FieldError::not_supported(
                &usages.index(index),
                usage.clone(),
                &USAGES,
            ));
        }
    }
    for (index, usage) in listed.iter().enumerate() {
        if listed.iter().take(index).any(|before| before == usage) {
            errors.push(FieldError::duplicate(&usages.index(index), usage.clone()));
        }
    }
    check_signer(
        text(request, "/spec/signerName"),
        &spec.child("signerName"),
        errors,
    );
    let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    if let Some(seconds) = seconds.filter(|seconds| *seconds < SHORTEST) {
        errors.push(FieldError::invalid(
            &spec.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
}

/// A signer is a domain and a path: `example.com/signer-name`.
fn check_signer(signer: &str, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if signer.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    if signer == LEGACY {
        let why = "the legacy signerName is not allowed via this API version";
        return errors.push(FieldError::invalid(path, signer, why));
    }
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, signer, why));
    };
    if domain.len() > SUBDOMAIN {
        errors.push(FieldError::too_long(path, SUBDOMAIN as u64));
    }
    let mut complain = |part: &str, check: fn(&str) -> Vec<String>| {
        // One label that is wrong says enough.
        let wrong = part.split('.').map(|label| (label, check(label)));
        for (label, complaints) in wrong.filter(|(_, complaints)| !complaints.is_empty()).take(1) {
            for complaint in complaints {
                let why = format!("validating label \"{label}\": {complaint}");
                errors.push(FieldError::invalid(path, part, why));
            }
        }
    };
    complain(domain, names::dns1123_label);
    complain(name, names::dns1123_subdomain);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    let longest = 2 * SUBDOMAIN + LABEL + 2;
    if signer.len() > longest {
        errors.push(FieldError::too_long(path, longest as u64));
    }
}

/// A request proves that who asks has the key, by its signature.
fn check_request(pem: &[u8]) -> Result<(), String> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|error| format!("cannot be read: {error}"))?;
    if !rest.is_empty() {
        return Err("there is more after the request".to_owned());
    }
    request
        .verify_signature()
        .map_err(|error| format!("its signature cannot be verified: {error}"))
}

/// Nothing, or certificates and nothing else.
fn check_certificate(encoded: &str) -> Result<(), String> {
    if encoded.is_empty() {
        return Ok(());
    }
    let pem = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let mut found = 0;
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem) {
        let (kind, der) = block.map_err(|error| error.to_string())?;
        if kind != SectionKind::Certificate {
            return Err("only CERTIFICATE PEM blocks are allowed".to_owned());
        }
        let der = CertificateDer::from(der);
        x509_parser::parse_x509_certificate(&der).map_err(|error| error.to_string())?;
        found += 1;
    }
    match found {
        0 => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
        _ => Ok(()),
    }
}

fn check_conditions(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let status = FieldPath::new("status");
    let path = status.child("conditions");
    let is_decided_twice = |request: &Value| DECISIONS.iter().all(|kind| !of_type(request, kind).is_empty());
    let has_twice = |request: &Value| {
        let all = conditions(request);
        let earlier =
            |(index, one): (usize, &Value)| all.iter().take(index).any(|other| other["type"] == one["type"]);
        all.iter().enumerate().any(earlier)
    };
    let (mut decided, mut types) = (None, Vec::new());
    for (index, condition) in conditions(new).iter().enumerate() {
        let at = path.index(index);
        let (kind, value) = (text(condition, "/type"), text(condition, "/status"));
        if kind.is_empty() {
            errors.push(FieldError::required(&at.child("type"), ""));
        }
        let allowed: &[&str] = match TRUE_ONLY.contains(&kind) {
            true => &["True"],
            false => &["False", "True", "Unknown"],
        };
        if value.is_empty() {
            errors.push(FieldError::required(&at.child("status"), ""));
        } else if !allowed.contains(&value) {
            errors.push(FieldError::not_supported(&at.child("status"), value, allowed));
        }
        if DECISIONS.contains(&kind) {
            if decided.is_some_and(|other| other != kind) && !old.is_some_and(is_decided_twice) {
                let why = "Approved and Denied conditions are mutually exclusive";
                errors.push(FieldError::invalid(&path, kind, why));
            }
            decided = Some(kind);
        }
        if types.contains(&kind) && !old.is_some_and(has_twice) {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
        types.push(kind);
    }
}

/// What was decided stays decided, and `approval` alone decides.
fn check_decisions(subresource: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let status = FieldPath::new("status");
    let path = status.child("conditions");
    for kind in TRUE_ONLY {
        let (is, was) = (of_type(new, kind), of_type(old, kind));
        let why = if is.len() < was.len() {
            format!("updates may not remove a condition of type \"{kind}\"")
        } else if subresource == "approval" || !DECISIONS.contains(&kind) || is == was {
            continue;
        } else if is.len() > was.len() {
            format!("updates may not add a condition of type \"{kind}\"")
        } else {
            format!("updates may not modify a condition of type \"{kind}\"")
        };
        errors.push(FieldError::forbidden(&path, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(text: &str) -> String {
        STANDARD.encode(text)
    }

    fn signed() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        request.pem().unwrap()
    }

    fn request(spec: &Value) -> Value {
        let mut spec = spec.clone();
        let whole =
            json!({"request": pem(&signed()), "signerName": "example.com/own", "usages": ["client auth"]});
        for (field, value) in whole.as_object().unwrap() {
            if spec.get(field).is_none() {
                spec[field] = value.clone();
            }
        }
        json!({"metadata": {"name": "r"}, "spec": spec})
    }

    fn complaints(spec: &Value) -> Vec<String> {
        let errors = validate("", &request(spec), None);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_that_is_right_is_taken() {
        assert_eq!(complaints(&json!({})), Vec::<String>::new());
        assert_eq!(
            complaints(&json!({"expirationSeconds": 600})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        for (spec, wanted) in [
            (
                json!({"request": pem("x")}),
                "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST",
            ),
            (json!({"usages": []}), "spec.usages: Required value"),
            (
                json!({"usages": ["signing", "signing"]}),
                "spec.usages[1]: Duplicate value: \"signing\"",
            ),
            (json!({"signerName": ""}), "spec.signerName: Required value"),
            (
                json!({"signerName": "own"}),
                "must be a fully qualified domain and path",
            ),
            (
                json!({"signerName": "own/a/b"}),
                "must be a fully qualified domain and path",
            ),
            (
                json!({"signerName": "com/own"}),
                "should be a domain with at least two segments",
            ),
            (
                json!({"signerName": "example.com/Own"}),
                "validating label \"Own\": ",
            ),
            (
                json!({"signerName": "kubernetes.io/legacy-unknown"}),
                "the legacy signerName is not allowed",
            ),
            (
                json!({"expirationSeconds": 599}),
                "may not specify a duration less than 600 seconds",
            ),
        ] {
            let said = complaints(&spec);
            assert!(said.len() == 1 && said[0].contains(wanted), "{spec}: {said:?}");
        }
        let said = complaints(&json!({"usages": ["flying"]}));
        assert!(
            said[0].starts_with("spec.usages[0]: Unsupported value: \"flying\": supported values: \"any\""),
            "{said:?}"
        );
    }

    #[test]
    fn a_request_with_another_key_s_signature_is_refused() {
        let der = |pem: &str| {
            CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
                .unwrap()
                .to_vec()
        };
        let mut forged = der(&signed());
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let body = STANDARD.encode(&forged);
        let text =
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
        let said = complaints(&json!({"request": pem(&text)}));
        assert!(said.len() == 1 && said[0].contains("signature"), "{said:?}");
    }

    #[test]
    fn who_asks_is_for_the_server_to_say() {
        let mut asked = request(
            &json!({"username": "root", "groups": ["system:masters"], "uid": "0", "extra": {"a": ["b"]}}),
        );
        prepare_create(&UserInfo::new("ada", ["developers"]), &mut asked);
        let spec = &asked["spec"];
        assert_eq!(spec["username"], "ada");
        assert_eq!(spec["groups"], json!(["developers", "system:authenticated"]));
        assert!(spec.get("uid").is_none() && spec.get("extra").is_none(), "{spec}");
    }

    #[test]
    fn each_subresource_changes_what_it_is_for() {
        let old = request(&json!({"username": "ada"}));
        let other = |subresource: &str| {
            let mut new = old.clone();
            new["spec"]["username"] = "root".into();
            new["status"] =
                json!({"certificate": "eA==", "conditions": [{"type": "Approved", "status": "True"}]});
            prepare_update(subresource, &old, &mut new);
            assert_eq!(new["spec"], old["spec"], "{subresource}");
            new
        };
        assert_eq!(other("").get("status"), None);
        let approved = other("approval");
        assert_eq!(approved["status"].get("certificate"), None);
        assert!(
            approved["status"]["conditions"][0]["lastUpdateTime"].is_string(),
            "{approved}"
        );
        assert_eq!(validate("approval", &approved, Some(&old)), []);
        // The status may not approve.
        let errors = validate("status", &other("status"), Some(&old));
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            said.iter()
                .any(|one| one.contains("updates may not add a condition of type \"Approved\"")),
            "{said:?}"
        );
        assert!(
            said.iter()
                .any(|one| one.contains("status.certificate: Invalid value: \"<certificate data>\"")),
            "{said:?}"
        );
    }

    #[test]
    fn decisions_stay() {
        let mut old = request(&json!({}));
        old["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]});
        let mut new = old.clone();
        new["status"]["conditions"][0]["reason"] = "other".into();
        prepare_update("status", &old, &mut new);
        assert_eq!(new["status"]["conditions"][0]["reason"], "r");
        new["status"]["conditions"] = json!([]);
        prepare_update("approval", &old, &mut new);
        let said = validate("approval", &new, Some(&old));
        assert!(
            said.len() == 1
                && said[0]
                    .to_string()
                    .contains("may not remove a condition of type \"Approved\""),
            "{said:?}"
        );
        new["status"]["conditions"] =
            json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "False"}]);
        let said: Vec<String> = validate("approval", &new, Some(&old))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            said.iter().any(|one| one.contains("mutually exclusive")),
            "{said:?}"
        );
        assert!(
            said.iter()
                .any(|one| one.contains("status.conditions[1].status: Unsupported value: \"False\"")),
            "{said:?}"
        );
    }
}
