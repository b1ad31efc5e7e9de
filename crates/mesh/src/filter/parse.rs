//! Recursive descent over the text of a filter expression.

use super::{Expression, FilterError, Operator};

pub(super) fn expression(text: &str) -> Result<Expression, FilterError> {
    let mut parser = Parser { text, at: 0 };
    let parsed = parser.or()?;
    parser.blank();
    if parser.rest().is_empty() { Ok(parsed) } else { Err(parser.expected("the end, \"and\" or \"or\"")) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError { text: self.text.to_owned(), at: self.at, expected }
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `symbol` if it is next.
    fn symbol(&mut self, symbol: &str) -> bool {
        self.blank();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// Takes the words if they are next, each standing alone.
    fn words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        for word in words {
            let found = self.symbol(word) && self.rest().chars().next().is_none_or(|c| c.is_whitespace() || c == '(');
            if !found {
                self.at = start;
                return false;
            }
        }
        true
    }

    fn or(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.and()?;
        while self.words(&["or"]) {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.not()?;
        while self.words(&["and"]) {
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        if self.words(&["not"]) {
            return Ok(Expression::Not(Box::new(self.not()?)));
        }
        if self.symbol("(") {
            let inner = self.or()?;
            return if self.symbol(")") { Ok(inner) } else { Err(self.expected("\")\"")) };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        // `"value" in Selector` begins with the value
        let start = self.at;
        if let Ok(value) = self.value() {
            for (words, negated) in [(&["in"][..], false), (&["not", "in"], true)] {
                if self.words(words) {
                    let path = self.selector()?;
                    return Ok(negate(Expression::Match(path, Operator::Contains(value)), negated));
                }
            }
        }
        self.at = start;
        let path = self.selector()?;
        let (operator, negated) = self.operator()?;
        Ok(negate(Expression::Match(path, operator), negated))
    }

    fn operator(&mut self) -> Result<(Operator, bool), FilterError> {
        if self.symbol("==") {
            return Ok((Operator::Equal(self.value()?), false));
        }
        if self.symbol("!=") {
            return Ok((Operator::Equal(self.value()?), true));
        }
        for (words, negated) in [(&["is", "empty"][..], false), (&["is", "not", "empty"], true)] {
            if self.words(words) {
                return Ok((Operator::Empty, negated));
            }
        }
        for (words, negated) in [(&["contains"][..], false), (&["not", "contains"], true)] {
            if self.words(words) {
                return Ok((Operator::Contains(self.value()?), negated));
            }
        }
        for (words, negated) in [(&["matches"][..], false), (&["not", "matches"], true)] {
            if self.words(words) {
                let pattern = self.value()?;
                let regex = regex::Regex::new(&pattern).map_err(|_| self.expected("a regular expression"))?;
                return Ok((Operator::Matches(regex), negated));
            }
        }
        Err(self.expected("an operator"))
    }

    fn selector(&mut self) -> Result<Vec<String>, FilterError> {
        self.blank();
        let mut path = vec![self.bare("a selector")?];
        loop {
            if self.rest().starts_with('.') {
                self.at += 1;
                path.push(self.bare("a field name")?);
            } else if self.rest().starts_with('[') {
                self.at += 1;
                path.push(self.value()?);
                if !self.symbol("]") {
                    return Err(self.expected("\"]\""));
                }
            } else {
                return Ok(path);
            }
        }
    }

    fn value(&mut self) -> Result<String, FilterError> {
        self.blank();
        match self.rest().chars().next() {
            Some(quote @ ('"' | '`')) => {
                self.at += 1;
                let mut value = String::new();
                let mut escaped = false;
                let body = self.rest().to_owned();
                for (i, c) in body.char_indices() {
                    match c {
                        _ if escaped => {
                            value.push(c);
                            escaped = false;
                        }
                        '\\' if quote == '"' => escaped = true,
                        c if c == quote => {
                            self.at += i + 1;
                            return Ok(value);
                        }
                        c => value.push(c),
                    }
                }
                Err(self.expected("a closing quote"))
            }
            _ => self.bare("a value"),
        }
    }

    fn bare(&mut self, what: &'static str) -> Result<String, FilterError> {
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_alphanumeric() || "_-/:".contains(c))).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.expected(what));
        }
        let word = rest[..length].to_owned();
        self.at += length;
        Ok(word)
    }
}

fn negate(expression: Expression, negated: bool) -> Expression {
    if negated { Expression::Not(Box::new(expression)) } else { expression }
}
