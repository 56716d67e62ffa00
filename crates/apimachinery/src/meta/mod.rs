//! Object metadata: names, labels and the rules that every object obeys.

pub mod names;
mod object;

pub use object::{
    object_meta_schema, validate_embedded_meta, validate_object_meta, validate_object_meta_update,
};
