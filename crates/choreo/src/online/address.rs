//! Which objects the words of a command line mean: `KIND`, `KIND NAME...` or `KIND/NAME...`.

use super::{Kind, Kinds};
use crate::failure::Failure;

/// A kind, and one of its objects or all of them.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// The kind.
    pub(crate) kind: Kind,
    /// One object; all when `None`.
    pub(crate) name: Option<String>,
}

/// Reads the words.
pub(crate) fn parse_addresses(kinds: &Kinds, words: &[String]) -> Result<Vec<Address>, Failure> {
    let Some(first) = words.first() else {
        return Err(Failure::usage("no object is named").hint("write KIND, KIND NAME or KIND/NAME"));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| one(kinds, word)).collect();
    }
    let found = kinds.find_all(first)?;
    let names = &words[1..];
    let address = |kind: &Kind, name: Option<&String>| Address {
        kind: kind.clone(),
        name: name.cloned(),
    };
    Ok(if names.is_empty() {
        found.into_iter().map(|kind| address(kind, None)).collect()
    } else {
        found
            .into_iter()
            .flat_map(|kind| names.iter().map(move |name| address(kind, Some(name))))
            .collect()
    })
}

fn one(kinds: &Kinds, word: &str) -> Result<Address, Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Address {
            kind: kinds.find(kind)?.clone(),
            name: Some(name.to_owned()),
        }),
        _ => Err(Failure::usage(format!("`{word}` does not name an object"))
            .hint("with KIND/NAME every word has that form, for example: component/greeter project/shop")),
    }
}
