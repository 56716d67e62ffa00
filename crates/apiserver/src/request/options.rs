//! Query parameters and option bodies: `ListOptions`, `CreateOptions` and so on of `meta.k8s.io/v1`.

use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::Value;

/// The group under which option kinds appear in messages.
const META: &str = "meta.k8s.io";

/// The decoded query of a request, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string.
    pub fn parse(query: &str) -> Query {
        Query(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value of a parameter, unless it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Whether the parameter is there at all, even if empty.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A boolean as Kubernetes reads it: there and neither `0` nor `false`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(truth)
    }

    /// A boolean that distinguishes "not there".
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(truth)
    }

    /// A number.
    ///
    /// # Errors
    /// A 400 that names the parameter when it is no number.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
            }),
        }
    }
}

fn truth(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "0" | "false")
}

fn path(name: &str) -> FieldPath<'_> {
    FieldPath::new(name)
}

fn checked(kind: &str, errors: &[FieldError]) -> Result<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(META, kind, "", errors))
    }
}

/// What to do with fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in a `Warning` header.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    fn parse(query: &Query, errors: &mut Vec<FieldError>) -> FieldValidation {
        match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                errors.push(FieldError::not_supported(
                    &path("fieldValidation"),
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        }
    }
}

fn dry_run(values: &[String], errors: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|v| v != "All") {
        errors.push(FieldError::not_supported(
            &path("dryRun"),
            Value::from(values.to_vec()),
            &["All"],
        ));
    }
    !values.is_empty()
}

fn field_manager(query: &Query, errors: &mut Vec<FieldError>) -> Option<String> {
    let manager = query.text("fieldManager")?.to_owned();
    if manager.len() > 128 {
        errors.push(FieldError::too_long(&path("fieldManager"), 128));
    }
    if manager.chars().any(char::is_control) {
        errors.push(FieldError::invalid(
            &path("fieldManager"),
            manager.as_str(),
            "should only contain printable characters",
        ));
    }
    Some(manager)
}

/// Options of `get`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// The oldest acceptable revision, as the client wrote it.
    pub resource_version: Option<String>,
}

impl GetOptions {
    /// Reads the options of a query.
    pub fn parse(query: &Query) -> GetOptions {
        GetOptions {
            resource_version: query.text("resourceVersion").map(str::to_owned),
        }
    }
}

/// Options of `create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Do everything but the write.
    pub dry_run: bool,
    /// Who writes, for `metadata.managedFields`.
    pub field_manager: Option<String>,
    /// What to do with unknown fields.
    pub field_validation: FieldValidation,
}

/// Options of `update`: the same as those of `create`.
pub type UpdateOptions = CreateOptions;

impl CreateOptions {
    /// Reads the options of a query; `kind` (`CreateOptions` or `UpdateOptions`) is for messages.
    ///
    /// # Errors
    /// 422 naming the wrong parameter.
    pub fn parse(query: &Query, kind: &str) -> Result<CreateOptions> {
        let mut errors = Vec::new();
        let options = CreateOptions {
            dry_run: dry_run(
                &query.all("dryRun").map(str::to_owned).collect::<Vec<_>>(),
                &mut errors,
            ),
            field_manager: field_manager(query, &mut errors),
            field_validation: FieldValidation::parse(query, &mut errors),
        };
        checked(kind, &errors)?;
        Ok(options)
    }
}

/// Options of `patch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchOptions {
    /// Do everything but the write.
    pub dry_run: bool,
    /// Who writes; required for server-side apply.
    pub field_manager: Option<String>,
    /// What to do with unknown fields.
    pub field_validation: FieldValidation,
    /// Take over fields that others own (server-side apply only).
    pub force: bool,
}

impl PatchOptions {
    /// Reads the options of a query, for a server-side apply or another patch.
    ///
    /// # Errors
    /// 422 naming the wrong parameter.
    pub fn parse(query: &Query, is_apply: bool) -> Result<PatchOptions> {
        let mut errors = Vec::new();
        let options = PatchOptions {
            dry_run: dry_run(
                &query.all("dryRun").map(str::to_owned).collect::<Vec<_>>(),
                &mut errors,
            ),
            field_manager: field_manager(query, &mut errors),
            field_validation: FieldValidation::parse(query, &mut errors),
            force: query.flag("force"),
        };
        if is_apply && options.field_manager.is_none() {
            errors.push(FieldError::required(
                &path("fieldManager"),
                "is required for apply patch",
            ));
        }
        if !is_apply && query.has("force") {
            errors.push(FieldError::forbidden(
                &path("force"),
                "may not be specified for non-apply patch",
            ));
        }
        checked("PatchOptions", &errors)?;
        Ok(options)
    }
}

/// What happens to an object's dependents when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// The object stays until its blocking dependents are gone.
    Foreground,
    /// They stay, without the owner reference.
    Orphan,
}

/// What must hold for a deletion to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The resource version that the object must have.
    pub resource_version: Option<String>,
}

/// Options of `delete` and `deletecollection`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Do everything but the write.
    pub dry_run: bool,
    /// Seconds that a Pod gets to stop; 0 deletes at once.
    pub grace_period_seconds: Option<i64>,
    /// What must hold.
    pub preconditions: Preconditions,
    /// What happens to dependents; none means the kind's default.
    pub propagation: Option<Propagation>,
    /// Whether the caller wrote the old `orphanDependents: false`, which makes an unfinished deletion answer 202.
    pub orphan_dependents: Option<bool>,
}

impl DeleteOptions {
    /// Options that delete with the given propagation.
    pub fn with(propagation: Propagation) -> DeleteOptions {
        DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        }
    }

    /// Reads the options of a query and a request's body, which wins.
    ///
    /// # Errors
    /// 400 for a body of another kind, 422 naming a wrong field.
    pub fn parse(query: &Query, body: Option<&Value>) -> Result<DeleteOptions> {
        let mut errors = Vec::new();
        let body = match body {
            Some(body) if !body.is_null() => {
                let kind = body
                    .get("kind")
                    .and_then(Value::as_str)
                    .unwrap_or("DeleteOptions");
                if kind != "DeleteOptions" {
                    return Err(ApiError::bad_request(format!(
                        "decoded object cannot be converted to DeleteOptions: the body is of kind {kind}"
                    )));
                }
                Some(body)
            }
            _ => None,
        };
        let text = |name: &str| match body {
            Some(body) => body.get(name).and_then(Value::as_str).map(str::to_owned),
            None => query.text(name).map(str::to_owned),
        };
        let dry: Vec<String> = match body {
            Some(body) => body
                .get("dryRun")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            None => query.all("dryRun").map(str::to_owned).collect(),
        };
        let orphan_dependents = match body {
            Some(body) => body.get("orphanDependents").and_then(Value::as_bool),
            None => query.optional_flag("orphanDependents"),
        };
        let policy = text("propagationPolicy");
        let propagation = match policy.as_deref() {
            None => orphan_dependents.map(|orphan| {
                if orphan {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                }
            }),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                errors.push(FieldError::not_supported(
                    &path("propagationPolicy"),
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
                None
            }
        };
        if policy.is_some() && orphan_dependents.is_some() {
            errors.push(FieldError::invalid(
                &path("propagationPolicy"),
                policy.unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let preconditions = body.and_then(|b| b.get("preconditions"));
        let precondition = |name: &str| {
            preconditions
                .and_then(|p| p.get(name))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let grace_period_seconds = match body {
            Some(body) => body.get("gracePeriodSeconds").and_then(Value::as_i64),
            None => query.number("gracePeriodSeconds")?,
        };
        let options = DeleteOptions {
            dry_run: dry_run(&dry, &mut errors),
            grace_period_seconds,
            preconditions: Preconditions {
                uid: precondition("uid"),
                resource_version: precondition("resourceVersion"),
            },
            propagation,
            orphan_dependents,
        };
        checked("DeleteOptions", &errors)?;
        Ok(options)
    }
}

/// How a list's `resourceVersion` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceVersionMatch {
    /// The state at exactly this revision.
    Exact,
    /// Any state that is not older.
    NotOlderThan,
}

/// Options of `list`, `watch` and `deletecollection`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Unparsed label selector.
    pub label_selector: String,
    /// Unparsed field selector.
    pub field_selector: String,
    /// Whether to follow changes.
    pub watch: bool,
    /// Whether the client understands bookmark events.
    pub allow_watch_bookmarks: bool,
    /// Whether a watch starts with the present objects followed by a bookmark; none when the client did not say.
    pub send_initial_events: Option<bool>,
    /// The revision that the client asked for; none when unset.
    pub resource_version: Option<String>,
    /// How the revision is meant.
    pub resource_version_match: Option<ResourceVersionMatch>,
    /// Seconds after which a watch ends.
    pub timeout_seconds: Option<i64>,
    /// At most so many items; 0 is all.
    pub limit: usize,
    /// Token of the page before.
    pub continue_token: Option<String>,
}

impl ListOptions {
    /// Reads and checks the options of a query. `watch` says that the request is one, however it was written.
    ///
    /// # Errors
    /// 400 or 422 naming the wrong parameter.
    pub fn parse(query: &Query, watch: bool) -> Result<ListOptions> {
        let mut errors = Vec::new();
        let limit = query.number("limit")?.unwrap_or_default();
        let resource_version_match = match query.text("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(ResourceVersionMatch::Exact),
            Some("NotOlderThan") => Some(ResourceVersionMatch::NotOlderThan),
            Some(other) => {
                errors.push(FieldError::not_supported(
                    &path("resourceVersionMatch"),
                    other,
                    &["Exact", "NotOlderThan", ""],
                ));
                None
            }
        };
        let options = ListOptions {
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
            watch,
            allow_watch_bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.optional_flag("sendInitialEvents"),
            resource_version: query.text("resourceVersion").map(str::to_owned),
            resource_version_match,
            timeout_seconds: query.number("timeoutSeconds")?,
            limit: usize::try_from(limit).unwrap_or_default(),
            continue_token: query.text("continue").map(str::to_owned),
        };
        options.check(&mut errors);
        checked("ListOptions", &errors)?;
        Ok(options)
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        let version_match = path("resourceVersionMatch");
        let mut forbid =
            |path: FieldPath<'_>, detail: &str| errors.push(FieldError::forbidden(&path, detail));
        if self.watch {
            match self.send_initial_events {
                Some(_) if self.resource_version_match != Some(ResourceVersionMatch::NotOlderThan) => forbid(
                    version_match,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ),
                None if self.resource_version_match.is_some() => forbid(
                    version_match,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ),
                _ => {}
            }
            return;
        }
        if self.send_initial_events.is_some() {
            forbid(
                path("sendInitialEvents"),
                "sendInitialEvents is forbidden for list",
            );
        }
        if self.resource_version_match.is_some() {
            match self.resource_version.as_deref() {
                None => forbid(
                    version_match,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ),
                Some("0") if self.resource_version_match == Some(ResourceVersionMatch::Exact) => {
                    forbid(
                        version_match,
                        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                    );
                }
                Some(_) => {}
            }
            if self.continue_token.is_some() {
                forbid(
                    version_match,
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
        }
    }
}
