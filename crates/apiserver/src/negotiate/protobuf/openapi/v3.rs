//! The messages of an OpenAPI v3 document, as the gnostic project publishes them (`openapi.v3`).

use super::{Form, Message};

pub(super) static DOCUMENT: Message = Message {
    members: &[
        ("openapi", 1, Form::Text),
        ("info", 2, Form::Message(&INFO)),
        ("paths", 4, Form::Named(1, &Form::Message(&PATH))),
        ("components", 5, Form::Message(&COMPONENTS)),
    ],
    extensions: 9,
};

static INFO: Message = Message {
    members: &[
        ("title", 1, Form::Text),
        ("description", 2, Form::Text),
        ("version", 6, Form::Text),
    ],
    extensions: 7,
};

static COMPONENTS: Message = Message {
    members: &[(
        "schemas",
        1,
        Form::Named(1, &Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
    )],
    extensions: 10,
};

static PATH: Message = Message {
    members: &[
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("get", 4, Form::Message(&OPERATION)),
        ("put", 5, Form::Message(&OPERATION)),
        ("post", 6, Form::Message(&OPERATION)),
        ("delete", 7, Form::Message(&OPERATION)),
        ("options", 8, Form::Message(&OPERATION)),
        ("head", 9, Form::Message(&OPERATION)),
        ("patch", 10, Form::Message(&OPERATION)),
        ("parameters", 13, Form::ReferenceOr(1, &Form::Message(&PARAMETER))),
    ],
    extensions: 14,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Form::Text),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("parameters", 6, Form::ReferenceOr(1, &Form::Message(&PARAMETER))),
        ("requestBody", 7, Form::ReferenceOr(1, &Form::Message(&BODY))),
        (
            "responses",
            8,
            Form::Named(2, &Form::ReferenceOr(1, &Form::Message(&RESPONSE))),
        ),
        ("deprecated", 10, Form::Flag),
    ],
    extensions: 13,
};

static PARAMETER: Message = Message {
    members: &[
        ("name", 1, Form::Text),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("required", 4, Form::Flag),
        ("schema", 10, Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
    ],
    extensions: 14,
};

static BODY: Message = Message {
    members: &[
        ("description", 1, Form::Text),
        ("content", 2, Form::Named(1, &Form::Message(&MEDIA))),
        ("required", 3, Form::Flag),
    ],
    extensions: 4,
};

static RESPONSE: Message = Message {
    members: &[
        ("description", 1, Form::Text),
        ("content", 3, Form::Named(1, &Form::Message(&MEDIA))),
    ],
    extensions: 5,
};

static MEDIA: Message = Message {
    members: &[("schema", 1, Form::ReferenceOr(1, &Form::Message(&SCHEMA)))],
    extensions: 5,
};

static SCHEMA: Message = Message {
    members: &[
        ("nullable", 1, Form::Flag),
        ("readOnly", 3, Form::Flag),
        ("writeOnly", 4, Form::Flag),
        ("example", 7, Form::Any),
        ("deprecated", 8, Form::Flag),
        ("title", 9, Form::Text),
        ("multipleOf", 10, Form::Real),
        ("maximum", 11, Form::Real),
        ("exclusiveMaximum", 12, Form::Flag),
        ("minimum", 13, Form::Real),
        ("exclusiveMinimum", 14, Form::Flag),
        ("maxLength", 15, Form::Whole),
        ("minLength", 16, Form::Whole),
        ("pattern", 17, Form::Text),
        ("maxItems", 18, Form::Whole),
        ("minItems", 19, Form::Whole),
        ("uniqueItems", 20, Form::Flag),
        ("maxProperties", 21, Form::Whole),
        ("minProperties", 22, Form::Whole),
        ("required", 23, Form::Text),
        ("enum", 24, Form::Values),
        ("type", 25, Form::Text),
        ("allOf", 26, Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
        ("oneOf", 27, Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
        ("anyOf", 28, Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
        ("not", 29, Form::Message(&SCHEMA)),
        (
            "items",
            30,
            Form::Within(1, &Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
        ),
        (
            "properties",
            31,
            Form::Named(1, &Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
        ),
        (
            "additionalProperties",
            32,
            Form::FlagOr(1, &Form::ReferenceOr(1, &Form::Message(&SCHEMA))),
        ),
        ("default", 33, Form::Scalar),
        ("description", 34, Form::Text),
        ("format", 35, Form::Text),
    ],
    extensions: 36,
};
