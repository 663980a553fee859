//! The statements that a file may contain: a small part of SQL, as data.
//!
//! The rule it keeps: the database gets a text that is written from this data. What the reader did not understand is
//! refused, so nothing else is sent.

use std::fmt::Write as _;

use crate::Database;

/// A name of a schema, a table or a column, as the database stores it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub String);

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Its schema, if the file names one.
    pub schema: Option<Name>,
    /// Its name.
    pub name: Name,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// Its table, if the file names it.
    pub table: Option<Name>,
    /// Its name.
    pub name: Name,
}

/// A value that stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// A text without quotes and backslashes.
    Text(String),
    /// Digits.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A column.
    Column(Column),
    /// A value.
    Literal(Literal),
    /// `$NAME`: the person's identifier of this name.
    Bind(String),
    /// The same in PostgreSQL, for a column of the type uuid. With another type the database refuses the statement.
    Uuid(String),
    /// `lower(…)`
    Lower(Box<Operand>),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A condition, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Both.
    And(Box<Condition>, Box<Condition>),
    /// One of them.
    Or(Box<Condition>, Box<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// In parentheses.
    Nested(Box<Condition>),
    /// A comparison.
    Compare(Operand, Comparison, Operand),
    /// `is null`, or `is not null` if true.
    Null(Column, bool),
    /// `like`, or `not like` if true.
    Like(Column, bool, String),
    /// `in (…)`, or `not in (…)` if true.
    OneOf(Column, bool, Vec<Literal>),
    /// `in (select …)`
    Within(Column, Box<Inner>),
}

/// A select inside a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// Its only column.
    pub column: Column,
    /// Its only table.
    pub table: Table,
    /// Its condition.
    pub condition: Condition,
}

/// A new value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewValue {
    /// `null`
    Null,
    /// A value of the file.
    Literal(Literal),
    /// `concat(…)` of a text and columns: a value that differs between rows.
    Concat(String, Vec<Column>),
}

/// `delete`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The table.
    pub table: Table,
    /// The rows.
    pub condition: Condition,
}

/// `update`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The table.
    pub table: Table,
    /// The new values.
    pub set: Vec<(Column, NewValue)>,
    /// The rows.
    pub condition: Condition,
}

/// `select`, of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// The columns with their names in the result. Empty for `count(*)`.
    pub columns: Vec<(Column, Name)>,
    /// The table.
    pub table: Table,
    /// The rows.
    pub condition: Condition,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `delete`
    Delete(Delete),
    /// `update`
    Update(Update),
    /// `select`
    Select(Select),
}

/// A statement as the database gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// The text, with placeholders.
    pub text: String,
    /// The identifiers for the placeholders, in order; each placeholder has its own.
    pub binds: Vec<String>,
    database: Database,
    /// True for `$NAME` in place of the database's placeholders.
    is_shown: bool,
}

impl Statement {
    /// Its table.
    pub fn table(&self) -> &Table {
        match self {
            Statement::Delete(Delete { table, .. })
            | Statement::Update(Update { table, .. })
            | Statement::Select(Select { table, .. }) => table,
        }
    }

    /// The rows it is about.
    pub fn condition(&self) -> &Condition {
        match self {
            Statement::Delete(Delete { condition, .. })
            | Statement::Update(Update { condition, .. })
            | Statement::Select(Select { condition, .. }) => condition,
        }
    }

    /// The text for the database.
    pub fn sql(&self, database: Database) -> Sql {
        let mut sql = Sql { text: String::new(), binds: Vec::new(), database, is_shown: false };
        self.write(&mut sql);
        sql
    }

    /// The text for people.
    pub fn shown(&self, database: Database) -> String {
        let mut sql = Sql { text: String::new(), binds: Vec::new(), database, is_shown: true };
        self.write(&mut sql);
        sql.text
    }

    fn write(&self, sql: &mut Sql) {
        match self {
            Statement::Delete(delete) => {
                sql.put("delete from ");
                sql.table(&delete.table);
            }
            Statement::Update(update) => {
                sql.put("update ");
                sql.table(&update.table);
                sql.put(" set ");
                for (index, (column, value)) in update.set.iter().enumerate() {
                    sql.put(if index > 0 { ", " } else { "" });
                    sql.column(column);
                    sql.put(" = ");
                    sql.value(value);
                }
            }
            Statement::Select(select) => {
                sql.put("select ");
                for (index, (column, name)) in select.columns.iter().enumerate() {
                    sql.put(if index > 0 { ", " } else { "" });
                    sql.column(column);
                    if column.name != *name {
                        sql.put(" as ");
                        sql.name(name);
                    }
                }
                sql.put(if select.columns.is_empty() { "count(*) from " } else { " from " });
                sql.table(&select.table);
            }
        }
        sql.put(" where ");
        sql.condition(self.condition());
    }
}

impl Select {
    /// The text for the database.
    pub fn sql(&self, database: Database) -> Sql {
        Statement::Select(self.clone()).sql(database)
    }

    /// The text for people.
    pub fn shown(&self, database: Database) -> String {
        Statement::Select(self.clone()).shown(database)
    }
}

impl Table {
    /// The name with its schema, for comparisons and for people.
    pub fn full(&self, database: Database) -> String {
        match (&self.schema, database.usual_schema()) {
            (Some(schema), _) => format!("{}.{}", schema.0, self.name.0),
            (None, Some(schema)) => format!("{schema}.{}", self.name.0),
            (None, None) => self.name.0.clone(),
        }
    }

    /// Its name in quotes, as the database reads it.
    pub fn written(&self, database: Database) -> String {
        let quote = database.quote();
        let name = |name: &Name| format!("{quote}{}{quote}", name.0);
        let schema = self.schema.as_ref().map(|schema| format!("{}.", name(schema))).unwrap_or_default();
        format!("{schema}{}", name(&self.name))
    }

    /// True if both names may mean the same table. In MySQL a name without a schema may be in any, and case may not
    /// count.
    pub fn may_be(&self, other: &Table, database: Database) -> bool {
        match database {
            Database::Postgresql => self.full(database) == other.full(database),
            Database::Mysql => {
                let is_same = |one: &str, two: &str| one.eq_ignore_ascii_case(two);
                let schemas = self.schema.as_ref().zip(other.schema.as_ref());
                is_same(&self.name.0, &other.name.0) && schemas.is_none_or(|(one, two)| is_same(&one.0, &two.0))
            }
        }
    }
}

impl Condition {
    /// The conditions that must all hold, without parentheses around them.
    pub fn conjuncts(&self) -> Vec<&Condition> {
        match self {
            Condition::And(one, two) => one.conjuncts().into_iter().chain(two.conjuncts()).collect(),
            Condition::Nested(inner) if matches!(inner.bare(), Condition::And(..)) => inner.conjuncts(),
            other => vec![other.bare()],
        }
    }

    /// The conditions of which one must hold, without parentheses around them.
    pub fn alternatives(&self) -> Vec<&Condition> {
        match self.bare() {
            Condition::Or(one, two) => one.alternatives().into_iter().chain(two.alternatives()).collect(),
            other => vec![other],
        }
    }

    fn bare(&self) -> &Condition {
        if let Condition::Nested(inner) = self { inner.bare() } else { self }
    }

    /// The column and the identifier of `column = $NAME`.
    pub fn bound(&self) -> Option<(&Column, &str)> {
        fn side(operand: &Operand) -> Option<Result<&Column, &str>> {
            match operand {
                Operand::Column(column) => Some(Ok(column)),
                Operand::Bind(name) | Operand::Uuid(name) => Some(Err(name)),
                Operand::Lower(inner) => side(inner),
                Operand::Literal(_) => None,
            }
        }
        let Condition::Compare(one, Comparison::Equal, two) = self else { return None };
        match (side(one)?, side(two)?) {
            (Ok(column), Err(name)) | (Err(name), Ok(column)) => Some((column, name)),
            _ => None,
        }
    }

    /// The identifiers to which its rows are bound: by a column, or by an inner select that is itself bound.
    pub fn bound_to(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for conjunct in self.conjuncts() {
            match conjunct {
                Condition::Within(_, inner) => names.extend(inner.condition.bound_to()),
                other => names.extend(other.bound().map(|(_, name)| name)),
            }
        }
        names
    }

    /// The columns of its own table to which it binds an identifier.
    pub fn bound_columns(&self) -> Vec<&Column> {
        self.conjuncts().into_iter().filter_map(Condition::bound).map(|(column, _)| column).collect()
    }

    /// Every `column = $NAME` of its own table, under any word.
    pub fn equals(&self) -> Vec<(&Column, &str)> {
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.equals(), two.equals()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.equals(),
            other => other.bound().into_iter().collect(),
        }
    }

    /// Every `column in (select …)` of its own table.
    pub fn within(&self) -> Vec<(&Column, &Inner)> {
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.within(), two.within()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.within(),
            Condition::Within(column, inner) => vec![(column, inner)],
            _ => Vec::new(),
        }
    }

    /// Every inner select, at any depth.
    pub fn inner(&self) -> Vec<&Inner> {
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.inner(), two.inner()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.inner(),
            Condition::Within(_, inner) => [vec![&**inner], inner.condition.inner()].concat(),
            _ => Vec::new(),
        }
    }

    /// The identifiers that are compared by = with regard to case: without `lower` on both sides.
    pub fn with_case(&self) -> Vec<&str> {
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.with_case(), two.with_case()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.with_case(),
            Condition::Compare(Operand::Lower(_), _, Operand::Lower(_)) => Vec::new(),
            Condition::Compare(..) => self.names(),
            Condition::Within(_, inner) => inner.condition.with_case(),
            Condition::Null(..) | Condition::Like(..) | Condition::OneOf(..) => Vec::new(),
        }
    }

    /// The identifiers that are compared with `lower` on one side only.
    pub fn half_lowered(&self) -> Vec<&str> {
        let is_lower = |operand: &Operand| matches!(operand, Operand::Lower(_));
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.half_lowered(), two.half_lowered()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.half_lowered(),
            Condition::Within(_, inner) => inner.condition.half_lowered(),
            Condition::Compare(one, _, two) if is_lower(one) != is_lower(two) => self.names(),
            _ => Vec::new(),
        }
    }

    /// Every identifier in it.
    pub fn names(&self) -> Vec<&str> {
        fn of(operand: &Operand) -> Option<&str> {
            match operand {
                Operand::Bind(name) | Operand::Uuid(name) => Some(name),
                Operand::Lower(inner) => of(inner),
                _ => None,
            }
        }
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.names(), two.names()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.names(),
            Condition::Compare(one, _, two) => of(one).into_iter().chain(of(two)).collect(),
            Condition::Within(_, inner) => inner.condition.names(),
            Condition::Null(..) | Condition::Like(..) | Condition::OneOf(..) => Vec::new(),
        }
    }

    /// Every column of its own table in it, not those of inner selects.
    pub fn columns(&self) -> Vec<&Column> {
        fn of(operand: &Operand) -> Option<&Column> {
            match operand {
                Operand::Column(column) => Some(column),
                Operand::Lower(inner) => of(inner),
                _ => None,
            }
        }
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => [one.columns(), two.columns()].concat(),
            Condition::Not(inner) | Condition::Nested(inner) => inner.columns(),
            Condition::Compare(one, _, two) => of(one).into_iter().chain(of(two)).collect(),
            Condition::Null(column, _)
            | Condition::Like(column, ..)
            | Condition::OneOf(column, ..)
            | Condition::Within(column, _) => vec![column],
        }
    }
}

impl Condition {
    /// Writes `$NAME` of these identifiers as values of the type uuid, where no `lower` is around it.
    pub fn type_uuids(&mut self, is_uuid: &impl Fn(&str) -> bool) {
        match self {
            Condition::And(one, two) | Condition::Or(one, two) => {
                one.type_uuids(is_uuid);
                two.type_uuids(is_uuid);
            }
            Condition::Not(inner) | Condition::Nested(inner) => inner.type_uuids(is_uuid),
            Condition::Within(_, inner) => inner.condition.type_uuids(is_uuid),
            Condition::Compare(one, _, two) => {
                for operand in [one, two] {
                    if let Operand::Bind(name) = operand
                        && is_uuid(name)
                    {
                        *operand = Operand::Uuid(std::mem::take(name));
                    }
                }
            }
            Condition::Null(..) | Condition::Like(..) | Condition::OneOf(..) => {}
        }
    }
}

impl Statement {
    /// Its condition, to be changed.
    pub fn condition_mut(&mut self) -> &mut Condition {
        match self {
            Statement::Delete(Delete { condition, .. })
            | Statement::Update(Update { condition, .. })
            | Statement::Select(Select { condition, .. }) => condition,
        }
    }
}

impl Comparison {
    fn written(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::Unequal => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

impl Sql {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn name(&mut self, name: &Name) {
        let is_plain = name.0.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let quote = self.database.quote();
        // A name has no quotes: the reader refuses them.
        let _ = if self.is_shown && is_plain {
            write!(self.text, "{}", name.0)
        } else {
            write!(self.text, "{quote}{}{quote}", name.0)
        };
    }

    fn table(&mut self, table: &Table) {
        if let Some(schema) = &table.schema {
            self.name(schema);
            self.put(".");
        }
        self.name(&table.name);
    }

    fn column(&mut self, column: &Column) {
        if let Some(table) = &column.table {
            self.name(table);
            self.put(".");
        }
        self.name(&column.name);
    }

    fn text(&mut self, text: &str) {
        // A text has no quotes and no backslashes: the reader refuses them.
        let _ = write!(self.text, "'{text}'");
    }

    fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::Text(text) => self.text(text),
            Literal::Number(digits) => self.put(digits),
            Literal::Bool(value) => self.put(if *value { "true" } else { "false" }),
        }
    }

    fn value(&mut self, value: &NewValue) {
        match value {
            NewValue::Null => self.put("null"),
            NewValue::Literal(literal) => self.literal(literal),
            NewValue::Concat(text, columns) => {
                self.put("concat(");
                self.text(text);
                for column in columns {
                    self.put(", ");
                    self.column(column);
                }
                self.put(")");
            }
        }
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Column(column) => self.column(column),
            Operand::Literal(literal) => self.literal(literal),
            Operand::Lower(inner) => {
                self.put("lower(");
                self.operand(inner);
                self.put(")");
            }
            Operand::Uuid(name) => {
                self.operand(&Operand::Bind(name.clone()));
                self.put(if self.is_shown { "" } else { "::uuid" });
            }
            Operand::Bind(name) => {
                self.binds.push(name.clone());
                let placeholder = match self.database {
                    _ if self.is_shown => format!("${name}"),
                    Database::Postgresql => format!("${}", self.binds.len()),
                    Database::Mysql => "?".to_owned(),
                };
                self.put(&placeholder);
            }
        }
    }

    fn condition(&mut self, condition: &Condition) {
        let not = |negated: bool| if negated { "not " } else { "" };
        match condition {
            Condition::And(one, two) | Condition::Or(one, two) => {
                self.condition(one);
                self.put(if matches!(condition, Condition::And(..)) { " and " } else { " or " });
                self.condition(two);
            }
            Condition::Not(inner) => {
                self.put("not ");
                self.condition(inner);
            }
            Condition::Nested(inner) => {
                self.put("(");
                self.condition(inner);
                self.put(")");
            }
            Condition::Compare(one, Comparison::Equal, two)
                if self.database == Database::Mysql && !self.is_shown && condition.bound().is_some() =>
            {
                // There a collation takes different letters for equal, a comparison of a number with a text takes the
                // text's first digits, and large numbers are rounded. So the characters must be equal, too.
                self.put("(");
                self.operand(one);
                self.put(" = ");
                self.operand(two);
                for (sign, side) in [(" and ", one), (" = ", two)] {
                    self.put(sign);
                    self.put("cast(lower(convert(");
                    self.operand(side);
                    self.put(" using utf8mb4)) as binary)");
                }
                self.put(")");
            }
            Condition::Compare(one, how, two) => {
                self.operand(one);
                let _ = write!(self.text, " {} ", how.written());
                self.operand(two);
            }
            Condition::Null(column, negated) => {
                self.column(column);
                let _ = write!(self.text, " is {}null", not(*negated));
            }
            Condition::Like(column, negated, pattern) => {
                self.column(column);
                let _ = write!(self.text, " {}like ", not(*negated));
                self.text(pattern);
            }
            Condition::OneOf(column, negated, values) => {
                self.column(column);
                let _ = write!(self.text, " {}in (", not(*negated));
                for (index, value) in values.iter().enumerate() {
                    self.put(if index > 0 { ", " } else { "" });
                    self.literal(value);
                }
                self.put(")");
            }
            Condition::Within(column, inner) => {
                self.column(column);
                self.put(" in (select ");
                self.column(&inner.column);
                self.put(" from ");
                self.table(&inner.table);
                self.put(" where ");
                self.condition(&inner.condition);
                self.put(")");
            }
        }
    }
}
