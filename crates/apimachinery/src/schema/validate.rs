//! Validation of values against schemas, with the messages of kube-apiserver.

use serde_json::{Map, Number, Value};

use super::formats::string_format;
use super::unique::repeated;
use super::{Schema, Type, correlate};
use crate::field::{FieldError, FieldErrorKind, FieldPath, quote};

impl Schema {
    /// Everything that is wrong with a value: types, bounds, formats, combinations, uniqueness, embedded resources.
    ///
    /// CEL rules are not run: see [`Schema::validate_cel`], and [`Schema::check`] for both.
    #[must_use]
    pub fn validate(&self, value: &Value, path: &FieldPath<'_>) -> Vec<FieldError> {
        let mut outcome = Outcome::default();
        Validator { base: path }.node(self, value, None, path, &mut outcome);
        self.validate_embedded(value, path, &mut outcome.errors);
        self.validate_unique_lists(value, path, &mut outcome.errors);
        outcome.errors
    }

    /// Like [`Schema::validate`] for an update: what was wrong before and has not changed is let pass, so that an object
    /// stays writable after its schema was tightened (ratcheting).
    #[must_use]
    pub fn validate_update(&self, new: &Value, old: &Value, path: &FieldPath<'_>) -> Vec<FieldError> {
        let mut outcome = Outcome::default();
        let validator = Validator { base: path };
        validator.node(self, new, None, path, &mut outcome);
        if !outcome.errors.is_empty() {
            // The costly comparison of old and new is made only now that it matters.
            outcome = Outcome::default();
            validator.node(self, new, Some(old), path, &mut outcome);
        }
        self.validate_embedded(new, path, &mut outcome.errors);
        if self.facts().unique_lists {
            let mut repeated = Vec::new();
            self.validate_unique_lists(new, path, &mut repeated);
            if !repeated.is_empty() {
                let mut before = Vec::new();
                self.validate_unique_lists(old, path, &mut before);
                if before.is_empty() {
                    outcome.errors.append(&mut repeated);
                }
            }
        }
        outcome.errors
    }

    /// All checks of a value, in the order of kube-apiserver: [`Schema::validate`] or, with an old value,
    /// [`Schema::validate_update`], then the CEL rules unless the value is so wrong that they could not be run.
    #[must_use]
    pub fn check(&self, new: &Value, old: Option<&Value>, path: &FieldPath<'_>) -> Vec<FieldError> {
        let mut errors = match old {
            None => self.validate(new, path),
            Some(old) => self.validate_update(new, old, path),
        };
        if !self.facts().rules {
            return errors;
        }
        let blocked = errors.iter().any(|e| {
            matches!(
                e.kind,
                FieldErrorKind::NotSupported
                    | FieldErrorKind::Required
                    | FieldErrorKind::TooLong
                    | FieldErrorKind::TooMany
                    | FieldErrorKind::TypeInvalid
            )
        });
        if blocked {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&FieldPath::ROOT, Value::Null, why));
        } else {
            errors.extend(self.validate_cel(new, old, path));
        }
        errors
    }
}

/// What a check found, and how many of its parts held, by which the closest alternative of an `anyOf` is chosen.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: u32,
}

impl Outcome {
    fn merge(&mut self, mut other: Self) {
        self.errors.append(&mut other.errors);
        self.matches += other.matches;
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

struct Validator<'b> {
    /// Where validation began. Failed combinations are reported there.
    base: &'b FieldPath<'b>,
}

/// The message about a field, which starts with its path.
fn told(path: &FieldPath<'_>, what: &str) -> String {
    format!("{path} in body {what}")
}

/// A schema's types as messages name them.
fn type_names(schema: &Schema) -> Option<&'static str> {
    if schema.int_or_string {
        Some("integer,string")
    } else {
        schema.type_.map(Type::as_str)
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(number: f64) -> bool {
    number.is_finite() && number.fract() == 0.0
}

impl Validator<'_> {
    fn node(
        &self,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &FieldPath<'_>,
        out: &mut Outcome,
    ) {
        if old.is_some_and(|old| old == value) {
            return;
        }
        check_type(schema, value, path, out);
        if value.is_null() {
            check_enum(schema, value, path, out);
            return;
        }
        self.combinations(schema, value, old, path, out);
        match value {
            Value::String(s) => {
                check_string(schema, s, path, out);
                out.matches += 1;
            }
            Value::Number(n) => {
                self.check_number(schema, n, path, out);
                out.matches += 2;
            }
            Value::Array(items) => {
                self.items(schema, items, old, path, out);
                out.matches += 2;
            }
            _ => {}
        }
        check_enum(schema, value, path, out);
        if let Value::Object(object) = value {
            self.properties(schema, object, old, path, out);
            out.matches += 1;
        }
        out.matches += 1;
    }

    fn combinations(
        &self,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &FieldPath<'_>,
        out: &mut Outcome,
    ) {
        let try_one = |schema: &Schema| {
            let mut outcome = Outcome::default();
            self.node(schema, value, old, path, &mut outcome);
            outcome
        };
        let told =
            |text: String| FieldError::invalid(self.base, "", format!("{} {text}", quote(&path.to_string())));
        let best_of = |best: &mut Option<Outcome>, outcome: Outcome| {
            if best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
                *best = Some(outcome);
            }
        };
        if !schema.any_of.is_empty() {
            let (mut best, mut valid) = (None, false);
            for alternative in &schema.any_of {
                let outcome = try_one(alternative);
                valid = outcome.is_valid();
                if valid {
                    best = Some(outcome);
                    break;
                }
                best_of(&mut best, outcome);
            }
            if !valid {
                out.errors
                    .push(told("must validate at least one schema (anyOf)".to_owned()));
            }
            if let Some(best) = best {
                out.merge(best);
            }
        }
        if !schema.one_of.is_empty() {
            let (mut best, mut valid) = (None, 0);
            for alternative in &schema.one_of {
                let outcome = try_one(alternative);
                if outcome.is_valid() {
                    valid += 1;
                    if valid == 1 {
                        best = Some(outcome);
                    }
                } else if valid == 0 {
                    best_of(&mut best, outcome);
                }
            }
            if valid != 1 {
                let found = if valid == 0 {
                    "Found none valid".to_owned()
                } else {
                    format!("Found {valid} valid alternatives")
                };
                out.errors.push(told(format!(
                    "must validate one and only one schema (oneOf). {found}"
                )));
            }
            if valid < 2
                && let Some(best) = best
            {
                out.merge(best);
            }
        }
        if !schema.all_of.is_empty() {
            let mut valid = 0;
            for part in &schema.all_of {
                let outcome = try_one(part);
                valid += usize::from(outcome.is_valid());
                out.merge(outcome);
            }
            if valid != schema.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                out.errors
                    .push(told(format!("must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(not) = &schema.not
            && try_one(not).is_valid()
        {
            out.errors
                .push(told("must not validate the schema (not)".to_owned()));
        }
        out.matches += 2;
    }

    fn check_number(&self, schema: &Schema, number: &Number, path: &FieldPath<'_>, out: &mut Outcome) {
        let in_range = |number: &Number| match (schema.type_, schema.checked_format()) {
            (Some(Type::Integer), Some("int32")) => {
                as_integer(number).is_some_and(|i| i32::try_from(i).is_ok())
            }
            (Some(Type::Integer), _) => as_integer(number).is_some(),
            #[allow(clippy::cast_possible_truncation)] // to see whether it fits is the point
            (Some(Type::Number), Some("float")) => number.as_f64().is_none_or(|f| (f as f32).is_finite()),
            _ => true,
        };
        if !in_range(number) {
            let type_ = type_names(schema).unwrap_or_default();
            let format = schema
                .checked_format()
                .map_or("(default format)".to_owned(), |f| format!("with format {f}"));
            let why = format!("Checked value must be of type {type_} {format} in {path}");
            out.errors.push(FieldError::invalid(self.base, "", why));
        }
        let mut refuse = |what: String| {
            out.errors.push(FieldError::invalid(
                path,
                Value::Number(number.clone()),
                told(path, &what),
            ));
        };
        if let Some(factor) = schema.multiple_of
            && !is_multiple(number, factor)
        {
            refuse(format!("should be a multiple of {}", go_number(factor)));
        }
        if let Some(min) = schema.minimum {
            match compare(number, min) {
                Some(std::cmp::Ordering::Less) if !schema.exclusive_minimum => {
                    refuse(format!("should be greater than or equal to {}", go_number(min)));
                }
                Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal) if schema.exclusive_minimum => {
                    refuse(format!("should be greater than {}", go_number(min)));
                }
                _ => {}
            }
        }
        if let Some(max) = schema.maximum {
            match compare(number, max) {
                Some(std::cmp::Ordering::Greater) if !schema.exclusive_maximum => {
                    refuse(format!("should be less than or equal to {}", go_number(max)));
                }
                Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal) if schema.exclusive_maximum => {
                    refuse(format!("should be less than {}", go_number(max)));
                }
                _ => {}
            }
        }
    }

    fn items(
        &self,
        schema: &Schema,
        items: &[Value],
        old: Option<&Value>,
        path: &FieldPath<'_>,
        out: &mut Outcome,
    ) {
        if let Some(item_schema) = &schema.items {
            let old_items = old.and_then(|old| correlate::OldItems::new(schema, old));
            for (i, item) in items.iter().enumerate() {
                let old = old_items.as_ref().and_then(|old| old.get(item));
                self.node(item_schema, item, old, &path.index(i), out);
            }
        }
        let count = items.len() as u64;
        if let Some(min) = schema.min_items
            && count < min
        {
            out.errors.push(FieldError::invalid(
                path,
                count,
                told(path, &format!("should have at least {min} items")),
            ));
        }
        if let Some(max) = schema.max_items
            && count > max
        {
            out.errors.push(FieldError::too_many(path, count, max));
        }
        if schema.unique_items && !repeated(items.iter()).is_empty() {
            out.errors.push(FieldError::invalid(
                path,
                "",
                told(path, "shouldn't contain duplicates"),
            ));
        }
    }

    fn properties(
        &self,
        schema: &Schema,
        object: &Map<String, Value>,
        old: Option<&Value>,
        path: &FieldPath<'_>,
        out: &mut Outcome,
    ) {
        let count = object.len() as u64;
        if let Some(min) = schema.min_properties
            && count < min
        {
            let what = told(path, &format!("should have at least {min} properties"));
            out.errors.push(FieldError::invalid(path, count, what));
        }
        if let Some(max) = schema.max_properties
            && count > max
        {
            out.errors.push(FieldError::too_many(path, count, max));
        }
        for (name, value) in object {
            let Some(property) = schema.property(name) else {
                continue;
            };
            // A change of version is not seen in the values, so that the type's own fields are never let pass.
            let old = old.filter(|_| !(path.is_root() && matches!(name.as_str(), "apiVersion" | "kind")));
            self.node(
                property,
                value,
                old.and_then(|old| old.get(name)),
                &path.child(name),
                out,
            );
        }
        for name in &schema.required {
            if !object.contains_key(name) {
                out.errors.push(FieldError::required(&path.child(name), ""));
            }
        }
    }
}

fn check_type(schema: &Schema, value: &Value, path: &FieldPath<'_>, out: &mut Outcome) {
    let Some(expected) = type_names(schema) else {
        out.matches += 1;
        return;
    };
    let refuse = |out: &mut Outcome, expected: &str, found: &'static str| {
        let what = told(path, &format!("must be of type {expected}: {}", quote(found)));
        out.errors.push(FieldError::type_invalid(path, found, what));
    };
    let found = type_of(value);
    let fits = match value {
        Value::Null => schema.nullable,
        Value::Number(n) => match schema.type_ {
            _ if schema.int_or_string => n.as_f64().is_some_and(|f| !n.is_f64() || is_whole(f)),
            Some(Type::Number) => true,
            Some(Type::Integer) => !n.is_f64() || n.as_f64().is_some_and(is_whole),
            _ => false,
        },
        Value::String(_) if schema.int_or_string => true,
        _ => schema.type_.map(Type::as_str) == Some(found),
    };
    if fits {
        out.matches += 1;
        return;
    }
    match schema.checked_format() {
        // Where a format is given, a value of a type that has none is compared with the format's name.
        Some(format) if !matches!(value, Value::String(_) | Value::Array(_) | Value::Null) => {
            let found = match value {
                Value::Number(n) if n.is_f64() => "float64",
                Value::Number(_) => "int64",
                _ => "",
            };
            refuse(out, format, found);
        }
        _ => refuse(out, expected, found),
    }
}

fn check_string(schema: &Schema, s: &str, path: &FieldPath<'_>, out: &mut Outcome) {
    let mut refuse = |what: String| out.errors.push(FieldError::invalid(path, s, told(path, &what)));
    let count = || s.chars().count() as u64;
    if let Some(max) = schema.max_length
        && s.len() as u64 > max
        && count() > max
    {
        out.errors.push(FieldError::too_long(path, max));
    } else if let Some(min) = schema.min_length
        && count() < min
    {
        refuse(format!("should be at least {min} chars long"));
    } else if let Some(pattern) = &schema.pattern {
        match choreo_cel::regex::compile(pattern) {
            Ok(regex) if regex.is_match(s) => {}
            Ok(_) => refuse(format!("should match '{pattern}'")),
            Err(why) => refuse(format!("should match '{pattern}, but pattern is invalid: {why}'")),
        }
    }
    if let Some(format) = schema.checked_format()
        && let Some(check) = string_format(format)
        && !check(s)
    {
        let what = told(path, &format!("must be of type {format}: {}", quote(s)));
        out.errors.push(FieldError::type_invalid(path, s, what));
    }
}

fn check_enum(schema: &Schema, value: &Value, path: &FieldPath<'_>, out: &mut Outcome) {
    let equal = |allowed: &Value| {
        allowed == value
            || matches!((allowed, value), (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64())
    };
    if schema.enum_values.is_empty() || (!value.is_null() && schema.enum_values.iter().any(equal)) {
        out.matches += 1;
        return;
    }
    let allowed: Vec<String> = schema
        .enum_values
        .iter()
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        .collect();
    out.errors
        .push(FieldError::not_supported(path, value.clone(), &allowed));
}

/// The number as a 64-bit integer, if it is one.
fn as_integer(number: &Number) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)] // the bounds are checked
    number.as_i64().or_else(|| {
        number
            .as_f64()
            .filter(|f| number.is_f64() && is_whole(*f) && f.abs() < 9.2e18)
            .map(|f| f as i64)
    })
}

fn compare(number: &Number, bound: f64) -> Option<std::cmp::Ordering> {
    // Integers are compared as integers where the bound is one, since not every i64 is an f64.
    #[allow(clippy::cast_possible_truncation)] // the bound is whole and in range
    match number.as_i64() {
        Some(i) if is_whole(bound) && bound.abs() < 9.2e18 => Some(i.cmp(&(bound as i64))),
        _ => number.as_f64()?.partial_cmp(&bound),
    }
}

fn is_multiple(number: &Number, factor: f64) -> bool {
    #[allow(clippy::cast_possible_truncation)] // the factor is whole and in range
    match number.as_i64() {
        Some(i) if is_whole(factor) && (1.0..9.2e18).contains(&factor) => i % (factor as i64) == 0,
        _ => {
            let Some(value) = number.as_f64() else {
                return false;
            };
            let quotient = if factor < 1.0 {
                1.0 / factor * value
            } else {
                value / factor
            };
            let nearest = quotient.round();
            factor > 0.0 && (quotient - nearest).abs() <= 1e-9 * nearest.abs().max(1.0)
        }
    }
}

/// A number as Go's `%v` prints it.
fn go_number(number: f64) -> String {
    if is_whole(number) && number.abs() < 1e21 {
        format!("{number:.0}")
    } else {
        format!("{number}")
    }
}
