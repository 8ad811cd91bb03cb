//! Walks a TOML document with the place of every key and value at hand, and collects everything
//! that is wrong with it instead of stopping at the first mistake.
//!
//! A [`Table`] remembers which keys were asked for; what is left at [`Table::finish`] is unknown
//! and reported with the key that was probably meant. A table that the file doesn't have is read
//! like an empty one, so that a section's defaults are written once, where it is read.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt::Display,
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Problem, Severity, Source, Span},
    secret::Surroundings,
    units::Wrong,
};

/// How like a known key must an unknown one be to be taken for a slip of the pen (Jaro-Winkler).
/// `windw` for `window` has 0.97; `speed` for `sources` has 0.56.
const ALIKE: f64 = 0.8;

/// What was found while reading one file.
pub struct Reader {
    source: Arc<Source>,
    surroundings: Surroundings,
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
    told_of_mode: Cell<bool>,
}

impl Reader {
    /// A reader of this source, which may refer to what is around it.
    pub fn new(source: Arc<Source>, surroundings: Surroundings) -> Reader {
        Reader {
            source,
            surroundings,
            problems: RefCell::default(),
            known: RefCell::default(),
            told_of_mode: Cell::default(),
        }
    }

    /// The document's top-level table.
    pub fn root<'a>(&'a self, document: &'a Spanned<DeTable<'a>>) -> Table<'a> {
        Table {
            reader: self,
            path: String::new(),
            span: None,
            entries: Some(document.get_ref()),
            asked: Vec::new(),
        }
    }

    /// The source that is read.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// What the source may refer to.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Adds a problem.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// What was found, and the full names of all keys that were asked for.
    pub fn finish(self) -> (Vec<Problem>, BTreeSet<String>) {
        (self.problems.into_inner(), self.known.into_inner())
    }
}

/// One table of the document, or one that it doesn't have.
pub struct Table<'a> {
    reader: &'a Reader,
    path: String,
    span: Option<Span>,
    entries: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The value of a key, if it is there.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let path = self.path_of(key);
        self.reader.known.borrow_mut().insert(path.clone());
        let value = self.entries?.get(key)?;
        Some(Value {
            reader: self.reader,
            path,
            value: value.get_ref(),
            span: value.span().into(),
            secret: false,
        })
    }

    /// The table of this key, empty if it is not there or no table.
    pub fn table(&mut self, key: &'static str) -> Table<'a> {
        let value = self.get(key);
        let mut table = Table {
            reader: self.reader,
            path: self.path_of(key),
            span: None,
            entries: None,
            asked: Vec::new(),
        };
        if let Some(value) = value {
            table.span = Some(value.span);
            match value.value {
                DeValue::Table(entries) => table.entries = Some(entries),
                _ => value.wrong_type("a table", &format!("write it as [{}]", value.path)),
            }
        }
        table
    }

    /// The tables of an array of tables, none if it is not there.
    pub fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let help = format!("write each one under a heading of its own: [[{}]]", value.path);
        let DeValue::Array(elements) = value.value else {
            value.wrong_type("a list of tables", &help);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in elements.iter() {
            let element = value.element(element);
            match element.value {
                DeValue::Table(entries) => tables.push(Table {
                    reader: self.reader,
                    path: element.path,
                    span: Some(element.span),
                    entries: Some(entries),
                    asked: Vec::new(),
                }),
                _ => element.wrong_type("a table", &help),
            }
        }
        tables
    }

    /// Whether the file has it.
    pub fn is_there(&self) -> bool {
        self.entries.is_some()
    }

    /// A string that must be there. Where it isn't, that is reported with this help.
    pub fn required(&mut self, key: &'static str, help: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.wrong(format!("{key} is missing"), Some(help.to_owned()));
        }
        value
    }

    /// An error about the table as a whole.
    pub fn wrong(&self, message: String, help: Option<String>) {
        self.reader.report(self.problem(message, help));
    }

    /// A warning about the table as a whole.
    pub fn warn(&self, message: String, help: Option<String>) {
        self.reader.report(self.problem(message, help).into_warning());
    }

    fn problem(&self, message: String, help: Option<String>) -> Problem {
        let problem = Problem::error(&self.reader.source, self.span, message).about(&self.path);
        match help {
            Some(help) => problem.with_help(help),
            None => problem,
        }
    }

    /// How many errors were found so far, in the whole file.
    pub fn errors(&self) -> usize {
        let problems = self.reader.problems.borrow();
        problems.iter().filter(|problem| problem.severity() == Severity::Error).count()
    }

    /// Every entry of a table whose keys are for whoever writes the file to choose, in the order of
    /// the keys.
    pub fn into_entries(self) -> Vec<(String, Value<'a>)> {
        let entries = self.entries.into_iter().flat_map(|entries| entries.iter());
        let entry = |(key, value): (&Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &str = std::borrow::Borrow::borrow(key.get_ref());
            let value = Value {
                reader: self.reader,
                path: self.path_of(name),
                value: value.get_ref(),
                span: value.span().into(),
                secret: false,
            };
            (name.to_owned(), value)
        };
        entries.map(entry).collect()
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        let Some(entries) = self.entries else { return };
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let place = if self.path.is_empty() {
                "at the top of the file".to_owned()
            } else {
                format!("in [{}]", self.path)
            };
            let problem = Problem::error(
                &self.reader.source,
                Some(key.span().into()),
                format!("there is no such key {place}"),
            );
            let subject = self.reader.source.excerpt(key.span().into()).unwrap_or("this key");
            self.reader.report(problem.about(subject).with_help(suggestion(name, &self.asked)));
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// What was probably meant, or what there is.
pub fn suggestion(name: &str, known: &[&str]) -> String {
    let alike = known
        .iter()
        .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase()), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match alike {
        Some((likeness, known)) if likeness >= ALIKE => format!("did you mean {known}?"),
        _ => format!("known here: {}.", known.join(", ")),
    }
}

/// One value of the document and its full name.
pub struct Value<'a> {
    reader: &'a Reader,
    path: String,
    value: &'a DeValue<'a>,
    span: Span,
    secret: bool,
}

impl<'a> Value<'a> {
    /// Where it stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// What the file may refer to.
    pub fn surroundings(&self) -> &'a Surroundings {
        &self.reader.surroundings
    }

    /// Warns, once for a file, if this is a secret that everyone can read there.
    pub fn warn_of_mode(&self) {
        if let Some(mode) = self.surroundings().open_mode
            && self.secret
            && !self.reader.told_of_mode.replace(true)
        {
            self.warn(
                Wrong::new(format!("every user of this host may use this file (mode {mode:04o})"))
                    .help("chmod o= takes that away, or put its secrets into files of their own"),
            );
        }
    }

    /// The same, but its text never gets into a headline, and so not into a log.
    pub fn secret(mut self) -> Value<'a> {
        self.secret = true;
        self
    }

    /// Its string, or nothing if it is none, which is reported.
    pub fn string(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            DeValue::Integer(number) if !self.reader.source.hides(self.span) => {
                self.wrong_type("a string", &format!("write \"{number}\", in quotes"));
                None
            }
            _ => {
                self.wrong_type("a string", "write it in quotes");
                None
            }
        }
    }

    /// Its truth value, or nothing if it is none, which is reported.
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type("true or false", "write true or false, without quotes");
                None
            }
        }
    }

    /// Its number, or nothing if it is none or out of range, which is reported. `what` names the
    /// thing that is counted and its range: "a threshold is 2 to 1000".
    pub fn integer(&self, range: RangeInclusive<i64>, what: &str) -> Option<i64> {
        let DeValue::Integer(number) = self.value else {
            let example = match self.value {
                DeValue::String(text) if text.parse::<i64>().is_ok() => text.to_string(),
                _ => range.start().to_string(),
            };
            self.wrong_type("a whole number", &format!("write {example}, without quotes"));
            return None;
        };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(Wrong::new(what));
        }
        number
    }

    /// What a function makes of its string; what the function says against it is reported.
    pub fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        parse(self.string()?).map_err(|wrong| self.wrong(wrong)).ok()
    }

    /// A length of time, which has the unit with it.
    pub fn parse_with_unit<T>(
        &self,
        example: impl Display,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        if let DeValue::Integer(_) | DeValue::Float(_) = self.value {
            self.wrong(
                Wrong::new("a number without a unit could mean anything")
                    .help(format!("write it with its unit and in quotes, as \"{example}\"")),
            );
            return None;
        }
        self.parse(parse)
    }

    /// An absolute path.
    pub fn path(&self) -> Option<PathBuf> {
        self.parse(|text| {
            let path = PathBuf::from(text);
            match () {
                () if text.contains('\0') => Err(Wrong::new("a path can't hold a NUL byte")),
                () if !path.is_absolute() => Err(Wrong::new("this path is not absolute").help(
                    "start it with a /: where a daemon is started from is no place to build on",
                )),
                () => Ok(path),
            }
        })
    }

    /// Its elements one by one, with the place of each; none if it is no list, which is reported.
    pub fn list<T>(&self, mut each: impl FnMut(&Value<'a>) -> Option<T>) -> Vec<(T, Span)> {
        let DeValue::Array(elements) = self.value else {
            let help = match self.reader.source.excerpt(self.span) {
                Some(text) => format!("write [{text}]"),
                None => "write it in brackets".to_owned(),
            };
            self.wrong_type("a list", &help);
            return Vec::new();
        };
        let elements = elements.iter().map(|element| self.element(element));
        elements.filter_map(|element| Some((each(&element)?, element.span))).collect()
    }

    /// How many elements its list has, good or bad; nothing that is no list has any.
    pub fn length(&self) -> usize {
        match self.value {
            DeValue::Array(elements) => elements.len(),
            _ => 0,
        }
    }

    /// Whether it is a list with nothing in it.
    pub fn is_empty_list(&self) -> bool {
        matches!(self.value, DeValue::Array(elements) if elements.is_empty())
    }

    /// A string or an integer, whichever it is.
    pub fn string_or_integer(&self) -> Option<StringOrInteger<'a>> {
        match self.value {
            DeValue::String(text) => Some(StringOrInteger::String(text)),
            DeValue::Integer(_) => Some(StringOrInteger::Integer),
            _ => {
                self.wrong_type("a number or a name", "write it as 63 or as \"isdn\"");
                None
            }
        }
    }

    /// Reports a problem of a file that this value names.
    pub fn report(&self, problem: Problem) {
        self.reader.report(problem);
    }

    /// The source that it stands in.
    pub fn source(&self) -> &'a Arc<Source> {
        &self.reader.source
    }

    /// Reports that this value won't do.
    pub fn wrong(&self, wrong: Wrong) {
        self.reader.report(self.problem(wrong));
    }

    /// Reports that this value is one that was given before, there.
    pub fn wrong_also(&self, wrong: Wrong, there: Span, label: &str) {
        self.reader.report(self.problem(wrong).with_also(there, label));
    }

    /// The same as a warning.
    pub fn warn_also(&self, wrong: Wrong, there: Span, label: &str) {
        self.reader.report(self.problem(wrong).with_also(there, label).into_warning());
    }

    /// Reports that this value may not be what was meant.
    pub fn warn(&self, wrong: Wrong) {
        self.reader.report(self.problem(wrong).into_warning());
    }

    fn problem(&self, wrong: Wrong) -> Problem {
        let subject = match self.reader.source.excerpt(self.span) {
            // The place of a table is its heading, which says no more than the path.
            Some(text) if !self.secret && !matches!(self.value, DeValue::Table(_)) => {
                format!("{} = {text}", self.path)
            }
            _ => self.path.clone(),
        };
        let problem = Problem::error(&self.reader.source, Some(self.span), wrong.message);
        let problem = problem.about(subject);
        match wrong.help {
            Some(help) => problem.with_help(help),
            None => problem,
        }
    }

    fn wrong_type(&self, expected: &str, help: &str) {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(Wrong::new(format!("this is {found}, and {expected} is needed")).help(help));
    }

    fn element(&self, element: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value {
            reader: self.reader,
            path: self.path.clone(),
            value: element.get_ref(),
            span: element.span().into(),
            secret: self.secret,
        }
    }
}

/// What [`Value::string_or_integer`] found.
pub enum StringOrInteger<'a> {
    /// A string.
    String(&'a str),
    /// An integer, to be asked for with [`Value::integer`].
    Integer,
}
