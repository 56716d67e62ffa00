//! What comes of a Pod that cannot be had access to.

use choreo_apimachinery::status::ApiError;
use choreo_pod_access::AccessError;

/// The answer that clients get.
pub(super) fn refused(error: &AccessError) -> ApiError {
    let message = error.to_string();
    match error {
        AccessError::Unavailable { .. } => ApiError::service_unavailable(message),
        // As a kubelet's answer that kube-apiserver passes on: the Pod itself has been found.
        AccessError::NotFound { .. }
        | AccessError::NotRunning { .. }
        | AccessError::ContainerRequired { .. } => ApiError::bad_request(message),
    }
}
