//! What a step was called with: the values of its expression's parameters, and its table.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use cucumber::step;

use super::parameters::Parameter;

/// The arguments of one step, taken one after another in the order of the expression.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// The step's text, for messages.
    pub text: String,
    values: VecDeque<String>,
    rows: Option<Vec<Vec<String>>>,
}

impl Arguments {
    /// Reads what Cucumber matched. Parameters that Cucumber Expressions compile into several groups (`{string}` with
    /// its two kinds of quotes) become one value.
    #[must_use]
    pub fn of(context: &step::Context) -> Self {
        let mut values = VecDeque::new();
        let mut open: Option<&str> = None;
        for (name, text) in context.matches.iter().skip(1) {
            let parameter = name.as_deref().and_then(|n| n.strip_prefix("__")?.split('_').next());
            match parameter {
                Some(id) if open == Some(id) => {
                    if let Some(last) = values.back_mut()
                        && String::is_empty(last)
                    {
                        text.clone_into(last);
                    }
                }
                _ => values.push_back(text.clone()),
            }
            open = parameter;
        }
        Self { text: context.step.value.clone(), values, rows: context.step.table.as_ref().map(|t| t.rows.clone()) }
    }

    fn next(&mut self) -> Result<String> {
        self.values.pop_front().with_context(|| format!("read another argument of the step {:?}", self.text))
    }

    /// The next `{string}`, with `\"` and `\\` resolved; other escapes belong to the step.
    pub fn string(&mut self) -> Result<String> {
        Ok(self.next()?.replace("\\\"", "\"").replace("\\\\", "\\"))
    }

    /// The next `{int}`.
    pub fn int(&mut self) -> Result<u64> {
        let text = self.next()?;
        text.parse().with_context(|| format!("read {text:?} as a number that is not negative"))
    }

    /// The next parameter of a type of ours.
    pub fn get<T: Parameter>(&mut self) -> Result<T> {
        Ok(T::read(&self.next()?)?)
    }

    /// The step's table of two columns, in order; keys may repeat.
    pub fn pairs(&self) -> Result<Vec<(String, String)>> {
        let rows = self.rows.as_ref().with_context(|| format!("find the table of the step {:?}", self.text))?;
        rows.iter()
            .map(|row| match row.as_slice() {
                [key, value] => Ok((key.clone(), value.clone())),
                other => anyhow::bail!("read the row {other:?}: it needs two columns, a key and a value"),
            })
            .collect()
    }

    /// The step's table with a heading row: one map per row.
    pub fn records(&self) -> Result<Vec<Vec<(String, String)>>> {
        let rows = self.rows.as_ref().with_context(|| format!("find the table of the step {:?}", self.text))?;
        let (head, body) = rows.split_first().context("find the heading row of the table")?;
        Ok(body.iter().map(|row| head.iter().cloned().zip(row.iter().cloned()).collect()).collect())
    }
}
