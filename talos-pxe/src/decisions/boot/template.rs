//! The templates of matchbox's profiles: text with `{{.name}}` and `{{.outer.inner}}`, the plain
//! substitutions of Go's text/template. Anything else in braces is an error that names it.

use super::variables::{self, Variables};

/// Why a template cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The braces are never closed.
    #[error("line {0}: {{{{ without }}}}")]
    Unclosed(usize),
    /// Go's templates can do this; ours cannot.
    #[error(
        "line {line}: {{{{{action}}}}} is not supported, only names such as {{{{.request.query.mac}}}}"
    )]
    Unsupported {
        /// Where.
        line: usize,
        /// What stands between the braces.
        action: String,
    },
    /// Neither the group nor the request has such a value.
    #[error("line {line}: there is no {name}")]
    Missing {
        /// Where.
        line: usize,
        /// The name, with its dots.
        name: String,
    },
    /// The name is that of a list, a map or a null.
    #[error("line {line}: {name} is no single value")]
    NoText {
        /// Where.
        line: usize,
        /// The name, with its dots.
        name: String,
    },
}

/// Fills a template in.
///
/// # Errors
/// When it has anything but plain names in braces, or a name that has no value.
pub fn fill(template: &str, variables: &Variables) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        filled.push_str(text);
        let line = template.len() - after.len();
        let line = template.get(..line).unwrap_or_default().matches('\n').count() + 1;
        let (action, after) = after.split_once("}}").ok_or(TemplateError::Unclosed(line))?;
        filled.push_str(&value(action, line, variables)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(action: &str, line: usize, variables: &Variables) -> Result<String, TemplateError> {
    let name = action.trim();
    let path =
        path(name).ok_or_else(|| TemplateError::Unsupported { line, action: action.to_owned() })?;
    let value = variables
        .get(&path)
        .ok_or_else(|| TemplateError::Missing { line, name: name.to_owned() })?;
    variables::text(value).ok_or_else(|| TemplateError::NoText { line, name: name.to_owned() })
}

/// The names in `.outer.inner`.
fn path(name: &str) -> Option<Vec<&str>> {
    let is_name = |name: &&str| {
        let plain = |c: char| c.is_alphanumeric() || c == '_';
        name.chars().all(plain) && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
    };
    let names: Vec<&str> = name.strip_prefix('.')?.split('.').collect();
    names.iter().all(is_name).then_some(names)
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
