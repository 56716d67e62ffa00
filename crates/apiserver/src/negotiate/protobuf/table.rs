//! The table of messages: which field of which message has which number and type.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The number of a message in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u16);

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    /// Package and name, such as `core.v1.Pod`.
    pub(super) name: &'static str,
    /// What it is in JSON.
    pub(super) shape: Shape,
    /// Its fields by number.
    fields: Vec<Spec>,
    /// What its members are in JSON, by name.
    members: Vec<Member>,
}

/// A member in JSON: a field of the message, or of one that is part of it there.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) spec: Spec,
}

/// Where a member is in a message: the numbers of the messages around it, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place([u32; Place::LONGEST]);

impl Place {
    /// A message in a message in a message: the most that there is.
    const LONGEST: usize = 3;

    /// The number at a depth.
    pub(super) fn number(self, depth: usize) -> u32 {
        self.0.get(depth).copied().unwrap_or_default()
    }

    /// Whether the number at that depth is the member's own.
    pub(super) fn ends_at(self, depth: usize) -> bool {
        self.number(depth + 1) == 0
    }

    /// Whether the member is a field of the message itself.
    pub(super) fn is_direct(self) -> bool {
        self.ends_at(0)
    }
}

/// What a message is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An object with the fields as members.
    Object,
    /// The array that is its only field, `items`.
    Items,
    /// `schema` or the truth value `allows`.
    OrBool,
    /// `schema` or the array `jSONSchemas`.
    OrArray,
    /// `schema` or the array `property`.
    OrTexts,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    /// Its number on the wire.
    pub(super) number: u32,
    /// Its name in JSON; `-` for a message whose fields are part of its parent there.
    pub(super) name: &'static str,
    /// The type of one value.
    pub(super) kind: Kind,
    /// Whether it is a list.
    pub(super) repeated: bool,
    /// Whether it is a map with text as keys.
    pub(super) map: bool,
    /// Whether the type's zero is the same as nothing.
    pub(super) zero_is_absent: bool,
}

impl Spec {
    /// Whether the field's own fields are members of the parent in JSON.
    pub(super) fn is_embedded(&self) -> bool {
        self.name == "-"
    }
}

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bool,
    Int,
    Double,
    Bytes,
    /// A point in time, with microseconds or without.
    Time {
        micro: bool,
    },
    Quantity,
    IntOrString,
    /// JSON text.
    Raw,
    Message(Id),
}

impl Message {
    /// The fields in the order of their numbers.
    pub(super) fn fields(&self) -> &[Spec] {
        &self.fields
    }

    /// The field of a number.
    pub(super) fn field(&self, number: u32) -> Option<&Spec> {
        let at = self.fields.binary_search_by_key(&number, |f| f.number).ok()?;
        self.fields.get(at)
    }

    /// The member of a name in JSON, looked for from the place `from` on, and the place behind it. What we store has its members
    /// in order, as they are here: so one walk finds all of them, and most names differ in their length already.
    pub(super) fn member_from(&self, from: usize, name: &str) -> Option<(usize, &Member)> {
        let (before, rest) = self.members.split_at_checked(from)?;
        let found = rest.iter().position(|member| member.spec.name == name);
        if let Some(at) = found {
            return rest.get(at).map(|member| (from + at + 1, member));
        }
        let at = before.iter().position(|member| member.spec.name == name)?;
        before.get(at).map(|member| (at + 1, member))
    }

    /// The member of a name in JSON.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        let at = self.members.binary_search_by(|m| m.spec.name.cmp(name)).ok()?;
        self.members.get(at)
    }
}

/// All messages.
pub(super) struct Table {
    names: BTreeMap<&'static str, Id>,
    messages: Vec<Message>,
}

impl Table {
    /// The table, read on first use.
    pub(super) fn get() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Table::parse(include_str!("messages.txt")))
    }

    fn parse(text: &'static str) -> Table {
        let mut table = Table {
            names: BTreeMap::new(),
            messages: Vec::new(),
        };
        let mut current = None;
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let Some(row) = line.strip_prefix(' ') else {
                current = Some(table.enter(line));
                continue;
            };
            let mut words = row.split(' ');
            let number = words.next().and_then(|n| n.parse().ok());
            let (Some(id), Some(number), Some(name), Some(kind)) =
                (current, number, words.next(), words.next())
            else {
                continue;
            };
            let (repeated, kind) = kind.strip_prefix('*').map_or((false, kind), |k| (true, k));
            let (map, kind) = kind.strip_prefix("map:").map_or((false, kind), |k| (true, k));
            let spec = Spec {
                number,
                name,
                kind: table.kind(kind),
                repeated,
                map,
                zero_is_absent: words.next() == Some("z"),
            };
            if let Some(message) = table.messages.get_mut(usize::from(id.0)) {
                message.fields.push(spec);
            }
        }
        for message in &mut table.messages {
            message.fields.sort_by_key(|f| f.number);
        }
        for at in 0..table.messages.len() {
            let mut members = Vec::new();
            table.collect(at, Place([0; Place::LONGEST]), 0, &mut members);
            members.sort_by_key(|member| member.spec.name);
            if let Some(message) = table.messages.get_mut(at) {
                message.members = members;
            }
        }
        table
    }

    /// Collects the members of a message that is at `around` of another, so deep.
    fn collect(&self, message: usize, around: Place, depth: usize, into: &mut Vec<Member>) {
        for spec in self.messages.get(message).map_or(&[][..], Message::fields) {
            let mut place = around;
            let Some(number) = place.0.get_mut(depth) else {
                return;
            };
            *number = spec.number;
            match spec.kind {
                Kind::Message(inner) if spec.is_embedded() => {
                    self.collect(usize::from(inner.0), place, depth + 1, into);
                }
                _ => into.push(Member { place, spec: *spec }),
            }
        }
    }

    /// The number of a name, which may be used before it is defined.
    fn enter(&mut self, name: &'static str) -> Id {
        let messages = &mut self.messages;
        *self.names.entry(name).or_insert_with(|| {
            let shape = match name.rsplit('.').next().unwrap_or_default() {
                "Verbs" | "ExtraValue" => Shape::Items,
                "JSONSchemaPropsOrBool" => Shape::OrBool,
                "JSONSchemaPropsOrArray" => Shape::OrArray,
                "JSONSchemaPropsOrStringArray" => Shape::OrTexts,
                _ => Shape::Object,
            };
            // The table is ours and has some thousand messages; were there ever more, the tests would not find the last.
            let id = Id(u16::try_from(messages.len()).unwrap_or(u16::MAX));
            messages.push(Message {
                name,
                shape,
                fields: Vec::new(),
                members: Vec::new(),
            });
            id
        })
    }

    fn kind(&mut self, word: &'static str) -> Kind {
        match word {
            "string" => Kind::String,
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "time" => Kind::Time { micro: false },
            "microtime" => Kind::Time { micro: true },
            "quantity" => Kind::Quantity,
            "intstr" => Kind::IntOrString,
            "raw" => Kind::Raw,
            other => Kind::Message(self.enter(other)),
        }
    }

    /// The message of that name.
    pub(super) fn named(&self, name: &str) -> Option<Id> {
        self.names.get(name).copied()
    }

    /// The message of a kind. Packages are named after the first word of the group; what all groups have, such as
    /// `DeleteOptions`, is in one package.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Id> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or_default();
        if group != package && !group.ends_with(".k8s.io") {
            // A group of somebody else, which may well begin with the same word.
            return None;
        }
        self.named(&format!("{package}.{version}.{kind}"))
            .or_else(|| self.named(&format!("meta.v1.{kind}")))
    }

    /// The message of a number.
    pub(super) fn message(&self, id: Id) -> Option<&Message> {
        self.messages.get(usize::from(id.0))
    }

    #[cfg(test)]
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }
}
