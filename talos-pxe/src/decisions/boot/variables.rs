//! What templates and `/metadata` can say of a machine: its group's metadata and selectors, and its
//! request, as in matchbox.

use serde_json::{Map, Value};

use super::catalog::Group;
use super::labels::{Labels, MAC};

/// Values by name, some of them nested.
#[derive(Clone, Debug, PartialEq)]
pub struct Variables(Map<String, Value>);

impl Variables {
    /// The variables of a request that led to a group. Selectors go before metadata, and
    /// `request` before both.
    pub fn new(group: &Group, labels: &Labels, raw_query: &str) -> Self {
        let mut variables = group.metadata.clone();
        for (name, value) in group.selectors() {
            variables.insert(name.to_lowercase(), Value::from(value));
        }
        // A MAC address that is none is left out.
        let is_label = |name: &str| name != MAC || labels.mac().is_some();
        let query: Map<_, _> = labels
            .iter()
            .filter(|(name, _)| is_label(name))
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let mut request = Map::new();
        request.insert("query".to_owned(), Value::Object(query));
        request.insert("raw_query".to_owned(), Value::from(raw_query));
        variables.insert("request".to_owned(), Value::Object(request));
        Self(variables)
    }

    /// A value by the names that lead to it.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &self.0;
        for name in parents {
            map = map.get(*name)?.as_object()?;
        }
        map.get(*last)
    }

    /// Writes `KEY=value` lines: names in upper case, joined with underscores where they are
    /// nested. Lists and nulls have no such form; nor has what would make a second line.
    pub fn to_env(&self) -> String {
        let mut lines = String::new();
        write_env(&mut lines, "", &self.0);
        lines
    }
}

fn write_env(lines: &mut String, prefix: &str, map: &Map<String, Value>) {
    for (name, value) in map {
        let name = format!("{prefix}{}", name.to_uppercase());
        match (value, text(value)) {
            (Value::Object(inner), _) => write_env(lines, &format!("{name}_"), inner),
            (_, Some(text)) if !name.contains(char::is_control) && !text.contains(['\n', '\r']) => {
                lines.extend([&name, "=", &text, "\n"]);
            }
            _ => {}
        }
    }
}

/// How Go prints a value; `None` for lists, maps and null.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => number.as_f64().map(go_float),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Go reads every number of JSON as a float, and prints it with an exponent outside of 10⁻⁴ to 10⁶:
/// `%v`, which is `strconv.FormatFloat` with 'g' and the fewest digits.
fn go_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        number.to_string()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}
