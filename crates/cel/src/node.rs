//! The form in which expressions are kept: names resolved, macros recognized, functions looked up.

use crate::eval::Operator;
use crate::functions::Function;

/// One node of an expression, with its place in the source.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// Byte offset in the source.
    pub(crate) offset: usize,
}

#[derive(Debug)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    /// The JSON name, where the identifier is an escaped form of one.
    pub(crate) unescaped: Option<Box<str>>,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Literal(Literal),
    /// A name of a type, such as `int`.
    Type(&'static str),
    /// A variable that the caller binds; index into the program's variables.
    Global(usize),
    /// A variable of a macro; index into the stack of locals.
    Local(usize),
    Select {
        operand: Box<Node>,
        field: Field,
        optional: bool,
    },
    Has {
        operand: Box<Node>,
        field: Field,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Conditional(Box<[Node; 3]>),
    Operator(Operator, Box<[Node; 2]>),
    Call {
        function: Callee,
        args: Vec<Node>,
    },
    /// Items, and whether each is written `?item`.
    List(Vec<(Node, bool)>),
    /// Keys, values, and whether each is written `?key`.
    Map(Vec<(Node, Node, bool)>),
    Macro(Box<Macro>),
}

/// A function, comparable by name and printable.
#[derive(Clone, Copy)]
pub(crate) struct Callee(pub(crate) &'static Function);

impl std::fmt::Debug for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MacroKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
    SortBy,
    OptMap,
    OptFlatMap,
    Bind,
}

/// A macro over the items of a range.
#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) kind: MacroKind,
    pub(crate) range: Node,
    /// Where the first variable is on the stack of locals.
    pub(crate) slot: usize,
    /// Whether there are two variables: index or key, and value.
    pub(crate) two: bool,
    /// A condition that items must meet to be taken.
    pub(crate) filter: Option<Node>,
    pub(crate) body: Node,
}
