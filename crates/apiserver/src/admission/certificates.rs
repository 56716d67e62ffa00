//! Who may approve and sign certificates, and for whom none is asked: kube-apiserver's steps CertificateApproval,
//! CertificateSigning and CertificateSubjectRestriction.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_apimachinery::status::{ApiError, Result};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::Operation;
use super::chain::Review;
use crate::rbac::{self, Attributes};
use crate::user::MASTERS;
use crate::verbs::text;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";

/// Who signs certificates that this server takes as proof of who somebody is.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// Judges requests for certificates.
///
/// # Errors
/// 403 for whoever may not approve or sign for the signer, and for a request that would make its owner a member of
/// `system:masters`.
pub(super) fn validate(review: &Review<'_>, object: Option<&Value>) -> Result<()> {
    let info = &review.target.resource;
    if info.group != GROUP || info.plural != REQUESTS {
        return Ok(());
    }
    let Some(object) = object else { return Ok(()) };
    match (review.operation, review.subresource, review.old) {
        (Operation::Create, "", _) => restrict(review, object),
        // The old object says for which signer: the new one is not to be trusted with that.
        (Operation::Update, "approval", Some(old)) => permit(review, old, "approve"),
        (Operation::Update, "status", Some(old)) => {
            let same = |path: &str| old.pointer(path) == object.pointer(path);
            if same("/status/certificate") && same("/status/conditions") {
                return Ok(());
            }
            permit(review, old, "sign")
        }
        _ => Ok(()),
    }
}

/// Asks whether the user may do something for the signer of a request, or for all signers of its domain.
fn permit(review: &Review<'_>, request: &Value, verb: &str) -> Result<()> {
    let target = review.target;
    let signer = text(request, "/spec/signerName");
    let domain = signer.split('/').next().unwrap_or_default();
    let snapshot = target.cluster.store().snapshot();
    let may = |name: &str| {
        let wanted = Attributes::on(verb, GROUP, "signers", "", name);
        rbac::decide(&snapshot, &target.user, &wanted).allowed
    };
    if may(signer) || may(&format!("{domain}/*")) {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(ApiError::forbidden(GROUP, REQUESTS, review.name, &why))
}

fn restrict(review: &Review<'_>, request: &Value) -> Result<()> {
    if text(request, "/spec/signerName") != CLIENTS {
        return Ok(());
    }
    let refuse = |why: &str| Err(ApiError::forbidden(GROUP, REQUESTS, review.name, why));
    match organizations(text(request, "/spec/request")) {
        Err(why) => refuse(&format!("failed to parse CSR: {why}")),
        Ok(all) if all.iter().any(|organization| organization == MASTERS) => refuse(&format!(
            "use of {CLIENTS} signer with {MASTERS} group is not allowed"
        )),
        Ok(_) => Ok(()),
    }
}

/// The organizations of whom a request is for, which count as groups.
fn organizations(request: &str) -> std::result::Result<Vec<String>, String> {
    let pem = STANDARD.decode(request).map_err(|error| error.to_string())?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
    let subject = &request.certification_request_info.subject;
    let all = subject.iter_organization();
    all.map(|organization| {
        let read = organization.as_str().map_err(|error| error.to_string());
        read.map(str::to_owned)
    })
    .collect()
}
