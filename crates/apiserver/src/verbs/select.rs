//! Label and field selectors over objects.

use choreo_apimachinery::field::quote;
use choreo_apimachinery::pointer::at;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::selector::{FieldSelector, LabelSelector};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Object;
use serde_json::Value;

/// Which objects of a collection are meant.
#[derive(Clone, Debug)]
pub struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
    selectable: Vec<choreo_apimachinery::registry::SelectableField>,
    everything: bool,
}

impl Filter {
    /// Every object.
    pub fn everything() -> Filter {
        Filter {
            labels: LabelSelector::everything(),
            fields: FieldSelector::default(),
            selectable: Vec::new(),
            everything: true,
        }
    }

    /// Reads the selectors of a request.
    ///
    /// # Errors
    /// 400 for a malformed selector or a field that cannot be selected by.
    pub fn parse(info: &ResourceInfo, labels: &str, fields: &str) -> Result<Filter> {
        let labels_parsed = LabelSelector::parse(labels).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let fields_parsed = FieldSelector::parse(fields).map_err(|e| ApiError::bad_request(e.to_string()))?;
        for term in fields_parsed.terms() {
            let known = matches!(term.field.as_str(), "metadata.name" | "metadata.namespace")
                || info.selectable_fields.iter().any(|f| f.field == term.field);
            if !known {
                let field = quote(&term.field);
                return Err(ApiError::bad_request(
                    if info.selectable_fields.is_empty() && !info.is_crd {
                        format!(
                            "{field} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                        )
                    } else {
                        format!("field label not supported: {}", term.field)
                    },
                ));
            }
        }
        Ok(Filter {
            everything: labels_parsed.is_everything() && fields_parsed.is_everything(),
            labels: labels_parsed,
            fields: fields_parsed,
            selectable: info.selectable_fields.clone(),
        })
    }

    /// Adds that the name must be this.
    ///
    /// # Errors
    /// 400 when the filter demands another name already.
    pub fn named(mut self, name: &str) -> Result<Filter> {
        if let Some(other) = self.name()
            && other != name
        {
            return Err(ApiError::bad_request(format!(
                "fieldSelector metadata.name={other} doesn't match the name {name} of the path"
            )));
        }
        self.fields = FieldSelector::parse(&format!("metadata.name={name}"))
            .map_err(|e| ApiError::bad_request(e.to_string()))?;
        self.everything = false;
        Ok(self)
    }

    /// Whether every object is meant.
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// The only name that is meant, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// The only namespace that is meant, if there is one.
    pub fn namespace(&self) -> Option<&str> {
        self.fields.exact("metadata.namespace")
    }

    /// Whether a stored object is meant. Does not parse the object unless it has to.
    pub fn accepts(&self, object: &Object) -> bool {
        if self.everything {
            return true;
        }
        if self.name().is_some_and(|name| name != object.key().name()) {
            return false;
        }
        self.accepts_value(&object.value())
    }

    /// Whether an object is meant.
    pub fn accepts_value(&self, object: &Value) -> bool {
        if self.everything {
            return true;
        }
        let labels = at(object, "/metadata/labels").and_then(Value::as_object);
        self.labels.matches(labels)
            && self
                .fields
                .matches_with(|field| match self.selectable.iter().find(|f| f.field == field) {
                    Some(selectable) => selectable.value(object),
                    None => choreo_apimachinery::selector::field_text(object, field),
                })
    }
}
