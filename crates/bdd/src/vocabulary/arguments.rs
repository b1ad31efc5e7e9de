//! What a step was called with: the values of its expression's parameters, and its table.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail};
use cucumber::step;

use super::parameters::Parameter;

/// The arguments of one step, taken one after another in the order of the expression.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// The step's text, for messages.
    pub text: String,
    values: VecDeque<String>,
    rows: Option<Vec<Vec<String>>>,
    doc_string: bool,
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
        let step = &context.step;
        let rows = step.table.as_ref().map(|t| t.rows.clone());
        Self { text: step.value.clone(), values, rows, doc_string: step.docstring.is_some() }
    }

    /// What hangs below a step must be what its phrase asks for: a phrase that ends with a colon takes a table, and no
    /// other does. What nobody reads would be a demand that nobody judges.
    ///
    /// # Errors
    /// When there is a table too many, one too few, or a doc string.
    pub fn belong(&self) -> Result<()> {
        let takes_table = self.text.ends_with(':');
        if self.doc_string {
            bail!("read the doc string below {:?}: no step takes one; data stand in tables", self.text);
        }
        match &self.rows {
            Some(_) if !takes_table => {
                bail!("read the table below {:?}: this step takes none; those that do end with a colon", self.text)
            }
            None if takes_table => bail!("read the table of {:?}: there is none below the step", self.text),
            _ => Ok(()),
        }
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
                other => bail!("read the row {other:?}: it needs two columns, a key and a value"),
            })
            .collect()
    }

    /// The step's table with a heading row: one map per row.
    pub fn records(&self) -> Result<Vec<Vec<(String, String)>>> {
        let rows = self.rows.as_ref().with_context(|| format!("find the table of the step {:?}", self.text))?;
        let (head, body) = rows.split_first().context("find the heading row of the table")?;
        if body.is_empty() {
            bail!("read the table of {:?}: below its heading row it says nothing", self.text);
        }
        Ok(body.iter().map(|row| head.iter().cloned().zip(row.iter().cloned()).collect()).collect())
    }
}
