//! Everything that reaches the terminal.

mod objects;
mod printer;
mod table;

pub(crate) use objects::{Format, for_reading, print_objects, to_json, to_yaml, yaml_documents};
pub(crate) use printer::{ColorChoice, Printer, style};
pub(crate) use table::{Column, Table};
