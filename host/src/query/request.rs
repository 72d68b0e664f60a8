//! A question, as it travels over the socket: one JSON object on one line.
//!
//! ```json
//! {"query":"asof","instruments":["AAPL"],"from":1340285400000000000,"tolerance":1000000000}
//! ```

use super::bars::BarRule;
use super::series::Window;
use crate::store::{Axis, Kind};
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What all questions share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Symbols; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instruments: Vec<String>,
    /// Times wanted, UTC nanoseconds: `from` inclusive, `to` exclusive.
    #[serde(flatten)]
    pub window: Window,
    /// Which time `from`, `to` and the order go by.
    #[serde(default)]
    pub by: Axis,
    /// Rows at most, the first in order; absent means what the host allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "lowercase")]
pub enum Request {
    /// Rows as they were published.
    Range {
        /// Which rows.
        #[serde(default)]
        kind: Kind,
        /// Of what, when.
        #[serde(flatten)]
        scope: Scope,
    },
    /// Each trade with the quote before it.
    Asof {
        /// Of what, when: the trades.
        #[serde(flatten)]
        scope: Scope,
        /// Age in nanoseconds up to which a quote counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tolerance: Option<u64>,
    },
    /// Bars of trades.
    Bars {
        /// Of what, when.
        #[serde(flatten)]
        scope: Scope,
        /// What closes a bar.
        rule: BarRule,
        /// Also trades that the exchange marks as not printable.
        #[serde(default)]
        unprintable: bool,
    },
    /// What instruments there are, and how many rows of each.
    Instruments {},
    /// What is held and what is missing, as a table.
    Coverage {},
}

/// The fields of questions that have a scope.
const SCOPE: [&str; 5] = ["instruments", "from", "to", "by", "limit"];

impl Request {
    /// The question of a line. A field that the question does not have is an error: left aside, one
    /// that was misspelt, or is another question's, would give the answer to another question.
    pub fn parse(line: &[u8]) -> Result<Request, serde_json::Error> {
        let request: Request = serde_json::from_slice(line)?;
        let given: BTreeMap<String, IgnoredAny> = serde_json::from_slice(line)?;
        let own = request.own_fields();
        let known = |name: &str| {
            name == "query"
                || own.contains(&name)
                || request.scope().is_some() && SCOPE.contains(&name)
        };
        match given.keys().find(|name| !known(name)) {
            Some(name) => {
                let scope = request.scope().map_or(&[][..], |_| &SCOPE[..]);
                let fields = [&["query"], own, scope].concat().join(", ");
                let text = format!("unknown field `{name}`: those of this query are {fields}");
                Err(serde_json::Error::custom(text))
            }
            None => Ok(request),
        }
    }

    /// The fields beside those of the scope.
    fn own_fields(&self) -> &'static [&'static str] {
        match self {
            Request::Range { .. } => &["kind"],
            Request::Asof { .. } => &["tolerance"],
            Request::Bars { .. } => &["rule", "unprintable"],
            Request::Instruments {} | Request::Coverage {} => &[],
        }
    }

    /// Of what and when, for the questions that have a scope.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Request::Range { scope, .. }
            | Request::Asof { scope, .. }
            | Request::Bars { scope, .. } => Some(scope),
            Request::Instruments {} | Request::Coverage {} => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Zone;
    use jiff::tz::TimeZone;

    #[test]
    fn requests_survive_the_wire() {
        let scope = Scope {
            instruments: vec!["AAPL".into()],
            window: Window { from: Some(1), to: None },
            by: Axis::Receive,
            limit: Some(9),
        };
        let requests = [
            Request::Range { kind: Kind::Quotes, scope: scope.clone() },
            Request::Asof { scope: scope.clone(), tolerance: Some(5) },
            Request::Bars {
                scope,
                rule: BarRule::Time { width: 60, origin: 3 },
                unprintable: true,
            },
            Request::Bars {
                scope: Scope::default(),
                rule: BarRule::Day { width: 60, zone: Zone::new(TimeZone::UTC).unwrap() },
                unprintable: false,
            },
            Request::Instruments {},
            Request::Coverage {},
        ];
        for request in requests {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(Request::parse(line.as_bytes()).unwrap(), request, "{line}");
        }
        let short = r#"{"query":"bars","rule":{"volume":1000}}"#;
        let bars = Request::Bars {
            scope: Scope::default(),
            rule: BarRule::Volume(1000),
            unprintable: false,
        };
        assert_eq!(Request::parse(short.as_bytes()).unwrap(), bars);
    }

    #[test]
    fn a_field_that_is_misspelt_or_another_question_s_is_refused() {
        for line in [
            r#"{"query":"range","instrument":["AAPL"]}"#,
            r#"{"query":"asof","tolerence":5}"#,
            r#"{"query":"coverage","From":1}"#,
            r#"{"query":"range","tolerance":5}"#,
            r#"{"query":"bars","rule":{"count":1},"kind":"quotes"}"#,
            r#"{"query":"coverage","instruments":["AAPL"]}"#,
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{line}: {error}");
        }
    }
}
