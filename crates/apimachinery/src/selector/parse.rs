//! The grammar of label selectors.

use std::collections::BTreeSet;

use super::ParseError;
use super::labels::{Operator, Requirement, join};
use crate::field::{FieldError, FieldPath};
use crate::meta::names;

/// Parses a selector's requirements, in the order in which they are written.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, ParseError> {
    Parser::new(text).parse()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    In,
    NotIn,
    NotEquals,
    Open,
    Word(&'a str),
    End,
    Bad(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::Close => ")",
            Token::Comma => ",",
            Token::Not => "!",
            Token::DoubleEquals => "==",
            Token::Equals => "=",
            Token::Greater => ">",
            Token::Less => "<",
            Token::In => "in",
            Token::NotIn => "notin",
            Token::NotEquals => "!=",
            Token::Open => "(",
            Token::Word(w) | Token::Bad(w) => w,
            Token::End => "",
        }
    }

    /// `in` and `notin` are plain words where no operator can stand.
    fn as_word(self) -> Self {
        match self {
            Token::In => Token::Word("in"),
            Token::NotIn => Token::Word("notin"),
            other => other,
        }
    }
}

fn lex(text: &str) -> Vec<Token<'_>> {
    const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    const SPACE: &[char] = &[' ', '\t', '\r', '\n'];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(SPACE);
    while let Some(first) = rest.chars().next() {
        let (token, length) = if SPECIAL.contains(&first) {
            [
                ("==", Token::DoubleEquals),
                ("!=", Token::NotEquals),
                (")", Token::Close),
                (",", Token::Comma),
                ("!", Token::Not),
                ("=", Token::Equals),
                ("<", Token::Less),
                (">", Token::Greater),
                ("(", Token::Open),
            ]
            .into_iter()
            .find(|(symbol, _)| rest.starts_with(symbol))
            .map_or((Token::Bad(rest), rest.len()), |(symbol, token)| {
                (token, symbol.len())
            })
        } else {
            let end = rest
                .find(|c| SPECIAL.contains(&c) || SPACE.contains(&c))
                .unwrap_or(rest.len());
            match &rest[..end] {
                "in" => (Token::In, end),
                "notin" => (Token::NotIn, end),
                word => (Token::Word(word), end),
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start_matches(SPACE);
    }
    tokens.push(Token::End);
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            tokens: lex(text),
            at: 0,
        }
    }

    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End).as_word()
    }

    fn next(&mut self) -> Token<'a> {
        self.next_operator().as_word()
    }

    fn next_operator(&mut self) -> Token<'a> {
        let token = self.tokens.get(self.at).copied().unwrap_or(Token::End);
        self.at += 1;
        token
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, ParseError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Not => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| ParseError(format!("unable to parse requirement: {e}")))?;
                    requirements.push(requirement);
                    match self.next() {
                        Token::End => return Ok(requirements),
                        Token::Comma => {
                            let next = self.peek();
                            if !matches!(next, Token::Word(_) | Token::Not) {
                                return found(next, ", expected: identifier after ','");
                            }
                        }
                        other => return found(other, ", expected: ',' or 'end of string'"),
                    }
                }
                Token::End => return Ok(requirements),
                other => return found(other, ", expected: !, identifier, or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        let mut token = self.next();
        let negated = token == Token::Not;
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return found(token, ", expected: identifier");
        };
        let problems = names::qualified_name(key);
        if let Some(problem) = join(&problems) {
            let error = FieldError::invalid(&FieldPath::ROOT, key, problem);
            return Err(ParseError(error.to_string()));
        }
        let refused = |errors: Vec<FieldError>| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            ParseError(crate::field::aggregate(&texts))
        };
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new()).map_err(refused);
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new()).map_err(refused);
        }
        let operator = match self.next_operator() {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => return found(other, ", expected: in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(key, operator, values).map_err(refused)
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, ParseError> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            Token::Word(word) => Ok(BTreeSet::from([word.to_owned()])),
            other => found(other, ", expected: identifier"),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, ParseError> {
        let open = self.next();
        if open != Token::Open {
            return found(open, " expected: '('");
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            Token::Close => {
                self.at += 1;
                values.insert(String::new());
                return Ok(values);
            }
            Token::Word(_) | Token::Comma => {}
            other => return found(other, ", expected: ',', ')' or identifier"),
        }
        // Empty items are allowed anywhere: `(a,,b)`, `(,a)`, `(a,)` all hold the empty value.
        let mut expect_item = true;
        loop {
            match self.next() {
                Token::Word(word) if expect_item => {
                    values.insert(word.to_owned());
                    expect_item = false;
                }
                Token::Comma => {
                    if expect_item {
                        values.insert(String::new());
                    }
                    expect_item = true;
                }
                Token::Close => {
                    if expect_item {
                        values.insert(String::new());
                    }
                    return Ok(values);
                }
                other if expect_item => return found(other, ", expected: ',', or identifier"),
                other => return found(other, ", expected: ',' or ')'"),
            }
        }
    }
}

fn found<T>(token: Token<'_>, expected: &str) -> Result<T, ParseError> {
    Err(ParseError(format!("found '{}'{expected}", token.text())))
}
