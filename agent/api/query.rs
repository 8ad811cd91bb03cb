//! The query of an address, read strictly: a name that is unknown or there twice, or a value that can't be,
//! is an error for whoever wrote it, and never silently something else.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Query as Pairs},
    http::request::Parts,
};
use evenkeel_core::alarm::{Kind, Severity};

use crate::web::{Web, problem::Problem};

/// The longest query: some hundred addresses of peers.
const LONGEST: usize = 8 << 10;

/// The pairs of a query.
pub struct Query(Vec<(String, String)>);

impl FromRequestParts<Arc<Web>> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Query, Problem> {
        if parts.uri.query().is_some_and(|query| query.len() > LONGEST) {
            return Err(Problem::bad_request(format!("the query is longer than {LONGEST} octets")));
        }
        let pairs = Pairs::<Vec<(String, String)>>::from_request_parts(parts, web).await;
        let Pairs(pairs) = pairs.map_err(|error| Problem::bad_request(error.body_text()))?;
        Ok(Query(pairs))
    }
}

impl Query {
    /// The pairs, in their order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Refuses names other than these, and those that are there twice.
    pub fn knows(&self, names: &[&str]) -> Result<(), Problem> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let known = match names {
                    [] => "there is nothing to be asked here".to_owned(),
                    names => format!("there are {}", names.join(", ")),
                };
                return Err(Problem::bad_request(format!("{name:?} is unknown; {known}")));
            }
            if self.0[..at].iter().any(|(before, _)| before == name) {
                return Err(Problem::bad_request(format!("{name} is there twice")));
            }
        }
        Ok(())
    }

    /// The value of a name.
    fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(known, _)| known == name)?;
        Some(&pair.1)
    }

    /// The number of this name, in its range.
    pub fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(Problem::bad_request(format!(
                "{name}={value} is no number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// The severities that are asked for, separated by commas; all if none are.
    pub fn severities(&self) -> Result<Vec<Severity>, Problem> {
        self.each("severity", Severity::from_name, &Severity::ALL.map(Severity::name))
    }

    /// The same of kinds.
    pub fn kinds(&self) -> Result<Vec<Kind>, Problem> {
        self.each("kind", Kind::from_name, &Kind::ALL.map(Kind::name))
    }

    fn each<T>(
        &self,
        name: &str,
        from_name: impl Fn(&str) -> Option<T>,
        known: &[&str],
    ) -> Result<Vec<T>, Problem> {
        let values = self.get(name).into_iter().flat_map(|value| value.split(','));
        let each = values.map(|value| {
            from_name(value).ok_or_else(|| {
                let known = known.join(", ");
                Problem::bad_request(format!("{name}={value} is unknown; there are {known}"))
            })
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    fn refused<T>(result: Result<T, Problem>) -> String {
        result.err().expect("it is refused").detail().to_owned()
    }

    #[test]
    fn what_is_wrong_with_a_query_is_said() {
        assert!(query(&[("limit", "1"), ("after", "2")]).knows(&["after", "limit"]).is_ok());
        let said = refused(query(&[("limits", "1")]).knows(&["after", "limit"]));
        assert_eq!(said, "\"limits\" is unknown; there are after, limit");
        let said = refused(query(&[("a\n", "1")]).knows(&[]));
        assert_eq!(said, "\"a\\n\" is unknown; there is nothing to be asked here");
        let said = refused(query(&[("limit", "1"), ("limit", "1")]).knows(&["limit"]));
        assert_eq!(said, "limit is there twice");
        for wrong in ["0", "1001", "-1", "", "many"] {
            let said = refused(query(&[("limit", wrong)]).number("limit", 1..=1000_usize));
            assert_eq!(said, format!("limit={wrong} is no number from 1 to 1000"));
        }
        assert_eq!(query(&[]).number("limit", 1..=9_u64).ok(), Some(None));
        let all = query(&[("severity", "major,minor"), ("kind", "subnet_down")]);
        assert_eq!(all.severities().ok(), Some(vec![Severity::Major, Severity::Minor]));
        assert_eq!(all.kinds().ok(), Some(vec![Kind::SubnetDown]));
        let said = refused(query(&[("severity", "bad")]).severities());
        assert_eq!(said, "severity=bad is unknown; there are critical, major, minor, warning");
    }
}
